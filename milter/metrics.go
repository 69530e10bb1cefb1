package milter

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/moongate/moongate/policy"
)

// Metrics counts what both faces do. A nil *Metrics counts nothing.
type Metrics struct {
	sessions prometheus.Gauge
	refused  prometheus.Counter
	broken   prometheus.Counter
	failures *prometheus.CounterVec
	verdicts *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

// NewMetrics registers the metrics of this room.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		sessions: prometheus.NewGauge(prometheus.GaugeOpts{Name: "moongate_milter_connections",
			Help: "MTA connections that are open now."}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{Name: "moongate_milter_refused_total",
			Help: "MTA connections that were closed because milter.connections are open."}),
		broken: prometheus.NewCounter(prometheus.CounterOpts{Name: "moongate_milter_broken_total",
			Help: "MTA connections that ended with an error: a malformed packet, a timeout, a reset."}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "moongate_filter_failures_total",
			Help: "Filters that could not be asked, by filter; its on_error was used."}, []string{"filter"}),
		verdicts: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "moongate_filter_verdicts_total",
			Help: "Answers of filters that decided something, by filter and action; shadow filters too."}, []string{"filter", "action"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "moongate_filter_seconds",
			Help: "Time that a filter took for one stage.", Buckets: []float64{1e-4, 1e-3, 1e-2, .1, .5, 1, 2, 5, 20, 75}}, []string{"filter"}),
	}
	reg.MustRegister(m.sessions, m.refused, m.broken, m.failures, m.verdicts, m.seconds)
	return m
}

func (m *Metrics) opened() {
	if m != nil {
		m.sessions.Inc()
	}
}

func (m *Metrics) closed() {
	if m != nil {
		m.sessions.Dec()
	}
}

func (m *Metrics) turnedAway() {
	if m != nil {
		m.refused.Inc()
	}
}

func (m *Metrics) broke() {
	if m != nil {
		m.broken.Inc()
	}
}

func (m *Metrics) failed(filter string) {
	if m != nil {
		m.failures.WithLabelValues(filter).Inc()
	}
}

func (m *Metrics) answered(filter string, v policy.Verdict, took time.Duration) {
	if m == nil {
		return
	}
	m.seconds.WithLabelValues(filter).Observe(took.Seconds())
	if v.Decided() && !v.Failed { // on_error is no answer of the filter's
		m.verdicts.WithLabelValues(filter, v.Action.String()).Inc()
	}
}
