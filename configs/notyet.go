package configs

import "regexp"

// planned names keys, and values of keys, that the design has and this release
// has not. They are refused like unknown ones, but the operator hears that
// the word is right and the time is not. The feature that lands deletes its row.
var planned = []struct{ key, value, what string }{
	{"filter.when", "", "a condition on a filter (a rule at mail can leave one out: msg:skip_filter)"},
	{"upstreams", "", "more than one upstream"},
	{"tls", "", "TLS"},
	{"one_class_per_message", "", "splitting a message by recipient class"},
	{"listener.tls", "starttls", "TLS"},
	{"listener.tls", "implicit", "TLS"},
	{"listener.cert", "", "TLS"},
	{"listener.key", "", "TLS"},
	{"listener.upstream", "", "more than one upstream"},
	{"listener.scripts", "", "a policy of its own for a listener"},
	{"listener.proxy", "", "PROXY from clients"},
	{"listener.xclient", "", "XCLIENT from clients"},
	{"listener.auth", "", "AUTH"},
	{"upstream.addresses", "", "more than one upstream"},
	{"upstream.tls", "", "TLS"},
	{"upstream.lmtp", "", "LMTP"},
	{"policy.rollout", "", "a policy for a part of the clients"},
	{"state.store", "file", "limits that outlive a restart"},
	{"state.store", "redis", "limits shared over Redis"},
	{"state.path", "", "limits that outlive a restart"},
	{"state.url", "", "limits shared over Redis"},
	{"records", "", "decision records"},
}

var index = regexp.MustCompile(`\[\d+\]`)

// notYet looks a key up in the table of planned ones; value is "" for the key
// itself.
func notYet(path, value string) (what string, ok bool) {
	path = index.ReplaceAllString(path, "")
	for _, p := range planned {
		if p.key == path && p.value == value {
			return p.what, true
		}
	}
	return "", false
}
