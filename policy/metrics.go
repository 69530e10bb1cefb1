package policy

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts what policy does. A nil *Metrics counts nothing.
type Metrics struct {
	verdicts [NumAsked][numActions]prometheus.Counter
	seconds  [NumAsked]prometheus.Observer
	failures *prometheus.CounterVec
	refusals *prometheus.CounterVec
	messages *prometheus.CounterVec
	unsure   prometheus.Counter
	panics   prometheus.Counter
}

// NewMetrics registers the metrics of this room.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "moongate_rule_failures_total",
			Help: "Rules that ended with an error, a spent budget or a panic, by rule."}, []string{"rule"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "moongate_refusals_total",
			Help: "Refused commands, by command and by who refused."}, []string{"command", "by"}),
		messages: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "moongate_messages_total",
			Help: "Transactions that ended, by outcome."}, []string{"outcome"}),
		unsure: prometheus.NewCounter(prometheus.CounterOpts{Name: "moongate_ambiguous_total",
			Help: "Messages whose upstream broke between the final dot and its reply: a duplicate is possible."}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{Name: "moongate_panics_total",
			Help: "Panics that were caught."}),
	}
	verdicts := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "moongate_verdicts_total",
		Help: "Answers of the policy, by stage and action."}, []string{"stage", "action"})
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "moongate_stage_seconds",
		Help:    "Time that a stage took the policy, rules and filters together.",
		Buckets: []float64{1e-5, 1e-4, 1e-3, 1e-2, .1, .5, 1, 2, 5, 20, 75}}, []string{"stage"})
	reg.MustRegister(m.failures, m.refusals, m.messages, m.unsure, m.panics, verdicts, seconds)
	for h := range NumAsked {
		m.seconds[h] = seconds.WithLabelValues(hookNames[h])
		for a := range numActions {
			m.verdicts[h][a] = verdicts.WithLabelValues(hookNames[h], a.String())
		}
	}
	return m
}

func (m *Metrics) asked(h Hook, a Action, took time.Duration) {
	if m == nil || int(h) >= NumAsked {
		return
	}
	m.verdicts[h][a].Inc()
	m.seconds[h].Observe(took.Seconds())
}

func (m *Metrics) ruleFailed(r *Rule) {
	if m != nil {
		m.failures.WithLabelValues(r.Place()).Inc()
	}
}

func (m *Metrics) refused(verb string, by Source) {
	if m != nil {
		m.refusals.WithLabelValues(verb, string(by)).Inc()
	}
}

func (m *Metrics) finished(o *Outcome) {
	if m == nil {
		return
	}
	m.messages.WithLabelValues(o.Word()).Inc()
	if o.Ambiguous {
		m.unsure.Inc()
	}
}

// panicked counts a panic that was caught.
func (m *Metrics) panicked() {
	if m != nil {
		m.panics.Inc()
	}
}

// Panicked counts a panic that a front-end caught.
func (m *Metrics) Panicked() { m.panicked() }
