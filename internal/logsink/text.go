package logsink

import (
	"cmp"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moongate/moongate/policy"
	"go.uber.org/zap/buffer"
	"go.uber.org/zap/zapcore"
)

// text encodes entries as lines in the shape of Postfix's log:
//
//	2026-11-21T12:00:00.123456+00:00 mx moongate/smtpd[123]: NOQUEUE: reject: RCPT from host[ip]: 550 5.7.1 <to>: ...; from=<> to=<> proto=ESMTP helo=<>
//
// The lines that Postfix has, too, take its words, so that pflogsumm, fail2ban
// and grok patterns read them; all others are "word key=value ...". Which tool
// needs what is said where it is done; test/logreaders_test.go asks them.
type text struct {
	*zapcore.MapObjectEncoder // the fields given by With
	host, prefix              string
}

var pool = buffer.NewPool()

func newText(host, prefix string) zapcore.Encoder {
	return &text{zapcore.NewMapObjectEncoder(), host, prefix}
}

// Clone copies the fields: With must not change the logger it came from.
func (t *text) Clone() zapcore.Encoder {
	c := &text{zapcore.NewMapObjectEncoder(), t.host, t.prefix}
	for k, v := range t.Fields {
		c.Fields[k] = v
	}
	return c
}

// EncodeEntry writes one entry: one line, or for a message one for each thing
// that Postfix would say of it.
func (t *text) EncodeEntry(e zapcore.Entry, fields []zapcore.Field) (*buffer.Buffer, error) {
	all := t.Clone().(*text)
	for _, f := range fields {
		f.AddTo(all)
	}
	l := line{values: all.Fields, out: pool.Get(), head: e.Time.Format(timeLayout) + " " + t.host + " " + t.prefix, level: e.Level}
	switch e.Message {
	case "connect":
		l.begin("smtpd").add("connect from %s", l.client()).rest()
	case "disconnect":
		client := l.client()
		if l.peek(policy.KeyCause) == "too many errors" { // on a line of its own; fail2ban wants a word behind "after"
			l.begin("smtpd").add("too many errors after %sms from %s", l.peek(policy.KeyMillis), client).end()
		}
		l.begin("smtpd").add("disconnect from %s %s", client, l.take(policy.KeyCounts)).rest()
	case "refuse":
		l.refuse()
	case "message":
		l.message()
	default:
		l.begin(e.LoggerName).add("%s", plain(e.Message)).rest()
	}
	return l.out, nil
}

// line is one entry on its way out. take removes what a template used, rest
// writes what none did.
type line struct {
	values map[string]any
	out    *buffer.Buffer
	head   string
	level  zapcore.Level
}

func (l *line) begin(part string) *line {
	l.out.AppendString(l.head)
	if part != "" {
		l.out.AppendString("/" + part)
	}
	fmt.Fprintf(l.out, "[%d]: ", os.Getpid())
	switch l.level {
	case zapcore.DebugLevel:
		l.out.AppendString("debug: ")
	case zapcore.WarnLevel:
		l.out.AppendString("warning: ")
	case zapcore.ErrorLevel:
		l.out.AppendString("error: ")
	case zapcore.DPanicLevel, zapcore.PanicLevel, zapcore.FatalLevel:
		l.out.AppendString("fatal: ")
	}
	return l
}

func (l *line) add(format string, args ...any) *line {
	fmt.Fprintf(l.out, format, args...)
	return l
}

func (l *line) end() { l.out.AppendByte('\n') }

// rest writes what is left as key=value, by key, and ends the line.
func (l *line) rest() {
	keys := make([]string, 0, len(l.values))
	for k := range l.values {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		l.add(" %s=%s", k, quoted(show(l.values[k])))
	}
	l.end()
}

func (l *line) take(key string) string {
	s := l.peek(key)
	delete(l.values, key)
	return s
}

func (l *line) peek(key string) string {
	v, ok := l.values[key]
	if !ok {
		return ""
	}
	return plain(show(v))
}

