package postfix

import (
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Options change the stock instance. The zero value is Postfix as Debian sets it up: local clients may
// relay, no milter, no filter, the default handling of line ends.
type Options struct {
	Proxy       bool              // the listener expects a PROXY header (HAProxy's v1 or v2)
	XClient     bool              // 127.0.0.0/8 may use XCLIENT
	XForward    bool              // 127.0.0.0/8 may use XFORWARD
	Milters     []string          // smtpd_milters, in order: "inet:127.0.0.1:7357"; a failing one is a tempfail
	ProxyFilter string            // smtpd_proxy_filter: host:port of a before-queue filter
	Domain      string            // the domain delivered to Inside; example.org if empty
	MaxProc     int               // most smtpd processes of the listener; 0: Postfix's default, 100
	Main        map[string]string // further main.cf parameters; they win over all of the above
	Smtpd       map[string]string // -o parameters of the listener alone
	Master      []string          // further master.cf lines; "{dir}" is replaced by the instance's directory
	Addr        string            // the listener; a free port of 127.0.0.1 if empty
}

// mainCf returns main.cf as parameters. A delivery never leaves the machine: both transports end in
// sinks of ours.
func (o Options) mainCf(dir string, inside, outside net.Addr) map[string]string {
	domain := o.Domain
	if domain == "" {
		domain = "example.org"
	}
	lmtp := func(a net.Addr) string { return "lmtp:[127.0.0.1]:" + strconv.Itoa(a.(*net.TCPAddr).Port) }
	p := map[string]string{
		"compatibility_level":   "3.6",
		"queue_directory":       dir + "/queue",
		"data_directory":        dir + "/data",
		"maillog_file":          dir + "/log/maillog",
		"maillog_file_prefixes": dir,
		"command_directory":     "/usr/sbin",
		"daemon_directory":      daemons,
		"mail_owner":            "postfix",
		"setgid_group":          "postdrop",

		"myhostname":      "mta." + domain,
		"mydomain":        domain,
		"mydestination":   "$myhostname, localhost, " + domain,
		"mynetworks":      "127.0.0.0/8 [::ffff:127.0.0.0]/104 [::1]/128",
		"inet_interfaces": "127.0.0.1",
		"inet_protocols":  "ipv4",

		"local_transport":       lmtp(inside),
		"relay_transport":       lmtp(outside),
		"default_transport":     lmtp(outside),
		"local_recipient_maps":  "",
		"alias_maps":            "",
		"alias_database":        "",
		"smtpd_peername_lookup": "no", // no question leaves the machine
		"disable_dns_lookups":   "yes",
		"in_flow_delay":         "0",

		// It keeps a client waiting for its errors; a test has made them on purpose.
		"smtpd_error_sleep_time": "0",

		// The SMTP client of Postfix folds what is longer; a test compares bytes.
		"lmtp_line_length_limit": "0",
	}
	if o.XClient {
		p["smtpd_authorized_xclient_hosts"] = "127.0.0.0/8"
	}
	if o.XForward {
		p["smtpd_authorized_xforward_hosts"] = "127.0.0.0/8"
	}
	if len(o.Milters) > 0 {
		p["smtpd_milters"] = strings.Join(o.Milters, ", ")
		p["milter_default_action"] = "tempfail"
	}
	maps.Copy(p, o.Main)
	return p
}

// smtpdOptions are the -o settings of the listener's line in master.cf.
func (o Options) smtpdOptions() map[string]string {
	p := map[string]string{}
	if o.Proxy {
		p["smtpd_upstream_proxy_protocol"] = "haproxy"
	}
	if o.ProxyFilter != "" {
		p["smtpd_proxy_filter"] = o.ProxyFilter
	}
	maps.Copy(p, o.Smtpd)
	return p
}

// services are what a mail system without local submission needs besides its listener.
const services = `cleanup   unix  n       -       n       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
tlsmgr    unix  -       -       n       1000?   1       tlsmgr
rewrite   unix  -       -       n       -       -       trivial-rewrite
bounce    unix  -       -       n       -       0       bounce
defer     unix  -       -       n       -       0       bounce
trace     unix  -       -       n       -       0       bounce
verify    unix  -       -       n       -       1       verify
flush     unix  n       -       n       1000?   0       flush
proxymap  unix  -       -       n       -       -       proxymap
proxywrite unix -       -       n       -       1       proxymap
smtp      unix  -       -       n       -       -       smtp
lmtp      unix  -       -       n       -       -       lmtp
showq     unix  n       -       n       -       -       showq
error     unix  -       -       n       -       -       error
retry     unix  -       -       n       -       -       error
discard   unix  -       -       n       -       -       discard
anvil     unix  -       -       n       -       1       anvil
scache    unix  -       -       n       -       1       scache
postlog   unix-dgram n  -       n       -       1       postlogd
`

func (o Options) masterCf(dir, addr string) string {
	var b strings.Builder
	max := "-"
	if o.MaxProc > 0 {
		max = strconv.Itoa(o.MaxProc)
	}
	fmt.Fprintf(&b, "%s inet n - n - %s smtpd\n", addr, max)
	opts := o.smtpdOptions()
	for _, k := range slices.Sorted(maps.Keys(opts)) {
		fmt.Fprintf(&b, "  -o { %s = %s }\n", k, opts[k])
	}
	b.WriteString(services)
	for _, line := range o.Master {
		b.WriteString(strings.ReplaceAll(line, "{dir}", dir) + "\n")
	}
	return b.String()
}

// write makes the instance's directory tree, owners and modes as Postfix's own set-up has them.
func (o Options) write(dir, addr string, inside, outside net.Addr) error {
	owner, err := user.Lookup("postfix")
	if err != nil {
		return err
	}
	drop, err := user.LookupGroup("postdrop")
	if err != nil {
		return err
	}
	uid, _ := strconv.Atoi(owner.Uid)
	gid, _ := strconv.Atoi(drop.Gid)
	tree := []struct {
		names    string
		mode     os.FileMode
		uid, gid int
	}{
		{". etc log queue queue/pid", 0o755, 0, 0},
		{"data", 0o700, uid, 0},
		{"queue/active queue/bounce queue/corrupt queue/defer queue/deferred queue/flush queue/hold " +
			"queue/incoming queue/private queue/saved queue/trace", 0o700, uid, 0},
		{"queue/maildrop", 0o730, uid, gid},
		{"queue/public", 0o710, uid, gid},
	}
	for _, t := range tree {
		for _, name := range strings.Fields(t.names) {
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(path, t.mode); err != nil {
				return err
			}
			if err := os.Chown(path, t.uid, t.gid); err != nil {
				return err
			}
			if err := os.Chmod(path, t.mode); err != nil { // the umask took some
				return err
			}
		}
	}
	var main strings.Builder
	params := o.mainCf(dir, inside, outside)
	for _, k := range slices.Sorted(maps.Keys(params)) {
		fmt.Fprintf(&main, "%s = %s\n", k, strings.ReplaceAll(params[k], "{dir}", dir))
	}
	// Postfix reads a main.cf again and again, 0.3 s apart, while it is younger than a second.
	old := time.Now().Add(-time.Hour)
	for name, text := range map[string]string{"main.cf": main.String(), "master.cf": o.masterCf(dir, addr)} {
		path := filepath.Join(dir, "etc", name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
		if err := os.Chtimes(path, old, old); err != nil {
			return err
		}
	}
	return nil
}

const daemons = "/usr/lib/postfix/sbin"

// Missing says why no Postfix can be run here, "" if one can.
func Missing() string {
	if os.Geteuid() != 0 {
		return "no Postfix: it starts only as root"
	}
	if _, err := exec.LookPath(daemons + "/master"); err != nil {
		return "no Postfix: Debian's package postfix is not installed"
	}
	if _, err := user.Lookup("postfix"); err != nil {
		return "no Postfix: there is no user postfix"
	}
	return ""
}
