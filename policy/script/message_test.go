package script

import (
	"errors"
	"strings"
	"testing"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/message"
	"github.com/moongate/moongate/policy/policytest"
)

const mailText = `Received: from a ([10.1.2.3]) by b
Received: from c ([IPv6:2001:db8::1]) by a
From: "Bob B." <Bob@Example.COM>
To: x@y.example
Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=
X-Long: one
 two
X-Mailer: M

Hello
`

// out is the header as it goes on.
func (c *client) out() string {
	return strings.ReplaceAll(string(c.Tx.Header().Append(nil)), "\r\n", "\n")
}

func (c *client) edits() string {
	var s []string
	for _, e := range c.Tx.Edits {
		s = append(s, e.String())
	}
	return strings.Join(s, "; ")
}

// judge runs one message through a policy.
func judge(t *testing.T, lua string) (*client, policy.Verdict) {
	t.Helper()
	c := connect(t, lua)
	c.mail("bob@example.com")
	c.rcpt("x@y.example")
	c.rcpt("z@y.example")
	return c, c.message(mailText)
}

func TestHeaderReads(t *testing.T) {
	c, v := judge(t, `on.message(function(msg)
  local all = {}
  for h in msg:headers("received") do all[#all + 1] = h.name .. "|" .. h.value .. "|" .. #h.raw end
  return reject({ msg:header("x-long"), tostring(msg:header("nothing")), msg:header("subject"), tostring(msg.subject == "Gr\195\188\195\159e"),
    msg.header_from, msg.header_from_domain, tostring(msg.header_from_count), tostring(msg.size), table.concat(all, ";"), table.concat(msg.rcpts, " ") })
end)`)
	want := strings.Join([]string{"550-5.7.1 one two", "550-5.7.1 nil", "550-5.7.1 =?utf-8?q?Gr=C3=BC=C3=9Fe?=", "550-5.7.1 true",
		"550-5.7.1 Bob@example.com", "550-5.7.1 example.com", "550-5.7.1 1", "550-5.7.1 210",
		"550-5.7.1 Received|from a ([10.1.2.3]) by b|36;Received|from c ([IPv6:2001:db8::1]) by a|44",
		"550 5.7.1 x@y.example z@y.example"}, " / ")
	c.is(v, want)
}

func TestHeaderFrom(t *testing.T) {
	for from, want := range map[string]string{
		"From: bob@example.com\n":                       "bob@example.com 1",
		"From: bob@example.com, al@example.com\n":       "nil 1",
		"From: bob@example.com\nFrom: al@example.com\n": "nil 2",
		"X: y\n":      "nil 0",
		"From: joe\n": "nil 1",
		"From: =?koi8-r?q?=C1?= <bob@example.com>\n":            "bob@example.com 1",
		"From: \"bob@evil.example\" <al@example.com>\n":         "al@example.com 1",
		"From: <\"a b\"@example.com>\n":                         "\"a b\"@example.com 1",
		"From: \xff\xfe <bob@example.com>\n":                    "bob@example.com 1",
		"From: undisclosed:;\n":                                 "nil 1",
		"From: bob@example.com (a comment <al@evil.example>)\n": "bob@example.com 1",
		"From: bob@example.com <al@evil.example>\n":             "nil 1",
		"From: group: bob@example.com;\n":                       "bob@example.com 1",
		"from: \n bob@example.com\n":                            "bob@example.com 1",
		"From: bob@b\xc3\xbccher.example\n":                     "bob@xn--bcher-kva.example 1",
	} {
		c := connect(t, `on.headers(function(msg) return reject(tostring(msg.header_from) .. " " .. msg.header_from_count) end)`)
		c.mail("a@b.example")
		if got := say(c.message(from + "\nbody\n")); got != "550 5.7.1 "+want {
			t.Errorf("%q: %s, want %s", from, got, want)
		}
	}
}

