package proxy_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/server"
)

// quietTunnel grants an upgrade, says "hello" and reports how its connection
// ends and when.
func quietTunnel(ended chan<- time.Time) func(c net.Conn, r *bufio.Reader) {
	return func(c net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello")
		_, _ = io.Copy(io.Discard, r)
		ended <- time.Now()
	}
}

// wantEnd reads the end of the stream, which must come like that of a stream that
// is over, and returns when it came.
func (p *peer) wantEnd() time.Time {
	p.t.Helper()
	if rest, err := io.ReadAll(p.r); err != nil || len(rest) > 0 {
		p.t.Errorf("the tunnel ended with %q, %v", rest, err)
	}
	return time.Now()
}

func TestADrainGivesTunnelsATimeOfTheirOwn(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		ended := make(chan time.Time, 1)
		b.backend(backendAddr, quietTunnel(ended))
		b.apply(onePool(backendAddr))
		c := b.dial()
		c.upgrade()
		c.readText("hello")
		began := time.Now()
		cut := make(chan server.Cut)
		go func() {
			cut <- b.srv.Drain(t.Context(), server.DrainTimes{Delay: 5 * time.Second, Timeout: 30 * time.Second, Upgraded: time.Minute})
		}()
		if d := c.wantEnd().Sub(began); d != 65*time.Second {
			t.Errorf("the client was told after %s", d)
		}
		if d := (<-ended).Sub(began); d != 65*time.Second {
			t.Errorf("the endpoint was told after %s", d)
		}
		_ = c.Close()
		if n := <-cut; n != (server.Cut{Upgraded: 1}) {
			t.Errorf("counted as %+v", n)
		}
		if r := b.sink.last(t); r.Reason != proxy.ReasonShutdown {
			t.Errorf("recorded as %s", r.Reason)
		}
	})
}

func TestATunnelThatEndsInTimeIsNotCut(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.backend(backendAddr, quietTunnel(make(chan time.Time, 1)))
		b.apply(onePool(backendAddr))
		c := b.dial()
		c.upgrade()
		c.readText("hello")
		time.AfterFunc(40*time.Second, func() { _ = c.CloseWrite() })
		began := time.Now()
		cut := b.srv.Drain(t.Context(), server.DrainTimes{Timeout: 30 * time.Second, Upgraded: time.Minute})
		if d := time.Since(began); cut != (server.Cut{}) || d != 40*time.Second {
			t.Errorf("%+v after %s", cut, d)
		}
		if r := b.sink.last(t); r.Reason != proxy.ReasonOK {
			t.Errorf("recorded as %s", r.Reason)
		}
	})
}

func TestTunnelsMayHaveLessTimeThanRequests(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.httpBackend(backendAddr, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Upgrade") == "" {
				time.Sleep(20 * time.Second)
				return
			}
			time.Sleep(10 * time.Second) // the upgrade is granted when its time is up
			nc, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer nc.Close()
			_, _ = io.WriteString(nc, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
			_, _ = io.Copy(io.Discard, nc)
		})
		b.apply(onePool(backendAddr))
		tunnel, request := b.dial(), b.dial()
		tunnel.send(upgradeHead)
		request.send("GET / HTTP/1.1\r\n" + shopHost + "\r\n\r\n")
		synctest.Wait()
		cut := make(chan server.Cut)
		go func() {
			cut <- b.srv.Drain(t.Context(), server.DrainTimes{Timeout: 30 * time.Second, Upgraded: 5 * time.Second})
		}()
		if a := request.read("GET"); a.StatusCode != 200 {
			t.Errorf("the request got %d", a.StatusCode)
		}
		if n := <-cut; n != (server.Cut{Upgraded: 1}) {
			t.Errorf("counted as %+v", n)
		}
	})
}

