package script

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// maxSeries bounds the label values of one metric: a rule that counts by sender
// must not fill the memory of whoever scrapes it.
const maxSeries = 100

// metricSet holds what scripts count. It outlives versions.
type metricSet struct {
	mu  sync.Mutex // guards all, and the series of each
	all map[string]*scriptMetric
}

// scriptMetric is what one metric(name) counted. Its labels are those of its
// first add.
type scriptMetric struct {
	set    *metricSet
	name   string
	labels []string
	series map[string]*series
}

type series struct {
	values []string
	sum    float64
}

func newMetricSet() *metricSet { return &metricSet{all: map[string]*scriptMetric{}} }

func (s *metricSet) open(name string) *scriptMetric {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.all[name]
	if m == nil {
		m = &scriptMetric{set: s, name: name, series: map[string]*series{}}
		s.all[name] = m
	}
	return m
}

func (m *scriptMetric) add(n float64, labels map[string]string) error {
	names := slices.Sorted(maps.Keys(labels))
	m.set.mu.Lock()
	defer m.set.mu.Unlock()
	if len(m.series) == 0 {
		if len(names) > 5 || slices.ContainsFunc(names, func(n string) bool { return !labelName.MatchString(n) }) {
			return errLabels
		}
		m.labels = names
	}
	if !slices.Equal(names, m.labels) {
		return fmt.Errorf("the labels of %s are {%s}", m.name, strings.Join(m.labels, ", "))
	}
	values := make([]string, len(names))
	for i, name := range names {
		values[i] = strings.ToValidUTF8(labels[name], "?")
	}
	key := strings.Join(values, "\x00")
	s := m.series[key]
	if s == nil && len(m.series) >= maxSeries {
		for i := range values {
			values[i] = "other"
		}
		key = strings.Join(values, "\x00")
		s = m.series[key]
	}
	if s == nil {
		s = &series{values: values}
		m.series[key] = s
	}
	s.sum += n
	return nil
}

// Describe says nothing: what there is to collect is up to the scripts.
func (s *metricSet) Describe(chan<- *prometheus.Desc) {}

// Collect gives all series.
func (s *metricSet) Collect(out chan<- prometheus.Metric) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(s.all)) {
		m := s.all[name]
		desc := prometheus.NewDesc("moongate_script_"+name+"_total", "Counted by the policy.", m.labels, nil)
		for _, key := range slices.Sorted(maps.Keys(m.series)) {
			if c, err := prometheus.NewConstMetric(desc, prometheus.CounterValue, m.series[key].sum, m.series[key].values...); err == nil {
				out <- c
			}
		}
	}
}
