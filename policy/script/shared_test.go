package script

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/lua"
)

const limitPolicy = `
local by_ip = ratelimit("by-ip", {"3/1m", "5/h"})
local whole = ratelimit("whole", "10/d", { burst = 5, count = "recipients" })
on.mail(function(msg) if msg.params.RESET then by_ip:reset(msg.conn.ip) end end)
on.rcpt(function(msg, rcpt)
  local left = by_ip:peek(msg.conn.ip)
  local ok, wait = by_ip:take(msg.conn.ip)
  if not ok then return tempfail(left .. " left, wait " .. wait) end
  if rcpt.user == "no" then return reject("refused later") end
end)
on.data(function(msg)
  local ok, wait = whole:take(msg.sender_key)
  if not ok then return tempfail("wait " .. wait) end
end)`

// What was taken follows the recipient and the message.
func TestLimitsAreGivenBack(t *testing.T) {
	c := connect(t, limitPolicy)
	c.mail("a@b.example")
	for range 4 {
		c.is(c.rcpt("no@x.example"), "550 5.7.1 refused later") // given back each time
	}
	c.is(c.rcpt("u@x.example"), "continue")
	c.is(c.rcpt("u@x.example"), "continue")
	c.is(c.rcpt("u@x.example"), "continue")
	c.is(c.rcpt("u@x.example"), "451 4.7.1 0 left, wait 20")
	c.is(c.ask(policy.Data), "continue") // takes 3
	c.done(policy.Reject)                // the upstream refused: all given back
	c.mail("a@b.example")
	c.is(c.rcpt("u@x.example"), "continue")
	c.is(c.rcpt("u@x.example"), "continue")
	c.is(c.ask(policy.Data), "continue")
	c.done(policy.Accept)
	c.mail("a@b.example")
	c.is(c.rcpt("u@x.example"), "continue")
	c.is(c.rcpt("u@x.example"), "451 4.7.1 0 left, wait 20")
	c.world.Clock = c.world.Clock.Add(time.Minute)
	c.is(c.rcpt("u@x.example"), "continue")
	c.is(c.rcpt("u@x.example"), "continue")
	c.is(c.rcpt("u@x.example"), "451 4.7.1 0 left, wait 660") // five in an hour
	c.is(c.ask(policy.Data), "continue")                      // 2 + 3: the burst is spent
	c.done(policy.Accept)
	c.mail("A@B.example") // the same sender
	c.is(c.ask(policy.Data), "451 4.7.1 wait 8580")
}

// A burst is the shortest rate's: the day's limit stays a limit of the day.
func TestBurst(t *testing.T) {
	c := connect(t, `
local l = ratelimit("l", { "8/d", "60/1m" }, { burst = 2 })
on.mail(function(msg)
  local ok, wait = l:take("k")
  if not ok then return tempfail("wait " .. wait) end
end)`)
	take := func(want string) {
		t.Helper()
		c.is(c.mail("a@b.example"), want)
		c.done(policy.Accept)
	}
	for range 3 {
		take("continue")
		take("continue")
		take("451 4.7.1 wait 1")
		c.world.Clock = c.world.Clock.Add(2 * time.Second)
	}
	take("continue")
	take("continue")
	take("451 4.7.1 wait 10794") // eight a day
}

