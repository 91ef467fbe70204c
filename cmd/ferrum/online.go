package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
)

const (
	explainTimeout = 10 * time.Second
	// maxExplanation bounds the answer that is read. 5,000 routes of 2 rules
	// under one host make some 4 MiB.
	maxExplanation = 64 << 20
)

// explainOnline asks the admin port of a running proxy.
func explainOnline(ctx context.Context, admin, tokenFile string, q proxy.Query) (e proxy.Explanation, err error) {
	token, err := readToken(tokenFile)
	if err != nil {
		return e, err
	}
	u, err := url.Parse(admin)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return e, fmt.Errorf("--admin %q is not a URL such as http://127.0.0.1:9090", admin)
	}
	body, err := json.Marshal(q)
	if err != nil {
		return e, err
	}
	ctx, cancel := context.WithTimeout(ctx, explainTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.JoinPath("debug", "explain").String(), bytes.NewReader(body))
	if err != nil {
		return e, err
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return e, fmt.Errorf("admin port: %w", err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxExplanation))
	switch {
	case err != nil:
		return e, fmt.Errorf("admin port: %w", err)
	case res.StatusCode == http.StatusUnauthorized:
		return e, fmt.Errorf("%s asks for a token, and %s: give --token-file FILE with the right one", admin, res.Status)
	case res.StatusCode != http.StatusOK:
		return e, fmt.Errorf("%s answered %s: %s", req.URL, res.Status, strings.TrimSpace(string(answer)))
	}
	if err := json.Unmarshal(answer, &e); err != nil {
		return e, fmt.Errorf("%s answered what is no explanation: %w", req.URL, err)
	}
	return e, nil
}
