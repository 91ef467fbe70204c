package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// resetPeakMemory makes the peak of a process's resident memory what it is now,
// and returns that in bytes.
func resetPeakMemory(t *testing.T, pid int) int64 {
	t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
		t.Fatal(err)
	}
	return statusKiB(t, pid, "VmRSS:")
}

// peakMemory is the largest resident memory since resetPeakMemory, in bytes.
func peakMemory(t *testing.T, pid int) int64 {
	t.Helper()
	return statusKiB(t, pid, "VmHWM:")
}

func statusKiB(t *testing.T, pid int, key string) int64 {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), key)
	var kib int64
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatalf("%s of process %d: %v", key, pid, err)
	}
	return kib << 10
}
