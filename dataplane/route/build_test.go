package route

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

func TestBuildSaysWhatCannotBeCompiledAndWhere(t *testing.T) {
	good := entry("good", "good.test", prefix("/"))
	for _, c := range []struct {
		bad  Entry[string]
		want string
	}{
		{entry("", "bad.test", prefix("/"), regex("/(a")), "entry 1 (hostname bad.test), match 1: path: regular expression \"/(a\": "},
		{entry("", "bad.test", regex("/a)|(/b")), "unexpected )"},
		{entry("", "bad.test", withHeader(prefix("/"), "x", "~[")), "match 0: header \"x\": regular expression \"[\": "},
		{entry("", "bad.test", withQuery(prefix("/"), "v", "~*")), "match 0: query parameter \"v\": regular expression \"*\": "},
		{entry("", "bad.test", plan.Match{}), "match 0: path: unknown type 0"},
		{entry("", "bad.test", prefix("a")), `path "a": path does not start with '/'`},
		{entry("", "bad.test", exact("")), `path "": path does not start with '/'`},
		{entry("", "bad.test", exact("/%zz")), `path "/%zz": '%' in path is not`},
		{entry("", "bad.test", exact("/a//b")), `path "/a//b" is not canonical: it should be "/a/b"`},
		{entry("", "bad.test", prefix("/a/")), `path prefix "/a/" ends with '/'`},
		{entry("", "*.*.test", prefix("/")), `entry 1: hostname "*.*.test": a wildcard`},
		{entry("", "*test", prefix("/")), `hostname "*test": a wildcard`},
		{entry("", "a.*", prefix("/")), `hostname "a.*": a wildcard`},
		{entry("", "*.", prefix("/")), `hostname "*.": there is no name`},
		{Entry[string]{Hostnames: []string{""}}, `hostname "": there is no name`},
		{entry("", ".good.test", prefix("/")), `hostname ".good.test": it has an empty label`},
		{entry("", "a..test", prefix("/")), `hostname "a..test": it has an empty label`},
		{entry("", "a.test.", prefix("/")), `hostname "a.test.": it has an empty label`},
		{entry("", "A.test", prefix("/")), `hostname "A.test": it is not in lower case`},
		{entry("", strings.Repeat("a", 254), prefix("/")), "it is longer than 253 bytes"},
	} {
		table, err := Build([]Entry[string]{good, c.bad}, nil)
		if err == nil || table != nil {
			t.Errorf("%+v: no error; want %q", c.bad, c.want)
		} else if !strings.HasPrefix(err.Error(), "route: entry 1") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %q; want %q", c.bad, err, c.want)
		}
	}
}

// hostsOf returns the compiled hosts of a table by name.
func hostsOf[T comparable](t *Table[T]) map[string]*host[T] {
	hosts := map[string]*host[T]{}
	t.eachHost(func(h *host[T]) { hosts[h.name] = h })
	return hosts
}

func TestBuildKeepsTheHostsWhoseEntriesAreUnchanged(t *testing.T) {
	a1 := entry("a1", "a.test *.w.test", prefix("/1"))
	a2 := entry("a2", "a.test", prefix("/2"))
	b := entry("b", "b.test *", prefix("/"))
	for _, c := range []struct {
		name    string
		entries []Entry[string]
		kept    string
	}{
		{"nothing changed", []Entry[string]{a1, a2, b}, "a.test .w.test b.test *"},
		{"other hosts in front", []Entry[string]{entry("n", "n.test", prefix("/")), b, a1, a2}, "a.test .w.test b.test *"},
		{"an entry more", []Entry[string]{a1, a2, entry("b2", "b.test", exact("/")), b}, "a.test .w.test *"},
		{"an entry less", []Entry[string]{a1, b}, ".w.test b.test *"},
		{"another value", []Entry[string]{a1, entry("new", "a.test", prefix("/2")), b}, ".w.test b.test *"},
		{"another order", []Entry[string]{a2, a1, b}, ".w.test b.test *"},
		{"host gone", []Entry[string]{a1, a2}, "a.test .w.test"},
		{"nothing left", nil, ""},
	} {
		prev := build(t, a1, a2, b)
		table, err := Build(c.entries, prev)
		if err != nil {
			t.Fatal(err)
		}
		before := hostsOf(prev)
		var kept []string
		for name, h := range hostsOf(table) {
			if before[name] == h {
				kept = append(kept, name)
			}
		}
		want := strings.Fields(c.kept)
		slices.Sort(kept)
		slices.Sort(want)
		if !slices.Equal(kept, want) {
			t.Errorf("%s: kept the hosts %q; want %q", c.name, kept, want)
		}
	}
}

