package main

import (
	"runtime"
	"testing"
)

func TestPace(t *testing.T) {
	for _, tt := range []struct {
		live uint64
		want int
	}{
		{0, 1500}, {4 << 20, 1500}, {16 << 20, 300}, {32 << 20, 100}, {60 << 20, tightPace}, {64 << 20, tightPace}, {1 << 30, tightPace},
	} {
		if got := percent(tt.live); got != tt.want {
			t.Errorf("%d MB live: %d %%, want %d", tt.live>>20, got, tt.want)
		}
	}
}

func TestAfterCollection(t *testing.T) {
	called := make(chan struct{}, 100)
	afterCollection(func() { called <- struct{}{} })
	for range 3 { // again and again
		runtime.GC()
		<-called
	}
}
