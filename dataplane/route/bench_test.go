package route

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// layout says which hosts and paths the two rules of route i take; they append
// to buf.
type layout struct {
	name string
	host func(buf []byte, i int) []byte
	path func(buf []byte, i, rule int) []byte
}

var layouts = []layout{
	{"hostPerRoute",
		func(buf []byte, i int) []byte {
			buf = strconv.AppendInt(append(buf, "service-"...), int64(i), 10)
			buf = strconv.AppendInt(append(buf, ".team-"...), int64(i%50), 10)
			return append(buf, ".example.com"...)
		},
		func(buf []byte, _, rule int) []byte {
			return append(buf, []string{"/api/v1", "/"}[rule]...)
		}},
	{"oneHost",
		func(buf []byte, _ int) []byte { return append(buf, "shop.example.com"...) },
		func(buf []byte, i, rule int) []byte {
			buf = strconv.AppendInt(append(buf, "/service-"...), int64(i), 10)
			return append(buf, []string{"/api", ""}[rule]...)
		}},
}

// entries of so many routes with two rules each.
func (l layout) entries(routes int) []Entry[*rule] {
	entries := make([]Entry[*rule], 0, 2*routes)
	for i := range routes {
		hostnames := []string{string(l.host(nil, i))}
		for r := range 2 {
			entries = append(entries, Entry[*rule]{
				Hostnames: hostnames,
				Matches:   []plan.Match{prefix(string(l.path(nil, i, r)))},
				Value:     &rule{fmt.Sprintf("route-%d/%d", i, r)},
			})
		}
	}
	return entries
}

// batch is requests as they come from the wire: in a buffer that is used again
// and again, so that they lie in the CPU's caches and the table need not.
type batch struct {
	layout   layout
	rnd      *rand.PCG
	buf      []byte
	requests [256]Request
}

// fill makes random requests for the first so many routes.
func (t *batch) fill(routes int) {
	t.buf = t.buf[:0]
	for k := range t.requests {
		n := t.rnd.Uint64()
		i, rule, user := int(n%uint64(routes)), int(n>>32&1), int64(n>>33%1000)
		start := len(t.buf)
		t.buf = t.layout.host(t.buf, i)
		path := len(t.buf)
		t.buf = t.layout.path(t.buf, i, rule)
		if t.buf[len(t.buf)-1] != '/' {
			t.buf = append(t.buf, '/')
		}
		t.buf = strconv.AppendInt(append(t.buf, "users/"...), user, 10)
		t.requests[k] = Request{Host: t.buf[start:path], Path: t.buf[path:]}
	}
}

// nsPerMatch matches batches of requests for the first so many routes as long
// as b wants, and returns the median time of a match over the batches. A
// neighbor on the machine disturbs some batches, but not most.
func (l layout) nsPerMatch(b *testing.B, table *Table[*rule], routes int) float64 {
	b.Helper()
	t := &batch{layout: l, rnd: rand.NewPCG(1, 2), buf: make([]byte, 0, 1<<15)}
	const perNs = 8
	var histogram [1000 * perNs]int
	batches := 0
	for b.Loop() {
		t.fill(routes)
		began := time.Now()
		for k := range t.requests {
			if _, ok := table.Match(&t.requests[k]); !ok {
				b.Fatalf("nobody takes %s%s", t.requests[k].Host, t.requests[k].Path)
			}
		}
		took := int(time.Since(began).Nanoseconds()) * perNs / len(t.requests)
		histogram[min(took, len(histogram)-1)]++
		batches++
	}
	below := 0
	for took, n := range histogram {
		if below += n; below > batches/2 {
			return float64(took) / perNs
		}
	}
	return 0
}

