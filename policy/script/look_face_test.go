package script

import (
	"testing"
	"time"

	"github.com/moongate/moongate/policy"
)

// What a face cannot do although its table has it is told when a policy is
// loaded: with the line of the script, and what it comes to.
func TestToldForFaces(t *testing.T) {
	smtp, milter, both := []*policy.Face{policy.SMTP}, []*policy.Face{policy.Milter}, []*policy.Face{policy.SMTP, policy.Milter}
	var longest [policy.NumAsked]Longest
	longest[policy.Message] = Longest{22500 * time.Millisecond, "at `listener[0]`"}
	const noDrawer = "quarantine needs a [quarantine] path: without it the SMTP door can only ask for each such message again (451)"
	for _, tc := range []struct {
		name, policy string
		o            Options
		want         string
		refused      bool
	}{
		{"a drawer", "on.mail(function(msg)\n  return quarantine('odd')\nend)", Options{}, "", false},
		{"no drawer", "on.mail(function(msg)\n  return quarantine('odd')\nend)", Options{NoDrawer: true}, "10-test.lua:2:10: " + noDrawer, true},
		{"no drawer, perhaps unused", "local function odd() return quarantine('odd') end\non.mail(function(msg) end)", Options{NoDrawer: true}, "10-test.lua:1:29: " + noDrawer, false},

		{"disconnect at the door", "on.rcpt(function(msg, rcpt) return disconnect(554, 'no') end)", Options{Faces: smtp}, "", false},
		{"disconnect in a milter", "on.rcpt(function(msg, rcpt)\n  return disconnect(554, '5.7.1', 'no')\nend)", Options{Faces: both},
			"10-test.lua:2:10: disconnect: in a milter the client is not disconnected with code 554: the MTA closes with 421 only, which is the default", false},
		{"disconnect as an MTA closes", "on.rcpt(function(msg, rcpt) return disconnect(421, '4.7.1', 'no') end)\non.mail(function(msg) return disconnect('no') end)",
			Options{Faces: milter}, "", false},

		{"delay in a milter", "on.rcpt(function(msg, rcpt)\n  return delay(20)\nend)", Options{Faces: both},
			"10-test.lua:2:10: delay: in a milter 15 s is the most, and 20 s is cut to that", false},
		{"delay within", "on.rcpt(function(msg, rcpt) return delay(15, accept()) end)", Options{Faces: both}, "", false},
		{"delay at the door", "on.rcpt(function(msg, rcpt) return delay(30) end)", Options{Faces: smtp}, "", false},
		{"delay beyond all", "on.rcpt(function(msg, rcpt) return delay(60) end)", Options{Faces: smtp},
			"10-test.lua:1:36: delay: at the smtp door 30 s is the most, and 60 s is cut to that", false},

		{"timeout within", "on.message({timeout='22s'}, function(msg) end)", Options{Longest: longest}, "", false},
		{"timeout beyond", "on.mail(function(msg) end)\non.message({timeout='60s'}, function(msg) end)", Options{Longest: longest},
			"10-test.lua:2:1: on.message: timeout 1m0s: a rule has at most 22.5s here, at `listener[0]`", false},

		{"the line in a milter", "on.unknown(function(conn, line)\n  if line:lower():find('^get ') or line:match('^RTSP%S*%s+x') then return disconnect(421, 'no') end\nend)", Options{Faces: both},
			"10-test.lua:2:19: line: a Postfix that asks as a milter tells the first word alone, so this never fits there\n" +
				"10-test.lua:2:41: line: a Postfix that asks as a milter tells the first word alone, so this never fits there", false},
		{"its first word", "on.unknown(function(conn, line)\n  if line:find('^SSH%-') or line:find('^GET ?') or line:find('^GET%s*') or line:find('^[^ ]+$') then return disconnect(421, 'no') end\nend)", Options{Faces: both}, "", false},
		{"another line", "on.unknown(function(conn, line)\n  local line = conn.listener\n  if line:find('a b') then return disconnect(421, 'no') end\nend)", Options{Faces: both}, "", false},
		{"the line at the door", "on.unknown(function(conn, line)\n  if line:find('^GET ') then return disconnect(421, 'no') end\nend)", Options{Faces: smtp}, "", false},

		{"never asked", "on.unknown(function(conn, line) end)\non.vrfy(function(conn, line) end)",
			Options{NotAsked: map[policy.Hook]string{policy.Unknown: "the MTA answers", policy.Vrfy: "the MTA answers"}},
			"10-test.lua:1:1: on.unknown is never asked here: the MTA answers\n10-test.lua:2:1: on.vrfy is never asked here: the MTA answers", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, ps := Load(snapshot(tc.policy), Options{}.with(tc.o.settings()).forFaces(tc.o))
			if problemLines(ps) != tc.want || (p == nil) != tc.refused {
				t.Errorf("policy %v with\n%s\nwant\n%s", p, problemLines(ps), tc.want)
			}
		})
	}
}

