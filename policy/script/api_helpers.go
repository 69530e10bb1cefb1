package script

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"net/netip"
	"strings"
	"time"

	glua "github.com/yuin/gopher-lua"

	"github.com/moongate/moongate/policy/lua"
)

var textParam = []param{{"text", "string", ""}}

// paid is argument n, paid for by its length.
func (x *state) paid(L *glua.LState, n int, what string) string {
	s := checkString(L, n, what)
	x.Meter.Alloc(L, int64(len(s)))
	return s
}

func hashFunction(name string, make func() hash.Hash, doc string) *function {
	return &function{name: name, params: textParam, returns: []param{{"hex", "string", ""}}, doc: doc,
		do: func(x *state, L *glua.LState) int {
			h := make()
			h.Write([]byte(x.paid(L, 1, "hash."+name)))
			L.Push(glua.LString(hex.EncodeToString(h.Sum(nil))))
			return 1
		}}
}

var hashLibrary = &library{name: "hash", doc: "Checksums, in hexadecimal.", functions: []*function{
	hashFunction("sha256", sha256.New, "SHA-256."),
	hashFunction("sha1", sha1.New, "SHA-1, for what asks for it; not for secrets."),
	hashFunction("md5", md5.New, "MD5, for what asks for it; not for secrets."),
	{name: "hmac", params: []param{{"key", "string", ""}, {"text", "string", ""}}, returns: []param{{"hex", "string", ""}}, doc: "HMAC-SHA-256.",
		do: func(x *state, L *glua.LState) int {
			h := hmac.New(sha256.New, []byte(x.paid(L, 1, "hash.hmac")))
			h.Write([]byte(x.paid(L, 2, "hash.hmac")))
			L.Push(glua.LString(hex.EncodeToString(h.Sum(nil))))
			return 1
		}},
}}

var base64Library = &library{name: "base64", doc: "Base64, RFC 4648 4.", functions: []*function{
	{name: "encode", params: textParam, returns: []param{{"text", "string", ""}}, doc: "Encodes.",
		do: func(x *state, L *glua.LState) int {
			L.Push(x.text(L, base64.StdEncoding.EncodeToString([]byte(x.paid(L, 1, "base64.encode")))))
			return 1
		}},
	{name: "decode", params: textParam, returns: []param{{"text", "string?", "nil if it is no base64, then an error text."}}, doc: "Decodes; blanks and line ends do not matter.",
		do: func(x *state, L *glua.LState) int {
			s := strings.Join(strings.Fields(x.paid(L, 1, "base64.decode")), "")
			b, err := base64.StdEncoding.DecodeString(s)
			if err != nil {
				L.Push(glua.LNil)
				L.Push(glua.LString("no base64"))
				return 2
			}
			L.Push(x.text(L, string(b)))
			return 1
		}},
}}

// now is the world's time: a test moves it.
func (x *state) now() time.Time {
	if x.s != nil && x.s.World != nil {
		return x.s.World.Now()
	}
	return time.Now()
}

var timeLibrary = &library{name: "time", doc: "The clock.", functions: []*function{
	{name: "now", returns: []param{{"seconds", "number", "Since 1970, with fractions."}}, doc: "The time.",
		do: func(x *state, L *glua.LState) int {
			L.Push(glua.LNumber(float64(x.now().UnixMicro()) / 1e6))
			return 1
		}},
	{name: "parts", params: []param{{"seconds", "number?", "By default now."}},
		returns: []param{{"parts", "{year: integer, month: integer, day: integer, hour: integer, min: integer, sec: integer, wday: integer}", "wday: 1 is Monday, 7 is Sunday."}},
		doc:     "The time taken apart, in the server's time zone.",
		do: func(x *state, L *glua.LState) int {
			t := x.when(L).Local()
			parts := lua.NewRecord(L, 7)
			for k, v := range map[string]int{"year": t.Year(), "month": int(t.Month()), "day": t.Day(), "hour": t.Hour(), "min": t.Minute(),
				"sec": t.Second(), "wday": (int(t.Weekday())+6)%7 + 1} {
				parts.RawSetString(k, glua.LNumber(v))
			}
			L.Push(parts)
			return 1
		}},
	{name: "iso", params: []param{{"seconds", "number?", "By default now."}}, returns: []param{{"text", "string", ""}}, doc: `The time as "2026-01-31T12:00:00Z".`,
		do: func(x *state, L *glua.LState) int {
			L.Push(glua.LString(x.when(L).UTC().Format(time.RFC3339)))
			return 1
		}},
}}

// when is the optional time in argument 1.
func (x *state) when(L *glua.LState) time.Time {
	switch v := L.Get(1).(type) {
	case *glua.LNilType:
		return x.now()
	case glua.LNumber:
		if v >= 0 && v < 1e11 {
			return time.UnixMicro(int64(float64(v) * 1e6))
		}
	}
	L.RaiseError("time: argument 1 is seconds since 1970")
	return time.Time{}
}

var ipLibrary = &library{name: "ip", doc: "Addresses.", functions: []*function{
	{name: "version", params: []param{{"ip", "string?", ""}}, returns: []param{{"version", "integer?", "4, 6, or nil for what is no address."}}, doc: "Which kind of address it is.",
		do: func(x *state, L *glua.LState) int {
			a, ok := ipArgument(L)
			switch {
			case !ok:
				L.Push(glua.LNil)
			case a.Is4():
				L.Push(glua.LNumber(4))
			default:
				L.Push(glua.LNumber(6))
			}
			return 1
		}},
	{name: "net", params: []param{{"ip", "string", ""}, {"bits", "integer", "Length of the prefix."}}, returns: []param{{"network", "string?", `"192.0.2.0/24"; nil for what is no address.`}},
		doc: "The network of an address.",
		do: func(x *state, L *glua.LState) int {
			a, ok := ipArgument(L)
			if !ok {
				L.Push(glua.LNil)
				return 1
			}
			bits, _ := L.Get(2).(glua.LNumber)
			p, err := a.Prefix(int(max(-1, min(bits, 129))))
			if L.Get(2).Type() != glua.LTNumber || err != nil {
				L.RaiseError("ip.net: a prefix of %s", L.Get(2).String())
			}
			L.Push(glua.LString(p.String()))
			return 1
		}},
	{name: "reverse", params: []param{{"ip", "string", ""}}, returns: []param{{"name", "string?", `"1.2.0.192" for 192.0.2.1; nil for what is no address.`}}, doc: "An address as DNS lists want it.",
		do: func(x *state, L *glua.LState) int {
			a, ok := ipArgument(L)
			if !ok {
				L.Push(glua.LNil)
				return 1
			}
			L.Push(glua.LString(reversed(a)))
			return 1
		}},
}}

func ipArgument(L *glua.LState) (netip.Addr, bool) {
	s, ok := L.Get(1).(glua.LString)
	if !ok {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(string(s))
	return a.Unmap().WithZone(""), err == nil
}
