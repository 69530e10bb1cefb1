package script

import (
	"reflect"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/lua"
	"github.com/moongate/moongate/policy/policytest"
)

const failed = "451 4.3.0 Temporary policy failure, please try again later"

// why is the error of the last failed rule.
func (c *client) why() string {
	all := c.logs.FilterMessage("rule failed").All()
	if len(all) == 0 {
		return ""
	}
	for _, f := range all[len(all)-1].Context {
		if f.Key == "error" {
			return f.Interface.(error).Error()
		}
	}
	return ""
}

// Each verdict, as the front-end gets it.
func TestVerdicts(t *testing.T) {
	tests := []struct{ stage, lua, want, why string }{
		{"mail", `return reject("no")`, "550 5.7.1 no", ""},
		{"mail", `return reject("5.1.8", "no")`, "550 5.1.8 no", ""},
		{"mail", `return reject(554, "no")`, "554 5.7.1 no", ""},
		{"mail", `return reject(554, "5.1.8", {"one", "two"})`, "554-5.1.8 one / 554 5.1.8 two", ""},
		{"mail", `return tempfail("later")`, "451 4.7.1 later", ""},
		{"connect", `return reject("no")`, "554 5.7.1 no", ""},
		{"connect", `return tempfail("no")`, "421 4.7.1 no", ""},
		{"auth", `return reject("no")`, "535 5.7.1 no", ""},
		{"auth", `return tempfail("no")`, "454 4.7.1 no", ""},
		{"mail", `return disconnect("bye")`, "421 4.7.1 bye and close", ""},
		{"mail", `return disconnect(554, "5.7.0", "bye")`, "554 5.7.0 bye and close", ""},
		{"mail", `return accept()`, "accept", ""},
		{"mail", `return bypass()`, "bypass", ""},
		{"mail", `return discard("spam")`, "discard (spam)", ""},
		{"rcpt", `return drop("spamtrap")`, "drop (spamtrap)", ""},
		{"mail", `return delay(5, reject("slow"))`, "550 5.7.1 slow after 5s", ""},
		{"mail", `return delay(1e9, accept())`, "accept after 30s", ""},
		{"mail", `return nil`, "continue", ""},
		{"mail", ``, "continue", ""},
		{"mail", `local x = string.rep("x", 900) return reject(x)`, "550-5.7.1 " + strings.Repeat("x", 496) + " / 550 5.7.1 " + strings.Repeat("x", 404), ""},

		{"mail", `local v = true return v`, failed, "10-test.lua:1: a rule returns a verdict or nothing, and this one returned a boolean"},
		{"mail", `local v = { code = 550 } return v`, failed, "10-test.lua:1: a rule returns a verdict or nothing, and this one returned a table"},
		{"mail", `return a1`, failed, "10-test.lua:1: a rule returns a verdict or nothing, and this one returned an object"},
		{"mail", "local v = reject('x')\nif false then return v end", failed, "10-test.lua:1: reject was made here and not returned: write 'return reject'"},
		{"mail", "local a, b = reject('x'), accept()\nreturn b", failed, "10-test.lua:1: reject was made here and not returned: write 'return reject'"},
		{"mail", "local t = 'a\\r\\nb'\nreturn reject(550, '5.7.1', t)", failed, "10-test.lua:2: reject: reply text holds the control character '\\r'"},
		{"mail", "local code = 250\nreturn reject(code, 'x')", failed, "10-test.lua:2: reject: reply code 250 is not in 500..599"},
		{"mail", "local code = 5.5\nreturn reject(code, 'x')", failed, "10-test.lua:2: reject: reply code 5.5 is no reply code"},
		{"mail", "local s = '4.7.1'\nreturn reject(550, s, 'x')", failed, "10-test.lua:2: reject: status 4.7.1 does not fit code 550: it must begin with 5"},
		{"mail", "local r = reject return r()", failed, "10-test.lua:1: reject: the text is missing: reject([code,] [status,] text)"},
		{"mail", "local r = reject return r(550, '5.7.1')", failed, `10-test.lua:1: reject: the text is missing behind the status "5.7.1"`},
		{"mail", "local r = reject return r(550, '5.7.1', 'x', 'y')", failed, "10-test.lua:1: reject: too many arguments: reject([code,] [status,] text)"},
		{"mail", "return reject({ 'a', #'x' })", failed, "10-test.lua:1: reject: line 2 of the text is a number"},
		{"mail", "return a1.nothing", failed, "10-test.lua:1: msg has no field 'nothing'"},
		{"mail", "a1['from'] = 'x'", failed, "10-test.lua:1: msg.from cannot be written: use msg:set_from(...)"},
		{"mail", "return a1[1]", failed, "10-test.lua:1: msg has no field '1'"},
		{"mail", "local h = a1.header\nreturn h('x')", failed, "10-test.lua:2: header is called with a colon: msg:header(...)"},
		{"mail", "return a1:header('x')", failed, "10-test.lua:1: msg:header is there from 'headers' on, and this is 'mail'"},
		{"mail", "return limit.tak", failed, "10-test.lua:1: ratelimit has no field 'tak' (did you mean 'take'?)"},
		{"mail", "return limit.take('x')", failed, "10-test.lua:1: take is called with a colon: ratelimit:take(...)"},
		{"mail", "local l = limit\nl['x'] = 1", failed, "10-test.lua:2: ratelimit has no field 'x'"},
		{"mail", "return limit[1]", failed, "10-test.lua:1: ratelimit has no field '1'"},
		{"mail", "return quarantine()", failed, "there is no quarantine: set [quarantine] path"},
		{"mail", "while true do end", failed, "10-test.lua:1: script used up its instruction budget"},
		{"mail", "local s = string.rep('x', 1e13)", failed, "10-test.lua:1: script used up its memory budget"},
		{"mail", "while true do pcall(function() while true do end end) end", failed, "10-test.lua:1: script used up its instruction budget"},
		{"mail", "local v = function() return reject('x') end\nlocal ok, r = pcall(v)\nreturn r", "550 5.7.1 x", ""},
		{"unknown", "return reject(500, '5.5.2', a2)", "500 5.5.2 FROB x", ""},
		{"auth", "return reject(a2.mech .. a2.user .. tostring(a2.pass))", "535 5.7.1 PLAINbobnil", ""},
		{"auth", "return a2.password", failed, "10-test.lua:1: attempt has no field 'password'"},
		{"mail", "return setmetatable({}, getmetatable(a1))", failed, ""},
	}
	for _, tt := range tests {
		t.Run(tt.lua, func(t *testing.T) {
			// The parameters go through a table, so that only the run can tell.
			c := connect(t, "local limit = (function() return ratelimit('l', '1/m') end)() on."+tt.stage+"(function(...) local a1, a2 = ... "+tt.lua+"\nend)")
			h, _ := policy.HookNamed(tt.stage)
			ev := &policy.Event{Hook: h, Line: []byte("FROB x"), Attempt: &policy.Attempt{Mech: "PLAIN", User: "bob"}}
			if h >= policy.Mail && h <= policy.Message {
				c.Begin(policytest.Path(t, "a@b.example"), nil)
			}
			if h == policy.Rcpt {
				ev.Rcpt = &policy.Recipient{In: policytest.Path(t, "c@d.example"), Out: policytest.Path(t, "c@d.example")}
			}
			c.is(c.Ask(ev), tt.want)
			if tt.why != "" && c.why() != tt.why {
				t.Errorf("why\n%s\nwant\n%s", c.why(), tt.why)
			}
		})
	}
}

