package proxy

import "github.com/prometheus/client_golang/prometheus"

// HopMetrics counts what happens between us and the next hops. A nil
// *HopMetrics counts nothing.
type HopMetrics struct {
	gets  *prometheus.CounterVec
	conns prometheus.Gauge
	full  prometheus.Counter
	alive prometheus.Gauge
}

// NewHopMetrics registers the metrics of one hop.
func NewHopMetrics(reg prometheus.Registerer) *HopMetrics {
	m := &HopMetrics{
		gets: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "moongate_upstream_gets_total",
			Help: "Requests for an upstream connection, by result: reused, dialled, failed."}, []string{"result"}),
		conns: prometheus.NewGauge(prometheus.GaugeOpts{Name: "moongate_upstream_connections",
			Help: "Upstream connections that are open."}),
		full: prometheus.NewCounter(prometheus.CounterOpts{Name: "moongate_upstream_full_total",
			Help: "Requests that found no free upstream connection in time."}),
	}
	m.alive = prometheus.NewGauge(prometheus.GaugeOpts{Name: "moongate_upstream_up",
		Help: "0 while the last dials or greetings failed and new clients hear 421."})
	m.alive.Set(1)
	reg.MustRegister(m.gets, m.conns, m.full, m.alive)
	return m
}

func (m *HopMetrics) got(result string) {
	if m != nil {
		m.gets.WithLabelValues(result).Inc()
	}
}

func (m *HopMetrics) opened(n int) {
	if m != nil {
		m.conns.Set(float64(n))
	}
}

func (m *HopMetrics) waited() {
	if m != nil {
		m.full.Inc()
	}
}

func (m *HopMetrics) up(up bool) {
	switch {
	case m == nil:
	case up:
		m.alive.Set(1)
	default:
		m.alive.Set(0)
	}
}
