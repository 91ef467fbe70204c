package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// serve answers a request, or refuses it: first by where it comes from, then by
// who asks, then by what it asks.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if crossOrigin(r) {
		refuse(w, http.StatusForbidden, "this port does not answer pages of other origins: ask it directly, not from a page in a browser")
		return
	}
	p := s.find(r.URL.Path)
	if (p == nil || !p.open) && !s.authorized(r) {
		challenge := `Bearer realm="ferrum"`
		if r.Header.Get("Authorization") != "" {
			challenge += `, error="invalid_token"`
		}
		h.Set("WWW-Authenticate", challenge)
		refuse(w, http.StatusUnauthorized, `send the admin port's token as "Authorization: Bearer TOKEN"`)
		return
	}
	if p == nil {
		refuse(w, http.StatusNotFound, plan.NoSuchPage)
		return
	}
	if !slices.Contains(p.methods, r.Method) {
		allowed := strings.Join(p.methods, ", ")
		h.Set("Allow", allowed)
		refuse(w, http.StatusMethodNotAllowed, "use one of the methods "+allowed)
		return
	}
	p.serve(w, r)
}

// crossOrigin reports whether a browser sent the request on behalf of another
// origin than this port. Curl, Prometheus and the kubelet send neither header.
func crossOrigin(r *http.Request) bool {
	if len(r.Header.Values("Origin")) > 0 {
		return true
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
		return false
	}
	return true // cross-site, and same-site: another port of localhost is that
}

// authorized reports whether the request carries one of the tokens, if any is
// asked for.
func (s *Server) authorized(r *http.Request) bool {
	if s.config.Tokens == nil {
		return true
	}
	given := r.Header.Values("Authorization")
	if len(given) != 1 {
		return false
	}
	scheme, token, _ := strings.Cut(given[0], " ")
	// Of the sums, so that the time says nothing of a token's length either.
	sum := sha256.Sum256([]byte(strings.TrimSpace(token)))
	equal := 0
	for _, t := range s.config.Tokens() {
		want := sha256.Sum256([]byte(t))
		equal |= subtle.ConstantTimeCompare(sum[:], want[:])
	}
	return equal == 1 && strings.EqualFold(scheme, "Bearer")
}

// refuse answers with a status and a line that says what to do.
func refuse(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprintln(w, text)
}
