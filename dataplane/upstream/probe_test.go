package upstream_test

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/internal/memnet"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/upstream"
)

// active is a check every ten seconds of what its type says.
func active(kind plan.CheckType, change ...func(c *plan.ActiveCheck)) func(p *plan.Policy) {
	return func(p *plan.Policy) {
		p.Active = plan.ActiveCheck{
			Type: kind, Interval: 10 * time.Second, Timeout: 2 * time.Second, JitterPercent: 10,
			UnhealthyThreshold: 3, HealthyThreshold: 2, Path: "/health", Method: "GET",
		}
		p.Active.Expected.Add(200, 399)
		for _, c := range change {
			c(&p.Active)
		}
	}
}

// clinic is a ward whose endpoints are servers on a network in memory, and are
// checked.
type clinic struct {
	*ward
	net    *memnet.Network
	answer [8]atomic.Int32 // status of each endpoint; 0: silence
	seenMu sync.Mutex
	checks [8][]checkSeen

	end func()
}

type checkSeen struct {
	at           time.Time
	method, path string
	host         string
}

// connectTime of a check gives a test the time to change answers before it.
const connectTime = time.Millisecond

// inClinic runs a test of a pool of n endpoints that are checked. An endpoint
// answers with 200 until answer says otherwise.
func inClinic(t *testing.T, n int, k plan.PoolKey, f func(c *clinic)) {
	t.Helper()
	inWard(t, 0, k, func(w *ward) {
		c := &clinic{ward: w, net: memnet.New()}
		w.r.Dial = func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
			select {
			case <-time.After(connectTime):
				return c.net.Dial(a)
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		var servers []*http.Server
		for i := range n {
			c.answer[i].Store(200)
			s := &http.Server{Handler: c.handler(i), ReadHeaderTimeout: time.Minute, Protocols: new(http.Protocols)}
			s.Protocols.SetHTTP1(true)
			s.Protocols.SetUnencryptedHTTP2(true)
			servers = append(servers, s)
			go func() { _ = s.Serve(c.net.Listen(addr(i))) }()
		}
		ctx, cancel := context.WithCancel(w.Context())
		var run sync.WaitGroup
		run.Go(func() { w.r.Run(ctx) })
		synctest.Wait()
		c.end = sync.OnceFunc(func() {
			cancel()
			run.Wait()
			for _, s := range servers {
				_ = s.Close()
			}
		})
		defer c.end()
		w.r.Prepare(pools(k, n))
		f(c)
	})
}

func (c *clinic) handler(i int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.seenMu.Lock()
		c.checks[i] = append(c.checks[i], checkSeen{time.Now(), r.Method, r.RequestURI, r.Host})
		c.seenMu.Unlock()
		status := int(c.answer[i].Load())
		if status == 0 {
			<-r.Context().Done()
			return
		}
		w.WriteHeader(status)
	})
}

func (c *clinic) seen(i int) []checkSeen {
	synctest.Wait()
	c.seenMu.Lock()
	defer c.seenMu.Unlock()
	return slices.Clone(c.checks[i])
}

func TestChecksTakeAnEndpointOutAndLetItInByTheirThresholds(t *testing.T) {
	inClinic(t, 3, keyWith(plan.LeastRequest, active(plan.CheckHTTP)), func(c *clinic) {
		time.Sleep(25 * time.Second)
		c.wantTold()
		c.answer[0].Store(503)
		before := len(c.seen(0))
		for len(c.seen(0)) < before+2 {
			time.Sleep(100 * time.Millisecond)
		}
		c.wantTold() // two of three
		for len(c.seen(0)) < before+3 {
			time.Sleep(100 * time.Millisecond)
		}
		c.wantTold("0: serving>unhealthy")
		if c.why[0] != "its checks fail: status 503" {
			t.Error(c.why[0])
		}
		c.wantOthers(0)
		if h := c.Health(); h != (plan.PoolHealth{Ready: 2, Unhealthy: 1}) {
			t.Errorf("%+v", h)
		}
		c.answer[0].Store(204)
		recovered := time.Now()
		time.Sleep(9 * time.Second) // one good check at most
		c.wantTold()
		time.Sleep(13 * time.Second)
		c.wantTold("0: unhealthy>serving")
		t.Logf("let in %s after it recovered at the latest", time.Since(recovered))
		if g, b := c.Tally().ProbesGood.Load(), c.Tally().ProbesBad.Load(); g < 9 || b != 3 {
			t.Errorf("%d good and %d bad checks counted", g, b)
		}
	})
}