// More than a limit ever has is told apart from what a wait will bring, and is
// no error, which would be a 451 until the client gives up.
func TestTakeMoreThanThereEverIs(t *testing.T) {
	c := connect(t, `
local l = ratelimit("r", { "3/1h", "100/d" }, { count = "recipients" })
local small = ratelimit("small", "60/1m", { burst = 5 })
on.mail(function(msg)
  local n = tonumber(msg.from:match("^%d") or 0)
  if n == 0 then return end
  local ok, wait, never = small:take("k", n)
  if not ok then return tempfail("wait " .. wait .. " " .. tostring(never)) end
end)
on.data(function(msg)
  local ok, wait, never = l:take(msg.sender_key)
  if never then return reject(550, "5.7.1", "At most 3 recipients, and wait " .. wait) end
  if not ok then return tempfail("wait " .. wait .. " " .. tostring(never)) end
end)`)
	send := func(rcpts int, want string) {
		t.Helper()
		c.is(c.mail("a@b.example"), "continue")
		for range rcpts {
			c.rcpt("u@x.example")
		}
		c.is(c.ask(policy.Data), want)
		c.done(policy.Accept)
	}
	send(4, "550 5.7.1 At most 3 recipients, and wait 4800") // nothing was taken
	send(3, "continue")
	send(3, "451 4.7.1 wait 3600 nil")
	send(4, "550 5.7.1 At most 3 recipients, and wait 4800")

	c.is(c.mail("6@b.example"), "451 4.7.1 wait 6 true") // the burst counts
	c.is(c.mail("5@b.example"), "continue")
}

func TestLimitKeys(t *testing.T) {
	c := connect(t, `
local l = ratelimit("l", "1/m")
on.mail(function(msg) local key = msg.from if not l:take(key) then return tempfail("x") end end)`)
	c.is(c.mail("a@b.example"), "continue")
	c.is(c.mail("A@b.example"), "451 4.7.1 x")
	c.is(c.mail(""), failed)
	if want := `10-test.lua:3: take(""): the null sender is everyone's; use msg.sender_key`; c.why() != want {
		t.Errorf("%s", c.why())
	}
}

// A limit of the connection is kept at once; of a shadow rule never.
func TestLimitsElsewhere(t *testing.T) {
	c := connect(t, `
local l = ratelimit("l", "2/m")
on.connect(function(conn) if not l:take("k") then return reject("x") end end)
on.helo({ mode = "shadow" }, function(conn) l:take("k") end)
on.helo(function(conn) return reject(l:peek("k") .. " left") end)`)
	c.is(c.ask(policy.Connect), "continue")
	c.is(c.ask(policy.Helo), "550 5.7.1 1 left")
	c.Tell(&policy.Event{Hook: policy.Disconnect})
	other := session(t, c.Env.Engine, c.Env.Log, c.world)
	other.is(other.ask(policy.Connect), "continue")
	other.is(other.ask(policy.Connect), "554 5.7.1 x")
}

func TestCountersAndCaches(t *testing.T) {
	c := connect(t, `
local n = counter("n", "1h")
local c = cache("c", "10m")
on.connect(function(conn)
  local seen = c:add("K")
  c:set("text", "a") c:set("num", 1.5) c:set("yes", true) c:set("no", false)
  return reject(table.concat({ n:add("k"), n:add("K", 2), n:get("k"), n:get("x"), tostring(seen), tostring(c:add("k")),
    c:get("TEXT"), c:get("num") * 2, tostring(c:get("yes")), tostring(c:get("no")), tostring(c:get("nothing")) }, " "))
end)
on.helo(function(conn) local v = {} c:set("x", v) end)
on.unknown(function(conn) return reject(tostring(c:get("text")) .. n:get("k")) end)`)
	c.is(c.ask(policy.Connect), "554 5.7.1 1 3 3 0 true false a 3 true false nil")
	c.is(c.ask(policy.Helo), failed)
	c.world.Clock = c.world.Clock.Add(10 * time.Minute)
	c.is(c.ask(policy.Unknown), "550 5.7.1 nil3")
}