// client takes the client: one word with one pair of brackets. fail2ban bans what
// stands in the first pair behind "from". A stranger may have a say in his name,
// and where there is no address ("local") he chose what follows, his sender say.
func (l *line) client() string {
	c := l.take(policy.KeyClient)
	if c == "" {
		return ""
	}
	i := strings.LastIndexByte(c, '[')
	if i < 0 {
		i, c = len(c), c+"[-]" // which fail2ban takes for no name, either
	}
	return oneWord.Replace(c[:i]) + c[i:]
}

var oneWord = strings.NewReplacer("[", "?", "]", "?", " ", "?")

// refuse is Postfix's "NOQUEUE: reject: RCPT from ...". A refusal by 4xx is a
// reject there, too.
func (l *line) refuse() {
	stage := strings.ToUpper(l.take(policy.KeyStage))
	client, to := l.client(), l.take(policy.KeyTo)
	delete(l.values, policy.KeyCode) // the reply begins with it
	reply := l.reply()
	switch stage { // where pflogsumm looks for the reason behind what was refused
	case "CONNECT":
		reply = naming(reply, client)
	case "RCPT":
		reply = naming(reply, to)
	case "DATA":
		reply = naming(reply, stage)
	}
	l.begin("smtpd").add("%s: reject: %s from %s: %s;", l.queueID(), stage, client, reply)
	l.envelope(to)
	l.rest()
}

// queueID is the id as Postfix's are, letters and digits and no dot: tools take it
// for a word. As it is it stands further on, "id=S1.1".
func (l *line) queueID() string {
	if id := l.peek(policy.KeyID); id != "" {
		return strings.ReplaceAll(id, ".", "_")
	}
	return "NOQUEUE"
}

// reply takes the reply, without the footer that names the id, which would make
// each refusal a kind of its own, and with a blank behind its first code.
func (l *line) reply() string {
	r := l.take(policy.KeyReply)
	for _, k := range []string{policy.KeyID, policy.KeySession} {
		if id := l.peek(k); id != "" {
			r = strings.TrimSuffix(r, " (id "+id+")")
		}
	}
	if len(r) > 3 && r[3] == '-' { // of several lines
		r = r[:3] + " " + r[4:]
	}
	return r
}

var codes = regexp.MustCompile(`^[2-5]\d\d (?:[2-5]\.\d{1,3}\.\d{1,3} )?`)

// naming says before the reason what was refused, as Postfix's replies do, unless
// it begins with that: "550 5.7.1 <bob@example.org>: no". Nor do Postfix's of a
// DNS list: "554 5.7.1 Service unavailable; Client host [192.0.2.7] blocked ...".
func naming(reply, what string) string {
	n := len(codes.FindString(reply))
	if what == "" || n == 0 || strings.HasPrefix(reply[n:], "<") || strings.Contains(reply[n:], "; ") {
		return reply
	}
	return reply[:n] + "<" + what + ">: " + reply[n:]
}

func (l *line) envelope(to string) {
	if _, ok := l.values[policy.KeyFrom]; ok {
		l.add(" from=<%s>", l.take(policy.KeyFrom))
	}
	if to != "" {
		l.add(" to=<%s>", to)
	}
	if proto := l.take(policy.KeyProto); proto != "" {
		l.add(" proto=%s", proto)
	}
	if helo := l.take(policy.KeyHelo); helo != "" {
		l.add(" helo=<%s>", helo)
	}
}

// message is the audit line: who came, what was taken, what became of each
// recipient, and with all the rest. Readers expect this order.
func (l *line) message() {
	id, client, from, reply := l.queueID(), l.client(), l.take(policy.KeyFrom), l.reply()
	rcpts, _ := l.values[policy.KeyRcpts].([]any)
	delete(l.values, policy.KeyRcpts)
	verdict, going := l.peek(policy.KeyVerdict), on(rcpts)
	taken := verdict == "accepted" || verdict == "discarded" || verdict == "quarantined"
	if taken || len(going) > 0 { // Postfix has an id from the first recipient on
		l.begin("smtpd").add("%s: client=%s", id, client).end()
	} else {
		l.values[policy.KeyClient] = client
	}
	l.begin("policy").add("%s: from=<%s>", id, from)
	if taken { // what has a size here counts as received
		l.add(", size=%s, nrcpt=%d", l.take(policy.KeySize), len(going))
	}
	for _, r := range rcpts {
		if fields, ok := r.(map[string]any); ok {
			l.add(" to=<%s>", plain(show(fields[policy.KeyTo])))
		}
	}
	l.rest()
	switch verdict { // a refused one has had its reject line: the answer to the dot is a refuse, too
	case "accepted":
		l.delivered(id, going, reply)
	case "discarded":
		l.withheld(id, "discard", client, from)
	case "quarantined":
		l.withheld(id, "hold", client, from)
	}
	l.dropped(id, rcpts)
}

