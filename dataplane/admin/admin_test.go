package admin_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/admin"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
)

const token = "s3cret-token"

// everything is a configuration with all pages. What it explains is the query
// itself, in the explanation's detail.
func everything() admin.Config {
	return admin.Config{
		Pprof: true,
		Ready: func() error { return nil },
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "some_metric 1\n")
		}),
		Explain: func(q proxy.Query) proxy.Explanation {
			b, _ := json.Marshal(q)
			return proxy.Explanation{Outcome: "ok", Detail: string(b)}
		},
		Routes:    func() any { return []string{"a route"} },
		Endpoints: func() any { return []string{"an endpoint"} },
		Served: func(uids []string) []int64 {
			generations := make([]int64, len(uids))
			for i, uid := range uids {
				generations[i] = int64(len(uid)) // so that a test sees which is which
			}
			return generations
		},
	}
}

// allPages are the pages of everything, without the slow profiles.
var allPages = []string{
	"/", "/livez", "/readyz", "/metrics", "/debug/routes", "/debug/endpoints",
	"/debug/explain?url=http://h/", "/debug/pprof/", "/debug/pprof/goroutine?debug=1", "/debug/pprof/cmdline", "/debug/pprof/symbol",
}

func isProbe(path string) bool { return path == "/livez" || path == "/readyz" }

// ask sends a request to the pages of c, with pairs of header names and values.
func ask(c admin.Config, method, target string, header ...string) *httptest.ResponseRecorder {
	return send(c, httptest.NewRequest(method, target, nil), header...)
}

func send(c admin.Config, r *http.Request, header ...string) *httptest.ResponseRecorder {
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	admin.New(c).Handler().ServeHTTP(w, r)
	return w
}

func TestEveryPageAnswersAndIsNotToBeStored(t *testing.T) {
	for _, path := range allPages {
		w := ask(everything(), "GET", path)
		if w.Code != http.StatusOK {
			t.Errorf("%s: status %d: %s", path, w.Code, w.Body)
		}
		if got := w.Header().Get("Cache-Control"); got != "no-store" {
			t.Errorf("%s: Cache-Control %q", path, got)
		}
		if got := w.Header().Get("X-Content-Type-Options"); got != "nosniff" {
			t.Errorf("%s: X-Content-Type-Options %q", path, got)
		}
	}
}

func TestTheIndexListsEveryPage(t *testing.T) {
	body := ask(everything(), "GET", "/").Body.String()
	for _, path := range []string{"/livez", "/readyz", "/metrics", "/debug/routes", "/debug/endpoints", "/debug/explain", "/debug/served", "/debug/pprof/"} {
		if !strings.Contains(body, "\n"+path+" ") {
			t.Errorf("%s is missing in:\n%s", path, body)
		}
	}
}