func TestListsAndSets(t *testing.T) {
	c := connect(t, `
-- 10-test.lua --
local words = list("words.txt")
local doms = domains("Example.COM", ".sub.example.org", "*.star.example", "b\195\188cher.example")
local dfile = domains("lists/domains.txt")
local nets = ipset({ "10.0.0.0/8", "2001:db8::/32", "192.0.2.7", "::ffff:198.51.100.0/120" })
local nfile = ipset("nets.txt")
local function s(...)
  local t = {...}
  for i = 1, #t do t[i] = t[i] and "1" or "0" end
  return table.concat(t)
end
on.connect(function(conn)
  return reject(table.concat({
    s(words:has("a@b.example"), words:has("A@B.EXAMPLE"), words:has("# comment"), words:has("a # b"), words:has("a"), words:has(nil), words:has("")),
    s(doms:has("example.com"), doms:has("x.EXAMPLE.com."), doms:has("u@a.b.example.com"), doms:has("notexample.com"), doms:has("com"), doms:has("sub.example.org"), doms:has("example.org"), doms:has("a.star.example"), doms:has("xn--bcher-kva.example"), doms:has(nil), doms:has("")),
    s(dfile:has("a.x.example"), dfile:has("example")),
    s(nets:has("10.1.2.3"), nets:has("11.1.2.3"), nets:has("2001:db8::1"), nets:has("192.0.2.7"), nets:has("192.0.2.8"), nets:has("::ffff:10.0.0.1"), nets:has("198.51.100.9"), nets:has("x"), nets:has(nil)),
    s(nfile:has("203.0.113.9"), nfile:has("203.0.114.9")),
    s(nets:found_in("from x ([10.1.2.3]) by"), nets:found_in("[IPv6:2001:db8::5]"), nets:found_in("from 11.0.0.1. x"), nets:found_in("at 10.0.0.1."), nets:found_in(nil)),
  }, " "))
end)
-- words.txt --
# comment
a@B.example   # at the end

a#b
-- lists/domains.txt --
x.example
-- nets.txt --
203.0.113.0/24
`)
	c.is(c.ask(policy.Connect), "554 5.7.1 1100000 11100101100 10 101101100 10 11010")
}

func TestRe(t *testing.T) {
	c := connect(t, `
local ip = re([[^\d+\.\d+$]])
local kv = re([[(?i)(\w+)=(\w*)(!)?]])
on.connect(function(conn)
  local k, v, bang = kv:match("x Key=Val y")
  return reject(table.concat({ tostring(ip:test("1.2")), tostring(ip:test("1.2x")), tostring(ip:test(nil)), ip:match("12.3"), tostring(ip:match("no")), k, v, tostring(bang), kv:replace("a=b", "$2=$1") }, " "))
end)`)
	c.is(c.ask(policy.Connect), "554 5.7.1 true false false 12.3 nil Key Val nil b=a")
}

func TestDNS(t *testing.T) {
	text := `
on.connect(function(conn)
  local function s(t, err) if not t then return "nil " .. tostring(err) end return "{" .. table.concat(t, ",") .. "}" end
  return reject({ s(dns.a("Mail.Example.")), s(dns.aaaa("mail.example")), s(dns.mx("example.org")), s(dns.txt("broken.example")), s(dns.ptr("192.0.2.1")), s(dns.ptr("x")), s(dns.a("no domain")) })
end)`
	c := connect(t, text)
	c.world.Answers = map[string][]string{"dns A mail.example": {"192.0.2.1", "192.0.2.2"}, "dns MX example.org": {"20 b.example", "10 a.example"}, "dns PTR 192.0.2.1": {"h.example"}}
	c.world.Errors = map[string]error{"dns TXT broken.example": errors.New("server failure")}
	c.is(c.ask(policy.Connect), "554-5.7.1 {192.0.2.1,192.0.2.2} / 554-5.7.1 {} / 554-5.7.1 {a.example,b.example} / 554-5.7.1 nil temporary / 554-5.7.1 {h.example} / 554-5.7.1 {} / 554 5.7.1 {}")
}

