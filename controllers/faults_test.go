package controllers_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/hack/kube/kubetest"
)

// fault answers a list or a watch in the place of the API server; the request
// is its own to change.
type fault func(r *http.Request, next http.RoundTripper) (*http.Response, error)

// faulty is what lies between the controllers and the API server.
type faulty struct {
	mu    sync.Mutex
	fault fault // nil: none
	hits  int   // of lists and watches since the fault is there
}

func (f *faulty) set(to fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault, f.hits = to, 0
}

func (f *faulty) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hits
}

// watched are the resources that are watched in every cluster, and the kinds of
// their lists.
var watched = map[string]string{
	"proxyroutes": "ProxyRouteList", "backendpolicies": "BackendPolicyList", "proxyclasses": "ProxyClassList",
	"services": "ServiceList", "namespaces": "NamespaceList", "endpointslices": "EndpointSliceList", "referencegrants": "ReferenceGrantList",
}

func resourceOf(r *http.Request) string { return r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:] }

func isWatch(r *http.Request) bool { return r.URL.Query().Has("watch") }

// wrap puts f before a transport.
func (f *faulty) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		f.mu.Lock()
		do := f.fault
		hit := do != nil && r.Method == http.MethodGet && watched[resourceOf(r)] != ""
		if hit {
			f.hits++
		}
		f.mu.Unlock()
		if !hit {
			return next.RoundTrip(r)
		}
		return do(r.Clone(r.Context()), next)
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// answer is a response of the API server that is made up.
func answer(r *http.Request, status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Content-Type": {"application/json"}}, ContentLength: -1, Body: io.NopCloser(strings.NewReader(body)),
	}
}

func failure(r *http.Request, code int, reason string) *http.Response {
	return answer(r, code, fmt.Sprintf(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":%q,"code":%d,"message":"no"}`, reason, code))
}

// storm answers everything with a failure.
func storm(code int, reason string) fault {
	return func(r *http.Request, _ http.RoundTripper) (*http.Response, error) {
		return failure(r, code, reason), nil
	}
}

// listsOnly has the client list in pages instead of streaming what there is, and
// leads the lists to do.
func listsOnly(do fault) fault {
	return func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		if isWatch(r) {
			if r.URL.Query().Has("sendInitialEvents") {
				return failure(r, http.StatusUnprocessableEntity, "Invalid"), nil
			}
			return failure(r, http.StatusGone, "Expired"), nil
		}
		return do(r, next)
	}
}

// paged lists one object at a time, and has every page but the first fail.
func paged(code int, reason string) fault {
	return listsOnly(func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		q := r.URL.Query()
		if q.Has("continue") || !q.Has("limit") && code == http.StatusGone {
			return failure(r, code, reason), nil // 410: also the list of all at once that follows
		}
		q.Set("limit", "1")
		q.Del("resourceVersion")
		q.Del("resourceVersionMatch")
		r.URL.RawQuery = q.Encode()
		return next.RoundTrip(r)
	})
}

// cutAfter ends what the API server says after some of it, as if that were all.
func cutAfter(share float64) fault {
	return func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		res, err := next.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		if isWatch(r) { // it does not end: the first event and a half
			res.Body = struct {
				io.Reader
				io.Closer
			}{io.LimitReader(res.Body, 1500), res.Body}
			res.ContentLength = -1
			return res, nil
		}
		data, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		res.Body, res.ContentLength = io.NopCloser(bytes.NewReader(data[:int(share*float64(len(data)))])), -1
		return res, err
	}
}

// TestNoFaultOfTheAPIServerShrinksATable loses all watches at once and has what
// comes after go wrong in one way after the other: no plan ever has fewer routes
// or endpoints than there are, and each fault ends by itself.
func TestNoFaultOfTheAPIServerShrinksATable(t *testing.T) {
	for name, do := range map[string]fault{
		"429 to everything":             storm(http.StatusTooManyRequests, "TooManyRequests"),
		"500 to everything":             storm(http.StatusInternalServerError, "InternalError"),
		"404, as of a CRD that is gone": storm(http.StatusNotFound, "NotFound"),
		"403, as without rights":        storm(http.StatusForbidden, "Forbidden"),
		"410 to everything":             storm(http.StatusGone, "Expired"),
		"the second page fails":         paged(http.StatusInternalServerError, "InternalError"),
		"the second page is too old":    paged(http.StatusGone, "Expired"),
		"streams are cut":               cutAfter(.5),
		"lists are cut":                 listsOnly(cutAfter(.7)),
		"lists say nothing":             listsOnly(cutAfter(0)),
		"lists that nobody has made": listsOnly(func(r *http.Request, _ http.RoundTripper) (*http.Response, error) {
			version := strings.TrimPrefix(r.URL.Path[:strings.LastIndexByte(r.URL.Path, '/')], "/apis/")
			if strings.HasPrefix(version, "/api/") {
				version = "v1"
			}
			return answer(r, 200, fmt.Sprintf(`{"kind":%q,"apiVersion":%q,"metadata":{},"items":[]}`, watched[resourceOf(r)], version)), nil
		}),
		"everything hangs, then fails": func(r *http.Request, _ http.RoundTripper) (*http.Response, error) {
			select {
			case <-r.Context().Done():
				return nil, r.Context().Err()
			case <-time.After(200 * time.Millisecond):
				return nil, errors.New("connection reset")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			outlasts(t, do)
		})
	}
}

func outlasts(t *testing.T, do fault) {
	s := kubetest.Shared(t)
	c, ns := s.Client(t), s.Namespace(t, nil)
	var w kubetest.Wire
	var f faulty
	cfg := s.Config()
	cfg.Dial = w.Dial
	cfg.Wrap(f.wrap)
	r := run(t, cfg, ns, "a")
	create(t, c, newClass(ns))
	var last *v1alpha1.ProxyRoute
	for _, name := range []string{"a", "b", "c"} {
		service, slice := newBackend(ns, name, "10.0.0.1")
		_, second := newBackend(ns, name, "10.0.0.2")
		second.Name += "-more"
		last = newRoute(ns, name, host(ns, name), name)
		create(t, c, service, slice, second, last)
	}
	complete := func(p plan.Plan) bool {
		for _, name := range []string{"a", "b", "c"} {
			if addresses(p, ns, name) != "[10.0.0.1:8080 10.0.0.2:8080]" {
				return false
			}
		}
		return len(routesOf(p, ns)) == 3
	}
	r.waitFor(t, "everything", complete)
	before, _ := r.all()

	f.set(do)
	w.Cut() // all watches
	w.Mend()
	eventually(t, func(context.Context) error {
		if n := f.count(); n < 3*len(watched) {
			return fmt.Errorf("%d lists and watches", n)
		}
		return nil
	})
	f.set(nil)
	edit(t, c, last, func() { last.Spec.Hostnames = []v1alpha1.Hostname{v1alpha1.Hostname(host(ns, "new"))} })
	r.waitFor(t, "the edit after it", func(p plan.Plan) bool { return routesOf(p, ns)["c"] == host(ns, "new") })
	after, _ := r.all()
	for _, p := range after[len(before):] {
		if !complete(p) {
			t.Errorf("a plan has routes %v, and endpoints %s, %s, %s", routesOf(p, ns), addresses(p, ns, "a"), addresses(p, ns, "b"), addresses(p, ns, "c"))
		}
	}
}
