package main

import (
	"testing"

	"github.com/moongate/moongate/configs"
)

func TestCrowd(t *testing.T) {
	const none = -1
	for _, tc := range []struct {
		clients, mtas, upstream, filters, fronts, files int
		want                                            crowd
	}{
		// The SMTP door alone.
		{5000, none, 80, 0, 1, 1 << 20, crowd{5000, 200, 1}},
		{5000, none, 80, 0, 1, 5312, crowd{5000, 200, 1}},
		{5000, none, 80, 0, 1, 5311, crowd{4999, 200, 1}},
		{5000, none, 80, 0, 1, 1024, crowd{859, 53, 1}},
		{100, none, 80, 0, 1, 1024, crowd{100, 6, 1}},
		{5000, none, 80, 0, 1, 200, crowd{95, 5, 1}}, // half for the clients, at least
		{5000, none, 4000, 0, 1, 4096, crowd{1928, 120, 1}},
		{5000, none, 80, 0, 1, 1, crowd{1, 1, 1}},
		{5000, none, 80, 1, 1, 10312, crowd{5000, 200, 1}}, // a filter's connection for each client's
		{5000, none, 80, 1, 1, 10310, crowd{4999, 200, 1}},
		{5000, none, 80, 3, 1, 1, crowd{1, 1, 1}},
		{5000, none, 80, 0, 2, 1024, crowd{392, 24, 1}}, // each has an upstream to itself

		// The milter alone: there is no upstream.
		{5000, 5000, 80, 0, 0, 5032, crowd{5000, 200, 5000}},
		{5000, 5000, 80, 0, 0, 5031, crowd{5000, 200, 4999}},
		{5000, 5000, 80, 0, 0, 1, crowd{5000, 200, 1}},

		// Both.
		{5000, 5000, 80, 0, 1, 1 << 20, crowd{5000, 200, 5000}},
		{5000, 5000, 80, 0, 1, 1024, crowd{430, 26, 456}},
		{5000, 100, 80, 0, 1, 1024, crowd{765, 47, 100}}, // what the one does not want is the other's
		{100, 5000, 80, 0, 1, 1024, crowd{100, 6, 806}},
		{100, 100, 80, 0, 1, 1024, crowd{100, 6, 100}},
		{5000, 5000, 80, 1, 1, 1024, crowd{221, 13, 456}},
		{5000, 5000, 80, 0, 2, 1024, crowd{261, 16, 278}},
		{5000, 5000, 80, 0, 1, 1, crowd{1, 1, 1}},
	} {
		cfg := &configs.Config{}
		cfg.Filters = make([]configs.Filter, tc.filters)
		cfg.Listeners = make([]configs.Listener, tc.fronts)
		for i := range cfg.Listeners[min(1, tc.fronts):] {
			cfg.Listeners[i].Budget = 60e9
		}
		cfg.Limits.Connections, cfg.Upstream.MaxConnections = tc.clients, tc.upstream
		if tc.mtas != none {
			cfg.Milter.Address, cfg.Milter.Connections = "127.0.0.1:0", tc.mtas
		}
		if got := crowdOf(cfg, tc.files); got != tc.want {
			t.Errorf("%+v: %+v", tc, got)
		}
	}
}
