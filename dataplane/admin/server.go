package admin

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/go-logr/logr"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
)

const (
	headerTimeout = 5 * time.Second
	readTimeout   = 10 * time.Second
	// writeTimeout is for a scrape of thousands of rules over a slow link. The
	// profiles of /debug/pprof add the time they measure to it.
	writeTimeout = time.Minute
	idleTimeout  = 2 * time.Minute
	// maxHead bounds a request's line and header, and so a query to explain.
	maxHead = 32 << 10
	// closeTimeout is how long answers may take when Serve's context has ended.
	closeTimeout = time.Second
)

// Config says what a Server shows. A page whose function is nil does not exist.
type Config struct {
	// Tokens returns the bearer tokens that everything but /livez and /readyz asks
	// for one of; it is called at each such request, concurrently. nil: no token
	// is asked for. When it returns none, nobody gets in.
	Tokens func() []string
	// Pprof serves Go's profiles below /debug/pprof/. Taking one costs CPU time,
	// so it is off unless asked for.
	Pprof bool

	// Ready returns why the process should get no traffic, or nil.
	Ready func() error
	// Metrics serves /metrics.
	Metrics http.Handler
	// Explain answers /debug/explain.
	Explain func(proxy.Query) proxy.Explanation
	// Routes and Endpoints return what /debug/routes and /debug/endpoints show,
	// as values for encoding/json.
	Routes, Endpoints func() any
	// Served answers plan.ServedPath: the generation that is served of the route
	// of each UID, in the same order; 0 = none.
	Served func(uids []string) []int64

	// Log receives what goes wrong; the zero value discards it.
	Log logr.Logger
}

// Server is the admin port.
type Server struct {
	config Config
	pages  []page
	log    logr.Logger
}

// New returns a Server that does not listen yet.
func New(c Config) *Server {
	s := &Server{config: c, log: c.Log}
	s.pages = s.allPages()
	return s
}

// Handler returns the pages without a listener.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serve) }

// Serve answers on l until ctx ends, closes it then, and returns nil. It
// returns an error when l fails before.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHead,
		ErrorLog:          log.New(errorLog{s.log}, "", 0),
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l) }()
	select {
	case err := <-failed:
		return failure(l, err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if srv.Shutdown(grace) != nil {
		_ = srv.Close() // cuts what is left; there is nothing to do about an error
	}
	return failure(l, <-failed)
}

// failure returns the error of a server that was not asked to end.
func failure(l net.Listener, err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("admin port %s: %w", l.Addr(), err)
}

// errorLog takes the lines that net/http logs, such as panics of a page.
type errorLog struct{ log logr.Logger }

func (l errorLog) Write(p []byte) (int, error) {
	l.log.Error(errors.New(strings.TrimSpace(string(p))), "admin port")
	return len(p), nil
}
