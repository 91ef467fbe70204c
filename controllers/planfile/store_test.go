package planfile

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// somePlan has a value in every kind of field.
func somePlan(host string) plan.Plan {
	key := plan.PoolKey{Namespace: "shop", Service: "api", Port: 80, Policy: plan.Policy{
		LoadBalancing: plan.LoadBalancing{Balancer: plan.ConsistentHash, Hash: plan.HashKey{Source: plan.HashCookie, Name: "u"}},
		DrainTimeout:  time.Minute,
	}}
	key.Policy.Passive.Statuses.Add(502, 504)
	return plan.Plan{
		Routes: []*plan.Route{{
			Namespace: "shop", Name: "site", Hostnames: []string{host},
			Rules: []plan.Rule{{
				Name:    "all",
				Matches: []plan.Match{{Path: plan.PathMatch{Type: plan.PathPrefix, Value: "/"}, Headers: []plan.ValueMatch{{Name: "x", Value: "1"}}}},
				Legs:    []plan.Leg{{Weight: 1, Pool: key}}, Session: plan.Session{Cookie: "c", Key: [32]byte{1, 2, 31: 3}},
			}},
		}},
		Pools: []plan.Pool{{Key: key, Endpoints: []plan.Endpoint{
			{Addr: netip.MustParseAddrPort("10.0.0.1:8080"), State: plan.Draining, Far: true},
			{Addr: netip.MustParseAddrPort("[2001:db8::1]:8080")},
		}}},
	}
}

// save is a plan to be saved by one of three replicas.
func save(host string) Saved { return Saved{somePlan(host), 3} }

func newStore(t *testing.T) (*Store, string) {
	dir := filepath.Join(t.TempDir(), "new", "dir")
	s, err := New(dir, func(err error) {
		if err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, dir
}

func TestAPlanComesBackAsItWasSaved(t *testing.T) {
	s, dir := newStore(t)
	if _, _, err := s.Load(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a file: %v", err)
	}
	want := save("a.example.com")
	s.Save(want)
	done, cancel := context.WithCancel(t.Context())
	cancel()
	s.Run(done)
	got, _, err := s.Load()
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v\n got %+v\nwant %+v", err, got, want)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("%v, %v in the directory", err, entries)
	}
	info, err := entries[0].Info()
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, mode %s", err, info.Mode())
	}
}

// The number of replicas was not in the file: after a start without the API server
// each replica let through what was for all of them.
func TestAFileFromBeforeTheNumberOfReplicasWasInItIsReadWithoutOne(t *testing.T) {
	s, dir := newStore(t)
	want := somePlan("a.example.com")
	var body bytes.Buffer
	if err := gob.NewEncoder(&body).Encode(&want); err != nil {
		t.Fatal(err)
	}
	old := append(fmt.Appendf(nil, header, fingerprint(), body.Len(), checksum(body.Bytes())), body.Bytes()...)
	if err := os.WriteFile(filepath.Join(dir, fileName), old, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, _, err := s.Load(); err != nil || !reflect.DeepEqual(got, Saved{Plan: want}) {
		t.Errorf("%v\n got %+v\nwant %+v", err, got, want)
	}
}

func TestPlansThatComeFastAreWrittenEveryTenSecondsAndTheLastAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		writes := 0
		s, err := New(t.TempDir(), func(error) { writes++ })
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { s.Run(ctx); close(ended) }()
		for range 25 {
			s.Save(save("b.example.com"))
			time.Sleep(time.Second)
		}
		s.Save(save("last.example.com"))
		cancel()
		<-ended
		if writes != 4 {
			t.Errorf("%d writes, want those at 0, 10, 20 s and the end", writes)
		}
		if p, _, err := s.Load(); err != nil || p.Plan.Routes[0].Hostnames[0] != "last.example.com" {
			t.Errorf("%v %v", p.Plan.Routes, err)
		}
	})
}

func TestAFileThatIsNotWholeOrOfAnotherVersionIsRefused(t *testing.T) {
	s, dir := newStore(t)
	p := save("a.example.com")
	good, err := encode(&p)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(good)
	flipped[len(flipped)-3] ^= 1
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"empty":           {nil, "no plan"},
		"something else":  {[]byte("kind: Plan\n"), "no plan"},
		"another format":  {bytes.Replace(good, []byte("ferrum-plan 1"), []byte("ferrum-plan 2"), 1), "no plan"},
		"cut":             {good[:len(good)-1], "damaged"},
		"longer":          {append(bytes.Clone(good), 'x'), "damaged"},
		"a flipped bit":   {flipped, "damaged"},
		"other types":     {bytes.Replace(good, []byte(fingerprint()), []byte("0123456789abcdef"), 1), "another version"},
		"the header only": {[]byte(strings.SplitAfter(string(good), "\n")[0]), "damaged"},
	} {
		if err := os.WriteFile(filepath.Join(dir, fileName), c.data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Load(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want it to say %q", name, err, c.want)
		}
	}
}

