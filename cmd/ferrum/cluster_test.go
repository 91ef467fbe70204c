package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestLeaseNamespaceIsThatOfThePod(t *testing.T) {
	file := filepath.Join(t.TempDir(), "namespace")
	if err := os.WriteFile(file, []byte("from-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ env, file, want string }{
		{"from-env", file, "from-env"},
		{"", file, "from-file"},
		{"", file + "-missing", ""},
	} {
		if got := leaseNamespace(tc.env, tc.file); got != tc.want {
			t.Errorf("env %q, file %s: got %q, want %q", tc.env, tc.file, got, tc.want)
		}
	}
}

func TestAnAdminPortThatListensOnLoopbackIsNotAskedByOthers(t *testing.T) {
	for address, want := range map[string]uint16{
		":9090": 9090, "0.0.0.0:9090": 9090, "[::]:9091": 9091, "10.0.0.1:9090": 9090, "[2001:db8::1]:9090": 9090,
		"": 0, ":0": 0, "127.0.0.1:9090": 0, "[::1]:9090": 0, "localhost:9090": 0, "nonsense": 0,
	} {
		if port, ok := adminPort(address); port != want || ok != (want != 0) {
			t.Errorf("%q: %d, %v; want %d", address, port, ok, want)
		}
	}
}