func TestDNSBL(t *testing.T) {
	text := `
local zen = dnsbl("zen.example")
local two = dnsbl({ "a.example", "zen.example" })
local odd = dnsbl("odd.example", { answers = { "127.0.0.9", "10.0.0.0/8" } })
local all = dnsbl({ ["zen.example"] = 3, ["a.example"] = 1.5, ["white.example"] = -2 })
on.connect(function(conn)
  local function s(hit, err) if not hit then return err or "nil" end return hit.zone .. " " .. hit.answer .. " " .. hit.reason end
  return reject({ s(zen:check(conn.ip)), s(two:check(conn.ip)), s(odd:check(conn.ip)), s(zen:check("u@bad.example")), s(zen:check(nil)), s(zen:check("2001:db8::1")), table.concat({ all:score(conn.ip) }, " ") })
end)`
	for _, tt := range []struct {
		name    string
		answers map[string][]string
		errs    map[string]error
		want    []string
	}{
		{"nothing", nil, nil, []string{"nil", "nil", "nil", "nil", "nil", "nil", "0"}},
		{"listed", map[string][]string{
			"dnsbl zen.example 1.2.0.192.zen.example":                                                       {"127.0.0.2"},
			"dns TXT 1.2.0.192.zen.example":                                                                 {"see\r\nhere"},
			"dnsbl a.example 1.2.0.192.a.example":                                                           {"127.0.1.1"},
			"dnsbl white.example 1.2.0.192.white.example":                                                   {"127.0.0.3"},
			"dnsbl odd.example 1.2.0.192.odd.example":                                                       {"10.1.1.1"},
			"dnsbl zen.example bad.example.zen.example":                                                     {"127.0.0.5"},
			"dnsbl zen.example 1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.zen.example": {"127.0.0.4"},
		}, nil, []string{"zen.example 127.0.0.2 see  here", "a.example 127.0.1.1 listed", "odd.example 10.1.1.1 listed", "zen.example 127.0.0.5 listed", "nil", "zen.example 127.0.0.4 listed", "2.5"}},
		{"a hijacked zone lists everybody", map[string][]string{"dnsbl zen.example 1.2.0.192.zen.example": {"203.0.113.1"}, "dnsbl odd.example 1.2.0.192.odd.example": {"127.0.0.2"}}, nil,
			[]string{"nil", "nil", "nil", "nil", "nil", "nil", "0"}},
		{"you may not ask", map[string][]string{"dnsbl zen.example 1.2.0.192.zen.example": {"127.255.255.254", "127.0.0.2"}, "dnsbl a.example 1.2.0.192.a.example": {"127.0.0.2"}}, nil,
			[]string{"temporary", "a.example 127.0.0.2 listed", "nil", "nil", "nil", "nil", "1.5 temporary"}},
		{"trouble", map[string][]string{"dnsbl a.example 1.2.0.192.a.example": {"127.0.0.2"}}, map[string]error{"dnsbl zen.example 1.2.0.192.zen.example": errors.New("x")},
			[]string{"temporary", "a.example 127.0.0.2 listed", "nil", "nil", "nil", "nil", "1.5 temporary"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := connect(t, text)
			c.world.Answers, c.world.Errors = tt.answers, tt.errs
			want := "554-5.7.1 " + strings.Join(tt.want[:6], " / 554-5.7.1 ") + " / 554 5.7.1 " + tt.want[6]
			c.is(c.ask(policy.Connect), want)
		})
	}
}

func TestZones(t *testing.T) {
	watched, calls := "", 0
	e, _ := engine(t, Options{Watch: func(zones []string) { watched = strings.Join(zones, " "); calls++ }})
	reload := func(text, want string, called int) {
		t.Helper()
		e.Reload(snapshot(text))
		if watched != want || calls != called {
			t.Errorf("after %d calls %q are watched, want %q after %d", calls, watched, want, called)
		}
	}
	const rule = "\non.mail(function(msg) end)"
	reload(`
local zen = dnsbl("Zen.Example.ORG")
local two = dnsbl({ "a.example", "zen.example.org" })`+rule, "zen.example.org a.example", 1)
	reload("local zen = dnsbl('b.example')\non.mail(function(msg)", "zen.example.org a.example", 1) // refused
	reload("local zen = dnsbl('b.example', { answers = '127.0.0.9' })"+rule, "b.example", 2)
	p := e.Policy()
	if got := p.Warn(p.Zones()[0], "%s is off", p.Zones()[0].Name).Render(); !strings.HasPrefix(got, "10-test.lua:1:13: b.example is off\n    local zen = dnsbl('b.example'") {
		t.Error(got)
	}
	reload(rule, "", 3)
}