func TestHeaderEdits(t *testing.T) {
	tests := []struct{ lua, want, edits string }{
		{`msg:set_header("subject", "[SPAM] " .. msg:header("Subject"))`, "Subject: [SPAM] =?utf-8?q?Gr=C3=BC=C3=9Fe?=\n", "change_header subject[1] by 10-test.lua:1"},
		{`msg:set_header("X-New", "v")`, "X-Mailer: M\nX-New: v\n", "add_header X-New by 10-test.lua:1"},
		{`msg:set_header("Received", "one")`, "Received: one\nFrom:", "remove_header Received[2] by 10-test.lua:1; change_header Received[1] by 10-test.lua:1"},
		{`msg:insert_header("X-Top", "v")`, "X-Top: v\nReceived: from a", "insert_header X-Top[0] by 10-test.lua:1"},
		{`msg:insert_header("X-Two", "v", 1)`, "by b\nX-Two: v\nReceived: from c", "insert_header X-Two[1] by 10-test.lua:1"},
		{`if msg:remove_header("received") ~= 2 then error("count") end`, "From: \"Bob", "remove_header received[1-2] by 10-test.lua:1"},
		{`msg:remove_header("Received", 1)`, "Received: from c", "remove_header Received[1] by 10-test.lua:1"},
		{`msg:remove_header("Received", 3)`, "Received: from a", ""},
		{`msg:remove_header("Received", function(v) return inside:found_in(v) end)`, "Received: from c", "remove_header Received[1] by 10-test.lua:1"},
		{`for h in msg:headers() do if h.name == "X-Mailer" then h:remove() elseif h.name == "To" then h:set("nobody") end end`, "To: nobody\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\nX-Long: one\n two\n", "change_header To[1] by 10-test.lua:1; remove_header X-Mailer[1] by 10-test.lua:1"},
		{`for h in msg:headers("received") do
			if h.value:find("from a") then h:remove() end
			if h.value:find("from c") then h:set("CCC") h:set("DDD " .. h.value) end
		end`, "Received: DDD CCC\nFrom", "remove_header Received[1] by 10-test.lua:1; change_header Received[1] by 10-test.lua:1; change_header Received[1] by 10-test.lua:1"},
		{`msg:add_header("X", "Gr\195\188\195\159e an alle")`, "X: =?utf-8?q?Gr=C3=BC=C3=9Fe?= an alle\n", "add_header X by 10-test.lua:1"},
		{`msg:add_header("Reply-To", "Gr\195\188n <a@b.example>")`, "Reply-To: =?utf-8?q?Gr=C3=BCn?= <a@b.example>\n", "add_header Reply-To by 10-test.lua:1"},
		{`msg:add_header("X", "\255 a")`, "X: =?unknown-8bit?q?=FF?= a\n", "add_header X by 10-test.lua:1"},
		{`msg:add_header("X", string.rep("word ", 30) .. "end")`, "X: " + strings.Repeat("word ", 14) + "word\n" + strings.Repeat(" word", 15) + "\n end\n", "add_header X by 10-test.lua:1"},
		{`msg:add_header("X", "")`, "X: \n", "add_header X by 10-test.lua:1"},
		{`msg:add_header("X", 5)`, "X: 5\n", "add_header X by 10-test.lua:1"},
	}
	for _, tt := range tests {
		t.Run(tt.lua, func(t *testing.T) {
			c, v := judge(t, `local inside = ipset("10.0.0.0/8") on.headers(function(msg) `+tt.lua+` end)`)
			c.is(v, "continue")
			if !strings.Contains(c.out(), tt.want) {
				t.Errorf("header\n%s\nwant\n%s", c.out(), tt.want)
			}
			if c.edits() != tt.edits {
				t.Errorf("edits\n%s\nwant\n%s", c.edits(), tt.edits)
			}
		})
	}
}