func TestTablesShareTheirExpressions(t *testing.T) {
	entries := []Entry[string]{
		entry("a", "a.test", regex("/a+"), withHeader(prefix("/"), "x", "~/a+")),
		entry("b", "b.test", withQuery(exact("/"), "v", "~/a+"), regex("/b+")),
	}
	prev := build(t, entries...)
	table, err := Build([]Entry[string]{
		entries[0], entry("b changed", "b.test", regex("/b+"), regex("/a+")), entry("c", "c.test", regex("/b+")),
	}, prev)
	if err != nil {
		t.Fatal(err)
	}
	byExpr := map[string]*pattern{}
	for _, tb := range []*Table[string]{prev, table} {
		tb.eachHost(func(h *host[string]) {
			for _, p := range h.rare.patterns {
				if byExpr[p.expr] == nil {
					byExpr[p.expr] = p
				}
				if byExpr[p.expr] != p {
					t.Errorf("%s was compiled twice", p.expr)
				}
			}
		})
	}
	if len(byExpr) != 2 {
		t.Errorf("%d expressions; want 2", len(byExpr))
	}
	wantTaker(t, table, request("GET b.test/bb", nil), "b changed")
	wantTaker(t, table, request("GET c.test/bb", nil), "c")
}

func TestTableCountsItsEntriesAndHosts(t *testing.T) {
	table := build(t, entry("a", "a.test a.test *.a.test", prefix("/")), entry("b", "a.test *", prefix("/")))
	if table.Len() != 2 || table.Hosts() != 3 {
		t.Errorf("%d entries, %d hosts; want 2 and 3", table.Len(), table.Hosts())
	}
	if n := len(hostsOf(table)["a.test"].candidates); n != 2 {
		t.Errorf("a.test has %d candidates; want one of each entry, however often it names the host", n)
	}
}

// Long segments are told apart by their labels, whatever their keys are.
func TestSegmentsOfAnyLengthAreToldApart(t *testing.T) {
	var entries []Entry[string]
	paths := []string{"/"}
	for n := 1; n < 530; n++ {
		paths = append(paths, "/"+strings.Repeat("s", n))
	}
	for _, middle := range []string{"a", "b", "aa", "ab"} { // the same ends
		paths = append(paths, "/x/beginning-"+middle+"-end-of-it")
	}
	for _, p := range paths {
		entries = append(entries, entry(p, "h.test", exact(p)))
	}
	table := build(t, entries...)
	for _, p := range paths {
		if got, _ := table.Match(request("GET h.test"+p, nil)); got != p {
			t.Errorf("%d bytes are taken by %d", len(p), len(got))
		}
	}
	wantTaker(t, table, request("GET h.test/x/beginning-c-end-of-it", nil), "")
	for n := range 300 {
		s := []byte(strings.Repeat("x", n))
		if got, want := segmentKey(s)>>56, uint64(min(n, 255)); got != want {
			t.Errorf("the key of %d bytes says %d", n, got)
		}
	}
}

func TestMatchGoesOnWhileTablesAreBuilt(t *testing.T) {
	const hosts = 50
	entries := make([]Entry[*rule], hosts)
	for i := range entries {
		entries[i] = Entry[*rule]{
			Hostnames: []string{fmt.Sprintf("h%d.test", i)}, Matches: []plan.Match{prefix("/"), regex("/[a-z]+")},
			Value: &rule{fmt.Sprint(i)},
		}
	}
	table, err := Build(entries, nil)
	if err != nil {
		t.Fatal(err)
	}
	tables := make(chan *Table[*rule], 4)
	var readers sync.WaitGroup
	for range cap(tables) {
		readers.Go(func() {
			for table := range tables {
				for i := range hosts {
					r := request(fmt.Sprintf("GET h%d.test/x?v=1", i), nil)
					if got, ok := table.Match(r); !ok || got.name != fmt.Sprint(i) {
						t.Errorf("h%d.test is taken by %v", i, got)
					}
				}
			}
		})
	}
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 100 {
		for range cap(tables) {
			tables <- table
		}
		entries = slices.Clone(entries)
		i := rnd.IntN(hosts)
		entries[i].Value = &rule{entries[i].Value.name}
		if table, err = Build(entries, table); err != nil {
			t.Fatal(err)
		}
	}
	close(tables)
	readers.Wait()
}
