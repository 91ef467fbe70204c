package main

import (
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// memoryShare of a container's limit is what the Go heap and runtime may take;
// the rest is for the kernel's share of a proxy's memory (page tables, and
// socket buffers where they are charged to the container).
const memoryShare = 0.9

// memoryLimit returns the value for debug.SetMemoryLimit, in bytes: a share of
// the tightest memory limit of the cgroups that the process is in. ok is false
// where there is none. root is the root of the file system.
func memoryLimit(root fs.FS) (limit int64, ok bool) {
	data, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(data)) {
		// hierarchy-ID:controllers:path (cgroups(7)); ID 0 without controllers
		// is version 2.
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		var dir, file string
		switch {
		case f[0] == "0" && f[1] == "":
			dir, file = "sys/fs/cgroup", "memory.max"
		case f[1] == "memory":
			dir, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		default:
			continue
		}
		if n, found := tightest(root, dir, f[2], file); found && (!ok || n < limit) {
			limit, ok = n, true
		}
	}
	return int64(float64(limit) * memoryShare), ok
}

// tightest returns the smallest limit between a cgroup and the root of its
// hierarchy at dir. Levels that are not mounted here are passed over: a
// container often sees its own cgroup as the root while /proc names it from the
// node's.
func tightest(root fs.FS, dir, cgroup, file string) (limit int64, ok bool) {
	for p := path.Clean("/" + cgroup); ; p = path.Dir(p) {
		if n, found := readLimit(root, path.Join(dir, p, file)); found && (!ok || n < limit) {
			limit, ok = n, true
		}
		if p == "/" {
			return limit, ok
		}
	}
}

// unlimitedV1 is what version 1 says for "none": the largest multiple of a page
// below 2^63, for which anything above an exbibyte is close enough.
const unlimitedV1 = 1 << 60

func readLimit(root fs.FS, name string) (int64, bool) {
	data, err := fs.ReadFile(root, name)
	if err != nil {
		return 0, false
	}
	// Version 2 says "max" for none.
	n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	return n, err == nil && n > 0 && n < unlimitedV1
}
