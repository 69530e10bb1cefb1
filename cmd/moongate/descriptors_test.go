package main

import (
	"testing"

	"github.com/moongate/moongate/configs"
)

func TestConnections(t *testing.T) {
	for _, tc := range []struct{ wanted, upstream, files, want int }{
		{5000, 80, 1 << 20, 5000},
		{5000, 80, 5112, 5000},
		{5000, 80, 5111, 4999},
		{5000, 80, 1024, 912},
		{100, 80, 1024, 100},
		{5000, 80, 200, 100}, // half for the clients, at least
		{5000, 4000, 4096, 2048},
		{5000, 80, 1, 1},
	} {
		cfg := &configs.Config{}
		cfg.Limits.Connections, cfg.Upstream.MaxConnections = tc.wanted, tc.upstream
		if got := connections(cfg, tc.files); got != tc.want {
			t.Errorf("%+v: %d", tc, got)
		}
	}
}
