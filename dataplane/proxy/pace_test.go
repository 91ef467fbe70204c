package proxy

import (
	"io"
	"math"
	"net"
	"testing"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/http1"
)

// tcpEnds are two ends of a TCP connection.
func tcpEnds(t *testing.T) (near, far *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	one, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	other, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = one.Close(); _ = other.Close() })
	return one.(*net.TCPConn), other.(*net.TCPConn)
}

// A splice that ended because its endpoint had taken too long over a step was
// counted as a wait for the client, who was cut for being slow.
func TestASplicedBodyThatTheEndpointTakesSlowlyIsNotTheClientsSlowness(t *testing.T) {
	const size = 32 << 20
	from, sender := tcpEnds(t)
	up, endpoint := tcpEnds(t)
	_ = from.SetReadBuffer(32 << 10)
	_ = up.SetWriteBuffer(16 << 10)
	_ = endpoint.SetReadBuffer(16 << 10)
	go func() { _, _ = sender.Write(make([]byte, size)) }() // ends with the test
	go func() {
		b := make([]byte, 16<<10)
		for { // slow, but always taking something
			if _, err := io.ReadFull(endpoint, b); err != nil {
				return
			}
			time.Sleep(30 * time.Millisecond)
		}
	}()
	ex := exchange{state: state{c: &client{}, up: http1.NewConn(up, 400*time.Millisecond)}}
	ex.c.Conn.Reset(from, time.Minute)
	ex.reqBody.Reset(&ex.c.Conn, size, false, false, 0)
	var pace pace
	now := time.Now()
	for range 6 {
		_, srcErr, dstErr := ex.pumpPiece(now.Add(time.Minute), &now, &pace)
		if srcErr != nil {
			t.Fatal(srcErr)
		}
		if dstErr != nil {
			break // on a busy machine it may look stalled
		}
	}
	if pace.waited > 100*time.Millisecond {
		t.Errorf("waited %s for a client that waits itself", pace.waited)
	}
}

// The time that a very long body earns at a very low rate was more than a
// Duration holds, and came out negative.
func TestALongBodyIsNeverTooSlowForALowRate(t *testing.T) {
	for _, payload := range []int64{10 << 30, 1 << 50, math.MaxInt64} {
		p := pace{rate: 1, waited: time.Second}
		if left := p.left(payload); left <= 0 || time.Now().Add(left).Before(time.Now()) {
			t.Errorf("%d bytes: %s left", payload, left)
		}
	}
}