func TestAChecksRequestIsAsConfigured(t *testing.T) {
	k := keyWith(plan.LeastRequest, active(plan.CheckHTTP, func(c *plan.ActiveCheck) {
		c.Path, c.Host, c.Method, c.Expected = "/up?deep=1", "shop.example.com", "HEAD", plan.StatusSet{}
		c.Expected.Add(418, 418)
	}))
	inClinic(t, 1, k, func(c *clinic) {
		time.Sleep(time.Second)
		if s := c.seen(0)[0]; s.method != "HEAD" || s.path != "/up?deep=1" || s.host != "shop.example.com" {
			t.Errorf("%+v", s)
		}
		time.Sleep(time.Minute)
		c.wantTold("0: serving>unhealthy")
		c.answer[0].Store(418)
		time.Sleep(30 * time.Second)
		c.wantTold("0: unhealthy>serving")
	})
}

func TestChecksAreMadeAtOnceThenSpreadOverTheIntervalWithJitter(t *testing.T) {
	inClinic(t, 8, keyWith(plan.LeastRequest, active(plan.CheckHTTP)), func(c *clinic) {
		began := time.Now()
		time.Sleep(5 * time.Minute)
		var phases []time.Duration
		for i := range 8 {
			seen := c.seen(i)
			if !seen[0].at.Equal(began.Add(connectTime)) {
				t.Errorf("the first check of %d is after %s", i, seen[0].at.Sub(began))
			}
			phases = append(phases, seen[1].at.Sub(began))
			for j := 2; j < len(seen); j++ {
				if d := seen[j].at.Sub(seen[j-1].at); d < 9*time.Second || d > 11*time.Second {
					t.Errorf("%s between two checks", d)
				}
			}
		}
		slices.Sort(phases)
		if phases[7]-phases[0] < time.Second || phases[7] > 10*time.Second {
			t.Errorf("the second checks come after %v", phases)
		}
	})
}

func TestSilentAndRefusingEndpointsFailTheirChecks(t *testing.T) {
	inClinic(t, 2, keyWith(plan.LeastRequest, active(plan.CheckHTTP)), func(c *clinic) {
		c.answer[0].Store(0)
		c.r.Prepare(pools(c.Key, 3)) // nothing listens at the third
		time.Sleep(40 * time.Second)
		c.mu.Lock()
		why := strings.Join(c.why, "; ")
		c.mu.Unlock()
		if !strings.Contains(why, "no answer within 2s") || !strings.Contains(why, "refused") {
			t.Error(why)
		}
		c.wantOthers(0)
		c.wantOthers(2)
	})
}

func TestTCPChecksAskForAConnectionAndMayUseAnotherPort(t *testing.T) {
	k := keyWith(plan.LeastRequest, active(plan.CheckTCP, func(c *plan.ActiveCheck) { c.Port = 9000 }))
	inClinic(t, 2, k, func(c *clinic) {
		l := c.net.Listen(netip.AddrPortFrom(addr(0).Addr(), 9000))
		time.Sleep(time.Minute)
		c.wantTold("1: serving>unhealthy")
		_ = l.Close()
		time.Sleep(time.Minute)
		c.wantState(0, "unhealthy")
	})
}

// health answers as a gRPC server with the health service.
type grpcHealth struct{ status atomic.Int32 }

func (h *grpcHealth) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Trailer", "Grpc-Status")
	body := make([]byte, 64)
	n, _ := r.Body.Read(body)
	switch {
	case r.Method != "POST" || r.URL.Path != "/grpc.health.v1.Health/Check" || r.ProtoMajor != 2 || r.Header.Get("Te") != "trailers":
		w.Header().Set("Grpc-Status", "12")
	case string(body[:n]) != "\x00\x00\x00\x00\x06\x0a\x04shop":
		w.Header().Set("Grpc-Status", "5")
	default:
		_, _ = w.Write([]byte{0, 0, 0, 0, 2, 8, byte(h.status.Load())})
		w.Header().Set("Grpc-Status", "0")
	}
}

func TestGRPCChecksAskTheHealthService(t *testing.T) {
	k := keyWith(plan.LeastRequest, active(plan.CheckGRPC, func(c *plan.ActiveCheck) { c.Port, c.Service = 9000, "shop" }))
	inClinic(t, 1, k, func(c *clinic) {
		h := &grpcHealth{}
		h.status.Store(1)
		s := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute, Protocols: new(http.Protocols)}
		s.Protocols.SetUnencryptedHTTP2(true)
		defer s.Close()
		// The first checks are refused: fewer than the threshold.
		go func() { _ = s.Serve(c.net.Listen(netip.AddrPortFrom(addr(0).Addr(), 9000))) }()
		time.Sleep(time.Minute)
		c.wantTold()
		if c.Tally().ProbesGood.Load() < 4 {
			t.Error("it does not pass")
		}
		h.status.Store(2) // NOT_SERVING
		time.Sleep(time.Minute)
		c.wantTold("0: serving>unhealthy")
		if c.why[0] != "its checks fail: the gRPC service is not serving (2)" {
			t.Error(c.why[0])
		}
		h.status.Store(1)
		time.Sleep(time.Minute)
		c.wantTold("0: unhealthy>serving")
	})
}

