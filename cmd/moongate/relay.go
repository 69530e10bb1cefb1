package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/textproto"
	"slices"
	"strings"
	"time"

	"github.com/moongate/moongate/configs"
	"github.com/moongate/moongate/internal/logsink"
	"github.com/moongate/moongate/policy"
)

// stranger is who asks: an address of TEST-NET-1 (RFC 5737), nobody's.
var stranger = netip.MustParseAddrPort("192.0.2.1:4711")

// elsewhere is where the recipients of the relay check are: a domain that does
// not exist (RFC 6761 6.4), so nothing could be delivered to it.
const elsewhere = "relay-check.invalid"

// attempt is a way to ask for mail to the outside: the arguments of MAIL FROM:
// and RCPT TO:.
type attempt struct{ from, to string }

func (a attempt) String() string {
	if a.from == "<>" {
		return a.to
	}
	return a.to + " from " + a.from
}

// attempts are the spellings of a foreign recipient that MTAs have sent on to
// the outside, for each domain of our own (docs/mail.md 2), and the sender that
// an MTA may take for one of its own.
func attempts(domains []string) []attempt {
	foreign := "<victim@" + elsewhere + ">"
	all := []attempt{{"<>", foreign}, {"<>", "<victim%" + elsewhere + ">"}, {"<>", "<victim%" + elsewhere + "@[127.0.0.1]>"}}
	for _, own := range domains {
		for _, to := range []string{
			"<victim%" + elsewhere + "@" + own + ">",
			`<"victim@` + elsewhere + `"@` + own + ">",
			`<"victim%` + elsewhere + `"@` + own + ">",
			"<" + elsewhere + "!victim@" + own + ">",
			"<victim@" + elsewhere + "@" + own + ">",
			"<@" + own + ":victim@" + elsewhere + ">",
		} {
			all = append(all, attempt{"<>", to})
		}
		all = append(all, attempt{"<postmaster@" + own + ">", foreign})
	}
	return all
}

// ownDomains are domains that the upstream likely takes mail for: the first that
// is listed, else our name and what it is a part of.
func ownDomains(cfg *configs.Config) []string {
	if len(cfg.Domains) > 0 {
		return cfg.Domains[:1]
	}
	own := []string{cfg.Hostname}
	if _, parent, ok := strings.Cut(cfg.Hostname, "."); ok && strings.Contains(parent, ".") {
		own = append(own, parent)
	}
	return own
}

// checkRelay offers foreign recipients as a stranger, through the door without
// its rules and through the upstream, and fails if one is taken. No message is
// sent: the transaction ends before DATA.
func checkRelay(ctx context.Context, cfg *configs.Config, out io.Writer) error {
	if cfg.Upstream.Address == "" {
		fmt.Fprintln(out, "relay: there is no upstream")
		return nil
	}
	bare := *cfg // what rules refuse today they may let pass tomorrow
	bare.Policy.Scripts, bare.Policy.AllowEmpty, bare.Filters = "", true, nil
	bare.Limits.Errors = max(bare.Limits.Errors, 2*inSession)
	log, sink := logsink.New(logsink.Options{Out: io.Discard})
	defer sink.Close(time.Second)
	h, err := furnish(&bare, log, sink)
	if err != nil {
		return fail(exitConfig, "%w", err)
	}
	defer h.close()

	all := attempts(ownDomains(cfg))
	var taken []string
	for some := range slices.Chunk(all, inSession) {
		more, err := offer(h, some, out)
		taken = append(taken, more...)
		switch {
		case len(taken) > 0: // that is enough, whatever comes of the others
		case err != nil:
			return fail(exitUnavailable, "relay: %w", err)
		}
	}
	if len(taken) > 0 {
		return fail(exitConfig, "relay: a stranger's mail to %s would be taken: this is an open relay", strings.Join(taken, ", "))
	}
	fmt.Fprintf(out, "relay: none of %d foreign recipients was taken from %s\n", len(all), stranger.Addr())
	return nil
}

// inSession is how much is asked in one session: who is refused often is shown
// the door, by us and by the upstream.
const inSession = 4

var errNoVerdict = errors.New("the upstream gave no verdict")

// offer asks in one session and returns what was taken. A stock Postfix refuses
// relaying with 454 4.7.1 (defer_unauth_destination); any other 4xx is no
// verdict: the upstream may be down, and then nothing is proven.
func offer(h *house, some []attempt, out io.Writer) (taken []string, err error) {
	ours, theirs := net.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		h.proxy.ServeConn(theirs, policy.Facts{Listener: "check", Remote: stranger})
	}()
	defer func() { ours.Close(); <-ended }()
	ours.SetDeadline(time.Now().Add(2 * time.Minute))
	c := textproto.NewConn(ours)
	say := func(line string) (int, string, error) {
		if line != "" {
			if err := c.PrintfLine("%s", line); err != nil {
				return 0, "", err
			}
		}
		return c.ReadResponse(0)
	}
	for _, line := range []string{"", "EHLO stranger.invalid"} {
		if code, text, err := say(line); err != nil || code >= 400 {
			return nil, noVerdict(line, code, text, err)
		}
	}
	for _, a := range some {
		for _, line := range []string{"MAIL FROM:" + a.from, "RCPT TO:" + a.to} {
			code, text, err := say(line)
			if err != nil {
				return taken, noVerdict(line, code, text, err)
			}
			rcpt := strings.HasPrefix(line, "RCPT")
			if !rcpt && code/100 == 2 {
				continue
			}
			// Of a sender of our own any refusal is one: he may have other faults.
			if code/100 == 4 && !strings.HasPrefix(text, "4.7.") && a.from == "<>" || code/100 == 5 && !rcpt && a.from == "<>" {
				return taken, noVerdict(line, code, text, nil)
			}
			if rcpt && code/100 == 2 {
				taken = append(taken, a.String())
			}
			fmt.Fprintf(out, "relay: %-60s %d %s\n", a, code, strings.ReplaceAll(text, "\n", " / "))
			break
		}
		if code, text, err := say("RSET"); err != nil || code/100 != 2 {
			return taken, noVerdict("RSET", code, text, err)
		}
	}
	_, _, err = say("QUIT")
	return taken, err
}

func noVerdict(line string, code int, text string, err error) error {
	if err != nil {
		return fmt.Errorf("%w: %s: %w", errNoVerdict, line, err)
	}
	return fmt.Errorf("%w: %s: %d %s", errNoVerdict, line, code, text)
}