// on are the recipients that went on, each once: not those that have a refuse line
// or were taken away, nor one that has got the address of another.
func on(rcpts []any) (going []map[string]any) {
	for _, r := range rcpts {
		fields, ok := r.(map[string]any)
		if reply := show(fields[policy.KeyReply]); !ok || strings.HasPrefix(reply, "4") || strings.HasPrefix(reply, "5") ||
			fields["dropped"] == true || fields["removed"] == true || fields["duplicate"] == true {
			continue
		}
		going = append(going, fields)
	}
	return going
}

// delivered writes a line for each recipient, as Postfix's smtp client does.
func (l *line) delivered(id string, going []map[string]any, reply string) {
	ms, _ := l.values[policy.KeyMillis].(float64)
	for _, fields := range going {
		to := show(fields[policy.KeyTo])
		if as := show(fields["as"]); as != "" {
			to = as
		}
		l.begin("smtp").add("%s: to=<%s>, relay=%s, delay=%s, dsn=2.0.0, status=sent (%s)", id, plain(to), l.peek(policy.KeyUpstream), seconds(ms), reply).end()
	}
}

// withheld is Postfix's line of a message that was taken and goes nowhere: "discard"
// or "hold". The reason is that of the rule, which the client did not hear.
func (l *line) withheld(id, what, client, from string) {
	why := cmp.Or(l.peek(policy.KeyReason), l.peek(policy.KeyRule), l.peek(policy.KeyCause))
	l.begin("smtpd").add("%s: %s: DATA from %s: <DATA>: %s; from=<%s>", id, what, client, why, from)
	l.values = map[string]any{policy.KeyProto: l.peek(policy.KeyProto), policy.KeyHelo: l.peek(policy.KeyHelo)}
	l.envelope("")
	l.end()
}

// dropped writes a line for each recipient that the policy dropped, with the
// rule and the reason, which no refuse line tells.
func (l *line) dropped(id string, rcpts []any) {
	for _, r := range rcpts {
		fields, ok := r.(map[string]any)
		if !ok || fields["dropped"] != true {
			continue
		}
		l.begin("policy").add("%s: drop: to=<%s>", id, plain(show(fields[policy.KeyTo])))
		for _, k := range []string{policy.KeyRule, policy.KeyReason} {
			if v, ok := fields[k]; ok {
				l.add(" %s=%s", k, quoted(show(v)))
			}
		}
		l.end()
	}
}

// seconds writes milliseconds as Postfix writes a delay: two digits that
// count, at most two behind the point, never an exponent.
func seconds(ms float64) string {
	digits := 2
	switch {
	case ms >= 9950:
		digits = 0
	case ms >= 995:
		digits = 1
	}
	s := strconv.FormatFloat(ms/1000, 'f', digits, 64)
	if digits > 0 {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

// show writes a value in one line.
func show(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case []byte:
		return string(v)
	case time.Duration:
		return millis(v)
	case []any:
		parts := make([]string, len(v))
		for i, e := range v {
			parts[i] = show(e)
		}
		return strings.Join(parts, "; ")
	case map[string]any:
		keys := make([]string, 0, len(v))
		for k := range v {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for i, k := range keys {
			keys[i] = k + ":" + show(v[k])
		}
		return strings.Join(keys, ",")
	}
	return fmt.Sprint(v)
}

// plain replaces what would forge or break a line: control characters, and
// octets that are no ASCII, as Postfix does.
func plain(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return '?'
		}
		return c
	}, s)
}

// quoted writes a value behind key=: in quotes where it has blanks, so that it
// ends where a reader thinks it does.
func quoted(s string) string {
	s = plain(s)
	if s == "" || strings.ContainsAny(s, ` "=`) {
		return `"` + strings.ReplaceAll(s, `"`, `'`) + `"`
	}
	return s
}
