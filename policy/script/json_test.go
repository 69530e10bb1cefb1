package script

import (
	"bytes"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/moongate/moongate/policy/lua"
)

// What json.decode takes is charged, whatever the text of a stranger is. Most of
// what is made is the decoder's and of one moment: six times as much is enough.
func TestJSONIsCharged(t *testing.T) {
	list := func(what string, n int) string { return "[" + strings.Repeat(what+",", n-1) + what + "]" }
	var keys []string
	for i := range 1000 {
		keys = append(keys, `"key`+strconv.Itoa(i)+`":1`)
	}
	for name, text := range map[string]string{
		"empty lists":    list("[]", 1000),
		"empty objects":  list("{}", 1000),
		"small objects":  list(`{"a":1}`, 1000),
		"numbers":        list("1", 10_000),
		"large numbers":  list("1234567.5", 10_000),
		"true":           list("true", 10_000),
		"null":           list("null", 10_000),
		"a hole":         "[" + strings.Repeat("null,", 9999) + "1]",
		"texts":          list(`"abcdefgh"`, 10_000),
		"long texts":     list(`"`+strings.Repeat("x", 1000)+`"`, 1000),
		"escaped":        list(`"`+strings.Repeat(`\n`, 1000)+`"`, 1000),
		"many keys":      "{" + strings.Join(keys, ",") + "}",
		"one key again":  "{" + strings.Repeat(`"a":1,`, 9999) + `"a":1}`,
		"keys of null":   "{" + strings.Repeat(`"abcdefgh":null,`, 9999) + `"a":1}`,
		"deep":           list(strings.Repeat("[", 30)+strings.Repeat("]", 30), 100),
		"a large number": list("1"+strings.Repeat("0", 300), 1000),
	} {
		x := &state{State: lua.NewState()}
		var before, after runtime.MemStats
		decode := func() {
			x.Meter.Reset(lua.Budget{Instructions: 1e9, Bytes: 1 << 40}, time.Time{}, nil)
			if _, err := x.decodeJSON(x.L, text); err != nil {
				t.Fatal(name, err)
			}
		}
		decode()
		runtime.ReadMemStats(&before)
		decode()
		runtime.ReadMemStats(&after)
		_, charged := x.Meter.Used()
		made := int64(after.TotalAlloc - before.TotalAlloc)
		if made > 6*charged+2*int64(len(text)) {
			t.Errorf("%s: %d octets charged, %d made of %d", name, charged, made, len(text))
		}
		x.Close()
	}
}

// The last of several members with one name counts (RFC 8259 4 leaves it open, and
// so does nearly everybody), also if it is null.
func TestJSONNames(t *testing.T) {
	for text, want := range map[string]string{
		`{"a":1,"a":2}`:           `{"a":2}`,
		`{"a":1,"a":null}`:        `{}`,
		`{"a":null,"a":1}`:        `{"a":1}`,
		`{"a":[1],"b":1,"a":"x"}`: `{"a":"x","b":1}`,
		`{"1":1,"":2}`:            `{"":2,"1":1}`,
		`[1,null,3]`:              `[1,null,3]`,
		`[null,null]`:             `{}`,
		`[1,null]`:                `[1]`,
	} {
		x := &state{State: lua.NewState()}
		x.Meter.Reset(lua.Budget{}, time.Time{}, nil)
		v, err := x.decodeJSON(x.L, text)
		if err != nil {
			t.Fatal(text, err)
		}
		var b bytes.Buffer
		if err := x.encodeJSON(x.L, &b, v, 0); err != nil || b.String() != want {
			t.Errorf("%s is %s, %v; want %s", text, &b, err, want)
		}
		x.Close()
	}
}
