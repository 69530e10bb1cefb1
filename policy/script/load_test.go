package script

import (
	"slices"
	"strings"
	"testing"

	"github.com/moongate/moongate/internal/watch"
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/lua"
)

// What is wrong with a policy is told before it is live, all of it, each with
// its place.
func TestProblems(t *testing.T) {
	tests := []struct{ name, policy, want string }{
		{"unknown stage", `on.rctp(function() end)`, `10-test.lua:1:4: 'on' has no field 'rctp' (did you mean 'rcpt'?)`},
		{"no function", `on.rcpt("x")`, `10-test.lua:1:1: on.rcpt wants a function: on.rcpt(function(msg, rcpt) ... end), with a name or options before it`},
		{"verdict not returned", "on.rcpt(function(msg, rcpt)\n  reject(550, '5.1.1', 'no')\nend)", `10-test.lua:2:3: 'reject' alone does nothing: write 'return reject(...)'`},
		{"unknown name", "on.rcpt(function(msg, rcpt)\n  return rejct('no')\nend)", `10-test.lua:2:10: unknown name 'rejct' (did you mean 'reject'?)`},
		{"unknown field", "on.rcpt(function(msg, rcpt)\n  local c = msg.conn\n  if c.hello == 'x' then return accept() end\nend)", `10-test.lua:3:8: conn has no field 'hello' (did you mean 'helo'?)`},
		{"unknown field through msg", "on.mail(function(m) return m.conn.usr and accept() end)", `10-test.lua:1:35: conn has no field 'usr' (did you mean 'user'?)`},
		{"method before its stage", "on.mail(function(msg)\n  if msg:header('X') then return accept() end\nend)", `10-test.lua:2:10: msg:header is there from 'headers' on, and this is 'mail'`},
		{"method before its stage in a named function", "local function f(msg)\n  msg:set_header('X', '1')\nend\non.data(f)", `10-test.lua:2:7: msg:set_header is there from 'headers' on, and this is 'data'`},
		{"field written", "on.message(function(msg) msg.subject = 'x' end)", `10-test.lua:1:30: msg.subject cannot be written: use msg:set_header("Subject", ...)`},
		{"field called", "on.message(function(msg) return msg:from() and accept() end)", `10-test.lua:1:37: msg.from is a field, no method: write msg.from`},
		{"method with a dot", "on.message(function(msg) return msg.header('X') and accept() end)", `10-test.lua:1:37: msg.header is a method: call it as msg:header(...)`},
		{"planned field", "on.message(function(msg) return msg.text and accept() end)", `10-test.lua:1:37: msg.text is not supported yet (MIME)`},
		{"number with text", "on.message(function(msg)\n  if msg.size > '100' then return accept() end\nend)", `10-test.lua:2:10: size is a number and is compared with text`},
		{"text with number", "on.mail(function(msg)\n  if 25 == msg.conn.ip then return accept() end\nend)", `10-test.lua:2:21: ip is text and is compared with a number`},
		{"boolean with text", "on.rcpt(function(msg, rcpt)\n  if rcpt.postmaster == 'yes' then return accept() end\nend)", `10-test.lua:2:11: postmaster is true or false and is compared with text`},
		{"method of a limit", "local l = ratelimit('l', '1/m')\non.mail(function(msg)\n  l:tke('x')\nend)", `10-test.lua:3:5: ratelimit has no field 'tke' (did you mean 'take'?)`},
		{"method of a list with a dot", "local l = domains('a.example')\non.mail(function(msg)\n  return l.has('x') and accept()\nend)", `10-test.lua:3:12: list.has is a method: call it as list:has(...)`},
		{"field of tls", "on.mail(function(msg) local t = msg.conn.tls\n  return t and t.cypher and accept()\nend)", `10-test.lua:2:18: tls has no field 'cypher' (did you mean 'cipher'?)`},
		{"body too early", "on.headers(function(msg) return msg:body() and accept() end)", `10-test.lua:1:37: msg:body is there from 'message' on, and this is 'headers'`},
		{"planned library", "on.message(function(msg)\n  local r = rspamd.check(msg)\nend)", `10-test.lua:2:13: rspamd is not supported yet (scanners)`},
		{"greylist's options", "local g = greylist('g', {delay='1d', window='1h'})\non.mail(function() end)", `10-test.lua:1:11: greylist: the window ends before the delay does`},
		{"greylist's net", "local g = greylist('g', {net=24})\non.mail(function() end)", `10-test.lua:1:11: greylist: net is {24, 64}: bits of an IPv4 and of an IPv6 address`},
		{"greylist too early", "local g = greylist('g')\non.mail(function(msg) return g:check(msg.conn, msg) and accept() end)", `10-test.lua:2:32: greylist:check is there from 'rcpt' on, and this is 'mail'`},
		{"verdict where it cannot be", "on.connect(function(conn) return discard() end)", `10-test.lua:1:34: discard is not possible at 'connect', only at mail, data, headers, message`},
		{"drop at message", "on.message(function(msg) return drop() end)", `10-test.lua:1:33: drop is not possible at 'message', only at rcpt`},
		{"verdict in log", "on.log(function(m) return reject('x') end)", `10-test.lua:1:27: reject: a log rule decides nothing`},
		{"code out of class", "on.mail(function(msg) return reject(450, 'x') end)", `10-test.lua:1:30: reject: reply code 450 is not in 500..599`},
		{"status out of class", "on.mail(function(msg) return tempfail(450, '5.7.1', 'x') end)", `10-test.lua:1:30: tempfail: status 5.7.1 does not fit code 450: it must begin with 4`},
		{"status of no class", "on.mail(function(msg) return reject(550, 'soon', 'x') end)", `10-test.lua:1:30: reject: status "soon" is not of the form 5.7.1`},
		{"line end in a reply", "on.mail(function(msg) return reject(550, '5.7.1', 'a\\r\\nb') end)", `10-test.lua:1:30: reject: reply text holds the control character '\r'`},
		{"global in a function", "on.mail(function(msg) hits = 1 end)", `10-test.lua:1:23: assignment to global 'hits' inside a function: write 'local hits', or keep it in conn.data or msg.data`},
		{"file-level variable", "local hits = 0\non.mail(function(msg)\n  hits = hits + 1\nend)", `10-test.lua:3:3: 'hits' belongs to the file and serves every connection: it cannot change inside a function (use conn.data or msg.data)`},
		{"syntax", "on.mail(function(msg)\n  if x then\nend)", `10-test.lua:3:4: unexpected ')'`},
		{"option", "on.mail({on_eror='accept'}, function() end)", `10-test.lua:1:1: on.mail has no option 'on_eror' (did you mean 'on_error'?)`},
		{"on_error", "on.mail({on_error='pass'}, function() end)", `10-test.lua:1:1: on.mail: on_error is "tempfail", "accept" or "reject", not "pass"`},
		{"timeout", "on.mail({timeout='1h'}, function() end)", `10-test.lua:1:1: on.mail: timeout is a time such as "500ms" or "2s", at most 18s here, not "1h"`},
		{"mode", "on.mail({mode='shadw'}, function() end)", `10-test.lua:1:1: on.mail: mode is "shadow" or "enforce", not "shadw"`},
		{"at", "on.data({at='rcpt'}, function() end)", `10-test.lua:1:1: on.data: at is "data", or "rcpt" for connect, helo and mail rules, not "rcpt"`},
		{"rate", "local l = ratelimit('x', '60 a minute')\non.mail(function() end)", `10-test.lua:1:11: ratelimit: "60 a minute" is no rate: write "60/1m", "100/h" or "500/d"`},
		{"limit declared twice", "local a = ratelimit('x', '1/m')\nlocal b = ratelimit('x', '2/m')\non.mail(function() end)", `10-test.lua:2:11: ratelimit "x" is declared otherwise at 10-test.lua:1`},
		{"limit option", "local a = ratelimit('x', '1/m', {brst=1})\non.mail(function() end)", `10-test.lua:1:11: ratelimit has no option 'brst' (did you mean 'burst'?)`},
		{"list without a file", "local a = list('no.txt')\non.mail(function() end)", `10-test.lua:1:11: list: there is no file "no.txt" in the policy directory`},
		{"domains", "local a = domains('exa mple')\non.mail(function() end)", `10-test.lua:1:11: domains: entry 1, "exa mple", is no domain`},
		{"ipset", "local a = ipset('10.0.0.0/33')\non.mail(function() end)", `10-test.lua:1:11: ipset: "10.0.0.0/33" is no address, no network and no file of the policy directory`},
		{"pattern", "local a = re('(')\non.mail(function() end)", "10-test.lua:1:11: re: error parsing regexp: missing closing ): `(`"},
		{"text missing", "on.mail(function(msg) return reject() end)", `10-test.lua:1:30: reject: the text is missing: reject([code,] [status,] text)`},
		{"text missing behind the code", "on.mail(function(msg) return tempfail(451) end)", `10-test.lua:1:30: tempfail: the text is missing: tempfail([code,] [status,] text)`},
		{"text missing behind the status", "on.mail(function(msg) return reject(550, '5.7.1') end)", `10-test.lua:1:30: reject: the text is missing behind the status "5.7.1"`},
		{"code behind the status", "on.mail(function(msg) return reject('5.7.1', 550, 'x') end)", `10-test.lua:1:30: reject: the code comes first: reject([code,] [status,] text)`},
		{"too much text", "on.mail(function(msg) return reject(550, '5.7.1', 'x', 'y') end)", `10-test.lua:1:30: reject: too many arguments: reject([code,] [status,] text)`},
		{"text empty", "on.mail(function(msg) return reject(550, '') end)", `10-test.lua:1:30: reject: the text is empty, and it is all that the sender learns`},
		{"text empty behind the status", "on.mail(function(msg) return tempfail(451, '4.7.1', ' ') end)", `10-test.lua:1:30: tempfail: the text is empty`},
		{"text without lines", "on.mail(function(msg) return reject{} end)", `10-test.lua:1:30: reject: the text is empty`},
		{"text of empty lines", "on.mail(function(msg) return reject{'', ''} end)", `10-test.lua:1:30: reject: the text is empty`},
		{"an empty line in a text", "on.mail(function(msg) return reject{'no', '', msg.from} end)", ``},
		{"text in a table with names", "on.mail(function(msg) return reject{code = 550, text = 'x'} end)", `10-test.lua:1:30: reject: a list of lines has no names: reject([code,] [status,] text)`},
		{"text that is an object", "on.rcpt(function(msg, rcpt) return reject(rcpt) end)", `10-test.lua:1:36: reject: the text is text or a list of lines, and here it is the object rcpt: write rcpt.address`},
		{"status in the text", "on.mail(function(msg) return reject('550 5.7.1 no') end)", `10-test.lua:1:30: the text begins with 550: code and status are arguments of their own, reject([code,] [status,] text)`},
		{"accept of something", "on.mail(function(msg) return accept('x') end)", `10-test.lua:1:30: accept takes no arguments, and here are 1`},
		{"delay", "on.mail(function(msg) return delay('5', reject('x')) end)", `10-test.lua:1:30: delay: argument 1 (seconds) is a number, and here it is text`},
		{"a verdict that is not called", "on.mail(function(msg) return reject end)", `10-test.lua:1:30: reject is not called: write 'return reject(...)'`},
		{"text returned", "on.mail(function(msg) return 'reject' end)", `10-test.lua:1:23: a rule returns a verdict or nothing, and this returns text`},
		{"number returned", "on.mail(function(msg) if msg.from == '' then return 550 end end)", `10-test.lua:1:46: a rule returns a verdict or nothing, and this returns a number`},
		{"false returned", "on.mail(function(msg) return false end)", `10-test.lua:1:23: a rule returns a verdict or nothing, and this returns true or false`},
		{"object returned", "on.mail(function(msg) return msg.conn end)", `10-test.lua:1:23: a rule returns a verdict or nothing, and this returns the object conn`},
		{"false returned by 'and'", "local f = ipset('::1')\non.connect(function(conn) return f:has(conn.ip) and bypass() end)", `10-test.lua:2:27: a rule returns a verdict or nothing, and this returns false where the condition is not met: write 'if ... then return ... end'`},
		{"argument missing", "on.message(function(msg) msg:add_header('X') end)", `10-test.lua:1:30: add_header: argument 2 (value) is missing`},
		{"argument of another type", "on.message(function(msg) msg:set_header('X', {}) end)", `10-test.lua:1:30: set_header: argument 2 (value) is text, and here it is a table`},
		{"object for text", "on.rcpt(function(msg, rcpt) log.info(rcpt) end)", `10-test.lua:1:29: log.info: argument 1 (text) is text, and here it is the object rcpt: write rcpt.address`},
		{"too many arguments", "on.message(function(msg) if msg:header('X', 1) then return accept() end end)", `10-test.lua:1:33: header takes 1 argument, and here are 2`},
		{"number in quotes", "local l = ratelimit('l', '1/m')\non.mail(function(msg) if l:take('k', '2') then return accept() end end)", `10-test.lua:2:28: take: argument 2 (n) is a number, and here it is text`},
		{"library", "on.connect(function(conn) local a = dns.a() end)", `10-test.lua:1:37: dns.a: argument 1 (name) is missing`},
		{"object compared", "on.rcpt(function(msg, rcpt)\n  if rcpt == 'bob@x.example' then return accept() end end)", `10-test.lua:2:6: rcpt is an object and is never text: write rcpt.address`},
		{"object joined", "on.rcpt(function(msg, rcpt)\n  log.info('to ' .. rcpt) end)", `10-test.lua:2:21: rcpt is an object and cannot be joined with text: write rcpt.address`},
		{"object called", "local f = ipset('::1')\non.connect(function(conn) if f(conn.ip) then return bypass() end end)", `10-test.lua:2:30: ipset is an object and cannot be called: write ipset:has(...)`},
		{"object indexed", "local f = ipset('::1')\non.connect(function(conn) if f[conn.ip] then return bypass() end end)", `10-test.lua:2:30: ipset is an object, no table: write ipset:has(...)`},
		{"field of a field", "on.mail(function(msg) if msg.from.domain == 'x' then return accept() end end)", `10-test.lua:1:35: from is text and has no fields: write msg.from_domain`},
		{"method of text", "on.mail(function(msg) if msg.from:mtach('x') then return accept() end end)", `10-test.lua:1:35: text has no method 'mtach' (did you mean 'match'?)`},
		{"method of a command line", "on.unknown(function(conn, line) if line:fidn('x') then return reject('no') end end)", `10-test.lua:1:41: text has no method 'fidn' (did you mean 'find'?)`},
		{"method of a command line in a named function", "local function f(conn, line)\n  if line:match('[a') then return reject('no') end\nend\non.vrfy(f)", `10-test.lua:2:11: match: malformed pattern (missing ']')`},
		{"method of a text", "on.mail(function(msg) if ('a' .. msg.from):fidn('x') then return accept() end end)", `10-test.lua:1:44: text has no method 'fidn'`},
		{"method of a header", "on.headers(function(msg) if (msg:header('X') or ''):lower() and msg:header('X'):fidn('x') then return accept() end end)", `10-test.lua:1:81: text has no method 'fidn'`},
		{"method of a local", "local p = 'x'\non.mail(function(msg)\n  local s = msg.from\n  if s:fidn(p) or p:lowr() == s:lower() then return accept() end\nend)", "10-test.lua:4:8: text has no method 'fidn' (did you mean 'find'?)\n10-test.lua:4:21: text has no method 'lowr' (did you mean 'lower'?)"},
		{"method of a local that is not always text", "on.rcpt(function(msg, rcpt)\n  local s = ''\n  if msg.from == '' then s = re end\n  if s:tset('x') then return accept() end\nend)", ``},
		{"method of another of the name", "local s = 'x'\nlocal l = ipset('::1')\non.connect(function(conn) local s = l if s:has(conn.ip) then return accept() end end)", ``},
		{"method of a loop's name", "local s = 'x'\non.rcpt(function(msg, rcpt) for _, s in ipairs({rcpt}) do if s:any() then return accept() end end end)", ``},
		{"pattern of text", "on.mail(function(msg) if msg.from:match('[a-z') then return accept() end end)", `10-test.lua:1:35: match: malformed pattern (missing ']')`},
		{"iterator as a list", "on.message(function(msg) for _, h in ipairs(msg:headers('X')) do h:remove() end end)", `10-test.lua:1:38: headers is an iterator itself: write 'for h in msg:headers(...) do'`},
		{"list as an iterator", "on.message(function(msg) for r in msg.rcpts do log.info(r) end end)", `10-test.lua:1:39: this is a table: write 'for _, x in ipairs(...) do'`},
		{"data written", "on.mail(function(msg) msg.data = {} end)", `10-test.lua:1:27: msg.data cannot be written: it is a table, and its fields can: msg.data.x = ...`},
		{"asked while loading", "local r = re('x')\nlocal ok = r:test('x')\non.mail(function() end)", `10-test.lua:2:1: re:test works in a hook: nothing is asked while a file is loaded`},
		{"DNS while loading", "local r = dns.a('x.example')\non.mail(function() end)", `10-test.lua:1:1: the DNS is asked in a hook: nothing is asked while a file is loaded`},
		{"timeout of a number", "on.mail({timeout = 0}, function() end)", `10-test.lua:1:1: on.mail: timeout is a time such as "500ms" or "2s", at most 18s here, not 0`},
		{"networks in a table", "local a = ipset({ '10.0.0.0/8', 5 })\non.mail(function() end)", `10-test.lua:1:11: ipset: entry 2 of the table is text, and here it is a number`},
		{"rates", "local a = ratelimit('x', {'1/s','2/m','3/h','4/d','5/w','6/2s','7/3s','8/4s','9/5s'})\non.mail(function() end)", `10-test.lua:1:11: ratelimit: at most 8 rates, and here are 9`},
		{"text that may be nil", "on.message(function(msg)\n  msg:set_header('Subject', '[x] ' .. msg.subject)\nend)", `10-test.lua:2:43: msg.subject may be nil, and this would be an error then: write (msg.subject or "")`},
		{"header that may be nil", "on.message(function(msg)\n  if msg:header('X'):find('a') then return accept() end\nend)", `10-test.lua:2:10: msg:header("X") may be nil, and this would be an error then: write (msg:header("X") or "")`},
		{"no HELO yet", "on.unknown(function(conn, line)\n  return reject('hello ' .. conn.helo)\nend)", `10-test.lua:2:34: conn.helo may be nil, and this would be an error then: write (conn.helo or "")`},
		{"text called", "on.mail(function(msg) return reject('a' .. msg.from 'b') end)", `10-test.lua:1:48: from is text and cannot be called`},
		{"on with a colon", "on:mail(function(msg) end)", `10-test.lua:1:1: on.mail: write on.mail(...), with a dot`},
		{"loop over numbers", "on.mail(function(msg) for i in 1, 10 do end end)", `10-test.lua:1:23: a loop over numbers is written 'for i = 1, 10 do'`},
		{"then", "on.mail(function(msg)\n  if msg.from == '' return accept() end\nend)", `10-test.lua:2:21: unexpected 'return' (is 'then' missing?)`},
		{"no zone", "local a = dnsbl(5)\non.mail(function() end)", `10-test.lua:1:11: dnsbl: argument 1 is a zone or a table of zones, and here it is a number`},
		{"zones", "local t = {} for i = 1, 21 do t[i] = 'z' .. i .. '.example' end\nlocal a = dnsbl(t)\non.mail(function() end)", `10-test.lua:2:11: dnsbl: 1 to 20 zones, and here are 21`},
		{"weights", "local a = dnsbl({ ['a.example'] = '3' })\non.mail(function() end)", `10-test.lua:1:11: dnsbl: the weight of a.example is a number, and here it is a string`},
		{"answers", "local a = dnsbl('a.example', { answers = 4 })\non.mail(function() end)", `10-test.lua:1:11: dnsbl: answers is a table such as { "127.0.0.2" }, and here it is a number`},
		{"answers", "local a = dnsbl('a.example', { answers = '::1' })\non.mail(function() end)", `10-test.lua:1:11: dnsbl: answer "::1" is no IPv4 address or network`},
		{"zone", "local a = dnsbl('zen')\non.mail(function() end)", `10-test.lua:1:11: dnsbl: "zen" is no zone`},
		{"declared in a hook", "on.mail(function() local a = re('x') end)", `10-test.lua:1:30: re belongs at the top of the file, not in a hook`},
		{"verdict at the top", "local v = reject('x')\non.mail(function() end)", `10-test.lua:1:11: reject belongs into a hook`},
		{"no module", "local m = require('m')\non.mail(function() end)", `10-test.lua:1:1: there is no module lib/m.lua`},
		{"endless", "while true do end", `10-test.lua:1:1: script `},
		{"memory bomb", "local s = string.rep('x', 1e13)", `10-test.lua:1:1: script used up its memory budget`},
		{"nothing", "-- nothing", `policy: there is no rule: without one everything would pass (allow_empty = true, if that is meant)`},
		{"emptied file beside another", "-- 10-a.lua --\non.mail(function() end)\n-- 20-b.lua --\n\ufeff \t\n", `20-b.lua:1:1: the file is empty, and its rules would be lost: remove it, or leave a comment in it, if that is meant`},
		{"emptied module", "-- 10-a.lua --\non.mail(function() end)\n-- lib/m.lua --\n", `lib/m.lua:1:1: the file is empty`},
		{"file with a comment beside another", "-- 10-a.lua --\non.mail(function() end)\n-- 20-b.lua --\n-- later\n", ``},
		{"counting closure", "local function counter() local n = 0 return function() n = n + 1 return n end end\nlocal c = counter()\non.mail(function() return c() > 1 and accept() or nil end)", `this function changes 'n', which was made while loading and serves every connection`},
		{"two mistakes in two files", "-- 10-a.lua --\non.rctp(function() end)\nlocal x = 1 + nil\n-- 20-b.lua --\nlocal l = list('x.txt')\n-- lib/m.lua --\nreturn foo",
			"10-a.lua:1:4: 'on' has no field 'rctp' (did you mean 'rcpt'?)\n10-a.lua:2:1: this is nil and cannot be calculated with\nlib/m.lua:1:8: unknown name 'foo'"},
		{"what the language and the API mind, of one file at once", "local hits = 0\non.mail(function(msg)\n  hits = hits + 1\n  if msg.conn.usr == fo then return discard(1, 2) end\nend)\non.connect(function(conn) return drop() end)",
			"10-test.lua:3:3: 'hits' belongs to the file and serves every connection: it cannot change inside a function (use conn.data or msg.data)\n" +
				"10-test.lua:4:15: conn has no field 'usr' (did you mean 'user'?)\n10-test.lua:4:22: unknown name 'fo'\n10-test.lua:4:37: discard takes 1 argument, and here are 2\n" +
				"10-test.lua:6:34: drop is not possible at 'connect', only at rcpt"},
		{"name behind the function", "on.mail(function() end, 'late')", `10-test.lua:1:1: on.mail: a name or options come before the function, and nothing behind it`},
		{"parameter that its stage does not give", "on.mail(function(msg, rcpt)\n  if rcpt.user == 'x' then return accept() end end)", `10-test.lua:2:6: rcpt is nil here: a rule of 'mail' gets (msg)`},
		{"method of such a parameter", "on.rcpt(function(conn, msg, rcpt)\n  rcpt:x() end)", `10-test.lua:2:3: rcpt is nil here: a rule of 'rcpt' gets (msg, rcpt)`},
		{"table compared", "on.rcpt(function(msg, rcpt) if msg.rcpts > 5 then return accept() end end)", `10-test.lua:1:36: rcpts is a table and cannot be compared with '>': #rcpts is how many it has`},
		{"boolean compared", "on.rcpt(function(msg, rcpt) if 1 < #msg.rcpts < 5 then return accept() end end)", `10-test.lua:1:1: this is true or false and cannot be compared with '<'`},
		{"table joined", "on.rcpt(function(msg, rcpt) log.info('to ' .. msg.rcpts) end)", `10-test.lua:1:51: rcpts is a table and cannot be joined with text: write table.concat(rcpts, ", ")`},
		{"boolean joined", "on.rcpt(function(msg, rcpt) log.info('is it? ' .. rcpt.postmaster) end)", `10-test.lua:1:56: postmaster is true or false and cannot be joined with text`},
		{"nil joined", "on.mail(function(msg) log.info('to ' .. nil) end)", `10-test.lua:1:1: this is nil and cannot be joined with text`},
		{"table calculated with", "on.rcpt(function(msg, rcpt) if msg.rcpts + 1 == 5 then return accept() end end)", `10-test.lua:1:36: rcpts is a table and cannot be calculated with: #rcpts is how many it has`},
		{"length of a number", "on.message(function(msg) if #msg.data > 1 or # 5 > 1 then return accept() end end)", `10-test.lua:1:1: '#' gives the length of text and of tables, and this is a number`},
		{"length of an object", "on.rcpt(function(msg, rcpt)\n  if #rcpt > 64 then return accept() end end)", `10-test.lua:2:7: '#' gives the length of text and of tables, and this is an object`},
		{"object in a text function", "on.rcpt(function(msg, rcpt) return string.find(rcpt, 'x') and accept() or nil end)", `10-test.lua:1:36: string.find: argument 1 is text, and here it is the object rcpt: write rcpt.address`},
		{"table in a text function", "on.rcpt(function(msg, rcpt) log.info(string.lower(msg.rcpts)) end)", `10-test.lua:1:38: string.lower: argument 1 is text, and here it is a table`},
		{"text in a table function", "on.mail(function(msg) log.info(table.concat(msg.from)) end)", `10-test.lua:1:32: table.concat: argument 1 is a table, and here it is text`},
		{"pairs of text", "on.mail(function(msg) for k, v in pairs(msg.from) do log.info(k) end end)", `10-test.lua:1:35: pairs: argument 1 is a table, and here it is text`},
		{"members misspelt in two files", "-- 10-a.lua --\nlog.inof('x')\n-- 20-b.lua --\nlog.inof('x')\nlog('x')",
			"10-a.lua:1:5: 'log' has no field 'inof' (did you mean 'info'?)\n20-b.lua:1:5: 'log' has no field 'inof' (did you mean 'info'?)\n20-b.lua:2:1: 'log' is a table of functions and cannot be called: write log.info(...)"},
		{"two files fail when they run", "-- 10-a.lua --\nlocal a = list('x.txt')\n-- 20-b.lua --\nlocal l = re('(')",
			"10-a.lua:1:11: list: there is no file \"x.txt\" in the policy directory\n20-b.lua:1:11: re: error parsing regexp: missing closing ): `(`"},
		{"code in quotes", "on.mail(function(msg) return reject('550', '5.7.1', 'x') end)", `10-test.lua:1:30: reject: the code is a number: write 550 without quotes`},
		{"status without quotes", "on.mail(function(msg) return reject(550, 5.7, 'x') end)", `10-test.lua:1:30: reject: the status is text, "5.7.1": reject([code,] [status,] text)`},
		{"at of a rcpt rule", "on.rcpt({at='RCPT'}, function() end)", `10-test.lua:1:1: on.rcpt: at is "rcpt", not "RCPT"`},
		{"at of a mail rule", "on.mail({at='data'}, function() end)", `10-test.lua:1:1: on.mail: at is "mail" or "rcpt", not "data"`},
		{"always true", "on.mail(function(msg)\n  if msg.from == 'a' or msg.from == 'b' or 'c' then return accept() end\nend)", `10-test.lua:2:22: this is always true: write the comparison again behind 'or', x == "c"`},
		{"not of a comparison", "on.mail(function(msg)\n  if not msg.from == 'a' then return accept() end\nend)", `10-test.lua:2:6: 'not' is done first, and true or false is never "a": write x ~= "a"`},
		{"text added", "on.mail(function(msg) local n = 5 return reject('wait ' + n) end)", `10-test.lua:1:57: '+' calculates, and "wait " is no number: text is joined with '..'`},
		{"a copy written", "on.rcpt(function(msg)\n  msg.rcpts[2] = 'a@b.example'\nend)", `10-test.lua:2:7: rcpts is a copy, and what is written into it is lost: use msg:add_rcpt, msg:remove_rcpt or msg:replace_rcpt`},
		{"a copy added to", "on.rcpt(function(msg)\n  table.insert(msg.rcpts, 'a@b.example')\nend)", `10-test.lua:2:20: rcpts is a copy, and`},
		{"no address", "on.data(function(msg) msg:add_rcpt('a@b.example, c@d.example') end)", `10-test.lua:1:27: add_rcpt: "a@b.example, c@d.example" is no address: more than one unquoted @`},
		{"no address to replace with", "on.rcpt(function(msg, rcpt) msg:replace_rcpt(rcpt, 'Bob <b@d.example>') end)", `10-test.lua:1:33: replace_rcpt: "Bob <b@d.example>" is no address: octet ' ' is not allowed here`},
		{"no sender", "on.mail(function(msg) msg:set_from('', { bounce = true }) end)", ``},
		{"a field's name with a colon", "on.message(function(msg) msg:set_header('Subject:', 'x') end)", `10-test.lua:1:30: set_header: "Subject:" is no name of a header field: write "Subject"`},
		{"a field's name with a blank", "on.headers(function(msg) return msg:header('X Y') and accept() or nil end)", `10-test.lua:1:37: header: "X Y" is no name of a header field`},
		{"no size yet", "on.rcpt(function(msg) if msg.size > 100 then return accept() end end)", `10-test.lua:1:30: msg.size is nil at 'rcpt', and this would be an error: write a message rule, or ask for what the client announced, tonumber(msg.params.SIZE or 0)`},
		{"no size yet, asked for", "on.rcpt(function(msg) if msg.size and msg.size > 100 then return accept() end end)", ``},
		{"a parameter is text", "on.mail(function(msg) if msg.params.SIZE > 100 then return accept() end end)", `10-test.lua:1:37: msg.params.SIZE is text or nil: write tonumber(msg.params.SIZE or 0)`},
		{"a parameter may be nil", "on.mail(function(msg) if tonumber(msg.params.SIZE) > 100 then return accept() end end)", `10-test.lua:1:26: msg.params.SIZE may be nil, and this would be an error then: write tonumber(msg.params.SIZE or 0)`},
		{"a parameter asked for", "on.mail(function(msg) if msg.params.SIZE and tonumber(msg.params.SIZE) > 100 then return accept() end end)", ``},
		{"re as a pattern", "local r = re('x')\non.mail(function(msg) if msg.from:match(r) then return accept() end end)", `10-test.lua:2:35: match: argument 1 is text, and here it is the object re: write re:test(...)`},
		{"field of conn", "on.mail(function(msg) if msg.ip == 'x' then return accept() end end)", `10-test.lua:1:30: msg has no field 'ip': write msg.conn.ip`},
		{"field of msg", "on.connect(function(conn) if conn.from == 'x' then return accept() end end)", `10-test.lua:1:35: conn has no field 'from': msg has it, which rules get from 'mail' on`},
		{"field of rcpt", "on.mail(function(msg) if msg.address == 'x' then return accept() end end)", `10-test.lua:1:30: msg has no field 'address': rcpt has it, the second argument of rcpt rules`},
		{"field by another word", "on.mail(function(msg) if msg.sender == 'x' then return accept() end end)", `10-test.lua:1:30: msg has no field 'sender' (did you mean 'from'?)`},
		{"msg where there is none", "on.connect(function(conn) if msg.from == 'x' then return accept() end end)", `10-test.lua:1:30: unknown name 'msg': rules get it as an argument, function(msg), from mail on`},
		{"log of a message only", "on.log(function(msg, outcome) log.info(msg.from) end)", `10-test.lua:1:44: msg.from is not there for a session without a message, which is told as well: begin with 'if not outcome then return end' in function(msg, outcome)`},
		{"log of an outcome only", "on.log(function(msg, outcome) log.info(outcome.action) end)", `10-test.lua:1:48: outcome.action is not there for a session without a message`},
		{"log that asks first", "on.log(function(msg, outcome)\n  if not outcome then return end\n  log.info(msg.from .. outcome.action)\nend)", ``},
		{"log of what both have", "on.log(function(about) log.info(about.id) end)", ``},
		{"domains in a file that is not there", "local d = domains('ours.txt')\non.mail(function() end)", `10-test.lua:1:11: domains: there is no file "ours.txt" in the policy directory`},
		{"domains and a file of them", "-- 10-test.lua --\nlocal d = domains('a.example', 'more')\non.mail(function() end)\n-- more --\nb.example\n", `10-test.lua:1:11: domains: "more" is a file of the policy directory: one file, or the domains one by one`},
		{"an author whose domain is asked for", "on.headers(function(msg) if msg.header_from_domain == 'x' then log.info(msg.header_from:lower()) end end)", ``},
		{"lines with a code", "on.mail(function(msg) return reject{550, '5.7.1', 'x'} end)", `10-test.lua:1:30: reject: a list is of lines of text, and code and status stand before it: reject([code,] [status,] text)`},
		{"iterator compared", "on.headers(function(msg)\n  if msg:headers('X') == 'y' then return accept() end\nend)", `10-test.lua:2:10: headers is for 'for h in msg:headers(...) do': write msg:header(...) for the first field of a name`},
		{"iterator as text", "on.headers(function(msg)\n  if msg:headers('X'):find('y') then return accept() end\nend)", `10-test.lua:2:10: headers is for`},
		{"null sender", "local l = ratelimit('l', '1/m')\non.mail(function(msg) if not l:take(msg.from) then return tempfail('x') end end)",
			`10-test.lua:2:41: msg.from is "" for bounces, and a limit refuses that as a key: use msg.sender_key`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, problems := Load(snapshot(tt.policy), Options{})
			if (p == nil) != lua.Refuses(problems) {
				t.Errorf("policy %v with problems\n%s", p, problemLines(problems))
			}
			got := problemLines(problems)
			if tt.want == "" && got != "" || tt.want != "" && !strings.HasPrefix(got, tt.want) && !strings.Contains(got, tt.want) {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

// However many warnings a file has, it is taken; and they do not hide what refuses it.
func TestManyProblems(t *testing.T) {
	warnings := strings.Repeat("  if msg.from > '5' then return accept() end\n", 60)
	p, problems := Load(snapshot("on.mail(function(msg)\n"+warnings+"end)"), Options{})
	if last := len(problems) - 1; p == nil || last != 50 || problems[last].Error() != "10-test.lua:51:15: 10 more problems in this file" {
		t.Errorf("policy %v with\n%s", p, problemLines(problems))
	}
	p, problems = Load(snapshot("on.mail(function(msg)\n"+warnings+"  fo()\nend)"), Options{})
	if last := len(problems) - 1; p != nil || last != 50 || !strings.Contains(problemLines(problems), "unknown name 'fo'") || problems[last].Warning {
		t.Errorf("policy %v with\n%s", p, problemLines(problems))
	}
}

// The line comes with the problem.
func TestProblemHasItsLine(t *testing.T) {
	_, problems := Load(snapshot("local zone = 'x'\nlocal l = list('no.txt')\n"), Options{AllowEmpty: true})
	if len(problems) != 1 || problems[0].Source != "local l = list('no.txt')" || problems[0].Line != 2 {
		t.Errorf("%+v", problems)
	}
}

func TestFiles(t *testing.T) {
	p := load_(t, `
-- 20-second.lua --
on.mail(function(msg) msg.data.order = (msg.data.order or "") .. "2" end)
-- 10-first.lua --
local m = require("words")
on.mail(function(msg) msg.data.order = (msg.data.order or "") .. m.one end)
-- 10-first_test.lua --
this is no Lua
-- .#10-first.lua --
nor this
-- 30-backup.lua~ --
nor this
-- #30-backup.lua# --
nor this
-- sub/40-below.lua --
nor this
-- types/moongate.lua --
nor this
-- lib/words.lua --
return { one = "1" }
-- notes.txt --
not Lua
`, Options{})
	if got := strings.Join(p.Files, " "); got != "10-first.lua 20-second.lua" {
		t.Errorf("files: %s", got)
	}
	if len(p.Tests) != 1 || p.Tests[0].Name != "10-first_test.lua" {
		t.Errorf("tests: %v", p.Tests)
	}
	var rules []string
	for _, r := range p.Rules.All() {
		rules = append(rules, r.String())
	}
	if got := strings.Join(rules, " "); got != "10-first.lua:2 20-second.lua:1" {
		t.Errorf("rules: %s", got)
	}
}

func TestRuleOptions(t *testing.T) {
	p := load_(t, `
on.connect({ name = "early", at = "connect" }, function(conn) end)
on.helo(function(conn) end)
on.rcpt("named", function(msg, rcpt) end)
on.message({ on_error = "accept", timeout = "30s", mode = "shadow" }, function(msg)
end)
`, Options{DelayReject: true})
	want := []policy.Rule{
		{Name: "early", Line: 2, Hook: policy.Connect, At: policy.Connect, OnError: policy.Tempfail},
		{Name: "10-test.lua:3", Line: 3, Hook: policy.Helo, At: policy.Rcpt, OnError: policy.Tempfail},
		{Name: "named", Line: 4, Hook: policy.Rcpt, At: policy.Rcpt, OnError: policy.Tempfail},
		{Name: "10-test.lua:5", Line: 5, Hook: policy.Message, At: policy.Message, OnError: policy.Accept, Timeout: 30e9, Shadow: true},
	}
	all := p.Rules.All()
	if len(all) != len(want) {
		t.Fatalf("%d rules", len(all))
	}
	for i, r := range all {
		got := *r
		got.Evaluator = nil
		want[i].File = "10-test.lua"
		if got != want[i] {
			t.Errorf("rule %d:\n%+v\n%+v", i, got, want[i])
		}
	}
}

func TestFacesAreTold(t *testing.T) {
	text := "on.auth(function(conn, attempt) end)\non.vrfy(function(conn, line) end)\non.rcpt(function(msg, rcpt) end)"
	if p, ps := Load(snapshot(text), Options{Faces: []*policy.Face{policy.SMTP}}); p == nil {
		t.Errorf("at the SMTP door: %s", problemLines(ps))
	}
	p, ps := Load(snapshot(text), Options{Faces: []*policy.Face{policy.SMTP, policy.Milter}})
	if want := "10-test.lua:1:1: on.auth is not asked yet: AUTH is not supported yet\n10-test.lua:1:1: on.auth is never asked by a milter\n10-test.lua:2:1: on.vrfy is never asked by a milter"; p != nil || problemLines(ps) != want {
		t.Errorf("%s", problemLines(ps))
	}
}

// What may be nil and is tested somewhere is its author's business.
func TestGuardedNils(t *testing.T) {
	p, ps := Load(snapshot(`
local dyn = re("dyn")
on.rcpt(function(msg, rcpt)
  local conn = msg.conn
  if conn.ptr and conn.ptr:find("dyn") then return accept() end
  if conn.user ~= nil then log.info("user " .. conn.user) end
  for _, name in ipairs({ "from", "id" }) do log.info(msg[name]) end
  local from = msg.header_from
  if not from then return reject("no From") end
  log.info("From " .. msg.header_from_domain)
  if dyn:test(conn.ptr) or conn.ip:find(":") then log.info(conn.ip .. conn.helo) end
end)
on.message(function(msg)
  local subject = msg.subject or ""
  msg:set_header("Subject", "[x] " .. subject)
  if msg:header("X-A") == nil then return end
  log.info("a " .. msg:header("x-a") .. (msg:header("X-B") or "none"))
end)`), Options{})
	if p == nil || len(ps) > 0 {
		t.Errorf("%s", problemLines(ps))
	}
}

// What may be right is not refused: a parameter of a function that serves several stages, operands that know what to do.
func TestOperandsThatFit(t *testing.T) {
	p, ps := Load(snapshot(`
local function any(msg, rcpt)
  if rcpt and rcpt.user == "x" then return accept() end
end
on.mail(any)
on.rcpt(any)
on.log(function(about, outcome) if outcome then log.info(outcome.action) end end)
on.unknown(function(conn, line) log.info(line:upper()) end)
on.rcpt(function(msg, rcpt)
  local n = { conn = 1, string = 2 }
  local string = setmetatable({}, { __lt = function() return true end, __concat = function() return "x" end, __add = function() return 1 end })
  if #msg.rcpts > 5 or #msg.from > 64 or string < string or msg.data.n == nil then log.info(string .. string) end
  log.info("n " .. n.conn + n.string .. #msg.rcpts .. (-1) .. table.concat(msg.rcpts, ", ") .. tostring(rcpt.postmaster))
  for k, v in pairs(msg.params) do log.info(k .. v) end
end)
`), Options{})
	if p == nil || len(ps) > 0 {
		t.Errorf("%s", problemLines(ps))
	}
}

func TestUnknownFacts(t *testing.T) {
	p, ps := Load(snapshot("on.rcpt(function(msg, rcpt)\n  if msg.conn.user then return accept() end\n  if msg.conn.ip == 'x' then return accept() end\nend)"),
		Options{Unknown: map[string]string{"conn.user": "here: the proxy does not tell"}})
	if want := "10-test.lua:2:15: conn.user is always nil here: the proxy does not tell"; p == nil || problemLines(ps) != want || !ps[0].Warning {
		t.Errorf("policy %v: %s", p, problemLines(ps))
	}
	for _, tc := range []struct {
		rule string
		note bool // the rule goes on as it is meant where there is no user
	}{
		{"if msg.conn.user then return accept() end", true},
		{"if msg.conn.user or msg.from == '' then return accept() end", true},
		{"if not msg.conn.user and msg.from == '' then return reject('no') end", true},
		{"if msg.conn.user ~= nil then return accept() end", true},
		{"if msg.conn.user == nil and msg.from == '' then return reject('no') end", true},
		{"local user = msg.conn.user if user then return accept() end", true},
		{"return msg.conn.user and accept() or nil", true},
		{"if not msg.conn.user then return reject('log in') end", false},
		{"if not msg.conn.user or msg.from == '' then return reject('log in') end", false},
		{"if msg.conn.user == nil then return reject('log in') end", false},
		{"if msg.conn.user == 'x' then return accept() end", false},
		{"if msg.conn.user ~= 'x' then return reject('no') end", false},
		{"if msg.conn.user then log.info('u') end return reject(msg.conn.user)", false},
	} {
		p, ps := Load(snapshot("on.rcpt(function(msg, rcpt) "+tc.rule+" end)"), Options{Unknown: map[string]string{"conn.user": "no"}})
		told := slices.DeleteFunc(ps, func(p lua.Problem) bool { return !strings.Contains(p.Text, "always nil") })
		if p == nil || len(told) != 1 || told[0].Note != tc.note {
			t.Errorf("%s: %+v, want a note: %v", tc.rule, told, tc.note)
		}
	}
}

// A name that is no filter's leaves none out: it is told where the filters are
// known.
func TestSkipsNoFilter(t *testing.T) {
	snap := snapshot("on.mail(function(msg)\n  msg:skip_filter('av')\n  msg:skip_filter('va')\n  msg:skip_filter(msg.from)\nend)")
	for _, tc := range []struct {
		filters []string
		want    string
	}{
		{nil, ""},
		{[]string{"av", "rspamd"}, "10-test.lua:3:7: there is no [[filter]] \"va\" to leave out"},
		{[]string{"va"}, "10-test.lua:2:7: there is no [[filter]] \"av\" to leave out"},
	} {
		o := Options{Filters: tc.filters}
		if o = o.with(o.settings()); !slices.Equal(o.Filters, tc.filters) {
			t.Errorf("%q became %q", tc.filters, o.Filters)
		}
		p, ps := Load(snap, o)
		if p == nil || problemLines(ps) != tc.want || len(ps) > 0 && !ps[0].Warning {
			t.Errorf("%q: policy %v: %s", tc.filters, p, problemLines(ps))
		}
	}
	if p, ps := Load(snapshot("on.rcpt(function(msg)\n  msg:skip_filter('av')\nend)"), Options{}); p != nil ||
		problemLines(ps) != "10-test.lua:2:7: msg:skip_filter is not possible at 'rcpt', only at mail" {
		t.Errorf("at rcpt: %s", problemLines(ps))
	}
	if _, ps := Load(snap, Options{Filters: []string{}}); len(ps) != 2 {
		t.Errorf("without a filter: %s", problemLines(ps))
	}
}

func TestUnreadable(t *testing.T) {
	snap := snapshot("-- 10-a.lua --\non.mail(function() end)\n-- 20-b.lua --\n")
	snap.Files[1].Data, snap.Files[1].Err = nil, watch.ErrNotRegular
	p, ps := Load(snap, Options{})
	if p != nil || problemLines(ps) != "20-b.lua: not a regular file" {
		t.Errorf("%v, %s", p, problemLines(ps))
	}
	if p, ps := Load(watch.Snapshot{Dir: "d", Err: watch.ErrTooMany}, Options{AllowEmpty: true}); p != nil || len(ps) != 1 {
		t.Errorf("%v, %s", p, problemLines(ps))
	}
	if p, ps := Load(watch.Snapshot{Dir: "d"}, Options{AllowEmpty: true}); p == nil {
		t.Errorf("an empty directory that may be empty: %s", problemLines(ps))
	}
	if p, ps := Load(snapshot("-- 10-a.lua --\n-- 20-b.lua --\non.mail(function() end)\n"), Options{AllowEmpty: true}); p == nil {
		t.Errorf("an empty file that may be empty: %s", problemLines(ps))
	}
}

func TestVersion(t *testing.T) {
	a := Version(snapshot("-- 10-a.lua --\nx\n-- list.txt --\n1\n-- 10_test.lua --\n1"))
	for text, same := range map[string]bool{
		"-- 10-a.lua --\nx\n-- list.txt --\n2\n":  true,
		"-- 10-a.lua --\nx\n-- .10-a.lua --\n2\n": true,
		"-- 10-a.lua --\nx2\n-- list.txt --\n1\n": false,
		"-- 10-a.lua --\nx\n-- lib/m.lua --\n2\n": false,
		"-- 10-b.lua --\nx\n":                     false,
	} {
		if got := Version(snapshot(text)) == a; got != same {
			t.Errorf("%q: same %v", text, got)
		}
	}
}
