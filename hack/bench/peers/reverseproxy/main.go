package main

import (
	"bufio"
	"flag"
	"fmt"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "address to listen on")
	backends := flag.String("backends", "", "comma-separated addresses, taken in turn")
	accessLog := flag.Bool("access-log", false, "write a line for each request to standard output")
	hosts := flag.String("hosts", "", "comma-separated hosts to serve; empty = all")
	prefixes := flag.String("prefixes", "", "comma-separated path prefixes to serve of each host")
	flag.Parse()

	handler := http.Handler(newProxy(strings.Split(*backends, ",")))
	if *hosts != "" {
		mux := http.NewServeMux()
		for host := range strings.SplitSeq(*hosts, ",") {
			for prefix := range strings.SplitSeq(*prefixes, ",") {
				mux.Handle(host+prefix+"/", handler)
			}
		}
		handler = mux
	}
	if *accessLog {
		handler = logged(handler)
	}
	server := &http.Server{Addr: *listen, Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 5 * time.Minute}
	log.Fatal(server.ListenAndServe())
}

func newProxy(backends []string) *httputil.ReverseProxy {
	urls := make([]*url.URL, len(backends))
	for i, b := range backends {
		urls[i] = &url.URL{Scheme: "http", Host: b}
	}
	var turn atomic.Uint64
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(urls[turn.Add(1)%uint64(len(urls))])
			r.Out.Host = r.In.Host
			r.SetXForwarded()
		},
		Transport: &http.Transport{
			MaxIdleConnsPerHost: 512,
			IdleConnTimeout:     5 * time.Minute,
			DisableCompression:  true,
		},
		BufferPool: &buffers{pool: sync.Pool{New: func() any { return new([32 << 10]byte) }}},
	}
}

// buffers is an httputil.BufferPool.
type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte  { return b.pool.Get().(*[32 << 10]byte)[:] }
func (b *buffers) Put(p []byte) { b.pool.Put((*[32 << 10]byte)(p)) }

// logged writes a line for each request, many at once.
func logged(next http.Handler) http.Handler {
	var mu sync.Mutex
	out := bufio.NewWriterSize(os.Stdout, 64<<10)
	go func() {
		for range time.Tick(time.Second) {
			mu.Lock()
			_ = out.Flush() // a log that cannot be written ends nothing
			mu.Unlock()
		}
	}()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from := time.Now()
		s := &status{ResponseWriter: w, code: http.StatusOK}
		next.ServeHTTP(s, r)
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(out, "%s %s %q %d %d %q %s\n", from.Format(time.RFC3339Nano), r.RemoteAddr,
			r.Method+" "+r.RequestURI+" "+r.Proto, s.code, s.bytes, r.UserAgent(), time.Since(from))
	})
}

// status remembers what was answered.
type status struct {
	http.ResponseWriter
	code  int
	bytes int
}

func (s *status) WriteHeader(code int) {
	s.code = code
	s.ResponseWriter.WriteHeader(code)
}

func (s *status) Write(p []byte) (int, error) {
	n, err := s.ResponseWriter.Write(p)
	s.bytes += n
	return n, err
}

// Unwrap lets the proxy flush.
func (s *status) Unwrap() http.ResponseWriter { return s.ResponseWriter }
