package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	readyTimeout = 60 * time.Second // of 10,000 rules read from a file, on a busy machine
	probeEvery   = 50 * time.Millisecond
)

// probe is a request that says whether a server does what will be asked of it.
type probe struct {
	addr   string
	host   string // "" = the address
	path   string
	upload int // bytes of the body of a POST; 0 = a GET
	expect int // bytes of the response
}

// wait sends the request until it is answered as expected, or a process ends.
func (p probe) wait(ctx context.Context, processes ...*process) error {
	deadline := time.After(readyTimeout)
	every := time.NewTicker(probeEvery)
	defer every.Stop()
	for {
		last := p.ask(ctx)
		if last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline:
			err := fmt.Errorf("not ready within %s: %w", readyTimeout, last)
			for _, q := range processes {
				err = errors.Join(err, q.said())
			}
			return err
		case <-every.C:
		}
		for _, q := range processes {
			if err := q.alive(); err != nil {
				return err
			}
		}
	}
}

// ask sends the request once.
func (p probe) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	method, body := http.MethodGet, io.Reader(http.NoBody)
	if p.upload > 0 {
		method, body = http.MethodPost, bytes.NewReader(make([]byte, p.upload))
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://"+p.addr+p.path, body)
	if err != nil {
		return err
	}
	r.Host, r.Close = p.host, true
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	n, err := io.Copy(io.Discard, res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK || n != int64(p.expect) {
		return fmt.Errorf("%s %s was answered with %s and %d bytes, not 200 and %d", method, p.path, res.Status, n, p.expect)
	}
	return nil
}
