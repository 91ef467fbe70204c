package main

import (
	"testing"
	"testing/fstest"
)

func TestMemoryLimitIsNineTenthsOfTheTightestCgroup(t *testing.T) {
	const gib = 1 << 30
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	for _, tc := range []struct {
		name string
		fs   fstest.MapFS
		want int64 // 0: none
	}{
		{name: "no cgroups", fs: fstest.MapFS{}},
		{name: "version 2, the container's own root", fs: fstest.MapFS{
			"proc/self/cgroup":         file("0::/\n"),
			"sys/fs/cgroup/memory.max": file("1073741824\n"),
		}, want: gib * 9 / 10},
		{name: "version 2, unlimited", fs: fstest.MapFS{
			"proc/self/cgroup":         file("0::/\n"),
			"sys/fs/cgroup/memory.max": file("max\n"),
		}},
		{name: "version 2, a parent is tighter", fs: fstest.MapFS{
			"proc/self/cgroup":                                     file("0::/system.slice/ferrum.service\n"),
			"sys/fs/cgroup/system.slice/memory.max":                file("1073741824\n"),
			"sys/fs/cgroup/system.slice/ferrum.service/memory.max": file("max\n"),
		}, want: gib * 9 / 10},
		{name: "version 2, the path is the node's and not mounted here", fs: fstest.MapFS{
			"proc/self/cgroup":         file("0::/kubepods/pod1/c1\n"),
			"sys/fs/cgroup/memory.max": file("1073741824\n"),
		}, want: gib * 9 / 10},
		{name: "version 1", fs: fstest.MapFS{
			"proc/self/cgroup": file("12:cpu,cpuacct:/a\n11:memory:/docker/c1\n"),
			"sys/fs/cgroup/memory/docker/c1/memory.limit_in_bytes": file("1073741824\n"),
			"sys/fs/cgroup/memory/memory.limit_in_bytes":           file("9223372036854771712\n"),
		}, want: gib * 9 / 10},
		{name: "version 1, unlimited", fs: fstest.MapFS{
			"proc/self/cgroup":                           file("11:memory:/\n0::/\n"),
			"sys/fs/cgroup/memory/memory.limit_in_bytes": file("9223372036854771712\n"),
		}},
		{name: "a path that tries to climb", fs: fstest.MapFS{
			"proc/self/cgroup":         file("0::/../../etc\n"),
			"sys/fs/cgroup/memory.max": file("1073741824\n"),
		}, want: gib * 9 / 10},
		{name: "lines that make no sense", fs: fstest.MapFS{
			"proc/self/cgroup":         file("x\n\n0::\n"),
			"sys/fs/cgroup/memory.max": file("many\n"),
		}},
		{name: "zero would mean a collection at every allocation", fs: fstest.MapFS{
			"proc/self/cgroup":         file("0::/\n"),
			"sys/fs/cgroup/memory.max": file("0\n"),
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, ok := memoryLimit(tc.fs)
			// Nine tenths are not exact in binary.
			if ok != (tc.want != 0) || got < tc.want-1 || got > tc.want+1 {
				t.Errorf("got %d, %t; want %d", got, ok, tc.want)
			}
		})
	}
}

func TestBuffersMayHaveHalfOfTheMemoryUnlessTheUserSays(t *testing.T) {
	c := DefaultConfig()
	if got := bufferBytes(c, 0); got != 0 {
		t.Errorf("without a limit of memory: %d", got)
	}
	if got := bufferBytes(c, 512<<20); got != 256<<20 {
		t.Errorf("half of 512 MiB is %d", got)
	}
	c.HTTP.MaxBufferBytes = 1 << 20
	if got := bufferBytes(c, 512<<20); got != 1<<20 {
		t.Errorf("as set: %d", got)
	}
}