// TestAWebSocketThatIsStoppedGetsACloseFrame says what the client reads last.
func TestAWebSocketThatIsStoppedGetsACloseFrame(t *testing.T) {
	const ping, text, going = "\x89\x00", "\x81\x05hello", "\x88\x02\x03\xe9"
	for name, c := range map[string]struct{ said, want string }{
		"between frames":                {ping + text, ping + text + going},
		"before the first":              {"", going},
		"between fragments":             {"\x01\x02he\x00\x02ll", "\x01\x02he\x00\x02ll" + going},
		"not inside a frame":            {text + "\x82\x05a", text + "\x82\x05a"},
		"not inside the head of one":    {text + "\x82", text + "\x82"},
		"not behind the endpoint's own": {going, going},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bed) {
				b.backend(backendAddr, func(nc net.Conn, r *bufio.Reader) {
					if _, err := http.ReadRequest(r); err != nil {
						return
					}
					_, _ = io.WriteString(nc, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"+c.said)
					_, _ = io.Copy(io.Discard, r)
				})
				b.apply(onePool(backendAddr))
				client := b.dial()
				client.upgrade()
				began := time.Now()
				go b.srv.Drain(t.Context(), server.DrainTimes{Timeout: time.Minute, Upgraded: time.Minute})
				got, err := io.ReadAll(client.r)
				if d := time.Since(began); string(got) != c.want || err != nil || d != time.Minute {
					t.Errorf("the client read %q, %v after %s, want %q", got, err, d, c.want)
				}
			})
		})
	}
}

// draining is onePool with a time for leaving endpoints, and their states.
func draining(timeout time.Duration, states map[string]plan.EndpointState) plan.Plan {
	p := onePool()
	key := p.Pools[0].Key
	key.Policy.DrainTimeout = timeout
	p.Routes[0].Rules[0].Legs[0].Pool = key
	p.Pools[0] = plan.Pool{Key: key}
	for _, addr := range []string{backendAddr, "10.0.0.2:8080"} {
		if s, ok := states[addr]; ok {
			p.Pools[0].Endpoints = append(p.Pools[0].Endpoints, plan.Endpoint{Addr: netip.MustParseAddrPort(addr), State: s})
		}
	}
	return p
}

func TestTunnelsToAnEndpointThatLeavesEndAfterItsDrainTimeout(t *testing.T) {
	ready := map[string]plan.EndpointState{backendAddr: plan.Ready}
	leaving := map[string]plan.EndpointState{backendAddr: plan.Draining}
	for name, c := range map[string]struct {
		plans []plan.Plan // one every 10 s
		after time.Duration
	}{
		"terminating":               {[]plan.Plan{draining(time.Minute, leaving)}, 70 * time.Second},
		"gone":                      {[]plan.Plan{draining(time.Minute, nil)}, 70 * time.Second},
		"terminating, then gone":    {[]plan.Plan{draining(time.Minute, leaving), draining(time.Minute, nil)}, 70 * time.Second},
		"with its route":            {[]plan.Plan{{}}, 70 * time.Second},
		"and comes back":            {[]plan.Plan{draining(time.Minute, leaving), draining(time.Minute, ready)}, time.Hour},
		"gone, and comes back":      {[]plan.Plan{draining(time.Minute, nil), draining(time.Minute, ready)}, time.Hour},
		"comes back, and leaves":    {[]plan.Plan{draining(time.Minute, nil), draining(time.Minute, ready), draining(time.Minute, nil)}, 90 * time.Second},
		"no, its policy changed":    {[]plan.Plan{draining(time.Second, ready)}, time.Hour},
		"after its policy changed":  {[]plan.Plan{draining(20*time.Second, ready), draining(20*time.Second, leaving)}, 40 * time.Second},
		"while its policy changes":  {[]plan.Plan{draining(20*time.Second, leaving)}, 30 * time.Second},
		"without a limit":           {[]plan.Plan{draining(0, ready), draining(0, nil)}, time.Hour},
		"no, it is just not ready":  {[]plan.Plan{draining(time.Minute, map[string]plan.EndpointState{backendAddr: plan.NotReady})}, time.Hour},
		"one that nothing happened": {nil, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bed) {
				ended := make(chan time.Time, 1)
				b.backend(backendAddr, quietTunnel(ended))
				b.apply(draining(time.Minute, ready))
				tunnel := b.dial()
				tunnel.upgrade()
				tunnel.readText("hello")
				began := time.Now()
				go func() {
					for _, p := range c.plans {
						time.Sleep(10 * time.Second)
						b.apply(p)
					}
				}()
				reason := proxy.ReasonEndpointDrained
				if c.after == time.Hour { // of streamIdle
					reason = proxy.ReasonStreamIdle
				}
				_, _ = io.Copy(io.Discard, tunnel.r)
				if d := time.Since(began); d != c.after {
					t.Errorf("ended after %s, want %s", d, c.after)
				}
				<-ended
				if r := b.sink.last(t); r.Reason != reason {
					t.Errorf("recorded as %s", r.Reason)
				}
			})
		})
	}
}