func TestHelpers(t *testing.T) {
	c := connect(t, `
on.connect(function(conn)
  local v = json.decode('{"b":[1,"x",null,true],"a":{"c":1.5}}')
  local bad, err = json.decode("{")
  return reject({ json.encode(v), json.encode({}), json.encode("a\"b"), tostring(bad) .. " " .. err, v.a.c .. v.b[2],
    base64.encode("hello") .. base64.decode("aGVs\nbG8="), tostring(base64.decode("!")), hash.sha256("x"):sub(1, 8), hash.md5("x"):sub(1, 8), hash.sha1("x"):sub(1, 8), hash.hmac("k", "x"):sub(1, 8),
    time.iso(), "" .. time.now(), time.iso(0), ip.version("::1") .. ip.version("1.2.3.4") .. tostring(ip.version("x")), ip.net("192.0.2.9", 28), ip.reverse("192.0.2.9") })
end)
on.helo(function(conn) return reject(json.encode({ math.huge })) end)
on.unknown(function(conn) local t = {} for i = 1, 40 do t = { t, t } end return reject(json.encode(t)) end)
on.vrfy(function(conn) local v, err = json.decode(string.rep("[", 1000)) return reject(tostring(v) .. " " .. err) end)`)
	c.is(c.ask(policy.Connect), "554-5.7.1 "+strings.Join([]string{`{"a":{"c":1.5},"b":[1,"x",null,true]}`, "{}", `"a\"b"`, "nil unexpected EOF", "1.5x",
		"aGVsbG8=hello", "nil", "2d711642", "9dd4e461", "11f6ad8e", "c38edc88",
		"2023-11-14T22:13:20Z", "1700000000", "1970-01-01T00:00:00Z", "64nil", "192.0.2.0/28"}, " / 554-5.7.1 ")+" / 554 5.7.1 9.2.0.192")
	c.is(c.ask(policy.Helo), failed)
	c.is(c.ask(policy.Unknown), failed)
	if !strings.Contains(c.why(), "nested more than 32 deep") {
		t.Error(c.why())
	}
	c.is(c.ask(policy.Vrfy), "550 5.7.1 nil nested more than 32 deep")
}

func TestMetric(t *testing.T) {
	reg := prometheus.NewRegistry()
	e := NewEngine(Options{}, reg)
	if ps, err := e.Reload(snapshot(`
local m = metric("verdicts")
local plain = metric("plain")
on.connect(function(conn) m:add(1, { action = conn.helo or "none" }) plain:add() plain:add(2.5) end)
on.helo(function(conn) m:add(1, { other = "x" }) end)
on.vrfy({ mode = "shadow" }, function(conn) plain:add() end)`)); err != nil {
		t.Fatal(problemLines(ps))
	}
	c := connectTo(t, e, e.opts.Log)
	c.ask(policy.Connect)
	for i := range 150 {
		c.Helo = fmt.Sprint("h", i)
		c.ask(policy.Connect)
	}
	c.ask(policy.Vrfy)
	c.is(c.ask(policy.Helo), failed)
	got := map[string]float64{}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			key := f.GetName()
			for _, l := range m.Label {
				key += " " + l.GetName() + "=" + l.GetValue()
			}
			got[key] = m.GetCounter().GetValue()
		}
	}
	for key, want := range map[string]float64{"moongate_script_verdicts_total action=none": 1, "moongate_script_verdicts_total action=h1": 1,
		"moongate_script_verdicts_total action=other": 51, "moongate_script_plain_total": 151 * 3.5} {
		if got[key] != want {
			t.Errorf("%s is %v, want %v", key, got[key], want)
		}
	}
}

