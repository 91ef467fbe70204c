package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// probeInterval is the time between two tries, and what one try may take.
const probeInterval = time.Second

func newProbeCommand() *cobra.Command {
	timeout := 30 * time.Second
	cmd := &cobra.Command{
		Use:   "probe URL",
		Short: "Wait until a URL answers with a status below 500",
		Long: `probe sends GET requests to a URL until one is answered with a status below 500:
the ready page of an admin port, or the HTTP port, which answers 503 until the
first table is in and 404 where no rule matches. It is for images without a
shell: a health check of a container, the test of the Helm chart. An address as
Kubernetes gives it in environment variables, tcp://ADDRESS:PORT, will do.

The exit code is 0 when there was such an answer, 1 when there was none in time.`,
		Example: `  ferrum probe http://127.0.0.1:9090/readyz`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			target := overHTTP(args[0])
			if u, err := url.Parse(target); err != nil || u.Host == "" || u.Scheme != "http" {
				return fmt.Errorf("%q is not a URL such as http://127.0.0.1:9090/readyz", args[0])
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			return probe(ctx, target, cmd.OutOrStdout())
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", timeout, "how long to go on trying")
	return cmd
}

// overHTTP returns the http:// URL of tcp://ADDRESS:PORT, whose address may be one of
// IPv6, with or without brackets: kubelets have written it both ways. What is
// something else it returns as it is.
func overHTTP(target string) string {
	rest, ok := strings.CutPrefix(target, "tcp://")
	i := strings.LastIndexByte(rest, ':')
	if !ok || i < 0 {
		return target
	}
	return "http://" + net.JoinHostPort(strings.Trim(rest[:i], "[]"), rest[i+1:]) + "/"
}

// probe tries until the answer is good or ctx ends.
func probe(ctx context.Context, target string, stdout io.Writer) error {
	// Where it leads to is no answer of the URL that was asked for.
	client := &http.Client{
		Timeout:       probeInterval,
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	tick := time.NewTicker(probeInterval)
	defer tick.Stop()
	for {
		err := probeOnce(ctx, client, target, stdout)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return failed(err)
		case <-tick.C:
		}
	}
}

func probeOnce(ctx context.Context, client *http.Client, target string, stdout io.Writer) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode >= http.StatusInternalServerError {
		return fmt.Errorf("%s answers %s", target, res.Status)
	}
	_, err = fmt.Fprintf(stdout, "%s answers %s\n", target, res.Status)
	return err
}