// forFaces sets what no reload changes.
func (o Options) forFaces(of Options) Options {
	o.Faces, o.NotAsked = of.Faces, of.NotAsked
	return o
}

// A field that is never known is told once a file, with all of the lines that
// miss it: the rules may well be meant for a door that is to come.
func TestUnknownFactOnceAFile(t *testing.T) {
	_, ps := Load(snapshot("on.rcpt(function(msg, rcpt)\n  if msg.conn.user then return accept() end\n  if msg.conn.user == 'x' or msg.conn.tls then return accept() end\n  if msg.conn.user == 'y' then return accept() end\nend)"),
		Options{Unknown: map[string]string{"conn.user": "here: no AUTH", "conn.tls": "here: no TLS"}})
	if want := "10-test.lua:3:15: conn.user is always nil here: no AUTH (also read in line 4)\n10-test.lua:3:39: conn.tls is always nil here: no TLS"; problemLines(ps) != want {
		t.Errorf("got\n%s\nwant\n%s", problemLines(ps), want)
	}
}

// What no filter can have said is nil, and is told once a file, too.
func TestUnknownFilter(t *testing.T) {
	for _, tc := range []struct {
		filters []string
		want    string
	}{
		{nil, ""},
		{[]string{"rspamd"}, ""},
		{[]string{"rspamd2"}, "10-test.lua:2:18: msg.filters.rspamd is always nil: there is no [[filter]] \"rspamd\" (did you mean 'rspamd2'?) (also read in lines 3, 5)"},
		{[]string{}, "10-test.lua:2:18: msg.filters.rspamd is always nil: there is no [[filter]] \"rspamd\""},
	} {
		_, ps := Load(snapshot("on.message(function(msg)\n  if msg.filters.rspamd and msg.filters.rspamd.verdict == 'reject' then return end\n"+
			"  local f = msg.filters['rspamd']\n  for name, f in pairs(msg.filters) do log.info(name) end\n  return msg.filters.rspamd and accept()\nend)"), Options{Filters: tc.filters})
		if got := problemLines(ps); got != tc.want {
			t.Errorf("with %q:\n%s\nwant\n%s", tc.filters, got, tc.want)
		}
	}
	// A rule that does without it may be meant for another face; a slip of the pen is none.
	for name, note := range map[string]bool{"rspamd": true, "clmav": false} {
		_, ps := Load(snapshot("on.message(function(msg)\n  local f = msg.filters."+name+"\n  if f and f.verdict == 'reject' then return end\nend)"), Options{Filters: []string{"clamav"}})
		if len(ps) != 1 || ps[0].Note != note {
			t.Errorf("%s: %s", name, problemLines(ps))
		}
	}
}

// A reload that takes the drawer away from a policy that uses it is refused, and
// the policy goes on with it.
func TestDrawerTakenAway(t *testing.T) {
	snap := snapshot("on.mail(function(msg) return quarantine('odd') end)")
	e := NewEngine(Options{}, nil)
	if _, err := e.Reload(snap); err != nil {
		t.Fatal(err)
	}
	if ps, err := e.Use(snap, Options{NoDrawer: true}); err != ErrRefused || len(ps) != 1 || e.Policy() == nil {
		t.Errorf("without a drawer: %v, %s", err, problemLines(ps))
	}
	if ps, err := e.Use(snap, Options{}); err != nil || len(ps) > 0 {
		t.Errorf("with it again: %v, %s", err, problemLines(ps))
	}
}