func TestMap(t *testing.T) {
	c := connect(t, `
-- 10-a.lua --
local text = map("texthash:access")
local nets = map("cidr:nets.cidr")
local exprs = map("pcre:exprs.pcre")
on.connect(function(conn)
  local out = {}
  for _, k in ipairs({ "A@B.example", "x.example", "nothing" }) do out[#out + 1] = tostring(text:get(k)) end
  for _, k in ipairs({ "10.1.2.3", "10.9.9.9", "192.0.2.1", "2001:db8::1", "8.8.8.8", "x" }) do out[#out + 1] = tostring(nets:get(k)) end
  for _, k in ipairs({ "Bob@example.com", "user+tag@x.example", "in-me", "in-out", "none" }) do out[#out + 1] = tostring(exprs:get(k)) end
  return reject(table.concat(out, "|"))
end)
-- access --
# a comment
a@b.example   REJECT go
   away
X.example OK
-- nets.cidr --
10.1.0.0/16 inner
if !10.0.0.0/8
192.0.2.0/24 doc
!2001:db8::/32 no doc
endif
10.0.0.0/8 outer
-- exprs.pcre --
/^bob@(.*)$/ to ${1} $$5
/^([^+]+)\+(\S+)@/ $1 tagged $(2)
if /^in-/
!/out/ inside
endif
`)
	c.is(c.ask(policy.Connect), "554 5.7.1 REJECT go away|OK|nil|inner|outer|doc|nil|no doc|nil|to example.com $5|user tagged tag|inside|nil|nil")
	for source, why := range map[string]string{
		"texthash:t": "map: t: line 1: \"key\" has no value", "cidr:t": `map: t: line 1: "key" is no address or network`, "pcre:t": `map: t: line 1: "key" is no /pattern/`,
		"mysql:t": `map: a source is "texthash:FILE", "cidr:FILE" or "pcre:FILE", not "mysql:t"`, "cidr:no": `map: there is no file "no" in the policy directory`,
		"pcre:if": `map: if: an if without endif`, "pcre:end": `map: end: line 1: endif without if`, "pcre:look": "map: look: line 1: error parsing regexp: invalid or unsupported Perl syntax: `(?=`",
	} {
		_, ps := Load(snapshot("-- 10-a.lua --\nlocal m = map('"+source+"')\non.connect(function() end)\n-- t --\nkey\n-- if --\nif /x/\n/y/ z\n-- end --\nendif\n-- look --\n/(?=x)/ y\n"), Options{})
		if got := problemLines(ps); got != "10-a.lua:1:11: "+why {
			t.Errorf("%s: %s", source, got)
		}
	}
}

func TestGreylist(t *testing.T) {
	c := connect(t, `
local g = greylist("g", { delay = "5m", window = "1h", keep = "2d" })
on.rcpt({ mode = "shadow" }, function(msg, rcpt) g:check(msg.conn, msg, rcpt) end)
on.rcpt(function(msg, rcpt)
  if rcpt.user == "wrong" then g:check(unpack({ msg, rcpt })) end
  local pass, wait = g:check(msg.conn, msg, rcpt)
  if not pass then return tempfail("wait " .. wait) end
  return accept()
end)`)
	at := func(minutes int, ip, from, to, want string) {
		t.Helper()
		c.world.Clock = time.Unix(1_700_000_000, 0).Add(time.Duration(minutes) * time.Minute)
		c.Remote = mustAddrPort(ip)
		c.mail(from)
		c.is(c.rcpt(to), want)
		c.done(policy.Continue)
	}
	at(0, "192.0.2.1:1", "a@b.example", "u@x.example", "451 4.7.1 wait 300")
	at(1, "192.0.2.1:1", "a@b.example", "u@x.example", "451 4.7.1 wait 240")
	at(1, "192.0.2.1:1", "a@b.example", "v@x.example", "451 4.7.1 wait 300") // another recipient
	at(5, "192.0.2.77:1", "A@b.example", "U@x.example", "accept")            // the same network, another case
	at(5, "198.51.100.1:1", "a@b.example", "u@x.example", "451 4.7.1 wait 300")
	at(24*60, "192.0.2.1:1", "a@b.example", "u@x.example", "accept")
	at(3*24*60-1, "192.0.2.1:1", "a@b.example", "u@x.example", "accept")              // kept by coming again
	at(3*24*60, "198.51.100.1:1", "a@b.example", "u@x.example", "451 4.7.1 wait 300") // came back too late
	at(3*24*60, "203.0.113.1:1", "", "u@x.example", "451 4.7.1 wait 300")
	at(3*24*60+5, "203.0.113.1:1", "", "w@x.example", "accept") // bounces: the client alone
	at(3*24*60+5, "203.0.113.1:1", "z@b.example", "postmaster", "accept")
	for i := range 5 {
		from := fmt.Sprintf("u%d@b.example", i)
		at(4*24*60+i*10, "[2001:db8::1]:1", from, "u@x.example", "451 4.7.1 wait 300")
		at(4*24*60+i*10+5, "[2001:db8::1]:1", from, "u@x.example", "accept")
	}
	at(4*24*60+60, "[2001:db8::2]:1", "new@b.example", "new@x.example", "accept") // five passes: known
	at(0, "192.0.2.1:1", "a@b.example", "wrong@x.example", failed)
}