func TestAPassingCheckEndsNoEjectionAndAFailingOneKeepsItOut(t *testing.T) {
	inClinic(t, 4, keyWith(plan.LeastRequest, active(plan.CheckHTTP), passive), func(c *clinic) {
		time.Sleep(time.Second)
		failTimes(c.Pool, addr(0), 5)
		until := c.view(0).Until
		time.Sleep(25 * time.Second) // two or three good checks
		c.wantTold("0: serving>ejected")
		c.wantState(0, "ejected")

		c.answer[0].Store(500)
		time.Sleep(40 * time.Second)
		c.wantTold("0: ejected>unhealthy")
		if !time.Now().After(until) {
			t.Fatal("the ejection is not over")
		}
		c.wantOthers(0) // no trial while its checks fail
		failTimes(c.Pool, addr(1), 5)
		time.Sleep(33 * time.Second)
		turn := c.trial(1) // though that of another one is due
		done(&turn)
		c.wantTold("1: serving>ejected", "1: ejected>probing", "1: probing>serving")

		c.answer[0].Store(200)
		time.Sleep(25 * time.Second)
		c.wantTold("0: unhealthy>ejected")
		turn = c.trial(0)
		done(&turn)
		c.wantTold("0: ejected>probing", "0: probing>serving")
	})
}

func TestTenRulesOverOneServiceAreOneSetOfChecks(t *testing.T) {
	inClinic(t, 2, keyWith(plan.LeastRequest, active(plan.CheckHTTP)), func(c *clinic) {
		for range 10 {
			c.r.Prepare(pools(c.Key, 2)) // the plan has a pool once, whoever names it
		}
		time.Sleep(100 * time.Second)
		if n := len(c.seen(0)); n < 9 || n > 13 {
			t.Errorf("%d checks in ten intervals", n)
		}
	})
}

func TestChecksEndAtOnceWithTheirEndpointPoolOrProcess(t *testing.T) {
	inClinic(t, 3, keyWith(plan.LeastRequest, active(plan.CheckHTTP)), func(c *clinic) {
		for i := range 3 {
			c.answer[i].Store(0) // each check hangs until its timeout
		}
		time.Sleep(time.Second)
		began := time.Now()
		fewer := pools(c.Key, 2)
		c.r.Prepare(fewer)
		n := len(c.seen(2))
		time.Sleep(time.Minute)
		if len(c.seen(2)) != n {
			t.Error("an endpoint that is gone is checked")
		}
		c.r.Retire(nil)
		n = len(c.seen(0))
		time.Sleep(time.Minute)
		if len(c.seen(0)) != n {
			t.Error("a pool that is gone is checked")
		}
		c.r.Prepare(pools(c.Key, 2))
		time.Sleep(time.Second)
		ended := time.Now()
		c.end() // waits for the checks
		if time.Since(ended) != 0 || time.Since(began) < 2*time.Minute {
			t.Errorf("the end took %s", time.Since(ended))
		}
		for _, w := range c.why {
			if !strings.Contains(w, "no answer") {
				t.Errorf("a check that was ended counts: %s", w)
			}
		}
	})
}

func TestAVerdictIsInheritedUntilTheNewPolicysFirstCheck(t *testing.T) {
	inClinic(t, 2, keyWith(plan.LeastRequest, active(plan.CheckHTTP)), func(c *clinic) {
		c.answer[0].Store(404) // the path is wrong
		c.answer[1].Store(404)
		time.Sleep(time.Minute)
		if h := c.Health(); h.Unhealthy != 2 {
			t.Fatalf("%+v", h)
		}
		c.answer[0].Store(200) // as if the policy had it right now
		edited := keyWith(plan.LeastRequest, active(plan.CheckHTTP, func(a *plan.ActiveCheck) { a.Path = "/healthz" }))
		pl := append(pools(edited, 2), pools(c.Key, 2)...)
		c.r.Prepare(pl)
		p := c.r.Pool(edited)
		if h := p.Health(); h.Unhealthy != 2 {
			t.Errorf("nothing is inherited: %+v", h)
		}
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		if h := p.Health(); h.Unhealthy != 1 || h.Ready != 1 {
			t.Errorf("after the first check of its own: %+v", h)
		}
	})
}

