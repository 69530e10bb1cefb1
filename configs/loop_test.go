package configs

import "testing"

// Whatever the spelling, an upstream that is a listener of ours is found; what
// may be another host is left alone.
func TestLoop(t *testing.T) {
	for _, tc := range []struct {
		listener, upstream Address
		loop               bool
	}{
		{"127.0.0.1:2525", "127.0.0.1:2525", true},
		{"127.0.0.1:2525", "127.0.0.1:02525", true},
		{"127.0.0.1:2525", "localhost:2525", true},
		{"[::1]:2525", "LocalHost:2525", true},
		{"localhost:2525", "[::1]:2525", true},
		{"127.0.0.1:2525", "0.0.0.0:2525", true},
		{"127.0.0.1:2525", "[::]:2525", true},
		{"127.0.0.1:2525", "[::ffff:127.0.0.1]:2525", true},
		{"0.0.0.0:2525", "127.0.0.9:2525", true},
		{":2525", "[::1]:2525", true},
		{"[::]:2525", "localhost:2525", true},
		{"mx.example.org:2525", "MX.example.org:2525", true},
		{"unix:/run/m/s", "unix:/run/m/../m/s", true},
		{"unix:s", "unix:./s", true},

		{"127.0.0.1:2525", "127.0.0.1:2526", false},
		{"127.0.0.1:2525", "127.0.0.2:2525", false},
		{"127.0.0.1:0", "127.0.0.1:0", false},
		{"192.0.2.1:25", "127.0.0.1:25", false},
		{"192.0.2.1:25", "localhost:25", false},
		{"0.0.0.0:25", "192.0.2.1:25", false}, // no address of ours
		{"mx.example.org:25", "127.0.0.1:25", false},
		{"0.0.0.0:25", "mail.example.org:25", false},
		{"unix:/run/m/s", "127.0.0.1:25", false},
		{"unix:/run/m/s", "unix:/run/m/t", false},
		{"", "127.0.0.1:25", false},
	} {
		if got := sameSocket(tc.listener, tc.upstream); got != tc.loop {
			t.Errorf("%s, upstream %s: %v", tc.listener, tc.upstream, got)
		}
	}
}
