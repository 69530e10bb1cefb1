package script

import (
	"fmt"
	"math"
	"regexp"

	glua "github.com/yuin/gopher-lua"
)

type metricRef struct {
	x *state
	*scriptMetric
}

func (m *metricRef) in() *state { return m.x.alive() }

var metricClass = (&class{name: "metric", typ: "Metric", doc: "A counter for Prometheus, by metric().",
	members: []*member{
		{name: "add", params: []param{{"n", "number?", "By default 1."}, {"labels", "table<string, string>?", "Always the same names; few values: beyond 100 combinations all is \"other\"."}},
			doc: "Counts.",
			do: func(x *state, L *glua.LState, self any) int {
				n := 1.0
				if v, ok := L.Get(2).(glua.LNumber); ok && v >= 0 && !math.IsInf(float64(v), 0) {
					n = float64(v)
				} else if L.Get(2) != glua.LNil {
					L.RaiseError("add: argument 1 is a number of at least 0")
				}
				labels := map[string]string{}
				if t := optTable(L, 3, "add"); t != nil {
					t.ForEach(func(k, v glua.LValue) { labels[clip(k.String(), 64)] = clip(v.String(), 64) })
				}
				x.Meter.Charge(50)
				if x.rule.desc.Shadow {
					return 0
				}
				if err := self.(*metricRef).add(n, labels); err != nil {
					L.RaiseError("add: %s", err.Error())
				}
				return 0
			}},
	}}).ready()

var (
	metricName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)
	labelName  = regexp.MustCompile(`^[a-z][a-z0-9_]{0,30}$`)
	errLabels  = fmt.Errorf("a label's name is lower case letters, digits and '_', and there are at most 5")
)
