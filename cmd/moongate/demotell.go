package main

import (
	"context"
	"fmt"
)

// narrate prints what becomes of an edited policy until ctx is done, a line for
// each version and each list: who edits it looks at the demo, not at its log.
func (d *demo) narrate(ctx context.Context) {
	var mistakes []string // of the version that is looked at
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-d.witness.entries:
			switch e["msg"] {
			case "policy problem":
				if e["level"] == "error" {
					mistakes = append(mistakes, fmt.Sprintf("%v: %v", e["at"], e["problem"]))
				}
			case "policy refused":
				d.refused(mistakes, e["serving"])
				mistakes = nil
			case "policy loaded", "policy as it serves":
				fmt.Fprintf(d.out, "policy taken: version %v\n", e["version"])
				mistakes = nil
			case "list loaded":
				n, _ := e["entries"].(int64)
				fmt.Fprintf(d.out, "list taken: %v, %s, before %v\n", e["list"], entries(int(n)), e["before"])
			case "list kept":
				why := e["reason"]
				if why == nil {
					why = e["error"]
				}
				fmt.Fprintf(d.out, "list not taken: %v: %v\n", e["list"], why)
			}
		}
	}
}

// refused prints the first mistake of a version, and how many there are more.
func (d *demo) refused(mistakes []string, serving any) {
	first, more := "", ""
	if len(mistakes) > 0 {
		first = mistakes[0]
	}
	if n := len(mistakes) - 1; n > 0 {
		more = fmt.Sprintf(", and %d more in the log", n)
	}
	fmt.Fprintf(d.out, "policy refused: %s%s (version %v serves on)\n", first, more, serving)
}
