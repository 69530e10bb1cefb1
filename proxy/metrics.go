package proxy

import "github.com/prometheus/client_golang/prometheus"

// Metrics counts what happens at the door. A nil *Metrics counts nothing.
type Metrics struct {
	open     prometheus.Gauge
	sessions prometheus.Counter
	refused  prometheus.Counter
	accepts  prometheus.Counter
	gone     prometheus.Counter
	redials  prometheus.Counter
	received prometheus.Counter
	eol      prometheus.Counter
}

// NewMetrics registers the metrics of this room.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		reg.MustRegister(c)
		return c
	}
	m := &Metrics{
		open: prometheus.NewGauge(prometheus.GaugeOpts{Name: "moongate_sessions_open",
			Help: "Clients that are connected."}),
		sessions: counter("moongate_sessions_total", "Clients that were served."),
		refused:  counter("moongate_connections_refused_total", "Clients that a limit of connections turned away."),
		accepts:  counter("moongate_accept_failures_total", "Connections that the system could not hand over."),
		gone:     counter("moongate_clients_gone_total", "Clients that went away while something was done for them."),
		redials:  counter("moongate_upstream_redials_total", "Transactions replayed because the upstream was gone while nobody waited for it."),
		received: counter("moongate_message_bytes_total", "Octets of messages received."),
		eol:      counter("moongate_bare_newlines_total", "Messages with a bare CR or LF."),
	}
	reg.MustRegister(m.open)
	return m
}

func (m *Metrics) opened() {
	if m != nil {
		m.open.Inc()
		m.sessions.Inc()
	}
}

func (m *Metrics) ended() {
	if m != nil {
		m.open.Dec()
	}
}

func (m *Metrics) connectRefused() {
	if m != nil {
		m.refused.Inc()
	}
}

func (m *Metrics) acceptFailed() {
	if m != nil {
		m.accepts.Inc()
	}
}

func (m *Metrics) clientGone() {
	if m != nil {
		m.gone.Inc()
	}
}

func (m *Metrics) redialed() {
	if m != nil {
		m.redials.Inc()
	}
}

func (m *Metrics) body(size int64, bare bool) {
	if m == nil {
		return
	}
	m.received.Add(float64(size))
	if bare {
		m.eol.Inc()
	}
}
