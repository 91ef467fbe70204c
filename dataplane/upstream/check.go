package upstream

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// Dial connects to an address until ctx ends.
type Dial func(ctx context.Context, addr netip.AddrPort) (net.Conn, error)

// dialTCP is the Dial of a Registry that has none.
func dialTCP(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", addr.String())
}

// checker makes the checks of a pool. Each has a connection of its own, which is
// closed after it: a listener that accepts no more is found out, and nothing is
// taken from the connections of requests. It runs beside requests, so it uses
// net/http.
type checker struct {
	plan.ActiveCheck
	dial Dial
	http *http.Transport // of CheckHTTP and CheckGRPC
}

// ofCheck is the key under which the context of a check is in its values.
type ofCheck struct{}

// maxCheckHead bounds the header, and maxCheckBody what is read of the body, of
// the response to a check.
const (
	maxCheckHead = 64 << 10
	maxCheckBody = 4 << 10
)

func newChecker(c *plan.ActiveCheck, dial Dial) *checker {
	k := &checker{ActiveCheck: *c, dial: dial}
	if c.Type == plan.CheckTCP {
		return k
	}
	k.http = &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			to, err := netip.ParseAddrPort(addr)
			if err != nil {
				return nil, err
			}
			// The one given goes on when the request's has ended: net/http would
			// keep the connection for another request, of which there is none.
			if own, ok := ctx.Value(ofCheck{}).(context.Context); ok {
				ctx = own
			}
			return dial(ctx, to)
		},
		DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxCheckHead,
		Protocols: new(http.Protocols),
	}
	k.http.Protocols.SetHTTP1(c.Type == plan.CheckHTTP)
	k.http.Protocols.SetUnencryptedHTTP2(c.Type == plan.CheckGRPC)
	return k
}

func (k *checker) close() {
	if k.http != nil {
		k.http.CloseIdleConnections()
	}
}

// check asks an endpoint how it is; nil means well.
func (k *checker) check(ctx context.Context, addr netip.AddrPort) error {
	if k.Port != 0 {
		addr = netip.AddrPortFrom(addr.Addr(), k.Port)
	}
	var err error
	ctx = context.WithValue(ctx, ofCheck{}, ctx)
	switch k.Type {
	case plan.CheckTCP:
		var c net.Conn
		if c, err = k.dial(ctx, addr); err == nil {
			_ = c.Close() // it was established, which is all that was asked
		}
	case plan.CheckGRPC:
		err = k.checkGRPC(ctx, addr)
	default:
		err = k.checkHTTP(ctx, addr)
	}
	if err != nil && ctx.Err() == context.DeadlineExceeded {
		return fmt.Errorf("no answer within %s", k.Timeout)
	}
	return err
}

// checkHTTP judges by the status. A redirect is an answer like any other.
func (k *checker) checkHTTP(ctx context.Context, addr netip.AddrPort) error {
	path, err := url.ParseRequestURI(k.Path)
	if k.Path == "" || err != nil {
		path = &url.URL{Path: "/"}
	}
	path.Scheme, path.Host = "http", addr.String()
	req, err := http.NewRequestWithContext(ctx, k.Method, path.String(), nil)
	if err != nil {
		return err
	}
	req.Host = k.Host
	req.Header.Set("User-Agent", "ferrum-check")
	res, err := k.http.RoundTrip(req)
	if err != nil {
		return err
	}
	_ = res.Body.Close() // the status is all that counts
	if !k.Expected.Has(res.StatusCode) {
		return fmt.Errorf("status %d", res.StatusCode)
	}
	return nil
}

// checkGRPC calls grpc.health.v1.Health/Check over HTTP/2 without TLS. The call
// is so small that a library for gRPC would be most of this program.
func (k *checker) checkGRPC(ctx context.Context, addr netip.AddrPort) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost,
		"http://"+addr.String()+"/grpc.health.v1.Health/Check", bytes.NewReader(healthRequest(k.Service)))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	req.Header.Set("User-Agent", "ferrum-check")
	res, err := k.http.RoundTrip(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxCheckBody))
	if err != nil {
		return err
	}
	status := res.Trailer.Get("Grpc-Status")
	if status == "" {
		status = res.Header.Get("Grpc-Status") // a response without a message
	}
	if res.StatusCode != http.StatusOK || status != "0" {
		return fmt.Errorf("status %d, gRPC status %q", res.StatusCode, status)
	}
	serving, err := parseHealth(body)
	if err == nil && serving != servingStatus {
		err = fmt.Errorf("the gRPC service is not serving (%d)", serving)
	}
	return err
}

// servingStatus is SERVING of HealthCheckResponse.ServingStatus.
const servingStatus = 1

// healthRequest is a HealthCheckRequest as a message of gRPC: its length and the
// one field.
func healthRequest(service string) []byte {
	var m []byte
	if service != "" {
		m = protowire.AppendTag(m, 1, protowire.BytesType)
		m = protowire.AppendString(m, service)
	}
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(m))), m...)
}

var errHealthResponse = errors.New("the answer is no HealthCheckResponse")

// parseHealth reads the status of a HealthCheckResponse; 0 is UNKNOWN, which is
// not written.
func parseHealth(b []byte) (status uint64, err error) {
	if len(b) < 5 || b[0] != 0 || uint64(binary.BigEndian.Uint32(b[1:])) != uint64(len(b)-5) {
		return 0, errHealthResponse
	}
	for b = b[5:]; len(b) > 0; {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return 0, errHealthResponse
		}
		b = b[n:]
		if num == 1 && typ == protowire.VarintType {
			if status, n = protowire.ConsumeVarint(b); n < 0 {
				return 0, errHealthResponse
			}
		} else if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
			return 0, errHealthResponse
		}
		b = b[n:]
	}
	return status, nil
}
