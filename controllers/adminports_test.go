package controllers

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// askAt asks a replica at an address for two routes; whatever is dialed leads to
// a server with the handler. It returns what was dialed.
func askAt(t *testing.T, addr string, tokens []string, h http.HandlerFunc) (served []int64, dialed []string, err error) {
	t.Helper()
	s := httptest.NewServer(h)
	defer s.Close()
	counts := func() []string { return tokens }
	if tokens == nil {
		counts = nil
	}
	ports := NewAdminPorts(9090, counts, func(ctx context.Context, _, address string) (net.Conn, error) {
		dialed = append(dialed, address)
		return (&net.Dialer{}).DialContext(ctx, "tcp", s.Listener.Addr().String())
	})
	defer ports.client.CloseIdleConnections()
	served, err = ports.Served(t.Context(), netip.MustParseAddr(addr), []string{"a", "b"})
	return served, dialed, err
}

func TestAReplicaIsAskedAtItsAdminPortWithTheToken(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://192.0.2.1:1") // which would get the token
	for addr, want := range map[string]string{"10.0.0.1": "10.0.0.1:9090", "2001:db8::1": "[2001:db8::1]:9090"} {
		served, dialed, err := askAt(t, addr, []string{"s3cret", "before"}, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			if r.Method != http.MethodPost || r.URL.Path != "/debug/served" || string(body) != `{"uids":["a","b"]}` ||
				r.Header.Get("Authorization") != "Bearer s3cret" || r.Header.Get("Content-Type") != "application/json" {
				t.Errorf("%s %s %v: %s", r.Method, r.URL, r.Header, body)
			}
			_, _ = io.WriteString(w, `{"generations":[3,0]}`)
		})
		if err != nil || !slices.Equal(served, []int64{3, 0}) || !slices.Equal(dialed, []string{want}) {
			t.Errorf("%v, %v, dialed %v; want %s", served, err, dialed, want)
		}
	}
}

func TestAnAnswerThatSaysNothingIsAnError(t *testing.T) {
	for name, tc := range map[string]struct {
		status int
		body   string
		mute   bool
		want   string
	}{
		"an older version":   {404, "no such page: GET / lists the pages\n", true, "cannot say"},
		"something else":     {404, "404 page not found\n", false, "no admin port of this proxy"},
		"another token":      {401, "send the token", false, "401"},
		"too few answers":    {200, `{"generations":[3]}`, false, "1 answers to 2"},
		"no JSON":            {200, "hello", false, "invalid character"},
		"an answer too long": {200, `{"generations":[` + strings.Repeat("1,", maxServedAnswer), false, "JSON"},
		"a redirect":         {307, "", false, "307"},
	} {
		served, dialed, err := askAt(t, "10.0.0.1", nil, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "" {
				t.Error("a token, and there is none")
			}
			w.Header().Set("Location", "http://192.0.2.1/")
			w.WriteHeader(tc.status)
			_, _ = io.WriteString(w, tc.body)
		})
		if err == nil || served != nil || errors.Is(err, errMute) != tc.mute || !strings.Contains(err.Error(), tc.want) || len(dialed) != 1 {
			t.Errorf("%s: %v, %v, dialed %v", name, served, err, dialed)
		}
	}
}

func TestWhileTheTokenChangesAReplicaIsAskedWithTheOneThatItTakes(t *testing.T) {
	for name, tc := range map[string]struct {
		ours  []string
		takes string
		asked int
		ok    bool
	}{
		"both have the new one":       {[]string{"new", "old"}, "new", 1, true},
		"it has not heard of it":      {[]string{"new", "old"}, "old", 2, true},
		"it is of another generation": {[]string{"new", "old"}, "newer", 2, false},
		"the time is up":              {[]string{"new"}, "old", 1, false},
	} {
		asked := 0
		served, _, err := askAt(t, "10.0.0.1", tc.ours, func(w http.ResponseWriter, r *http.Request) {
			asked++
			if body, _ := io.ReadAll(r.Body); string(body) != `{"uids":["a","b"]}` {
				t.Errorf("%s: asked %s", name, body)
			}
			if r.Header.Get("Authorization") != "Bearer "+tc.takes {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			_, _ = io.WriteString(w, `{"generations":[3,0]}`)
		})
		if (err == nil) != tc.ok || tc.ok && !slices.Equal(served, []int64{3, 0}) || asked != tc.asked {
			t.Errorf("%s: %v, %v, asked %d times", name, served, err, asked)
		}
	}
}
