package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const stopTimeout = 10 * time.Second

// process is a server that was started, with all of its children.
type process struct {
	name   string
	dir    string // its own; removed with it
	cmd    *exec.Cmd
	output *os.File // standard output and error
	exited chan struct{}
	err    error // of the end; after exited
}

// start runs a server on some CPUs, in a process group of its own. It has its
// own directory and must not go into the background.
func (b *bench) start(name, dir string, cpus []int, env []string, binary string, args ...string) (*process, error) {
	output, err := os.Create(filepath.Join(dir, "output"))
	if err != nil {
		return nil, err
	}
	p := &process{name: name, dir: dir, output: output, exited: make(chan struct{})}
	p.cmd = exec.Command(b.taskset, append([]string{"-c", formatCPUs(cpus), binary}, args...)...)
	p.cmd.Dir = dir
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = output, output
	p.cmd.SysProcAttr = ownGroup()
	if err := p.cmd.Start(); err != nil {
		output.Close()
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

// pid is that of the process and of its group: taskset becomes the server.
func (p *process) pid() int { return p.cmd.Process.Pid }

// stop ends the process and its children, by force if need be, and removes its
// directory.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may be gone already: exited tells
	select {
	case <-p.exited:
	case <-time.After(stopTimeout):
		fmt.Fprintf(os.Stderr, "%s did not stop within %s and is killed\n", p.name, stopTimeout)
	}
	// Whatever is left of the group: the process, if it did not stop, and
	// children that it left behind.
	_ = killGroup(p.pid())
	<-p.exited
	p.output.Close()
	_ = os.RemoveAll(p.dir) // it is below the directory that is removed at the end
}

// alive returns an error when the process has ended.
func (p *process) alive() error {
	select {
	case <-p.exited:
		return errors.Join(fmt.Errorf("%s ended by itself: %w", p.name, p.err), p.said())
	default:
		return nil
	}
}

// said is the end of the output of a process, for an error.
func (p *process) said() error {
	data, _ := os.ReadFile(p.output.Name()) // nothing to say is no second error
	const most = 2000
	if len(data) > most {
		data = data[len(data)-most:]
	}
	if text := strings.TrimSpace(string(data)); text != "" {
		return errors.New("its output: " + text)
	}
	return nil
}