func TestReadyzSaysWhyNotUntilReady(t *testing.T) {
	c := everything()
	c.Ready = func() error { return errors.New("no routes have been loaded yet") }
	if w := ask(c, "GET", "/readyz"); w.Code != http.StatusServiceUnavailable || w.Body.String() != "no routes have been loaded yet\n" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := ask(c, "GET", "/livez"); w.Code != http.StatusOK {
		t.Errorf("livez: %d", w.Code)
	}
	c.Ready = func() error { return nil }
	if w := ask(c, "GET", "/readyz"); w.Code != http.StatusOK || w.Body.String() != "ok\n" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestAllButTheProbesAskForTheToken(t *testing.T) {
	c := everything()
	c.Tokens = func() []string { return []string{token} }
	for _, path := range append(allPages, "/nothing", "/debug/pprof", "/livez/", "//livez", "/livez/../metrics") {
		for _, r := range []struct {
			name      string
			header    []string
			ok        bool
			challenge string
		}{
			{"none", nil, false, `Bearer realm="ferrum"`},
			{"right", []string{"Authorization", "Bearer " + token}, true, ""},
			{"another case of the scheme", []string{"Authorization", "bearer " + token}, true, ""},
			{"wrong", []string{"Authorization", "Bearer " + token + "x"}, false, `Bearer realm="ferrum", error="invalid_token"`},
			{"a part", []string{"Authorization", "Bearer " + token[1:]}, false, `Bearer realm="ferrum", error="invalid_token"`},
			{"empty", []string{"Authorization", "Bearer "}, false, `Bearer realm="ferrum", error="invalid_token"`},
			{"another scheme", []string{"Authorization", "Basic " + token}, false, `Bearer realm="ferrum", error="invalid_token"`},
			{"no scheme", []string{"Authorization", token}, false, `Bearer realm="ferrum", error="invalid_token"`},
			{"twice", []string{"Authorization", "Bearer " + token, "Authorization", "Bearer x"}, false, `Bearer realm="ferrum", error="invalid_token"`},
		} {
			w := ask(c, "GET", path, r.header...)
			refused := w.Code == http.StatusUnauthorized
			if refused == (r.ok || isProbe(path)) {
				t.Errorf("%s with token %q: status %d", path, r.name, w.Code)
			}
			if got := w.Header().Get("WWW-Authenticate"); refused && got != r.challenge {
				t.Errorf("%s with token %q: challenge %s, want %s", path, r.name, got, r.challenge)
			}
			if refused && strings.Contains(w.Body.String(), "metric") {
				t.Errorf("%s with token %q: shown", path, r.name)
			}
		}
	}
}

func TestAPageThatDoesNotExistIsSaidInTheWordsThatNewerVersionsKnow(t *testing.T) {
	w := ask(everything(), "POST", "/debug/nothing")
	if w.Code != http.StatusNotFound || w.Body.String() != "no such page: GET / lists the pages\n" {
		t.Errorf("%d %q", w.Code, w.Body)
	}
}

func TestTheTokensThatCountAreAskedForAtEachRequest(t *testing.T) {
	c := everything()
	var counts []string
	c.Tokens = func() []string { return counts }
	s := admin.New(c).Handler()
	for _, step := range []struct {
		counts []string
		given  string
		ok     bool
	}{
		{[]string{"one"}, "one", true}, {[]string{"two", "one"}, "one", true}, {[]string{"two", "one"}, "two", true},
		{[]string{"two", "one"}, "three", false}, {[]string{"two"}, "one", false}, {nil, "", false}, {nil, "two", false},
	} {
		counts = step.counts
		r := httptest.NewRequest("GET", "/metrics", nil)
		r.Header.Set("Authorization", "Bearer "+step.given)
		w := httptest.NewRecorder()
		if s.ServeHTTP(w, r); (w.Code == http.StatusOK) != step.ok {
			t.Errorf("%q of %q: %d", step.given, step.counts, w.Code)
		}
	}
}

func TestPagesOfOtherOriginsAreRefused(t *testing.T) {
	c := everything()
	c.Tokens = func() []string { return []string{token} }
	for _, header := range [][]string{
		{"Origin", "https://evil.example"}, {"Origin", "null"}, {"Origin", ""}, {"Origin", "http://example.com"},
		{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Sec-Fetch-Site", "unknown"},
	} {
		for _, method := range []string{"GET", "HEAD", "POST", "OPTIONS"} {
			for _, path := range allPages {
				w := ask(c, method, path, append(header, "Authorization", "Bearer "+token)...)
				if w.Code != http.StatusForbidden {
					t.Errorf("%s %s with %q: status %d", method, path, header, w.Code)
				}
				for name := range w.Header() {
					if strings.HasPrefix(name, "Access-Control-") {
						t.Errorf("%s %s with %q: %s", method, path, header, name)
					}
				}
			}
		}
	}
	for _, own := range []string{"none", "same-origin"} {
		if w := ask(everything(), "GET", "/metrics", "Sec-Fetch-Site", own); w.Code != http.StatusOK {
			t.Errorf("Sec-Fetch-Site: %s: status %d", own, w.Code)
		}
	}
}

func TestOnlyReadingMethodsAreTaken(t *testing.T) {
	for _, path := range allPages {
		for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"} {
			if method == "POST" && strings.HasPrefix(path, "/debug/explain") {
				continue
			}
			w := ask(everything(), method, path)
			if w.Code != http.StatusMethodNotAllowed || !strings.Contains(w.Header().Get("Allow"), "GET") {
				t.Errorf("%s %s: status %d, Allow %q", method, path, w.Code, w.Header().Get("Allow"))
			}
		}
		if strings.HasPrefix(path, "/debug/pprof") {
			continue
		}
		if w := ask(everything(), "HEAD", path); w.Code != http.StatusOK {
			t.Errorf("HEAD %s: status %d", path, w.Code)
		}
	}
}

func TestPagesThatAreNotThereSayWhereToLook(t *testing.T) {
	for _, path := range []string{"/nothing", "/livez/", "/metrics/x", "/debug", "/debug/pprof", "/DEBUG/routes"} {
		if w := ask(everything(), "GET", path); w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), "GET /") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	for _, path := range allPages[2:] {
		if w := ask(admin.Config{}, "GET", path); w.Code != http.StatusNotFound {
			t.Errorf("%s of an empty configuration: %d", path, w.Code)
		}
	}
}

