package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// errExited: the proxy ended before it was ready.
var errExited = errors.New("the proxy ended before it was ready; its log says why")

// waitReady waits until url answers 200. It returns nil, too, when ctx ends.
func waitReady(ctx context.Context, url string, exited <-chan struct{}) error {
	client := http.Client{Timeout: time.Second}
	deadline := time.After(readyTimeout)
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	last := "no answer"
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-exited:
			return errExited
		case <-deadline:
			return fmt.Errorf("the proxy was not ready within %s: %s", readyTimeout, last)
		case <-tick.C:
		}
		res, err := client.Get(url)
		if err != nil {
			last = err.Error()
			continue
		}
		res.Body.Close()
		if res.StatusCode == http.StatusOK {
			return nil
		}
		last = res.Status
	}
}
