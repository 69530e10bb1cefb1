// Report reads the JSON of `go test -json` on standard input and prints what a person wants to read:
// the output of each test that failed as soon as it has, then the tests that were skipped, each with
// its reason, and last the closing line of every package. It exits 1 if anything failed.
//
// Its arguments are the command and flags with which a test that failed is run once more, by itself:
// `report go test -race`. Without them nothing is run again.
//
// Plain `go test` hides why a test was skipped, and here a skip means that a real mail server or a
// privilege was missing: that must not pass in silence.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"sort"
	"strings"
)

func main() {
	var again func(pkg, test string) error
	if len(os.Args) > 1 {
		again = goTest(os.Args[1:], os.Stdout)
	}
	ok, err := report(os.Stdin, os.Stdout, again)
	if err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
	}
	if !ok || err != nil {
		os.Exit(1)
	}
}

// event is one line of test2json; see `go doc test2json`.
type event struct {
	Action     string
	Package    string
	ImportPath string // build-output and build-fail name the package here
	Test       string
	Output     string
}

const module = "github.com/moongate/moongate/"

type key struct{ pkg, test string }

type skip struct{ key, reason string }

type reporter struct {
	w        io.Writer
	output   map[key]*strings.Builder
	failed   bool
	certain  bool // something failed that no second run can mend
	failures []key
	skips    []skip
	closing  []string
	tests    int // that passed, failed or were skipped, subtests included
}

// report copies r, events, to w as a report. It says false if a test or a build failed or if no test
// was in it at all: an empty input means that go test did not run. With again, a test that failed may
// pass by itself.
func report(r io.Reader, w io.Writer, again func(pkg, test string) error) (bool, error) {
	p := &reporter{w: w, output: map[key]*strings.Builder{}}
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			p.line(line)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return false, err
		}
	}
	p.close()
	if p.failed && again != nil {
		return p.again(again), nil
	}
	return !p.failed && p.tests > 0, nil
}

func (p *reporter) line(line []byte) {
	var ev event
	if json.Unmarshal(line, &ev) != nil || ev.Action == "" {
		fmt.Fprintf(p.w, "%s", line) // not an event: the go command itself is speaking
		return
	}
	k := key{ev.Package, ev.Test}
	switch ev.Action {
	case "build-output":
		fmt.Fprint(p.w, ev.Output)
	case "build-fail":
		p.failed, p.certain = true, true
	case "output":
		if p.output[k] == nil {
			p.output[k] = &strings.Builder{}
		}
		p.output[k].WriteString(ev.Output)
	case "pass", "fail", "skip":
		p.end(k, ev.Action)
	}
}

// end is called once for each test and, with no test name, once for each package.
func (p *reporter) end(k key, action string) {
	var out string
	if b := p.output[k]; b != nil {
		out = b.String()
		delete(p.output, k)
	}
	if k.test == "" {
		p.endPackage(k, action, out)
		return
	}
	p.tests++
	switch action {
	case "fail":
		p.failed = true
		p.failures = append(p.failures, k)
		p.certain = p.certain || strings.Contains(out, "DATA RACE") || strings.Contains(out, "panic: ")
		fmt.Fprintf(p.w, "%s", out)
	case "skip":
		p.skips = append(p.skips, skip{strings.TrimPrefix(k.pkg, module) + " " + k.test, reason(out)})
	}
}

// endPackage keeps the package's last line for the end. What stands before it is printed only for a
// package that failed: it is the panic, or the output of a test that never came to its end.
func (p *reporter) endPackage(k key, action, out string) {
	lines := strings.Split(strings.TrimRight(out, "\n"), "\n")
	if action == "fail" {
		p.failed = true
		// What is said outside of any test: a panic, a leak, a race behind the last test, a timeout.
		p.certain = p.certain || p.open(k.pkg) || len(lines) > 2 || !p.lostIn(k.pkg)
		for open, b := range p.output {
			if open.pkg == k.pkg {
				fmt.Fprintf(p.w, "%s", b.String())
			}
		}
		for _, l := range lines[:len(lines)-1] {
			fmt.Fprintln(p.w, l)
		}
	}
	p.closing = append(p.closing, lines[len(lines)-1])
}

// open reports whether a test of a package has not come to its end.
func (p *reporter) open(pkg string) bool {
	for k := range p.output {
		if k.pkg == pkg {
			return true
		}
	}
	return false
}

// lostIn reports whether a test of a package failed.
func (p *reporter) lostIn(pkg string) bool {
	return slices.ContainsFunc(p.failures, func(k key) bool { return k.pkg == pkg })
}

func (p *reporter) close() {
	if len(p.skips) > 0 {
		sort.Slice(p.skips, func(i, j int) bool { return p.skips[i].key < p.skips[j].key })
		fmt.Fprintf(p.w, "\nskipped %d:\n", len(p.skips))
		for _, s := range p.skips {
			fmt.Fprintf(p.w, "  %s: %s\n", s.key, s.reason)
		}
		fmt.Fprintln(p.w)
	}
	for _, l := range p.closing {
		fmt.Fprintln(p.w, l)
	}
}

// reason finds what t.Skip was given in the output of a skipped test: the text behind "file.go:12: ".
func reason(out string) string {
	for _, l := range strings.Split(out, "\n") {
		if _, text, ok := strings.Cut(l, ".go:"); ok {
			if _, text, ok = strings.Cut(text, ": "); ok {
				return strings.TrimSpace(text)
			}
		}
	}
	return "no reason given"
}
