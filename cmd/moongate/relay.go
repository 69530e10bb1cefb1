package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/textproto"
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

// relayForms are the spellings of a foreign recipient that MTAs have sent on to
// the outside; %s is a domain of our own. docs/mail.md 2.
func relayForms(own string) []string {
	return []string{
		"<victim@" + elsewhere + ">",
		"<victim%" + elsewhere + "@" + own + ">",
		`<"victim@` + elsewhere + `"@` + own + ">",
		`<"victim%` + elsewhere + `"@` + own + ">",
		"<" + elsewhere + "!victim@" + own + ">",
		"<victim@" + elsewhere + "@" + own + ">",
		"<@" + own + ":victim@" + elsewhere + ">",
		"<victim%" + elsewhere + ">",
		"<victim%" + elsewhere + "@[127.0.0.1]>",
	}
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
	log, sink := logsink.New(logsink.Options{Out: io.Discard})
	defer sink.Close(time.Second)
	h, err := furnish(&bare, log, sink)
	if err != nil {
		return fail(exitConfig, "%w", err)
	}
	defer h.close()

	ours, theirs := net.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		h.proxy.ServeConn(theirs, policy.Facts{Listener: "check", Remote: stranger})
	}()
	defer func() { ours.Close(); <-ended }()
	ours.SetDeadline(time.Now().Add(2 * time.Minute))
	own := cfg.Hostname
	if len(cfg.Domains) > 0 {
		own = cfg.Domains[0]
	}
	taken, err := offer(textproto.NewConn(ours), relayForms(own), out)
	switch {
	case err != nil:
		return fail(exitUnavailable, "relay: %w", err)
	case len(taken) > 0:
		return fail(exitConfig, "relay: a stranger's mail to %s would be taken: this is an open relay", strings.Join(taken, ", "))
	}
	fmt.Fprintf(out, "relay: none of %d foreign recipients was taken from %s\n", len(relayForms(own)), stranger.Addr())
	return nil
}

var errNoVerdict = errors.New("the upstream gave no verdict")

// offer says each recipient and returns those that were taken. A stock Postfix
// refuses relaying with 454 4.7.1 (defer_unauth_destination); any other 4xx is no
// verdict: the upstream may be down, and then nothing is proven.
func offer(c *textproto.Conn, rcpts []string, out io.Writer) (taken []string, err error) {
	say := func(line string) (int, string, error) {
		if line != "" {
			if err := c.PrintfLine("%s", line); err != nil {
				return 0, "", err
			}
		}
		return c.ReadResponse(0)
	}
	for _, line := range []string{"", "EHLO stranger.invalid", "MAIL FROM:<>"} {
		code, text, err := say(line)
		if err != nil {
			return nil, err
		}
		if code >= 400 {
			return nil, fmt.Errorf("%w: %s: %d %s", errNoVerdict, line, code, text)
		}
	}
	for _, rcpt := range rcpts {
		code, text, err := say("RCPT TO:" + rcpt)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(out, "relay: %-60s %d %s\n", rcpt, code, strings.ReplaceAll(text, "\n", " / "))
		switch {
		case code/100 == 2:
			taken = append(taken, rcpt)
		case code/100 == 4 && !strings.HasPrefix(text, "4.7."):
			return taken, fmt.Errorf("%w: %s: %d %s", errNoVerdict, rcpt, code, text)
		}
	}
	_, _, err = say("QUIT")
	return taken, err
}