// A client may send mail without a HELO, where a Postfix that permits it asks us
// or forwards him. Rules that the door asks find text there all the same.
func TestNoHelo(t *testing.T) {
	c := connect(t, `
local function helo(conn) return reject(conn.helo == nil and "nil" or "'" .. conn.helo .. "'") end
on.connect(helo)
on.helo(helo)
on.unknown(helo)
on.mail(function(msg) return helo(msg.conn) end)
on.rcpt(function(msg) return helo(msg.conn) end)
on.message(function(msg) return helo(msg.conn) end)`)
	c.is(c.ask(policy.Connect), "554 5.7.1 nil")
	c.is(c.ask(policy.Unknown), "550 5.7.1 nil")
	c.is(c.ask(policy.Helo), "550 5.7.1 ''")
	c.Begin(policytest.Path(t, "a@b.example"), nil)
	c.is(c.ask(policy.Mail), "550 5.7.1 ''")
	c.is(c.rcpt("b@x.example"), "550 5.7.1 ''")
	c.is(c.ask(policy.Message), "550 5.7.1 ''")
	c.Helo = "h.example"
	c.is(c.ask(policy.Mail), "550 5.7.1 'h.example'")
}

func TestFacts(t *testing.T) {
	c := connect(t, `
local function text(o, names)
  local t = {}
  for i, n in ipairs(names) do t[i] = n .. "=" .. tostring(o[n]) end
  return table.concat(t, " ")
end
on.connect(function(conn) return reject(text(conn, {"id", "ip", "net", "port", "ptr", "helo", "tls", "user", "listener"})) end)
on.helo(function(conn)
  if conn.tls then return reject(text(conn.tls, {"version", "cipher", "sni", "peer"})) end
  return reject(text(conn, {"ip", "net", "ptr", "helo", "user"}))
end)
on.mail(function(msg)
  local p = msg.params
  return reject(text(msg, {"id", "from", "from_domain", "sender_key", "size", "header_from", "header_from_count", "subject"}) .. " SIZE=" .. tostring(p.SIZE) .. " rcpts=" .. #msg.rcpts)
end)
on.rcpt(function(msg, rcpt)
  local p = rcpt.params
  rcpt.class = "strict"
  return reject(text(rcpt, {"address", "user", "domain", "postmaster", "class"}) .. " NOTIFY=" .. tostring(p.NOTIFY))
end)`)
	c.is(c.ask(policy.Connect), "554 5.7.1 id=S ip=192.0.2.1 net=192.0.2.0/24 port=25000 ptr=nil helo=nil tls=nil user=nil listener=test")
	c.Helo, c.PTR, c.User = "h.example", "p.example", "bob"
	c.Remote = mustAddrPort("[2001:db8:1:2:3::4]:1")
	c.is(c.ask(policy.Helo), "550 5.7.1 ip=2001:db8:1:2:3::4 net=2001:db8:1:2::/64 ptr=p.example helo=h.example user=bob")
	c.TLS = &policy.TLS{Version: "TLSv1.3", Cipher: "X", SNI: "mx.example"}
	c.is(c.ask(policy.Helo), "550 5.7.1 version=TLSv1.3 cipher=X sni=mx.example peer=nil")
	c.Begin(policytest.Path(t, "A.b@Ex.Example"), []policy.Param{{Key: "SIZE", Value: "100", Raw: "SIZE=100"}})
	c.is(c.ask(policy.Mail), "550 5.7.1 id=S.1 from=A.b@ex.example from_domain=ex.example sender_key=A.b@ex.example size=nil header_from=nil header_from_count=nil subject=nil SIZE=100 rcpts=0")
	c.Begin(policytest.Path(t, ""), nil)
	c.is(c.ask(policy.Mail), "550 5.7.1 id=S.2 from= from_domain= sender_key=<> 2001:db8:1:2::/64 size=nil header_from=nil header_from_count=nil subject=nil SIZE=nil rcpts=0")
	r := &policy.Recipient{In: policytest.Path(t, `"a b"@X.example`), Params: []policy.Param{{Key: "NOTIFY", Value: "NEVER"}}}
	r.Out = r.In
	c.is(c.Ask(&policy.Event{Hook: policy.Rcpt, Rcpt: r}), `550 5.7.1 address="a b"@x.example user=a b domain=x.example postmaster=false class=strict NOTIFY=NEVER`)
	if r.Class != "strict" {
		t.Error("the class is not set")
	}
	r = &policy.Recipient{In: policytest.Path(t, "PostMaster"), Out: policytest.Path(t, "PostMaster")}
	c.is(c.Ask(&policy.Event{Hook: policy.Rcpt, Rcpt: r}), `550 5.7.1 address=PostMaster user=PostMaster domain= postmaster=true class=strict NOTIFY=nil`)
}

