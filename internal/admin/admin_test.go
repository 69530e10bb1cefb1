package admin

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPages(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			addr := "127.0.0.1:0"
			if network == "unix" {
				addr = filepath.Join(t.TempDir(), "admin.sock")
			}
			l, err := net.Listen(network, addr)
			if err != nil {
				t.Fatal(err)
			}
			var trouble atomic.Pointer[error]
			reg := prometheus.NewRegistry()
			counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "moongate_test_total", Help: "A test."})
			reg.MustRegister(counter)
			counter.Add(3)
			s := New(func() error {
				if p := trouble.Load(); p != nil {
					return *p
				}
				return nil
			}, reg)
			done := make(chan error, 1)
			go func() { done <- s.Serve(l) }()

			client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, network, l.Addr().String())
			}}}
			get := func(method, path string) (int, string) {
				t.Helper()
				req, _ := http.NewRequest(method, "http://moongate"+path, nil)
				resp, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				body, _ := io.ReadAll(resp.Body)
				return resp.StatusCode, string(body)
			}
			if code, body := get("GET", "/healthz"); code != 200 || body != "ok\n" {
				t.Errorf("/healthz: %d %q", code, body)
			}
			draining := errors.New("draining")
			trouble.Store(&draining)
			if code, body := get("GET", "/healthz"); code != 503 || body != "draining\n" {
				t.Errorf("/healthz while draining: %d %q", code, body)
			}
			if code, body := get("GET", "/metrics"); code != 200 || !strings.Contains(body, "moongate_test_total 3") {
				t.Errorf("/metrics: %d %q", code, body)
			}
			if code, _ := get("GET", "/"); code != 200 {
				t.Errorf("/: %d", code)
			}
			if code, _ := get("POST", "/healthz"); code != 405 {
				t.Errorf("POST /healthz: %d", code)
			}
			if code, _ := get("GET", "/nothing"); code != 404 {
				t.Errorf("/nothing: %d", code)
			}
			client.CloseIdleConnections()
			if err := s.Shutdown(t.Context()); err != nil {
				t.Errorf("shutdown: %v", err)
			}
			if err := <-done; err != nil {
				t.Errorf("serve: %v", err)
			}
		})
	}
}
