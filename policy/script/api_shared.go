package script

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	glua "github.com/yuin/gopher-lua"

	"github.com/moongate/moongate/policy"
)

// sharedFunctions declare, at the top of a file, what all connections share.
var sharedFunctions = []*function{
	{name: "ratelimit", top: true,
		params: []param{{"name", "string", "Its name; the same name is the same limit in every version of the policy."},
			{"rate", "string|string[]", `"60/1m" or {"100/h", "500/d"}: all of them at once.`},
			{"options", "{burst: integer?, count: string?}?", `burst: how many of the shortest rate at once, by default its whole count. count = "recipients": from data on, take counts the recipients; a message with more of them than a rate has is an error of the rule.`}},
		returns: []param{{"", "RateLimit", ""}},
		doc:     "A limit: \"60/1m\" lets 60 through at once, then one a second.",
		do:      (*state).ratelimit},
	{name: "list", top: true, params: []param{{"file", "string", "A file in the policy directory: one entry a line, # begins a comment."}},
		returns: []param{{"", "List", ""}},
		doc:     "A set of words: addresses, domains, anything; without regard to case. The file reloads by itself.",
		do:      func(x *state, L *glua.LState) int { return x.list(L, "list", wordSet) }},
	{name: "domains", top: true, params: []param{{"...", "string|string[]", "Domains, a table of them, or one file of them in the policy directory. \".example.org\" and \"*.example.org\" mean example.org, too."}},
		returns: []param{{"", "List", ""}},
		doc:     "A set of domains, subdomains included. has() takes a domain or an address.",
		do:      func(x *state, L *glua.LState) int { return x.list(L, "domains", domainSet) }},
	{name: "ipset", top: true, params: []param{{"...", "string|string[]", `Addresses and networks ("10.0.0.0/8"), a table of them, or one file of them in the policy directory.`}},
		returns: []param{{"", "IpSet", ""}},
		doc:     "A set of addresses and networks.",
		do:      func(x *state, L *glua.LState) int { return x.list(L, "ipset", ipSet) }},
}

// checkName is the name of a declared object.
func checkName(L *glua.LState, n int, what string) string {
	name := checkString(L, n, what)
	if name == "" || len(name) > 64 || strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c > '~' }) {
		L.RaiseError("%s: a name has 1 to 64 letters, digits and signs, no blanks", what)
	}
	return name
}

// checkOptions refuses options that are none.
func checkOptions(L *glua.LState, what string, o *glua.LTable, known ...string) {
	o.ForEach(func(k, _ glua.LValue) {
		for _, name := range known {
			if k == glua.LString(name) {
				return
			}
		}
		L.RaiseError("%s has no option '%s'%s", what, k.String(), didYouMean(k.String(), known))
	})
}

// parseDuration reads "90s", "5m", "1h30m", "36d", "2w" and "h".
func parseDuration(s string) (time.Duration, error) {
	units := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour}
	bad := fmt.Errorf(`%q is no time: write "90s", "5m", "1h", "36d"`, s)
	var total time.Duration
	for rest := s; ; {
		i := 0
		for i < len(rest) && rest[i] >= '0' && rest[i] <= '9' {
			i++
		}
		n := int64(1)
		if i > 0 {
			var err error
			if n, err = strconv.ParseInt(rest[:i], 10, 32); err != nil {
				return 0, bad
			}
		} else if rest != s {
			return 0, bad
		}
		if i == len(rest) || units[rest[i]] == 0 {
			return 0, bad
		}
		if total += time.Duration(n) * units[rest[i]]; total <= 0 || total > 10*366*24*time.Hour {
			return 0, bad
		}
		if rest = rest[i+1:]; rest == "" {
			return total, nil
		}
	}
}

// store is where limits, counters and caches live.
func (x *state) store(L *glua.LState) policy.Store {
	if x.s.World != nil {
		if st := x.s.World.Limits(); st != nil {
			return st
		}
	}
	L.RaiseError("there is no store for limits here")
	return nil
}

// checkKey is the key of a limit, counter or cache.
func checkKey(L *glua.LState, n int, what string) string {
	return foldKey(checkString(L, n, what))
}