// Data of a connection stays with it, of a message with it; nothing else does.
func TestData(t *testing.T) {
	text := `
on.connect(function(conn) conn.data.n = 1 conn.data.list = { "a", { deep = true } } end)
on.mail(function(msg)
  local d = msg.conn.data
  if not d.n then return reject("no data") end
  d.n = d.n + 1
  msg.data.n = (msg.data.n or 0) + 1
  return reject(d.n .. " " .. msg.data.n .. " " .. d.list[1] .. tostring(d.list[2].deep))
end)`
	c := connect(t, text)
	c.ask(policy.Connect)
	c.is(c.mail("a@b.example"), "550 5.7.1 2 1 atrue")
	c.is(c.mail("a@b.example"), "550 5.7.1 3 1 atrue")
	other := session(t, c.Env.Engine, c.Env.Log, c.world)
	other.is(other.mail("a@b.example"), "550 5.7.1 no data")
}

func TestDataIsPlain(t *testing.T) {
	for lua, why := range map[string]string{
		`conn.data.f = function() end`:                                      `conn.data.f is a function; only text, numbers, booleans and tables of them can be kept`,
		`conn.data.a = { b = { conn } }`:                                    `conn.data.a.b.1 is a userdata; only text, numbers, booleans and tables of them can be kept`,
		`conn.data.t = conn.data`:                                           `conn.data.t.t.t.t.t.t.t.t lies deeper than 8 tables`,
		`conn.data.t = setmetatable({}, { __index = function() end })`:      `conn.data.t has a metatable; only plain tables can be kept`,
		`conn.data.s = string.rep("x", 70000)`:                              `conn.data.s is too much: all of it may have 64 KiB`,
		`for i = 1, 5000 do conn.data[i] = i end`:                           `is too much: all of it may have 64 KiB`,
		`conn.data[conn] = 1`:                                               `is a userdata; only text`,
		`conn.data.f = function() end error("and then")`:                    `and then`,
		`conn.data.ok = { 1, "x", true, { y = 1.5 } } conn.data[1] = false`: ``,
	} {
		c := connect(t, "on.connect(function(conn) "+lua+" end)\non.helo(function(conn) return reject(tostring(next(conn.data))) end)")
		v := c.ask(policy.Connect)
		if why == "" {
			c.is(v, "continue")
			continue
		}
		c.is(v, failed)
		if !strings.Contains(c.why(), why) {
			t.Errorf("%s: %s", lua, c.why())
		}
		c.is(c.ask(policy.Helo), "550 5.7.1 nil")
	}
}

