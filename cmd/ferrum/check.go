package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ferrum-proxy/ferrum-proxy/controllers/manifests"
)

func newCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE...",
		Short: "Validate manifests as the API server and the controller would",
		Long: `check reads manifest files, or all of a directory, and prints one line for each
finding: what the API server would refuse, and what the controller would write
into a condition. The exit code is 1 when there is an error among them.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			bad := false
			for _, f := range manifests.Check(args...) {
				bad = bad || f.Severity != manifests.Warning
				if _, err := fmt.Fprintln(cmd.OutOrStdout(), f); err != nil {
					return &exitError{exitUsage, err}
				}
			}
			if bad {
				return &exitError{code: exitFailed}
			}
			return nil
		},
	}
}