// TestReplaceAll: re:replace does what Go's ReplaceAllString does, watched or
// not.
func TestReplaceAll(t *testing.T) {
	x, err := load_(t, "-- 10-test.lua --\non.connect(function() end)", Options{}).pool.get(t.Context(), noDeadline)
	if err != nil {
		t.Fatal(err)
	}
	patterns := []string{`a`, `a*`, `^a`, `a$`, `(?m)^a`, `(?m)a$`, `\ba`, `a\b`, `\B`, `a.*b|a`, `(a)(b)?`, `(?i)(?P<n>[ab])x?`, `x*`, `.`, `(?s).`, `é+`,
		`[^a]`, ``, `\Qa*`, `^`, `$`, `\z`, `a|b|`, `(?U)a+`, `\x{FFFD}`}
	letters := []string{"a", "b", "A", "x", "*", " ", "\n", "é", "\xff", "\xc3"}
	for seed := range uint64(400) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var text strings.Builder
		for range rnd.IntN(12) {
			text.WriteString(letters[rnd.IntN(len(letters))])
		}
		for _, p := range patterns {
			re, err := newPattern(p)
			if err != nil {
				t.Fatal(err)
			}
			if seed%2 == 0 {
				re.size = slowRe
			}
			x.Meter.Reset(lua.Budget{}, noDeadline, nil)
			const with = "<$0|$1|${n}$$>"
			if got, want := (&reRef{x, re}).replace(x.L, text.String(), with), re.ReplaceAllString(text.String(), with); got != want {
				t.Fatalf("%q in %q: %q, want %q", p, text.String(), got, want)
			}
		}
	}
}

// A text of a stranger takes no longer than a rule may: linear in the text is
// one match, and neither all of them nor a large pattern.
func TestSlowPatterns(t *testing.T) {
	for _, lua := range []string{
		`slow:replace(string.rep("a", 900000), "x")`,
		`large:test(string.rep(string.rep("x", 999) .. "y", 900))`,
		`large:match(string.rep(string.rep("x", 999) .. "y", 900))`,
	} {
		c := connect(t, `local slow, large = re([[a.*b|a]]), re([[.*x{1000}]]) on.helo("r", function() `+lua+` end)`)
		c.is(c.ask(policy.Helo), failed)
		if !strings.Contains(c.why(), "script used up its instruction budget") {
			t.Errorf("%s: %s", lua, c.why())
		}
	}
}

// The largest text can be looked through more than once: a rule that looks at
// the body is not to fail at each large message. (Seven times, but the race
// detector makes it dear, and what is dear is charged.)
func TestLargeTextBudget(t *testing.T) {
	c := connect(t, `local evil = re([[(?i)evil\.(exe|scr)]]) on.helo({ name = "r", timeout = "18s" }, function()
		local body = string.rep("x", 1048576)
		for i = 1, 2 do if evil:test(body) then return reject("found") end end
		return reject("looked")
	end)`)
	c.is(c.ask(policy.Helo), "550 5.7.1 looked")
}
