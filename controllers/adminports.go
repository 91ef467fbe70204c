package controllers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

const (
	// maxServedAnswer bounds the answer of a replica; a generation is at most 26
	// bytes of it.
	maxServedAnswer = 32 * plan.MaxServedUIDs
	// adminIdle is how long a connection to an admin port is kept: rounds are a
	// second apart.
	adminIdle = 5 * time.Second
)

// errMute is the answer of a replica whose version has no plan.ServedPath.
var errMute = errors.New("its version cannot say what it serves")

func isMute(err error) bool { return errors.Is(err, errMute) }

// Peers asks other replicas, and this one, what they serve. It is called
// concurrently, with contexts that end soon.
type Peers interface {
	// Served returns the generation that the replica serves of the route of each
	// UID, in the same order, 0 for none.
	Served(ctx context.Context, replica netip.Addr, uids []string) ([]int64, error)
}

// AdminPorts is Peers over the admin ports of the replicas, which all listen on
// the same port and ask for the same token. Make one with NewAdminPorts.
type AdminPorts struct {
	port   uint16
	tokens func() []string // nil: none is asked for
	client *http.Client
}

// NewAdminPorts returns AdminPorts; dial nil is TCP. tokens returns the tokens that
// count at the moment: the first is sent, and another one where a replica does not
// take it, as while they change; nil is none. It follows no redirect and uses no
// proxy: nobody but the replica is asked.
func NewAdminPorts(port uint16, tokens func() []string, dial func(ctx context.Context, network, address string) (net.Conn, error)) *AdminPorts {
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	return &AdminPorts{port: port, tokens: tokens, client: &http.Client{
		Transport: &http.Transport{
			DialContext: dial, IdleConnTimeout: adminIdle, MaxIdleConnsPerHost: 1, DisableCompression: true,
			MaxResponseHeaderBytes: 16 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Served implements Peers.
func (a *AdminPorts) Served(ctx context.Context, replica netip.Addr, uids []string) ([]int64, error) {
	body, err := json.Marshal(plan.ServedQuery{UIDs: uids})
	if err != nil {
		return nil, err
	}
	url := "http://" + netip.AddrPortFrom(replica, a.port).String() + plan.ServedPath
	tokens := []string{""}
	if a.tokens != nil {
		tokens = a.tokens()
	}
	var status int
	var text []byte
	for _, token := range tokens {
		if status, text, err = a.post(ctx, url, token, body); err != nil {
			return nil, err
		}
		if status != http.StatusUnauthorized {
			break
		}
	}
	switch {
	case status == http.StatusNotFound && strings.TrimSpace(string(text)) == plan.NoSuchPage:
		return nil, errMute
	case status == http.StatusNotFound:
		return nil, fmt.Errorf("POST %s: %d from something that is no admin port of this proxy", url, status)
	case status != http.StatusOK:
		return nil, fmt.Errorf("POST %s: %d %s", url, status, http.StatusText(status))
	}
	var answer plan.ServedAnswer
	if err := json.Unmarshal(text, &answer); err != nil {
		return nil, fmt.Errorf("POST %s: %w", url, err)
	}
	if len(answer.Generations) != len(uids) {
		return nil, fmt.Errorf("POST %s: %d answers to %d questions", url, len(answer.Generations), len(uids))
	}
	return answer.Generations, nil
}

// post sends a body, with a token unless that is "", and reads the answer.
func (a *AdminPorts) post(ctx context.Context, url, token string, body []byte) (status int, answer []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := a.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(res.Body, maxServedAnswer))
	return res.StatusCode, answer, err
}