// What would break the wire never leaves the script, and nothing of the rule's
// edits before it is lost or done twice. What stands in quotes is refused when it
// is loaded: tostring hides it.
func TestEditsRefused(t *testing.T) {
	for lua, why := range map[string]string{
		`msg:add_header("X", "a\r\nBcc: b@c")`:           `add_header: the value of X holds the control character '\r'`,
		`msg:add_header("X", "a\nb")`:                    `add_header: the value of X holds the control character '\n'`,
		`msg:set_header("X", "a\0b")`:                    `set_header: the value of X holds the control character '\x00'`,
		`msg:add_header(tostring("X:"), "a")`:            `add_header: a header name is printable ASCII without blank and colon (RFC 5322 2.2)`,
		`msg:add_header(tostring("X\r\nBcc"), "a")`:      `add_header: a header name is printable ASCII without blank and colon (RFC 5322 2.2)`,
		`msg:add_header(tostring(""), "a")`:              `add_header: a header name is printable ASCII without blank and colon (RFC 5322 2.2)`,
		`msg:add_header("X", string.rep("x", 999))`:      `add_header: a header line is longer than 998 octets (RFC 5322 2.1.1)`,
		`msg:add_header(unpack({"X"}))`:                  `add_header: argument 2 is missing or nil`,
		`local v = {} msg:add_header("X", v)`:            `add_header: argument 2 is text, and here it is a table`,
		`msg:set_from(tostring("a b@c.example"))`:        `set_from: "a b@c.example" is no address: octet ' ' is not allowed here`,
		`msg:set_from(tostring("x@y>\r\nRCPT TO:<z@w"))`: `set_from: "x@y>\r\nRCPT TO:<z@w" is no address: more than one unquoted @`,
		`msg:set_from("")`:                               `set_from on or to the null sender needs {bounce=true}: bounces of bounces are mail loops`,
		`msg:set_from(tostring("j\195\188@x.example"))`:  `set_from: "jü@x.example" is no address: octet 'Ã' is not allowed here`,
		`msg:add_rcpt(tostring(""))`:                     `add_rcpt: empty address`,
		`msg:add_rcpt("a@b", {notify="X"})`:              `add_rcpt: notify is NEVER, or of SUCCESS, FAILURE, DELAY with commas (RFC 3461 4.1)`,
		`msg:replace_rcpt("x@y.example", "a")
		 msg:replace_rcpt("a", tostring("a@b@c"))`: `replace_rcpt: "a@b@c" is no address: more than one unquoted @`,
		`local h for x in msg:headers("To") do h = x end h:remove() h:set("x")`: `this header field was removed or changed`,
	} {
		c, v := judge(t, "on.headers(function(msg) "+lua+" end)")
		c.is(v, failed)
		if !strings.Contains(c.why(), why) {
			t.Errorf("%s\n%s\nwant\n%s", lua, c.why(), why)
		}
		if strings.Contains(c.out(), "Bcc") {
			t.Errorf("%s reached the header:\n%s", lua, c.out())
		}
	}
}

