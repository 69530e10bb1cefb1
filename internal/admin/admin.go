// Package admin is moongate's small HTTP server: /healthz for load balancers
// and supervisors, /metrics for Prometheus, /reload for `moongate reload`. It
// has no password; it belongs on loopback or a unix socket. Whoever reaches it
// can change nothing but when the files of the configuration are read anew, and
// whether lists that shrank are believed.
package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Server answers on [admin]. Set the fields before Serve.
type Server struct {
	// Health says why we are not serving mail, nil if we are. It is called
	// for each /healthz and must not block.
	Health func() error
	// Gatherer has the metrics. nil: no /metrics.
	Gatherer prometheus.Gatherer
	// Reload takes over what the files say now, and with acceptLists the lists
	// that were held back. Its error says why it cannot be done at this time.
	// nil: /reload answers 503.
	Reload func(ctx context.Context, acceptLists bool) (Outcome, error)

	http http.Server
}

// New makes a Server.
func New(health func() error, metrics prometheus.Gatherer) *Server {
	s := &Server{Health: health, Gatherer: metrics}
	s.http = http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: 5 * time.Second, // a slow reader must not hold a connection for ever
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
	return s
}

// Serve answers until Shutdown; then it returns nil.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve admin: %w", err)
	}
	return nil
}

// Shutdown lets open requests end until ctx is done, then closes them.
func (s *Server) Shutdown(ctx context.Context) error {
	if err := s.http.Shutdown(ctx); err != nil {
		return s.http.Close()
	}
	return nil
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.health)
	if s.Gatherer != nil {
		mux.Handle("GET /metrics", promhttp.HandlerFor(s.Gatherer, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second}))
	}
	mux.HandleFunc("POST /reload", s.reload)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprint(w, "moongate\n\n/healthz  ok while mail is served, else 503 and why not\n/metrics  for Prometheus\n/reload   for moongate reload\n")
	})
	return mux
}

func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if err := s.Health(); err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, err)
		return
	}
	fmt.Fprintln(w, "ok")
}