func TestRequestsToAnEndpointThatLeavesAreNotCut(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.httpBackend(backendAddr, func(w http.ResponseWriter, r *http.Request) {
			for range 10 {
				_, _ = io.WriteString(w, "slow ")
				_ = http.NewResponseController(w).Flush()
				time.Sleep(10 * time.Second)
			}
		})
		b.apply(draining(time.Second, map[string]plan.EndpointState{backendAddr: plan.Ready}))
		c := b.dial()
		c.send("GET / HTTP/1.1\r\n" + shopHost + "\r\n\r\n")
		synctest.Wait()
		b.apply(draining(time.Second, nil))
		if a := c.read("GET"); a.cut != nil || len(a.body) != 50 {
			t.Errorf("%q, %v", a.body, a.cut)
		}
	})
}

// Once a client that had its answer and went on uploading was counted as cut, and
// the process exited as if it had lost something.
func TestAClientThatHasItsAnswerAndIsStillSendingIsNotCut(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.apply(onePool(backendAddr))
		c := b.dial()
		c.send("POST / HTTP/1.1\r\n" + shopHost + "\r\nContent-Length: 10000000\r\n\r\n")
		if a := c.read("POST"); a.StatusCode != 413 {
			t.Fatalf("got %d", a.StatusCode)
		}
		go c.drip(100 * time.Millisecond)
		began := time.Now()
		cut := b.srv.Drain(t.Context(), server.DrainTimes{Timeout: time.Second, Upgraded: time.Second})
		if d := time.Since(began); cut != (server.Cut{}) || d > 3*time.Second {
			t.Errorf("%+v were cut; the drain took %s", cut, d)
		}
		_ = c.Close()
		time.Sleep(time.Second) // for the drip to end
	})
}

// During the delay load balancers still send on the connections that they keep,
// so nobody's is closed before it is over, and then all at once.
func TestIdleConnectionsAreClosedAtTheEndOfTheDelayAndNotBefore(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.httpBackend(backendAddr, func(http.ResponseWriter, *http.Request) {})
		b.apply(onePool(backendAddr))
		idle, used := b.dial(), b.dial()
		get := func(c *peer) answer {
			c.send("GET / HTTP/1.1\r\n" + shopHost + "\r\n\r\n")
			return c.read("GET")
		}
		get(idle)
		get(used)
		began := time.Now()
		cut := make(chan server.Cut)
		go func() {
			cut <- b.srv.Drain(t.Context(), server.DrainTimes{Delay: 5 * time.Second, Timeout: 30 * time.Second, Upgraded: time.Minute})
		}()
		time.Sleep(3 * time.Second)
		if a := get(used); a.StatusCode != 200 || !a.Close {
			t.Errorf("in the delay: %d, Connection: close is %v", a.StatusCode, a.Close)
		}
		if a := get(b.dial()); a.StatusCode != 200 || !a.Close {
			t.Errorf("a new connection in the delay: %d, Connection: close is %v", a.StatusCode, a.Close)
		}
		if d := idle.wantEnd().Sub(began); d != 5*time.Second {
			t.Errorf("an idle connection was closed after %s", d)
		}
		if n := <-cut; n != (server.Cut{}) || time.Since(began) != 5*time.Second {
			t.Errorf("%+v were cut; the drain took %s", n, time.Since(began))
		}
	})
}
