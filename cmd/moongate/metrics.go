package main

import (
	"runtime"

	"github.com/moongate/moongate/internal/logsink"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// reloadMetrics tell whether what runs is what the files say.
type reloadMetrics struct {
	ok   prometheus.Gauge
	last prometheus.Gauge
}

func newRegistry(out *logsink.Sink) (*prometheus.Registry, *reloadMetrics) {
	reg := prometheus.NewRegistry()
	m := &reloadMetrics{
		ok: prometheus.NewGauge(prometheus.GaugeOpts{Name: "moongate_config_last_reload_successful",
			Help: "1 if the last reload of the configuration took effect, 0 if it was refused."}),
		last: prometheus.NewGauge(prometheus.GaugeOpts{Name: "moongate_config_last_reload_success_timestamp_seconds",
			Help: "When the configuration that runs was loaded."}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{Name: "moongate_build_info", Help: "Always 1.",
		ConstLabels: prometheus.Labels{"version": versionText(), "goversion": runtime.Version()}})
	build.Set(1)
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		build, m.ok, m.last,
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "moongate_log_dropped_total",
			Help: "Log lines dropped because the log's reader was stuck."}, func() float64 { return float64(out.Dropped()) }))
	m.taken()
	return reg, m
}

func (m *reloadMetrics) taken() {
	m.ok.Set(1)
	m.last.SetToCurrentTime()
}

func (m *reloadMetrics) refused() { m.ok.Set(0) }