// BenchmarkMatch compares tables of 10 and of 5,000 routes, both for requests
// to the same ten routes and for requests to all of them at random, which find
// little of a large table in the CPU's first caches. x-of-10 is the time
// relative to that of the small table.
func BenchmarkMatch(b *testing.B) {
	for _, l := range layouts {
		var of10 float64
		for _, c := range []struct {
			name           string
			routes, wanted int
		}{
			{"routes=10", 10, 10},
			{"routes=5000/sameMix", 5000, 10},
			{"routes=5000/everywhere", 5000, 5000},
		} {
			b.Run(l.name+"/"+c.name, func(b *testing.B) {
				table, err := Build(l.entries(c.routes), nil)
				if err != nil {
					b.Fatal(err)
				}
				ns := l.nsPerMatch(b, table, c.wanted)
				b.ReportMetric(0, "ns/op") // of a batch and its making
				b.ReportMetric(ns, "ns/match")
				if c.routes == 10 {
					of10 = ns
				} else if of10 > 0 {
					b.ReportMetric(ns/of10, "x-of-10")
				}
			})
		}
	}
}

// BenchmarkMatchConditions is the price of what a match may ask besides host
// and path.
func BenchmarkMatchConditions(b *testing.B) {
	headers := staticHeader("v12")
	for _, c := range []struct {
		name  string
		match plan.Match
	}{
		{"exactPath", exact("/api/v1/users/7")},
		{"prefix", prefix("/api/v1")},
		{"method", withMethod(prefix("/api/v1"), "GET")},
		{"header", withHeader(prefix("/api/v1"), "x-canary", "v12")},
		{"headerExpression", withHeader(prefix("/api/v1"), "x-canary", "~v[0-9]+")},
		{"query", withQuery(prefix("/api/v1"), "sort", "by name")},
		{"queryExpression", withQuery(prefix("/api/v1"), "sort", "~by .*")},
		{"pathExpression", regex("/api/v[0-9]+/users/.*")},
	} {
		b.Run(c.name, func(b *testing.B) {
			table := build(b, entry("wanted", "shop.example.com", c.match), entry("other", "*", prefix("/")))
			r := request("GET shop.example.com/api/v1/users/7?page=3&sort=by%20name", nil)
			r.Headers = headers
			b.ReportAllocs()
			for b.Loop() {
				if v, _ := table.Match(r); v != "wanted" {
					b.Fatal(v)
				}
			}
		})
	}
}

// BenchmarkMatchWildcard falls from host to host.
func BenchmarkMatchWildcard(b *testing.B) {
	table := build(b, entry("exact", "a.b.c.example.com", exact("/")), entry("long", "*.b.c.example.com", exact("/")),
		entry("short", "*.example.com", exact("/")), entry("any", "*", prefix("/")))
	r := request("GET a.b.c.example.com/x", nil)
	b.ReportAllocs()
	for b.Loop() {
		if v, _ := table.Match(r); v != "any" {
			b.Fatal(v)
		}
	}
}

// BenchmarkBuild makes a table of 5,000 routes from nothing, and after a change
// of one route.
func BenchmarkBuild(b *testing.B) {
	for _, l := range layouts {
		entries := l.entries(5000)
		prev, err := Build(entries, nil)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(l.name+"/full", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Build(entries, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
		changed := append([]Entry[*rule](nil), entries...)
		changed[5000].Value = &rule{"changed"}
		b.Run(l.name+"/oneRouteChanged", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Build(changed, prev); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkMemory reports the bytes that a table of 10,000 rules keeps alive
// per rule, besides the entries themselves.
func BenchmarkMemory(b *testing.B) {
	for _, l := range layouts {
		b.Run(l.name, func(b *testing.B) {
			entries := l.entries(5000)
			var perRule float64
			for b.Loop() {
				before := heapInUse()
				table, err := Build(entries, nil)
				if err != nil {
					b.Fatal(err)
				}
				perRule = float64(heapInUse()-before) / float64(table.Len())
				runtime.KeepAlive(table)
			}
			b.ReportMetric(perRule, "B/rule")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func heapInUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
