package configs

import (
	"fmt"
	"testing"
)

// A public listener needs domains unless the upstream judges the client itself.
func TestPublicListenerNeedsDomains(t *testing.T) {
	for identity, refused := range map[string]bool{"none": true, "xforward": true, "proxy": false, "xclient": false} {
		_, problems := parse("moongate.toml", fmt.Appendf(nil, `
			[[listener]]
			address = "0.0.0.0:25"
			[upstream]
			address = "127.0.0.1:10025"
			identity = %q
			[policy]
			scripts = "scripts"`, identity))
		if (len(problems) > 0) != refused {
			t.Errorf("identity %s: %v", identity, problems)
		}
	}
}
