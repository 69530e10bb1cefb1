package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
)

// ErrNobody is AskReload's error when nobody listens at the address.
var ErrNobody = errors.New("nobody listens there")

// AskReload asks the process that serves [admin] at an address for a reload and
// waits for what comes of it. network is "tcp" or "unix".
func AskReload(ctx context.Context, network, addr string, acceptLists bool) (Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, ReloadTime)
	defer cancel()
	url := "http://moongate/reload"
	if acceptLists {
		url += "?accept-lists=1"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, nil)
	if err != nil {
		return Outcome{}, err
	}
	req.Header.Set(Header, "reload")
	transport := &http.Transport{ // no proxy of the environment: what we ask is here
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, addr)
		},
	}
	resp, err := transport.RoundTrip(req)
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT) {
		return Outcome{}, ErrNobody
	}
	if err != nil {
		return Outcome{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return Outcome{}, err
	}
	text := strings.TrimSuffix(string(body), "\n")
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusConflict {
		return Outcome{}, fmt.Errorf("it answers %s: %s", resp.Status, oneLine.Replace(text))
	}
	o := Outcome{Taken: resp.StatusCode == http.StatusOK}
	if text != "" {
		o.Lines = strings.Split(text, "\n")
	}
	return o, nil
}
