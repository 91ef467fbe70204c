package dataplane_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/telemetry"
)

// TestEachFailureHasItsStatusItsLogLineAndItsMetric goes over sockets, from the
// bytes of a client to the scrape.
func TestEachFailureHasItsStatusItsLogLineAndItsMetric(t *testing.T) {
	const host = "Host: shop.example.com\r\n"
	cases := []struct {
		name, request   string
		status          int
		reason, side    string
		closes          bool
		header          string // that the answer must have
		withoutAnyTable bool
	}{
		{"no table yet", "GET / HTTP/1.1\r\n" + host + "\r\n", 503, "no_table", "proxy", false, "Retry-After", true},
		{"unknown host", "GET / HTTP/1.1\r\nHost: else.example.com\r\n\r\n", 404, "no_route", "proxy", false, "", false},
		{"malformed", "GET / HTTP/1.1\r\n" + host + "Bad Name: x\r\n\r\n", 400, "malformed_request", "client", true, "", false},
		{"too large", "POST / HTTP/1.1\r\n" + host + "Content-Length: 1001\r\n\r\n", 413, "request_body_too_large", "client", true, "", false},
		{"refused", "GET /refused HTTP/1.1\r\n" + host + "\r\n", 502, "connect_refused", "upstream", false, "", false},
		{"silent", "GET /silent HTTP/1.1\r\n" + host + "\r\n", 504, "response_header_timeout", "upstream", false, "", false},
	}
	p := failingPlan(t)
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			log := &lockedBuffer{}
			e := dataplane.New(dataplane.Config{
				HTTP: "127.0.0.1:0", Admin: "127.0.0.1:0", DrainTimeout: 10 * time.Second,
				AccessLog: telemetry.AccessLogConfig{Format: "json", Out: log},
			})
			if !tc.withoutAnyTable {
				if err := e.Apply(p); err != nil {
					t.Fatal(err)
				}
			}
			stop := startEngine(t, e)
			defer stop()
			res, closed := exchangeRaw(t, e.Addr("http").String(), tc.request)
			if res.StatusCode != tc.status || closed != tc.closes || tc.header != "" && res.Header.Get(tc.header) == "" {
				t.Errorf("%d, closed %v, %v", res.StatusCode, closed, res.Header)
			}
			if want := `details="` + tc.reason + `"`; !strings.Contains(res.Header.Get("Proxy-Status"), want) {
				t.Errorf("Proxy-Status is %q, want %s", res.Header.Get("Proxy-Status"), want)
			}
			wantMetric(t, e.Addr("admin").String(), tc.reason, tc.side)
			stop()
			var l struct {
				Status       int
				Reason, Side string
			}
			if err := json.Unmarshal(log.b.Bytes(), &l); err != nil {
				t.Fatalf("%v in %s", err, log.b.String())
			}
			if l.Status != tc.status || l.Reason != tc.reason || l.Side != tc.side {
				t.Errorf("log line: %s", log.b.String())
			}
		})
	}
}

// failingPlan has a rule that is fine, one whose endpoint refuses connections
// and one whose endpoint accepts them and says nothing.
func failingPlan(t *testing.T) plan.Plan {
	silent := listenTCP(t)
	route := &plan.Route{Namespace: "shop", Name: "shop", Hostnames: []string{"shop.example.com"}}
	p := plan.Plan{Routes: []*plan.Route{route}}
	for path, addr := range map[string]netip.AddrPort{"/refused": unusedAddr(t), "/silent": addrOf(silent), "/": addrOf(silent)} {
		name := "rule" + strings.ReplaceAll(path, "/", "-")
		key := plan.PoolKey{Namespace: "shop", Service: name, Port: 80}
		route.Rules = append(route.Rules, plan.Rule{
			Name:     name,
			Matches:  []plan.Match{{Path: plan.PathMatch{Type: plan.PathPrefix, Value: path}}},
			Legs:     []plan.Leg{{Weight: 1, Pool: key}},
			Timeouts: plan.Timeouts{Connect: 3 * time.Second, ResponseHeader: 50 * time.Millisecond},
			Limits:   plan.Limits{MaxRequestBodyBytes: 1000},
		})
		p.Pools = append(p.Pools, plan.Pool{Key: key, Endpoints: []plan.Endpoint{{Addr: addr}}})
	}
	return p
}

// exchangeRaw sends bytes, reads one response and says whether the proxy closed
// the connection after it.
func exchangeRaw(t *testing.T, addr, request string) (res *http.Response, closed bool) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	br := bufio.NewReader(c)
	res, err = http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Fatal(err)
	}
	if res.Close {
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		_, err = br.ReadByte()
		return res, err == io.EOF
	}
	return res, false
}

// wantMetric waits until the failure is counted: the record of a request is
// written after its answer.
func wantMetric(t *testing.T, admin, reason, side string) {
	t.Helper()
	for range 500 {
		if counted(t, admin, reason, side) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("the scrape counts no failure with reason %q and side %q", reason, side)
}

func counted(t *testing.T, admin, reason, side string) bool {
	t.Helper()
	for line := range strings.Lines(scrape(t, admin)) {
		if strings.HasPrefix(line, "ferrum_request_failures_total{") && strings.HasSuffix(line, " 1\n") &&
			strings.Contains(line, fmt.Sprintf("reason=%q", reason)) && strings.Contains(line, fmt.Sprintf("side=%q", side)) {
			return true
		}
	}
	return false
}

func scrape(t *testing.T, admin string) string {
	t.Helper()
	res, err := http.Get("http://" + admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// startEngine runs e, listening though perhaps not ready, until the returned
// function is called for the first time.
func startEngine(t *testing.T, e *dataplane.Engine) (stop func()) {
	t.Helper()
	end := runUntil(t, e, func() bool { return e.Addr("http") != nil && e.Addr("admin") != nil })
	stopped := false
	return func() {
		if !stopped {
			stopped = true
			end()
		}
	}
}
