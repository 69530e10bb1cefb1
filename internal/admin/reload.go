package admin

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Header must say "reload" on a POST to /reload: no form of a web page can set
// it, and a script of another site may not.
const Header = "X-Moongate"

// ReloadTime is how long a reload may take before its asker is told no more.
const ReloadTime = 2 * time.Minute

// Outcome is what came of a reload.
type Outcome struct {
	Taken bool     // else what ran goes on
	Lines []string // for the operator: what was taken, or each problem as file:line: text
}

// reload answers 200 if what the files say was taken, 409 if not, and says why,
// one line a problem.
func (s *Server) reload(w http.ResponseWriter, r *http.Request) {
	// A browser on this host would carry a stranger's page to us, by a form or, if the
	// page's name is made to point here, by a script; only a browser sends an Origin.
	if r.Header.Get(Header) != "reload" || r.Header.Get("Origin") != "" {
		http.Error(w, "ask with `moongate reload`, or POST with the header "+Header+": reload", http.StatusForbidden)
		return
	}
	accept := false
	switch r.URL.Query().Get("accept-lists") {
	case "":
	case "1":
		accept = true
	default:
		http.Error(w, "accept-lists wants 1", http.StatusBadRequest)
		return
	}
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(ReloadTime))
	if s.Reload == nil {
		http.Error(w, "there is nothing to reload", http.StatusServiceUnavailable)
		return
	}
	outcome, err := s.Reload(r.Context(), accept)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if !outcome.Taken {
		w.WriteHeader(http.StatusConflict)
	}
	for _, line := range outcome.Lines {
		fmt.Fprintln(w, oneLine.Replace(line))
	}
}

// oneLine keeps a text that holds line ends in one line.
var oneLine = strings.NewReplacer("\r\n", " ", "\n", " ", "\r", " ")
