package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"testing"
)

func TestAnswersByPathAndTakesBodiesOnOneConnection(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a := answers{upload: answer(0), small: answer(10), large: answer(100_000)}
	go func() { _ = a.serve(l) }() // it ends with the listener

	dials := 0
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		dials++
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}}
	defer client.CloseIdleConnections()
	for _, c := range []struct {
		path   string
		upload int
		want   int
	}{{"/", 0, 10}, {"/upload", 200_000, 0}, {"/large", 0, 100_000}, {"/else", 3, 10}} {
		method, body := http.MethodGet, io.Reader(http.NoBody)
		if c.upload > 0 {
			method, body = http.MethodPost, bytes.NewReader(make([]byte, c.upload))
		}
		r, err := http.NewRequestWithContext(t.Context(), method, "http://"+l.Addr().String()+c.path, body)
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK || n != int64(c.want) {
			t.Errorf("%s: %s, %d bytes, %v, want 200 and %d", c.path, res.Status, n, err, c.want)
		}
	}
	if dials != 1 {
		t.Errorf("%d connections, want one for all", dials)
	}
}

func TestClosesWhenAskedTo(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	a := answers{small: answer(1)}
	ended := make(chan error, 1)
	go func() { ended <- a.serveConn(server) }()
	go func() { _, _ = io.WriteString(client, "GET / HTTP/1.1\r\nHost: a\r\nconnection: Close\r\n\r\n") }() // shows in the answer
	if _, err := io.ReadFull(client, make([]byte, len(a.small))); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestRefusesWhatItWouldMisread(t *testing.T) {
	for _, in := range []string{
		"POST /upload HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"POST /upload HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
		"nonsense\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\n",
	} {
		client, server := net.Pipe()
		go func() {
			_, _ = io.WriteString(client, in) // refused before its end
			client.Close()
		}()
		a := answers{}
		if err := a.serveConn(server); err == nil || err == io.EOF { //nolint:errorlint // wrapped, it is the error that is wanted
			t.Errorf("%q: %v, want an error", in, err)
		}
		server.Close()
	}
}
