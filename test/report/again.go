package main

import (
	"fmt"
	"io"
	"os/exec"
	"sort"
	"strings"
)

// fewest is how many tests may have failed to be asked again: real mail
// servers on a busy machine make one late now and then, never many.
const fewest = 2

// again runs each test that failed once more, by itself. It says true if all of
// them pass now: they are told of as unsteady, their first output stands above,
// and each is a defect to be found, but no reason to turn a change away. What
// is no matter of luck is not asked again: a data race, a panic, a leak, a
// build, many failures.
func (p *reporter) again(run func(pkg, test string) error) bool {
	tests := p.lost()
	if len(tests) == 0 || len(tests) > fewest || p.certain {
		return false
	}
	fmt.Fprintf(p.w, "\nunsteady %d:\n", len(tests))
	steady := true
	for _, k := range tests {
		word := "failed, and passed by itself"
		if err := run(k.pkg, k.test); err != nil {
			word, steady = "failed, and failed by itself: "+err.Error(), false
		}
		fmt.Fprintf(p.w, "  %s %s: %s\n", strings.TrimPrefix(k.pkg, module), k.test, word)
	}
	return steady
}

// lost are the tests that failed, without their subtests.
func (p *reporter) lost() (tests []key) {
	seen := map[key]bool{}
	for _, k := range p.failures {
		k.test, _, _ = strings.Cut(k.test, "/")
		if !seen[k] {
			seen[k] = true
			tests = append(tests, k)
		}
	}
	sort.Slice(tests, func(i, j int) bool { return tests[i].pkg+tests[i].test < tests[j].pkg+tests[j].test })
	return tests
}

// goTest returns how a test is run by itself with this command and its flags.
func goTest(command []string, w io.Writer) func(pkg, test string) error {
	return func(pkg, test string) error {
		args := append(command[1:len(command):len(command)], "-count=1", "-run", "^"+test+"$", pkg)
		cmd := exec.Command(command[0], args...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			w.Write(out)
		}
		return err
	}
}
