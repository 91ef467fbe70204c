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
