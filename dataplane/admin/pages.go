package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/pprof" // it registers itself at http.DefaultServeMux, which nothing here serves
	"strings"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// page is something to ask for.
type page struct {
	path    string // as in the index; one that ends in a slash includes what is below, but for "/"
	about   string // for the index
	open    bool   // asks for no token
	methods []string
	serve   http.HandlerFunc
}

var (
	readMethods    = []string{http.MethodGet, http.MethodHead}
	explainMethods = []string{http.MethodGet, http.MethodHead, http.MethodPost}
	postMethods    = []string{http.MethodPost}
	// A HEAD would take a profile to throw it away.
	profileMethods = []string{http.MethodGet}
)

func (s *Server) allPages() []page {
	c := s.config
	all := []page{
		{"/", "this list", false, readMethods, s.index},
		{"/livez", "200 while the process runs", true, readMethods, live},
	}
	if c.Ready != nil {
		all = append(all, page{"/readyz", "200 when the process serves what is configured, else 503 and why not", true, readMethods, s.ready})
	}
	if c.Metrics != nil {
		all = append(all, page{"/metrics", "metrics for Prometheus", false, readMethods, c.Metrics.ServeHTTP})
	}
	if c.Routes != nil {
		all = append(all, page{"/debug/routes", "the routes in use", false, readMethods, s.value(c.Routes)})
	}
	if c.Endpoints != nil {
		all = append(all, page{"/debug/endpoints", "the pools in use and their endpoints", false, readMethods, s.value(c.Endpoints)})
	}
	if c.Explain != nil {
		all = append(all, page{"/debug/explain", "what would happen to a request: ?method=&url=&host=&header=Name:%20value", false, explainMethods, s.explain})
	}
	if c.Served != nil {
		all = append(all, page{plan.ServedPath, "which generations of routes are in use, by UID; for the other replicas", false, postMethods, s.served})
	}
	if c.Pprof {
		all = append(all,
			page{"/debug/pprof/", "Go's profiles", false, profileMethods, pprof.Index},
			page{"/debug/pprof/cmdline", "", false, profileMethods, pprof.Cmdline},
			page{"/debug/pprof/profile", "", false, profileMethods, pprof.Profile},
			page{"/debug/pprof/symbol", "", false, profileMethods, pprof.Symbol},
			page{"/debug/pprof/trace", "", false, profileMethods, pprof.Trace})
	}
	return all
}

// find returns the page at the path, or nil. The longest one wins.
func (s *Server) find(path string) *page {
	var found *page
	for i := range s.pages {
		p := &s.pages[i]
		below := p.path != "/" && strings.HasSuffix(p.path, "/") && strings.HasPrefix(path, p.path)
		if (path == p.path || below) && (found == nil || len(p.path) > len(found.path)) {
			found = p
		}
	}
	return found
}

func (s *Server) index(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	for _, p := range s.pages {
		if p.about != "" {
			fmt.Fprintf(w, "%-18s %s\n", p.path, p.about)
		}
	}
}

func live(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintln(w, "ok")
}

func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	if err := s.config.Ready(); err != nil {
		refuse(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	live(w, r)
}

// value serves what get returns.
func (s *Server) value(get func() any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { s.writeJSON(w, get()) }
}

// writeJSON answers with v. It is encoded before the status is sent, so that a
// value that cannot be is an error and not half an answer.
func (s *Server) writeJSON(w http.ResponseWriter, v any) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		s.log.Error(err, "a debug page cannot be encoded")
		refuse(w, http.StatusInternalServerError, "this page cannot be encoded, which is a defect of the proxy: "+err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b.Bytes()) // an error means that the client is gone
}
