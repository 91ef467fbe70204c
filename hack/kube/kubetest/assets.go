package kubetest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// findAssets returns the directory of etcd and kube-apiserver: KUBEBUILDER_ASSETS,
// or what hack/kube/assets.sh has built or fetched before. It never builds: that
// takes minutes, more than a test may.
func findAssets() (string, error) {
	if dir := os.Getenv("KUBEBUILDER_ASSETS"); dir != "" {
		return dir, nil
	}
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	cmd := exec.Command(filepath.Join(root, "hack", "kube", "assets.sh"), "--no-build")
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = errors.New(strings.TrimSpace(string(exit.Stderr)))
		}
		return "", fmt.Errorf("no API server to test against: %w; run `make test`, which gets one, or set KUBEBUILDER_ASSETS", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// moduleRoot is the nearest directory above the working directory, which for a
// test is its package's, that has a go.mod.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("the working directory is in no Go module")
		}
		dir = parent
	}
}
