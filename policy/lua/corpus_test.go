package lua

import (
	"encoding/binary"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	glua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/parse"
)

var update = flag.Bool("update", false, "ask LuaJIT (luajit -joff) for the corpus' results and store them")

const (
	corpusSize = 10_000
	corpusFile = "testdata/corpus.sums" // four octets for each program: the FNV-1a sum of what LuaJIT 2.1 gives
)

// TestCorpus runs 10,000 random programs and compares with the sums of LuaJIT's results. After a change of the generator they
// are made anew with -update, which needs the Debian package luajit; so does seeing what was expected of a program that fails.
func TestCorpus(t *testing.T) {
	if *update {
		writeCorpus(t)
	}
	want, err := os.ReadFile(corpusFile)
	if err != nil || len(want) != 4*corpusSize {
		t.Fatalf("%s holds %d octets: %v", corpusFile, len(want), err)
	}
	step := 1
	if raceEnabled || testing.Short() {
		step = 20
	}
	defer debug.SetGCPercent(debug.SetGCPercent(800)) // 10,000 states: half the time would be collection
	var bad atomic.Int64
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		wg.Go(func() {
			for n := w * step; n < corpusSize; n += step * workers {
				if got := runProgram(program(n)); sum(got) != binary.BigEndian.Uint32(want[4*n:]) && bad.Add(1) <= 3 {
					reportProgram(t, n, got)
				}
			}
		})
	}
	wg.Wait()
	if bad.Load() > 0 {
		t.Errorf("%d of %d programs differ", bad.Load(), corpusSize/step)
	}
}

func reportProgram(t *testing.T, n int, got string) {
	t.Errorf("program %d\n%s\ngives  %s", n, strings.TrimPrefix(program(n), corpusPrelude), got)
	if _, err := exec.LookPath("luajit"); err == nil {
		t.Logf("LuaJIT %s", askLuaJIT(t, n, n+1)[0])
	}
}

func sum(s string) uint32 {
	h := fnv.New32a()
	io.WriteString(h, s)
	return h.Sum32()
}

// compileAnyway compiles what the checks would refuse, as a comparison of a string with a number.
func compileAnyway(src string) (*glua.FunctionProto, error) {
	s := newSource("p", []byte(src))
	s.scan()
	stmts, err := parse.Parse(strings.NewReader(src), "p")
	if err != nil {
		return nil, err
	}
	return generate("p", stmts, check(s, stmts, nil))
}

func runProgram(src string) string {
	proto, err := compileAnyway(src)
	if err != nil {
		return "SYNTAX " + err.Error()
	}
	s := NewState()
	defer s.Close()
	v, err := s.Call(s.L.NewFunctionFromProto(proto), Budget{}, time.Time{}, nil)
	if err != nil {
		if le, ok := err.(*Error); ok && le.Kind != Runtime {
			return le.Kind.String() + " " + le.Text
		}
		return "ERR"
	}
	return oneLine(text(v))
}

func oneLine(s string) string { return strings.NewReplacer("\n", "\\n", "\r", "\\r").Replace(s) }

func writeCorpus(t *testing.T) {
	t.Helper()
	var sums []byte
	kinds := map[string]int{}
	for from := 0; from < corpusSize; from += 500 {
		for _, r := range askLuaJIT(t, from, from+500) {
			sums = binary.BigEndian.AppendUint32(sums, sum(r))
			if r == "ERR" || r == "ENDLESS" || strings.HasPrefix(r, "SYNTAX") {
				kinds[strings.Fields(r)[0]]++
			}
		}
	}
	if kinds["SYNTAX"]+kinds["ENDLESS"] > 0 {
		t.Fatalf("the generator makes programs that tell nothing: %v", kinds)
	}
	t.Logf("%d programs, of which %v", corpusSize, kinds)
	if err := os.WriteFile(corpusFile, sums, 0o644); err != nil {
		t.Fatal(err)
	}
}

// askLuaJIT runs programs in one process of the reference implementation, without its compiler.
func askLuaJIT(t *testing.T, from, to int) []string {
	var driver strings.Builder
	driver.WriteString("local P = {}\n")
	for n := from; n < to; n++ {
		src := program(n)
		if strings.Contains(src, "]==]") {
			t.Fatal("program holds the quote")
		}
		fmt.Fprintf(&driver, "P[#P+1] = [==[\n%s]==]\n", src)
	}
	driver.WriteString(`for i = 1, #P do
  local f, e = loadstring(P[i])
  if not f then print("SYNTAX " .. e) else
    debug.sethook(function() error("endless") end, "", 1000000)
    local ok, r = pcall(f)
    debug.sethook()
    if ok then print((r:gsub("\n", "\\n"):gsub("\r", "\\r"))) elseif tostring(r):find("endless") then print("ENDLESS") else print("ERR") end
  end
end`)
	file := filepath.Join(t.TempDir(), "driver.lua")
	if err := os.WriteFile(file, []byte(driver.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("luajit", "-joff", file).CombinedOutput()
	if err != nil {
		t.Fatalf("luajit: %v\n%s", err, out[:min(len(out), 400)])
	}
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if len(lines) != to-from {
		t.Fatalf("luajit gave %d results for %d programs", len(lines), to-from)
	}
	return lines
}

// TestCorpusBites shows that the corpus would find what it is for: stock gopher-lua fails a good part of it.
func TestCorpusBites(t *testing.T) {
	want, err := os.ReadFile(corpusFile)
	if err != nil {
		t.Fatal(err)
	}
	const sample = 200
	wrong := 0
	for n := range sample {
		if sum(oneLine(stock(program(n)))) != binary.BigEndian.Uint32(want[4*n:]) {
			wrong++
		}
	}
	t.Logf("stock gopher-lua gets %d of %d programs wrong", wrong, sample)
	if wrong < sample/20 {
		t.Errorf("stock gopher-lua gets only %d of %d programs wrong", wrong, sample)
	}
}