func TestEnvelopeEdits(t *testing.T) {
	c, v := judge(t, `
on.mail(function(msg) msg:set_from("boss@example.com") if msg.from ~= "boss@example.com" then error(msg.from) end end)
on.rcpt(function(msg, rcpt)
  if rcpt.user == "z" then
    if not msg:replace_rcpt(rcpt, "Zed@Other.example") then error("not replaced") end
    if rcpt.address ~= "Zed@other.example" then error(rcpt.address) end
  end
end)
on.headers(function(msg)
  msg:add_rcpt("archive@example.com", { optional = true })
  if msg:remove_rcpt("nobody@y.example") then error("removed nobody") end
  if not msg:remove_rcpt("X@Y.example") then error("not removed") end
  return reject(table.concat(msg.rcpts, " "))
end)`)
	c.is(v, "550 5.7.1 Zed@other.example archive@example.com")
	if got := c.edits(); got != "set_from <bob@example.com> <boss@example.com> by 10-test.lua:2; replace_rcpt <z@y.example> <Zed@other.example> by 10-test.lua:3; add_rcpt <archive@example.com> by 10-test.lua:9; remove_rcpt <x@y.example> by 10-test.lua:9" {
		t.Errorf("edits: %s", got)
	}
	added := c.Tx.Rcpts[2]
	if !added.Optional || !added.Added || added.Params[0].Raw != "NOTIFY=NEVER" {
		t.Errorf("added: %+v", added)
	}

	c = connect(t, `on.mail(function(msg) msg:set_from("", { bounce = true }) end)`)
	c.is(c.mail("a@b.example"), "continue")
	if c.Tx.Out.From.Raw != "<>" || c.Tx.In.From.Address != "a@b.example" {
		t.Errorf("%+v", c.Tx.Out.From)
	}
	// A client may name one more often than once: all are meant, in any spelling.
	c = connect(t, `
on.rcpt(function(msg, rcpt) if rcpt.user:lower() == "last" then msg:replace_rcpt("LAST@y.example", "new@y.example") end end)
on.headers(function(msg)
  if not msg:remove_rcpt('"Gone"@Y.example.') then error("not removed") end
  if not msg:replace_rcpt("old@y.example", "new@y.example") then error("not replaced") end
  if msg:remove_rcpt("no address") or msg:replace_rcpt("old@y.example", "new@y.example") then error("found") end
  return reject(table.concat(msg.rcpts, " "))
end)`)
	c.mail("a@b.example")
	for _, a := range []string{"gone@y.example", "old@y.example", "@r.example:gone@y.example", `"old"@y.example`, "x@y.example", "GONE@Y.example.", "OLD@y.example", "last@y.example", "Last@y.example"} {
		c.is(c.rcpt(a), "continue")
	}
	c.is(c.message(mailText), "550 5.7.1 new@y.example new@y.example x@y.example new@y.example new@y.example new@y.example")

	c = connect(t, `on.rcpt(function(msg, rcpt) msg:remove_rcpt(rcpt.address) end)`)
	c.mail("a@b.example")
	c.is(c.rcpt("c@d.example"), failed)
	if !strings.Contains(c.why(), "is under judgement: 'return drop()'") {
		t.Error(c.why())
	}
}

// With SMTPUTF8 nothing is encoded.
func TestSMTPUTF8(t *testing.T) {
	c := connect(t, `on.headers(function(msg) msg:add_header("X", "Gr\195\188n") msg:set_from("j\195\188@x.example") end)`)
	c.Begin(policytest.Path(t, "a@b.example"), []policy.Param{{Key: "SMTPUTF8", Raw: "SMTPUTF8"}})
	c.is(c.message(mailText), "continue")
	if !strings.Contains(c.out(), "X: Grün\n") || c.Tx.Out.From.Address != "jü@x.example" {
		t.Errorf("%s\n%+v", c.out(), c.Tx.Out.From)
	}
}

// A stranger's message has as many fields as may come in: what a rule does with
// one name is few edits, and each look at a field is paid for.
func TestManyFields(t *testing.T) {
	text := "From: a@b.example\n" + strings.Repeat("X-Spam:\nx-other: b\n", message.MaxFields/2-1) + "\nbody\n"
	const spent = "script used up its instruction budget"
	for _, tt := range []struct {
		lua   string
		left  int // fields
		edits string
		why   string
	}{
		{lua: `if msg:remove_header("x-spam") ~= 4999 then error("count") end`, left: 5000, edits: "remove_header x-spam[1-4999] by 10-test.lua:1"},
		{lua: `msg:set_header("X-Spam", "no")`, left: 5001,
			edits: "remove_header X-Spam[2-4999] by 10-test.lua:1; change_header X-Spam[1] by 10-test.lua:1"},
		{lua: `msg:remove_header("x-spam", function() return true end)`, left: 5000, edits: "remove_header x-spam[1-4999] by 10-test.lua:1"},
		{lua: `local n = 0 msg:remove_header("x-spam", function() n = n + 1 msg:remove_header("x-spam", 1) return n > 4990 end)`, why: spent},
		{lua: `local n = 0 for h in msg:headers() do if h.value == "b" then n = n + 1 end end if n ~= 4999 then error(n) end`, left: 9999},
		{lua: `for h in msg:headers() do h:remove() end`, why: spent},
		{lua: `while msg:remove_header("x-spam", 1) > 0 do end`, why: spent},
		{lua: `while true do msg:header("none") end`, why: spent},
	} {
		c := connect(t, `on.headers(function(msg) `+tt.lua+` end)`)
		c.mail("bob@example.com")
		v := c.message(text)
		if tt.why != "" {
			if c.is(v, failed); !strings.Contains(c.why(), tt.why) {
				t.Errorf("%s\n%s", tt.lua, c.why())
			}
			if lines := policy.EditLines(c.Tx.Edits); len(lines) > 110 {
				t.Errorf("%s: %d edits are told", tt.lua, len(lines))
			}
			continue
		}
		if c.is(v, "continue"); c.Tx.Header().Len() != tt.left || c.edits() != tt.edits {
			t.Errorf("%s\n%d fields, edits %.300s", tt.lua, c.Tx.Header().Len(), c.edits())
		}
	}
}

