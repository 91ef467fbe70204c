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
	token  string
	client *http.Client
}

// NewAdminPorts returns AdminPorts; token "" is none, dial nil is TCP. It follows
// no redirect and uses no proxy: nobody but the replica is asked.
func NewAdminPorts(port uint16, token string, dial func(ctx context.Context, network, address string) (net.Conn, error)) *AdminPorts {
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	return &AdminPorts{port: port, token: token, client: &http.Client{
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
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if a.token != "" {
		req.Header.Set("Authorization", "Bearer "+a.token)
	}
	res, err := a.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxServedAnswer))
	switch {
	case err != nil:
		return nil, err
	case res.StatusCode == http.StatusNotFound:
		return nil, errMute
	case res.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("POST %s: %s", url, res.Status)
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
