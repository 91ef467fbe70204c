package kubetest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// leash ties the processes of a server to the life of the test binary. A binary
// that panics, times out or is killed runs no cleanup, and would leave an API
// server and an etcd behind each time. So each of them is started through a
// script that notes its process id, and a shell waits for the end of its
// standard input, which the kernel brings about when the binary is gone, to kill
// what still runs under those ids.
type leash struct {
	dir   string
	guard *exec.Cmd
	hold  io.Closer
}

// guardScript runs with the directory as $1. A process id counts only while its
// command line names the directory: ids are reused.
const guardScript = `
read -r _
for note in "$1"/*.pid; do
	pid=$(cat "$note" 2>/dev/null) || continue
	if tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF "$1/"; then kill -9 "$pid"; fi
done
rm -rf "$1"
`

func (l *leash) tie(dir string) error {
	l.dir = dir
	l.guard = exec.Command("sh", "-c", guardScript, "kubetest-guard", dir)
	// Ctrl-C reaches the whole process group of the tests; the guard has its
	// work then.
	l.guard.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	hold, err := l.guard.StdinPipe()
	if err != nil {
		return err
	}
	l.hold = hold
	if err := l.guard.Start(); err != nil {
		l.guard = nil
		return fmt.Errorf("start the guard of the test API server: %w", err)
	}
	return nil
}

// wrap returns the path of a script that notes its process id and becomes the
// binary.
func (l *leash) wrap(binary string) (string, error) {
	if _, err := os.Stat(binary); err != nil {
		return "", err
	}
	name := filepath.Base(binary)
	path := filepath.Join(l.dir, name+".sh")
	script := fmt.Sprintf("#!/bin/sh\necho $$ >%s\nexec %s \"$@\"\n",
		quote(filepath.Join(l.dir, name+".pid")), quote(binary))
	return path, os.WriteFile(path, []byte(script), 0o700)
}

// kill ends a wrapped process at once and waits until it is gone.
func (l *leash) kill(name string) error {
	note, err := os.ReadFile(filepath.Join(l.dir, name+".pid"))
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(note)))
	if err != nil {
		return err
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return err
	}
	if !strings.Contains(string(line), l.dir) {
		return fmt.Errorf("process %d is not ours", pid)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return err
	}
	for syscall.Kill(pid, 0) == nil { // until envtest has taken note of its end
		time.Sleep(time.Millisecond)
	}
	return nil
}

func quote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// untie ends the guard. It has nothing left to kill when both processes were
// stopped before.
func (l *leash) untie() error {
	if l.guard == nil {
		return nil
	}
	err := l.hold.Close()
	err = errors.Join(err, l.guard.Wait())
	l.guard = nil
	return err
}
