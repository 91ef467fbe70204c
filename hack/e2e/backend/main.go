package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	addr := flag.String("addr", ":8080", "address to listen on")
	linger := flag.Duration("linger", 0, "how long to go on serving after SIGTERM")
	flag.Parse()
	if err := serve(*addr, *linger); err != nil {
		log.Fatal(err)
	}
}

func serve(addr string, linger time.Duration) error {
	pod, err := os.Hostname()
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	var unready atomic.Bool
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if unready.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("POST /healthz", func(_ http.ResponseWriter, r *http.Request) {
		unready.Store(r.FormValue("ready") == "false")
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			fmt.Fprintf(w, "%s %s\n", pod, r.Host)
		}
	})
	server := &http.Server{Addr: addr, Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.ListenAndServe() }()

	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	select {
	case err := <-ended:
		return err
	case <-signals:
	}
	time.Sleep(linger)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}
