package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// Only who means it is heard: a page in a browser on the same host can post a
// form here, or have a name that leads here.
func TestReloadIsGuarded(t *testing.T) {
	asked := 0
	s := New(func() error { return nil }, nil)
	s.Reload = func(context.Context, bool) (Outcome, error) { asked++; return Outcome{Taken: true}, nil }
	for _, test := range []struct {
		name, method, path string
		headers            map[string]string
		want               int
	}{
		{"asked", "POST", "/reload", map[string]string{Header: "reload"}, 200},
		{"lists", "POST", "/reload?accept-lists=1", map[string]string{Header: "reload"}, 200},
		{"a link", "GET", "/reload", map[string]string{Header: "reload"}, 405},
		{"a form", "POST", "/reload", map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, 403},
		{"another word", "POST", "/reload", map[string]string{Header: "restart"}, 403},
		{"a script", "POST", "/reload", map[string]string{Header: "reload", "Origin": "http://rebound.example"}, 403},
		{"before a script", "OPTIONS", "/reload", map[string]string{"Origin": "http://x.example", "Access-Control-Request-Headers": Header}, 405},
		{"another value", "POST", "/reload?accept-lists=yes", map[string]string{Header: "reload"}, 400},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := asked
			req := httptest.NewRequest(test.method, "http://127.0.0.1:9125"+test.path, nil)
			for k, v := range test.headers {
				req.Header.Set(k, v)
			}
			w := httptest.NewRecorder()
			s.http.Handler.ServeHTTP(w, req)
			if w.Code != test.want {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			if (asked > before) != (test.want == http.StatusOK) {
				t.Error("reloaded, and should not have, or the other way round")
			}
			if w.Header().Get("Access-Control-Allow-Origin") != "" || w.Header().Get("Access-Control-Allow-Headers") != "" {
				t.Error("another site is let in")
			}
		})
	}
}

// silent is an address of the loopback at which nobody listens, and nobody can
// until the test has ended: the port is taken.
func silent(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	at, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", at.(*syscall.SockaddrInet4).Port)
}

// What the process says reaches the asker, line by line.
func TestAskReload(t *testing.T) {
	for _, at := range []struct{ network, addr string }{
		{"tcp", "127.0.0.1:0"}, {"unix", filepath.Join(t.TempDir(), "admin.sock")},
	} {
		t.Run(at.network, func(t *testing.T) {
			l, err := net.Listen(at.network, at.addr)
			if err != nil {
				t.Fatal(err)
			}
			s := New(func() error { return nil }, nil)
			var say Outcome
			var trouble error
			s.Reload = func(_ context.Context, acceptLists bool) (Outcome, error) {
				if !acceptLists {
					t.Error("the lists were not mentioned")
				}
				return say, trouble
			}
			done := make(chan error, 1)
			go func() { done <- s.Serve(l) }()
			ask := func() (Outcome, error) { return AskReload(t.Context(), at.network, l.Addr().String(), true) }

			say = Outcome{Lines: []string{"a.lua:1:2: no", "b.lua:3: a text\nof two lines"}}
			if o, err := ask(); err != nil || o.Taken || !slices.Equal(o.Lines, []string{"a.lua:1:2: no", "b.lua:3: a text of two lines"}) {
				t.Errorf("refused: %+v, %v", o, err)
			}
			say = Outcome{Taken: true}
			if o, err := ask(); err != nil || !o.Taken || len(o.Lines) != 0 {
				t.Errorf("taken: %+v, %v", o, err)
			}
			trouble = errors.New("draining")
			if _, err := ask(); err == nil || !strings.Contains(err.Error(), "503 Service Unavailable: draining") {
				t.Errorf("while draining: %v", err)
			}
			if err := s.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
			free := l.Addr().String() // the socket's file is gone
			if at.network == "tcp" {
				free = silent(t) // that port may be another's by now
			}
			if _, err := AskReload(t.Context(), at.network, free, true); !errors.Is(err, ErrNobody) {
				t.Errorf("nobody there: %v", err)
			}
		})
	}
}