func TestReadinessWaitsForTheFirstResultsAndNotForever(t *testing.T) {
	k := keyWith(plan.LeastRequest, active(plan.CheckHTTP))
	inClinic(t, 3, k, func(c *clinic) {
		c.answer[1].Store(0)
		c.r.AwaitChecks()
		began := time.Now()
		for c.r.Warm(time.Now()) != nil {
			time.Sleep(100 * time.Millisecond)
		}
		if d := time.Since(began); d < 2*time.Second || d > 3*time.Second {
			t.Errorf("warm after %s, want the timeout of the check that hangs", d)
		}
		if c.r.Failing() != nil {
			t.Error("two endpoints pass")
		}
		for i := range 3 {
			c.answer[i].Store(500)
		}
		time.Sleep(time.Minute)
		if c.r.Failing() != c.Pool {
			t.Error("no endpoint passes")
		}
		// A later pool is not waited for.
		other := k
		other.Service = "later"
		c.r.Prepare(append(pools(k, 3), pools(other, 3)...))
		if c.r.Warm(time.Now()) != nil {
			t.Error("a later pool is waited for")
		}
	})
}

// A dial that nobody answers goes on for two minutes unless it is ended.
func TestACheckThatCannotConnectEndsWithItsTimeout(t *testing.T) {
	for _, kind := range []plan.CheckType{plan.CheckHTTP, plan.CheckGRPC, plan.CheckTCP} {
		synctest.Test(t, func(t *testing.T) {
			r := upstream.NewRegistry()
			var dials, most atomic.Int64
			r.Dial = func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) { // into the void
				n := dials.Add(1)
				defer dials.Add(-1)
				most.Store(max(most.Load(), n))
				select {
				case <-ctx.Done():
					return nil, ctx.Err()
				case <-time.After(127 * time.Second): // when the kernel gives up
					return nil, context.DeadlineExceeded
				}
			}
			r.Prepare(pools(keyWith(plan.LeastRequest, active(kind)), 2))
			ctx, cancel := context.WithCancel(t.Context())
			var run sync.WaitGroup
			run.Go(func() { r.Run(ctx) })
			time.Sleep(2 * time.Minute)
			if n := most.Load(); n > 4 { // one ends as the next begins
				t.Errorf("kind %d: %d connections to 2 endpoints are being made at a time", kind, n)
			}
			cancel()
			run.Wait()
			synctest.Wait()
			if n := dials.Load(); n > 0 {
				t.Errorf("kind %d: %d connections are being made after the end", kind, n)
			}
			time.Sleep(3 * time.Minute)
		})
	}
}

func TestEveryEndpointIsCheckedHoweverManyHang(t *testing.T) {
	const n = 400 // more than can be checked in an interval
	change := active(plan.CheckTCP, func(c *plan.ActiveCheck) { c.Timeout = 9 * time.Second })
	synctest.Test(t, func(t *testing.T) {
		r := upstream.NewRegistry()
		var mu sync.Mutex
		got := map[netip.AddrPort]int{}
		r.Dial = func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
			mu.Lock()
			got[a]++
			mu.Unlock()
			<-ctx.Done()
			return nil, ctx.Err()
		}
		r.Prepare(pools(keyWith(plan.LeastRequest, change), n))
		ctx, cancel := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() { r.Run(ctx) })
		time.Sleep(5 * time.Minute)
		cancel()
		run.Wait()
		least, most := 1000, 0
		for i := range n {
			least, most = min(least, got[addr(i)]), max(most, got[addr(i)])
		}
		t.Logf("%d to %d checks of each", least, most)
		if least < most/2 {
			t.Errorf("an endpoint had %d checks, another one %d", least, most)
		}
	})
}

// A process that was out of file descriptors took all endpoints for broken,
// because it could not check them.
func TestACheckThatThisProcessCannotMakeSaysNothing(t *testing.T) {
	for _, kind := range []plan.CheckType{plan.CheckHTTP, plan.CheckTCP} {
		inClinic(t, 2, keyWith(plan.LeastRequest, active(kind)), func(c *clinic) {
			dial := c.r.Dial
			var short atomic.Bool
			short.Store(true)
			c.r.Dial = func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
				if short.Load() {
					return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("socket", syscall.EMFILE)}
				}
				return dial(ctx, a)
			}
			// Beside the pool that could connect at its start, whose checks go on.
			p := pools(keyWith(plan.LeastRequest, active(kind, func(c *plan.ActiveCheck) { c.Interval = 9 * time.Second })), 2)
			c.r.Prepare(p)
			time.Sleep(5 * time.Minute)
			tally := c.r.Pool(p[0].Key).Tally()
			if n := tally.ProbesBad.Load(); n != 0 {
				t.Errorf("kind %d: %d checks failed", kind, n)
			}
			short.Store(false)
			good := tally.ProbesGood.Load()
			time.Sleep(10 * time.Second)
			if tally.ProbesGood.Load() == good {
				t.Errorf("kind %d: no check was made when it could be", kind)
			}
		})
	}
}