// A table of the file that is put into data becomes a copy: writing the copy
// later must not write the file's, in any state.
func TestDataCopiesTablesOfTheFile(t *testing.T) {
	c := connect(t, `
local defaults = { n = 1, sub = { m = 1 } }
on.connect(function(conn) conn.data.d = defaults end)
on.helo(function(conn)
  conn.data.d.n = conn.data.d.n + 1
  conn.data.d.sub.m = conn.data.d.sub.m + 1
  return reject(conn.data.d.n .. conn.data.d.sub.m .. defaults.n .. defaults.sub.m)
end)`)
	c.ask(policy.Connect)
	c.is(c.ask(policy.Helo), "550 5.7.1 2211")
	c.is(c.ask(policy.Helo), "550 5.7.1 3311")
}

func TestRuleOrder(t *testing.T) {
	c := connect(t, `
-- 10-a.lua --
on.mail(function(msg) msg.data.seen = "a" end)
on.mail("decides", function(msg) if msg.from == "x@y.example" then return accept() end end)
-- 20-b.lua --
on.mail(function(msg) return reject(msg.data.seen .. "b") end)
on.log(function(msg, outcome) log.info("end", { action = outcome.action, by = outcome.by, code = outcome.code, rule = outcome.rule, n = 1.5 }) end)`)
	c.is(c.mail("a@b.example"), "550 5.7.1 ab")
	c.is(c.mail("x@y.example"), "accept")
	c.done(policy.Accept)
	lines := c.logs.FilterMessage("script").All()
	if len(lines) != 1 {
		t.Fatalf("%d lines", len(lines))
	}
	m := lines[0].ContextMap()
	f := m["fields"].(map[string]any)
	if m["text"] != "end" || m["id"] != "S.2" || m["at"] != "20-b.lua:2" || f["action"] != "accepted" || f["by"] != "upstream" || f["code"] != int64(250) || f["n"] != 1.5 {
		t.Errorf("%v", m)
	}
	if f["rule"] != `10-a.lua:2 "decides"` {
		t.Errorf("the log rule is told of rule %v, the audit line has the one that accepted", f["rule"])
	}
}

