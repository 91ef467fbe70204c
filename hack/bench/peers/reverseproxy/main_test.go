package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestTakesBackendsInTurn(t *testing.T) {
	var backends []string
	for _, name := range []string{"a", "b"} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, name+" "+r.Host+" "+r.Header.Get("X-Forwarded-Host")) // the client checks it
		}))
		defer s.Close()
		backends = append(backends, s.Listener.Addr().String())
	}
	front := httptest.NewServer(newProxy(backends))
	defer front.Close()
	seen := make(map[string]int)
	for range 4 {
		res, err := http.Get(front.URL)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		host := front.Listener.Addr().String()
		if !strings.HasSuffix(string(body), " "+host+" "+host) {
			t.Errorf("%q does not show the client's host %s", body, host)
		}
		seen[string(body[:1])]++
	}
	if seen["a"] != 2 || seen["b"] != 2 {
		t.Errorf("four requests went %v, want two to each", seen)
	}
}
