package proxy

import (
	"net/netip"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// TestForwardedLog: the lines name the client that was named, and never the
// forwarder instead.
func TestForwardedLog(t *testing.T) {
	core, lines := observer.New(zap.InfoLevel)
	st := newStage(t)
	st.set.Env.Log = zap.New(core)
	st.set.XForward = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	for line := range strings.Lines(`rule helo /^evil/ reject 550 5.7.1 not you
<- 220 gate.example ESMTP
-> HELO front.example
<- 250 gate.example
-> XFORWARD ADDR=203.0.113.5 HELO=evil.example PROTO=SMTP
<- 250 2.0.0 Ok
-> MAIL FROM:<a@b@example.net>
<- 501 5.1.7 Bad sender address syntax
-> MAIL FROM:<a@example.net>
<- 550 5.7.1 not you
-> RSET
<- 250 2.0.0 Ok
-> XFORWARD NAME=[UNAVAILABLE] ADDR=[UNAVAILABLE]
<- 250 2.0.0 Ok
-> MAIL FROM:<a@example.net>
>> CONNECT
>> MAIL FROM:<a@example.net>
<< 250 ok
<- 250 ok
-> RCPT TO:<v@elsewhere.example>
<- 550 5.7.1 Relay access denied
-> QUIT
<- 221 2.0.0 Bye
`) {
		if err := st.step(strings.TrimSuffix(line, "\n")); err != nil {
			t.Fatal(line, err)
		}
	}
	st.finish()
	const all = "connect unknown[203.0.113.5]  \n" +
		"refuse unknown[203.0.113.5]  \n" +
		"refuse unknown[203.0.113.5] a@example.net \n" +
		"disconnect unknown[203.0.113.5]  \n" +
		"connect unknown[unknown]  \n" +
		"refuse unknown[unknown] a@example.net v@elsewhere.example\n" +
		"message unknown[unknown] a@example.net \n" +
		"disconnect unknown[unknown]  \n"
	var got strings.Builder
	for _, e := range lines.All() {
		f := e.ContextMap()
		text := func(key string) string { s, _ := f[key].(string); return s }
		got.WriteString(e.Message + " " + text("client") + " " + text("from") + " " + text("to") + "\n")
	}
	if got.String() != all {
		t.Errorf("got:\n%swant:\n%s", got.String(), all)
	}
}
