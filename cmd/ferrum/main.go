package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

// Exit codes. Scripts rely on them.
const (
	exitOK     = 0 // done; for check: no error; for explain: a rule takes the request
	exitFailed = 1 // run failed; check found errors; no rule takes the request; no answer to probe
	exitUsage  = 2 // the question was wrong: flags, configuration, unreadable input
)

// exitError ends the command with a code. A nil err means that everything was
// said already.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// failed is an error that is not the user's way of asking.
func failed(err error) error { return &exitError{exitFailed, err} }

func main() {
	os.Exit(execute(os.Args[1:], os.Stdout, os.Stderr))
}

// execute runs the command line and returns the exit code.
func execute(args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteC()
	if err == nil {
		return exitOK
	}
	var exit *exitError
	if !errors.As(err, &exit) {
		fmt.Fprintf(stderr, "ferrum: %v\nRun '%s --help' for usage.\n", err, cmd.CommandPath())
		return exitUsage
	}
	if exit.err != nil {
		fmt.Fprintf(stderr, "ferrum: %v\n", exit.err)
	}
	return exit.code
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "ferrum",
		Short: "A reverse proxy and Kubernetes controller in one process",
		Long: `ferrum serves HTTP by ProxyRoutes, BackendPolicies and ProxyClasses, read from a
Kubernetes cluster or from manifest files.

Exit codes: 0 done; 1 run failed, check found errors, explain found no rule or
probe got no answer; 2 wrong usage.`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.AddCommand(newRunCommand(), newCheckCommand(), newExplainCommand(), newProbeCommand(), newVersionCommand())
	return root
}
