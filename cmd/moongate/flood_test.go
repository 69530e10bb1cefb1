package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// flood SOCKET COUNT opens so many connections and says nothing in them; ebb
// SOCKET closes them again.
func flood(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: flood socket count")
	}
	count, err := strconv.Atoi(args[1])
	ts.Check(err)
	conns := make([]net.Conn, count)
	ts.Defer(func() { hangUp(conns) })
	for i := range conns {
		conns[i], err = net.Dial("unix", ts.MkAbs(args[0]))
		ts.Check(err)
	}
	floods, _ := ts.Value(floodsKey{}).(map[string][]net.Conn)
	floods[args[0]] = append(floods[args[0]], conns...)
}

func ebb(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: ebb socket")
	}
	floods, _ := ts.Value(floodsKey{}).(map[string][]net.Conn)
	hangUp(floods[args[0]])
	delete(floods, args[0])
}

// floodsKey finds the connections of a script by their sockets.
type floodsKey struct{}

func hangUp(conns []net.Conn) {
	for _, c := range conns {
		if c != nil {
			c.Close()
		}
	}
}

var openFDs = regexp.MustCompile(`(?m)^process_open_fds (\d+)$`)

// files SOCKET NAME asks the admin server how many descriptors are open and
// remembers the number; ! files waits until there are no more again.
func files(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: files socket name")
	}
	was, _ := strconv.Atoi(ts.Getenv(args[1]))
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		m := openFDs.FindStringSubmatch(metricsAt(ts, args[0]))
		if m == nil {
			ts.Fatalf("the number of descriptors is not told")
		}
		if !neg {
			ts.Setenv(args[1], m[1])
			return
		}
		n, err := strconv.Atoi(m[1])
		ts.Check(err)
		if n <= was {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("%d descriptors are open, there were %d", n, was)
		}
	}
}

func metricsAt(ts *testscript.TestScript, socket string) string {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", ts.MkAbs(socket))
	}}
	resp, err := (&http.Client{Transport: transport, Timeout: patience}).Get("http://moongate/metrics")
	ts.Check(err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	ts.Check(err)
	return string(text)
}