func TestOnErrorAndShadow(t *testing.T) {
	c := connect(t, `
on.mail({ on_error = "accept" }, function(msg) error("broken") end)
on.mail({ mode = "shadow" }, function(msg) msg.data.x = 1 msg.conn.data.x = 1 msg:add_header("X-Shadow", "1") return reject("shadow") end)
on.mail({ on_error = "reject" }, function(msg)
  if msg.data.x or msg.conn.data.x then return tempfail("the shadow has changed something") end
  error("broken, too")
end)`)
	c.is(c.mail("a@b.example"), "550 5.7.1 Refused by policy")
	if c.why() != "10-test.lua:6: broken, too" {
		t.Error(c.why())
	}
	var edits []string
	for _, e := range c.Tx.Edits {
		edits = append(edits, e.String())
	}
	if got := strings.Join(edits, "; "); got != "add_header X-Moongate-Unchecked by moongate" {
		t.Errorf("edits: %s", got)
	}
	if n := c.logs.FilterMessage("shadow").Len(); n != 1 {
		t.Errorf("%d shadow lines", n)
	}
}

// A shadow rule changes nothing that is shared, and sees what it would have.
func TestShadowAndTheStore(t *testing.T) {
	c := connect(t, `
local n = counter("n", "1h")
local c = cache("c", "1h")
local l = ratelimit("l", "2/h")
on.connect(function(conn) n:add("k", 5) c:set("k", "v") l:take("k") end)
on.connect({ mode = "shadow" }, function(conn)
  if n:add("k") ~= 6 then error("add") end
  if c:add("k") or not c:add("new") then error("cache") end
  c:set("k", "w")
  l:take("k") l:reset("k")
  return accept()
end)
on.connect(function(conn) return reject(n:get("k") .. c:get("k") .. tostring(c:get("new")) .. l:peek("k")) end)`)
	c.is(c.ask(policy.Connect), "554 5.7.1 5vnil1")
	if c.why() != "" {
		t.Error(c.why())
	}
}

// Data that is written and deleted for ever stays small.
func TestDataForgets(t *testing.T) {
	c := connect(t, `
on.helo(function(conn)
  local d = conn.data
  d.n = (d.n or 0) + 1
  d["key" .. d.n] = string.rep("x", 100)
  d["key" .. (d.n - 1)] = nil
  return reject("" .. d.n)
end)`)
	for range 1000 {
		c.ask(policy.Helo)
	}
	c.is(c.ask(policy.Helo), "550 5.7.1 1001")
	keys := reflect.ValueOf(c.Vars.(*connVars).data.table).Elem().FieldByName("keys").Len()
	if keys > 300 {
		t.Errorf("the table remembers %d keys", keys)
	}
}

func TestTimeout(t *testing.T) {
	core, logs := observer.New(zap.DebugLevel)
	p := load_(t, `
on.mail({ timeout = "10ms" }, function(msg) while true do end end)`, Options{Budget: lua.Budget{Instructions: 1 << 50}}) // that one lasts for years
	c := connectTo(t, policy.EngineFunc(func(*policy.Facts) *policy.Rules { return p.Rules }), zap.New(core))
	c.logs = logs
	c.is(c.mail("a@b.example"), failed)
	if c.why() != "10-test.lua:2: script ran longer than its time allows" {
		t.Error(c.why())
	}
}

// A failing rule does not hurt the next call.
func TestStateAfterAnError(t *testing.T) {
	c := connect(t, `
on.mail(function(msg) if msg.from_domain == "bad.example" then error("x") end return accept() end)`)
	for range 20 {
		s := session(t, c.Env.Engine, c.Env.Log, c.world)
		s.is(s.mail("a@bad.example"), failed)
		s.is(s.mail("a@good.example"), "accept")
	}
}
