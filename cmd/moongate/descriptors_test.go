package main

import (
	"testing"

	"github.com/moongate/moongate/configs"
)

func TestConnections(t *testing.T) {
	for _, tc := range []struct{ wanted, upstream, filters, files, want int }{
		{5000, 80, 0, 1 << 20, 5000},
		{5000, 80, 0, 5112, 5000},
		{5000, 80, 0, 5111, 4999},
		{5000, 80, 0, 1024, 912},
		{100, 80, 0, 1024, 100},
		{5000, 80, 0, 200, 100}, // half for the clients, at least
		{5000, 4000, 0, 4096, 2048},
		{5000, 80, 0, 1, 1},
		{5000, 80, 1, 10112, 5000}, // a filter's connection for each client's
		{5000, 80, 1, 10110, 4999},
		{5000, 80, 3, 4112, 1000},
		{5000, 80, 3, 1, 1},
	} {
		cfg := &configs.Config{}
		cfg.Filters = make([]configs.Filter, tc.filters)
		cfg.Limits.Connections, cfg.Upstream.MaxConnections = tc.wanted, tc.upstream
		if got := connections(cfg, tc.files); got != tc.want {
			t.Errorf("%+v: %d", tc, got)
		}
	}
}
