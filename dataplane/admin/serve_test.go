package admin_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/admin"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/internal/memnet"
)

var adminAddr = netip.MustParseAddrPort("192.0.2.1:9090")

// port is an admin port in a bubble, that is in a network and a time of its own.
type port struct {
	network *memnet.Network
	stop    func() error // ends Serve and returns its error
}

// inBubble runs f with an admin port, which f need not stop.
func inBubble(t *testing.T, c admin.Config, f func(t *testing.T, p *port)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := &port{network: memnet.New()}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		l := p.network.Listen(adminAddr)
		go func() { ended <- admin.New(c).Serve(ctx, l) }()
		p.stop = func() error {
			cancel()
			err := <-ended
			ended <- err
			return err
		}
		f(t, p)
		if err := p.stop(); err != nil {
			t.Error(err)
		}
	})
}

func (p *port) get(path string) (status int, body string, err error) {
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return p.network.Dial(adminAddr) },
	}}
	res, err := client.Get("http://" + adminAddr.String() + path)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, string(b), err
}

func TestServeAnswersUntilItsContextEnds(t *testing.T) {
	inBubble(t, everything(), func(t *testing.T, p *port) {
		if status, body, err := p.get("/livez"); err != nil || status != http.StatusOK || body != "ok\n" {
			t.Errorf("%d %q %v", status, body, err)
		}
		if err := p.stop(); err != nil {
			t.Error(err)
		}
		if _, _, err := p.get("/livez"); err == nil {
			t.Error("still answering")
		}
	})
}

func TestAProfileMayTakeLongerThanOtherAnswers(t *testing.T) {
	inBubble(t, everything(), func(t *testing.T, p *port) {
		if status, body, err := p.get("/debug/pprof/allocs?seconds=120"); err != nil || status != http.StatusOK || body == "" {
			t.Errorf("%d, %d bytes, %v", status, len(body), err)
		}
	})
}

func TestServeEndsAlthoughAnAnswerHangs(t *testing.T) {
	c := everything()
	var entered, release chan struct{}
	c.Routes = func() any { close(entered); <-release; return nil }
	inBubble(t, c, func(t *testing.T, p *port) {
		entered, release = make(chan struct{}), make(chan struct{})
		cut := make(chan error, 1)
		go func() {
			_, _, err := p.get("/debug/routes")
			cut <- err
		}()
		<-entered
		begin := time.Now()
		if err := p.stop(); err != nil {
			t.Error(err)
		}
		if waited := time.Since(begin); waited != time.Second {
			t.Errorf("Serve ended after %v, want 1s", waited)
		}
		if err := <-cut; err == nil {
			t.Error("an answer that never came was not cut")
		}
		close(release)
	})
}

func TestAClientThatSendsNothingIsCut(t *testing.T) {
	for _, sent := range []string{"", "GET /livez HTTP/1.1\r\nHost: x\r\n", "POST /debug/explain HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"} {
		inBubble(t, everything(), func(t *testing.T, p *port) {
			conn, err := p.network.Dial(adminAddr)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			if _, err := io.WriteString(conn, sent); err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			if _, err := io.Copy(io.Discard, conn); err != nil {
				t.Error(err)
			}
			if waited := time.Since(begin); waited > 15*time.Second {
				t.Errorf("after %q the connection stayed open for %v", sent, waited)
			}
		})
	}
}

func TestServeSaysWhenItsListenerFails(t *testing.T) {
	l := memnet.New().Listen(adminAddr)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := admin.New(everything()).Serve(t.Context(), l); err == nil || !strings.Contains(err.Error(), adminAddr.String()) {
		t.Errorf("error %v, want one that names the address", err)
	}
}

func TestAPanicOfAPageEndsNothingElse(t *testing.T) {
	c := everything()
	c.Routes = func() any { panic("defect") }
	inBubble(t, c, func(t *testing.T, p *port) {
		if _, _, err := p.get("/debug/routes"); err == nil {
			t.Error("a page that panicked answered")
		}
		if status, _, err := p.get("/livez"); err != nil || status != http.StatusOK {
			t.Errorf("after a panic: %d %v", status, err)
		}
	})
}
