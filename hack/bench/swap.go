package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const swapEvery = 100 * time.Millisecond

// swapManifest is a route that changes with n.
func swapManifest(n int) string {
	return fmt.Sprintf(`apiVersion: ferrum.dev/v1alpha1
kind: ProxyRoute
metadata: {name: swapped, namespace: bench}
spec:
  hostnames: [swapped.example.com]
  rules:
  - matches: [{path: {type: PathPrefix, value: /n%d}}]
    backendRefs: [{name: app, port: 80}]
`, n)
}

// swapping edits a manifest every swapEvery until stop is called, which returns
// the first failure.
func swapping(dir string) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		tick := time.NewTicker(swapEvery)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				done <- nil
				return
			case <-tick.C:
			}
			// A name that is no manifest's, and a rename: never half a file.
			next := filepath.Join(dir, "swap.next")
			err := os.WriteFile(next, []byte(swapManifest(n)), 0o644)
			if err = errors.Join(err, os.Rename(next, filepath.Join(dir, "swap.yaml"))); err != nil {
				done <- err
				return
			}
		}
	}()
	return func() error {
		cancel()
		return <-done
	}
}

// appliedPlans asks ferrum's metrics how many tables it has swapped in.
func appliedPlans(admin string) (int, error) {
	client := http.Client{Timeout: 5 * time.Second}
	res, err := client.Get("http://" + admin + "/metrics")
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), `ferrum_config_applies_total{result="success"} `); ok {
			return strconv.Atoi(value)
		}
	}
	return 0, errors.New("ferrum's metrics do not count its plans")
}
