package milter

import (
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/moongate/moongate/policy"
)

// With Connections open the next one is closed at once, those that are open go
// on, and when one of them has ended there is room again. The log is told at
// once, and then once a minute, how many there were.
func TestConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, logs := serverOf()
		reg := prometheus.NewRegistry()
		srv.Metrics = NewMetrics(reg)
		srv.Connections = 2
		first, second := pipe(t, srv, all), pipe(t, srv, all)
		refused := func(n int) {
			t.Helper()
			for range n {
				ours, theirs := net.Pipe()
				srv.ServeConn(theirs)
				if _, err := ours.Read(make([]byte, 1)); err == nil {
					t.Error("it was told something")
				}
			}
		}
		refused(3)
		first.hello()
		second.hello()
		time.Sleep(tellEvery)
		refused(4)
		first.c.Close()
		synctest.Wait()
		pipe(t, srv, all).hello()

		srv.Admit(3)
		pipe(t, srv, all).hello()
		refused(1)

		var told []int64
		for _, e := range logs.FilterMessage("milter: too many connections").All() {
			told = append(told, e.ContextMap()["refused"].(int64))
			if e.ContextMap()[policy.KeyListener] != "milter" || e.ContextMap()["limit"] != int64(2) {
				t.Errorf("told %v", e.ContextMap())
			}
		}
		if len(told) != 2 || told[0] != 1 || told[1] != 3 {
			t.Errorf("told of %v refused ones, want 1 and 3", told)
		}
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if n := f.GetMetric()[0].GetCounter().GetValue(); f.GetName() == "moongate_milter_refused_total" && n != 8 {
				t.Errorf("%v were counted, want 8", n)
			}
		}
		srv.Close()
	})
}