// A predicate that changes the header itself has those removed for which it says
// true, whatever their number is by then.
func TestPredicateThatEdits(t *testing.T) {
	c, v := judge(t, `on.headers(function(msg)
  local n = msg:remove_header("Received", function(v)
    msg:insert_header("Received", "new")
    return v:find("from c") ~= nil
  end)
  if n ~= 1 then error(n) end
end)`)
	c.is(v, "continue")
	if out := c.out(); !strings.HasPrefix(out, "Received: new\nReceived: new\nReceived: from a ([10.1.2.3]) by b\nFrom") {
		t.Error(out)
	}
}

// The decoder of header text reads what is behind a word that does not end once
// more for each; a domain of a stranger has as many labels as he likes.
func TestLongTexts(t *testing.T) {
	long := strings.Repeat("=?a?b?", 150_000) + "?="
	if got := decode(long); got != long {
		t.Errorf("%.80s", got)
	}
	long = "=?utf-8?q?=C3=BC?= " + strings.Repeat("x ", 20_000) + "=?utf-8?q?=C3=BC?="
	if got := decode(long); !strings.HasPrefix(got, "ü x ") || !strings.HasSuffix(got, "x =?utf-8?q?=C3=BC?=") {
		t.Errorf("%.80s", got)
	}
	set := domainEntries{"example.com": {}, strings.Repeat("a.", 127) + "b": {}}
	for word, want := range map[string]bool{
		strings.Repeat("a.", 500_000) + "example.com": true,
		strings.Repeat("a.", 500_000) + "example.org": false,
		strings.Repeat("a.", 1000) + "b":              true,
		strings.Repeat("a", 1000) + ".example.com":    true,
		strings.Repeat("a", 1000):                     false,
		strings.Repeat("a", 245) + "xexample.com":     false,
		"A@Example.com.":                              true,
		strings.Repeat("a.", 127) + "b":               true,
		"":                                            false,
	} {
		if set.has(word) != want {
			t.Errorf("%.40q of %d octets: %v", word, len(word), !want)
		}
	}
}

// A header edit before the header is here is applied when it comes.
func TestEarlyHeaders(t *testing.T) {
	c, v := judge(t, `on.mail(function(msg) msg:add_header("X-Last", "1") msg:insert_header("X-First", "1") end)`)
	c.is(v, "continue")
	if out := c.out(); !strings.HasPrefix(out, "X-First: 1\nReceived") || !strings.HasSuffix(out, "X-Last: 1\n") {
		t.Error(out)
	}
}

func FuzzFieldBody(f *testing.F) {
	f.Add("Subject", "Grüße an alle", false)
	f.Add("From", "Jürgen <a@b.example>", false)
	f.Add("X", strings.Repeat("a ", 2000), true)
	f.Fuzz(func(t *testing.T, name, value string, utf8ok bool) {
		body, err := fieldBody(name, value, utf8ok)
		if err != nil {
			return
		}
		if !utf8ok && !ascii(body) {
			t.Fatalf("%q leaves 8-bit octets: %q", value, body)
		}
		for line := range strings.SplitSeq(body, "\r\n") {
			if strings.ContainsAny(line, "\r\n\x00") {
				t.Fatalf("%q: %q", value, body)
			}
			if line == "" || line[0] != ' ' && line[0] != '\t' {
				t.Fatalf("%q has a line without a leading blank: %q", value, body)
			}
		}
		if ascii(value) && strings.TrimPrefix(strings.ReplaceAll(body, "\r\n", ""), " ") != value {
			t.Fatalf("%q is unfolded as %q", value, body)
		}
	})
}