func TestDebugPagesAreIndentedJSON(t *testing.T) {
	for path, want := range map[string]string{
		"/debug/routes":    "[\n  \"a route\"\n]\n",
		"/debug/endpoints": "[\n  \"an endpoint\"\n]\n",
	} {
		w := ask(everything(), "GET", path)
		if diff := cmp.Diff(want, w.Body.String()); diff != "" {
			t.Errorf("%s: %s", path, diff)
		}
		if got := w.Header().Get("Content-Type"); got != "application/json" {
			t.Errorf("%s: Content-Type %q", path, got)
		}
	}
}

func TestAValueThatCannotBeEncodedIsAnError(t *testing.T) {
	c := everything()
	c.Routes = func() any { return make(chan int) }
	if w := ask(c, "GET", "/debug/routes"); w.Code != http.StatusInternalServerError {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
}

// explained returns the query that the page asked to be explained.
func explained(t *testing.T, w *httptest.ResponseRecorder) (q proxy.Query) {
	t.Helper()
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	var e proxy.Explanation
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(e.Detail), &q); err != nil {
		t.Fatal(err)
	}
	return q
}

func TestExplainTakesParametersAndJSON(t *testing.T) {
	v2 := []proxy.HeaderField{{Name: "X-Canary", Value: "1: yes"}, {Name: "x-canary", Value: ""}}
	for _, c := range []struct {
		parameters, body string
		want             proxy.Query
	}{
		{"url=http://shop.example.com/cart", `{"url":"http://shop.example.com/cart"}`,
			proxy.Query{Method: "GET", URL: "http://shop.example.com/cart"}},
		{"method=POST&url=/cart%3Fa=1%26b&host=shop", `{"method":"POST","url":"/cart?a=1&b","host":"shop"}`,
			proxy.Query{Method: "POST", URL: "/cart?a=1&b", Host: "shop"}},
		{"url=https://shop/&header=X-Canary:%201:%20yes&header=x-canary:",
			`{"url":"https://shop/","headers":[{"name":"X-Canary","value":"1: yes"},{"name":"x-canary","value":""}]}`,
			proxy.Query{Method: "GET", URL: "https://shop/", Headers: v2}},
		{"url=/cart&header=Host:%20shop", `{"url":"/cart","headers":[{"name":"HOST","value":"shop"}]}`,
			proxy.Query{Method: "GET", URL: "/cart", Host: "shop"}},
	} {
		got := explained(t, ask(everything(), "GET", "/debug/explain?"+c.parameters))
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("GET %s: %s", c.parameters, diff)
		}
		r := httptest.NewRequest("POST", "/debug/explain", strings.NewReader(c.body))
		got = explained(t, send(everything(), r, "Content-Type", "application/json; charset=utf-8"))
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("POST %s: %s", c.body, diff)
		}
	}
}

