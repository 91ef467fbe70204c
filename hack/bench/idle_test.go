package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestIdleConnectionsStayOpen(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer backend.Close()
	idle, err := openIdle(t.Context(), backend.Listener.Addr().String(), 200)
	defer idle.close()
	if err != nil || len(idle.conns) != 200 {
		t.Fatalf("%d connections, %v", len(idle.conns), err)
	}
	if err := idle.check(); err != nil {
		t.Error(err)
	}
	backend.CloseClientConnections()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) { // until the kernel has passed it on
		err := idle.check()
		if err != nil && strings.Contains(err.Error(), "200 of 200") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("all were closed, and the check says %v", err)
		}
	}
}

func TestIdleConnectionsThatAreRefusedAreAnError(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	idle, err := openIdle(t.Context(), l.Addr().String(), 100)
	idle.close()
	if err == nil {
		t.Error("no error")
	}
}

func TestProbeWantsStatusAndSize(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Host == "other":
			w.WriteHeader(http.StatusNotFound)
		case r.Method == http.MethodPost && r.ContentLength != 10:
			w.WriteHeader(http.StatusBadRequest)
		}
		_, _ = w.Write([]byte("12345")) // the client checks it
	}))
	defer backend.Close()
	addr := backend.Listener.Addr().String()
	for _, good := range []probe{{addr: addr, path: "/", expect: 5}, {addr: addr, path: "/", upload: 10, expect: 5}} {
		if err := good.ask(t.Context()); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []probe{{addr: addr, path: "/", expect: 4}, {addr: addr, host: "other", path: "/", expect: 5}} {
		if err := bad.ask(t.Context()); err == nil {
			t.Errorf("%+v: no error", bad)
		}
	}
}