func TestBody(t *testing.T) {
	tests := []struct{ lua, want, body string }{
		{`local text, cut = msg:body() return reject(json.encode(text) .. tostring(cut))`, `550 5.7.1 "Hello\r\n"false`, ""},
		{`local text, cut = msg:body(3) return reject(text .. tostring(cut))`, `550 5.7.1 Heltrue`, ""},
		{`msg:replace_body("a\nb\r\nc\rd") return reject(json.encode((msg:body())))`, `550 5.7.1 "a\r\nb\r\nc\r\nd\r\n"`, "a\r\nb\r\nc\r\nd\r\n"},
		{`msg:replace_body("") return reject(json.encode((msg:body())))`, `550 5.7.1 ""`, ""},
		{`msg:replace_body((msg:body():gsub("Hello", "Bye")))`, `continue`, "Bye\r\n"},
		{`msg:replace_body("Gr\195\188n")`, failed, ""},
		{`msg:body(0)`, failed, ""},
		{`local v msg:replace_body(v)`, failed, ""},
	}
	for _, tt := range tests {
		c, v := judge(t, "on.message(function(msg) "+tt.lua+" end)")
		c.is(v, tt.want)
		if body, _ := c.Tx.Body(); string(body) != tt.body {
			t.Errorf("%s: body %q", tt.lua, body)
		}
	}
	for params, want := range map[string]string{"8BITMIME": "continue", "BINARYMIME": failed, "7BIT": failed} {
		c := connect(t, `on.message(function(msg) msg:replace_body("\195\188") end)`)
		c.Begin(policytest.Path(t, "a@b.example"), []policy.Param{{Key: "BODY", Value: params}})
		c.is(c.message(mailText), want)
	}
	c := connect(t, `on.message(function(msg) msg:replace_body("\195\188") end)`)
	c.mail("a@b.example")
	c.is(c.message(mailText+"caf\xe9\n"), "continue") // sloppy, and no worse than before
}

func TestFilters(t *testing.T) {
	c := connect(t, `on.message(function(msg)
  local out = {}
  for _, name in ipairs({ "rspamd", "clamav", "other" }) do
    local f = msg.filters[name]
    out[#out + 1] = f and table.concat({ f.name, f.verdict, tostring(f.code), tostring(f.reply), tostring(f.error) }, "|") or "nil"
  end
  return reject(out)
end)`)
	c.mail("a@b.example")
	c.Tx.Filters = []policy.FilterResult{
		{Name: "rspamd", Verdict: policytest.Reject("spam")},
		{Name: "clamav", Verdict: policytest.Tempfail("x"), Err: errors.New("dial: refused")},
	}
	c.is(c.message(mailText), "550-5.7.1 rspamd|reject|550|550 5.7.1 spam|nil / 550-5.7.1 clamav|tempfail|451|451 4.7.1 x|dial: refused / 550 5.7.1 nil")
}

// A rule at mail leaves a filter out of the message; later it is too late.
func TestSkipFilter(t *testing.T) {
	c := connect(t, `on.mail(function(msg) if msg.from_domain == "b.example" then msg:skip_filter("rspamd") end end)
local function late(m) m:skip_filter("clamav") end
on.rcpt(function(msg, rcpt) late(msg) end)`)
	c.is(c.mail("a@b.example"), "continue")
	if got := strings.Join(c.Tx.Skip, " "); got != "rspamd" {
		t.Errorf("left out: %q", got)
	}
	c.is(c.rcpt("u@x.example"), failed)
	if got := strings.Join(c.Tx.Skip, " "); got != "rspamd" {
		t.Errorf("left out: %q", got)
	}
}
