package main

import (
	"path/filepath"
	"testing"
)

// Only Linux has a signal for the death of a parent.
func TestKilledPlaygroundTakesTheProxyWithIt(t *testing.T) {
	t.Chdir(filepath.Join("..", ".."))
	o, backends := playground(t)
	cmd, _, ended := startCommand(t, o)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("ended well, although it was killed")
	}
	nothingListens(t, append(backends, o.http, o.admin)...)
}