func TestAFailureToWriteIsToldAndLeavesTheFileBefore(t *testing.T) {
	dir := t.TempDir()
	var failure error
	s, err := New(dir, func(err error) { failure = err })
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	s.Save(save("a.example.com"))
	s.flush()
	if failure == nil {
		t.Error("nobody was told")
	}
	if _, err := New(filepath.Join(os.DevNull, "x"), nil); err == nil {
		t.Error("a directory that cannot be made was taken")
	}
}

// A disk that is full for a while must not leave the file stale until the next
// change of the cluster.
func TestAPlanThatCouldNotBeWrittenIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "snapshot")
		var failed, written int
		s, err := New(dir, func(err error) {
			if err != nil {
				failed++
			} else {
				written++
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { s.Run(ctx); close(ended) }()
		s.Save(save("a.example.com"))
		time.Sleep(interval + time.Second)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * interval)
		cancel()
		<-ended
		if failed != 2 || written != 1 {
			t.Errorf("%d failures and %d writes, want 2 and 1", failed, written)
		}
		if p, _, err := s.Load(); err != nil || p.Plan.Routes[0].Hostnames[0] != "a.example.com" {
			t.Errorf("%v %v", p.Plan.Routes, err)
		}
	})
}

// kill -9 in the middle of a write leaves a temporary file, and the plan as it
// was. A process that is killed again and again must not fill the disk.
func TestWhatAKilledProcessLeavesIsRemovedAndWhatAnotherOneWritesIsNot(t *testing.T) {
	s, dir := newStore(t)
	s.Save(save("a.example.com"))
	s.flush()
	old, fresh := filepath.Join(dir, ".plan-1"), filepath.Join(dir, ".plan-2")
	for _, name := range []string{old, fresh} {
		if err := os.WriteFile(name, []byte("ferrum-plan 1 "), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(old, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	s, err := New(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file that was left: %v", err)
	}
	if _, err := os.Stat(fresh); err != nil {
		t.Errorf("the file of a process that writes: %v", err)
	}
	if p, _, err := s.Load(); err != nil || p.Plan.Routes[0].Hostnames[0] != "a.example.com" {
		t.Errorf("%v %v", p.Plan.Routes, err)
	}
}

// Clocks go wrong: when a file says it was written in the future it is served all
// the same, as the time decides nothing.
func TestAPlanFromTheFutureIsServed(t *testing.T) {
	s, dir := newStore(t)
	s.Save(save("a.example.com"))
	s.flush()
	future := time.Now().Add(48 * time.Hour)
	if err := os.Chtimes(filepath.Join(dir, fileName), future, future); err != nil {
		t.Fatal(err)
	}
	if p, at, err := s.Load(); err != nil || len(p.Plan.Routes) != 1 || !at.Equal(future) {
		t.Errorf("%v %v %v", p.Plan.Routes, at, err)
	}
}

func TestTheFingerprintChangesWithTheTypes(t *testing.T) {
	type inner struct{ A, B int }
	for _, pair := range [][2]any{{inner{}, struct{ A, B int }{}}, {[]int{}, []uint{}}, {[3]int{}, [4]int{}}} {
		var a, b strings.Builder
		describe(&a, reflect.TypeOf(pair[0]))
		describe(&b, reflect.TypeOf(pair[1]))
		if a.String() == b.String() {
			t.Errorf("%T and %T are both %s", pair[0], pair[1], a.String())
		}
	}
	var b strings.Builder
	describe(&b, reflect.TypeFor[plan.Plan]())
	for _, field := range []string{"Routes slice ptr Route{", "DrainTimeout time.Duration", "Key 32 uint8"} {
		if !strings.Contains(b.String(), field) {
			t.Errorf("%q is not in %s", field, b.String())
		}
	}
}

// What is in the file may be anything: it must give a plan or an error.
func FuzzLoad(f *testing.F) {
	p := save("a.example.com")
	good, err := encode(&p)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:40])
	f.Add([]byte("ferrum-plan 1 x -1 y\n"))
	_, body, _ := bytes.Cut(good, []byte("\n"))
	f.Add(body)
	f.Fuzz(func(t *testing.T, data []byte) {
		if p, err := decode(data); err != nil && p.Plan.Routes != nil {
			t.Error("an error and a plan")
		}
	})
}
