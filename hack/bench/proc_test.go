package main

import (
	"os"
	"testing"
	"time"
)

func TestProcessTimesAreReadBehindAnyName(t *testing.T) {
	// The name holds what separates fields.
	line := "123 (a) R (b) S 1 77 123 0 -1 4194304 100 0 0 0 150 50 9 9 20 0 3 0 5000 1000000 2500 18446744073709551615"
	got, err := parseStat(line)
	want := procStat{group: 77, cpu: 2 * time.Second, rssPages: 2500}
	if err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for _, bad := range []string{"", "123 (a) S 1", "123 a S 1 77 123 0 -1 4194304 100 0 0 0 150 50 9 9 20 0 3 0 5000 1000000 2500 1"} {
		if _, err := parseStat(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestBusyTimeLeavesOutIdlenessAndOtherCPUs(t *testing.T) {
	stat := "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 100 0 0 5000 70 0 0 0 0 0\ncpu1 1 2 4 5000 6000 8 16 32 0 0\ncpu10 7 0 0 0 0 0 0 0 0 0\nintr 5\n"
	if got, err := parseBusy(stat, []int{1}); err != nil || got != 630*time.Millisecond {
		t.Errorf("CPU 1: %v, %v, want 630ms", got, err)
	}
	if got, err := parseBusy(stat, []int{0, 10}); err != nil || got != 1070*time.Millisecond {
		t.Errorf("CPUs 0 and 10: %v, %v, want 1.07s", got, err)
	}
	if _, err := parseBusy(stat, []int{2}); err == nil {
		t.Error("a CPU that is not there: no error")
	}
}

func TestCPUListsAreReadAsTasksetReadsThem(t *testing.T) {
	for list, want := range map[string]string{"": "", "1": "1", "0,2-4": "0,2,3,4", "3,1-3": "1,2,3"} {
		cpus, err := parseCPUs(list)
		if got := formatCPUs(cpus); err != nil || got != want {
			t.Errorf("%q: %q, %v, want %q", list, got, err, want)
		}
	}
	for _, bad := range []string{"a", "1-", "3-1", "-1", "1,,2", "0-99999999"} {
		if cpus, err := parseCPUs(bad); err == nil {
			t.Errorf("%q: %v and no error", bad, cpus)
		}
	}
}

func TestProxyAndLoadDoNotShareCPUs(t *testing.T) {
	if _, err := os.Stat("/proc/self/status"); err != nil {
		return // the program is for Linux
	}
	if p, err := place("1", "0,1"); err == nil {
		t.Errorf("CPU 1 for both: %+v and no error", p)
	}
	p, err := place("1", "0,2-3")
	if err != nil || formatCPUs(p.proxy) != "1" || formatCPUs(p.load) != "0,2,3" {
		t.Errorf("got %+v, %v", p, err)
	}
}
