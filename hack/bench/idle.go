package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// idlers are keep-alive connections that had one request and wait for the next.
type idlers struct{ conns []net.Conn }

// openAtOnce is how many connections are opened at the same time.
const openAtOnce = 64

// openIdle opens n connections to a proxy and has a request answered on each.
// They are closed by close, also when there is an error.
func openIdle(ctx context.Context, addr string, n int) (*idlers, error) {
	all := &idlers{conns: make([]net.Conn, n)}
	work := make(chan int)
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		first error
	)
	for range openAtOnce {
		wg.Go(func() {
			for i := range work {
				c, err := openOne(addr)
				mu.Lock()
				all.conns[i] = c
				if first == nil {
					first = err
				}
				mu.Unlock()
			}
		})
	}
	for i := range n {
		mu.Lock()
		stop := first != nil || ctx.Err() != nil
		mu.Unlock()
		if stop {
			break
		}
		work <- i
	}
	close(work)
	wg.Wait()
	return all, errors.Join(ctx.Err(), first)
}

func openOne(addr string) (net.Conn, error) {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	if err := requestOn(c, addr); err != nil {
		c.Close()
		return nil, fmt.Errorf("idle connection: %w", err)
	}
	return c, nil
}

func requestOn(c net.Conn, host string) error {
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", smallPath, host); err != nil {
		return err
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK || res.Close {
		return fmt.Errorf("%s, close: %t", res.Status, res.Close)
	}
	return c.SetDeadline(time.Time{})
}

// check returns an error when connections were closed by the proxy.
func (i *idlers) check() error {
	gone := 0
	for _, c := range i.conns {
		if !isOpen(c.(*net.TCPConn)) {
			gone++
		}
	}
	if gone > 0 {
		return fmt.Errorf("%d of %d idle connections were closed by the proxy", gone, len(i.conns))
	}
	return nil
}

func (i *idlers) close() {
	for _, c := range i.conns {
		if c != nil {
			c.Close()
		}
	}
}