func TestWhatCannotBeExplainedSaysWhatToDo(t *testing.T) {
	for parameters, want := range map[string]string{
		"":                                   "add url=http://HOST/PATH",
		"url=":                               "add url=http://HOST/PATH",
		"url=/cart":                          "add host=HOST",
		"url=shop.example.com/cart":          "neither http://HOST/PATH nor a path",
		"url=ftp://shop/":                    "neither http://HOST/PATH nor a path",
		"url=http:///cart":                   "neither http://HOST/PATH nor a path",
		"url=http://%5B::1/":                 "cannot be read",
		"url=http://shop/a%0d%0aX:%20y":      "control characters",
		"url=/&host=a%0ab":                   "control characters",
		"url=http://shop/&host=a&host=b":     "give it once",
		"url=http://shop/&method=G%20T":      "not a token",
		"url=http://shop/&hots=a":            `"hots" is unknown`,
		"url=http://shop/?a=1&b=2":           `encode an & in the url as %26`,
		"url=http://shop/&header=X-Canary":   "write header=Name:%20value",
		"url=http://shop/&header=:1":         "not a token",
		"url=http://shop/&header=X%20Y:1":    "not a token",
		"url=http://shop/&header=X:a%00":     "control characters",
		"url=http://shop/;method=GET":        "use -G --data-urlencode",
		"url=%zz":                            "use -G --data-urlencode",
		"url=http://shop/&header=X:a%0d%0ab": "control characters",
	} {
		w := ask(everything(), "GET", "/debug/explain?"+parameters)
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%q: %d %q, want 400 with %q", parameters, w.Code, w.Body, want)
		}
	}
	for _, c := range []struct{ contentType, body, want string }{
		{"", `{}`, "Content-Type: application/json"},
		{"text/plain", `{"url":"http://shop/"}`, "Content-Type: application/json"},
		{"application/json", ``, "the body is no query"},
		{"application/json", `[]`, "the body is no query"},
		{"application/json", `{"uri":"/"}`, `unknown field "uri"`},
		{"application/json", `{"url":"http://shop/"} {}`, "one JSON object"},
		{"application/json", `{"url":"` + strings.Repeat("a", 1<<20) + `"}`, "too large"},
		{"application/json", `{}`, "there is no url"},
	} {
		r := httptest.NewRequest("POST", "/debug/explain", strings.NewReader(c.body))
		w := send(everything(), r, "Content-Type", c.contentType)
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("POST %.40q as %q: %d %q, want 400 with %q", c.body, c.contentType, w.Code, w.Body, c.want)
		}
	}
}

// questions returns a body that asks about n routes.
func questions(n int) string {
	return `{"uids":["` + strings.Join(slices.Repeat([]string{"b6a2f2ac-0000-4000-8000-000000000000"}, n), `","`) + `"]}`
}

func TestServedAnswersInTheOrderOfTheQuestions(t *testing.T) {
	for body, want := range map[string]plan.ServedAnswer{
		`{"uids":["a","","abc"]}`: {Generations: []int64{1, 0, 3}},
		`{"uids":[]}`:             {Generations: []int64{}},
	} {
		r := httptest.NewRequest("POST", plan.ServedPath, strings.NewReader(body))
		w := send(everything(), r, "Content-Type", "application/json")
		var got plan.ServedAnswer
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusOK {
			t.Fatalf("%s: %d %s: %v", body, w.Code, w.Body, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", body, diff)
		}
	}
	r := httptest.NewRequest("POST", plan.ServedPath, strings.NewReader(questions(plan.MaxServedUIDs)))
	if w := send(everything(), r, "Content-Type", "application/json"); w.Code != http.StatusOK || w.Body.Len() > 320_000 {
		t.Errorf("as many questions as may be: %d, %d bytes", w.Code, w.Body.Len())
	}
}

func TestServedTakesABoundedQuestionAndTheToken(t *testing.T) {
	c := everything()
	c.Tokens = func() []string { return []string{token} }
	for name, tc := range map[string]struct {
		body, token string
		status      int
	}{
		"right":      {`{"uids":["a"]}`, token, http.StatusOK},
		"no token":   {`{"uids":["a"]}`, "", http.StatusUnauthorized},
		"too many":   {questions(plan.MaxServedUIDs + 1), token, http.StatusBadRequest},
		"too long":   {`{"uids":["` + strings.Repeat("a", 1<<20) + `"]}`, token, http.StatusBadRequest},
		"no object":  {`["a"]`, token, http.StatusBadRequest},
		"other keys": {`{"names":["a"]}`, token, http.StatusBadRequest},
	} {
		r := httptest.NewRequest("POST", plan.ServedPath, strings.NewReader(tc.body))
		if w := send(c, r, "Content-Type", "application/json", "Authorization", "Bearer "+tc.token); w.Code != tc.status {
			t.Errorf("%s: %d %s, want %d", name, w.Code, w.Body, tc.status)
		}
	}
	if w := ask(everything(), "GET", plan.ServedPath); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", w.Code)
	}
}
