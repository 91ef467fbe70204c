package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// options are the command line.
type options struct {
	name      string
	out       string
	platforms string
	ldflags   string
	labels    labels
	dir       string
	prebuilt  bool
	pkg       string
	command   []string
}

// labels are repeated -label KEY=VALUE flags.
type labels map[string]string

func (l labels) String() string { return "" }

func (l labels) Set(s string) error {
	key, value, ok := strings.Cut(s, "=")
	if !ok || key == "" {
		return fmt.Errorf("%q is not KEY=VALUE", s)
	}
	l[key] = value
	return nil
}

func main() {
	o, err := parse(os.Args[1:])
	if err == nil {
		err = o.run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func parse(args []string) (*options, error) {
	o := &options{labels: labels{}}
	fs := flag.NewFlagSet("image", flag.ContinueOnError)
	fs.StringVar(&o.name, "name", "", "name:tag of the image")
	fs.StringVar(&o.out, "o", "", "tar file to write")
	fs.StringVar(&o.platforms, "platform", "linux/amd64,linux/arm64", "os/arch, comma separated")
	fs.StringVar(&o.ldflags, "ldflags", "-s -w", "flags of the linker")
	fs.StringVar(&o.dir, "dir", "/", "directory of the program in the image")
	fs.BoolVar(&o.prebuilt, "prebuilt", false, "PACKAGE is the file of a program, already built for the only platform")
	fs.Var(o.labels, "label", "KEY=VALUE label of the image; may be repeated")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	rest := fs.Args()
	if o.name == "" || o.out == "" || len(rest) == 0 || len(rest) > 1 && rest[1] != "--" {
		return nil, fmt.Errorf("usage: image -name NAME:TAG -o FILE [flags] PACKAGE [-- ARG...]")
	}
	o.pkg = rest[0]
	if len(rest) > 1 {
		o.command = rest[2:]
	}
	return o, nil
}

// run builds and writes, and prints the digest of the image.
func (o *options) run() error {
	created, err := sourceDate(os.Getenv("SOURCE_DATE_EPOCH"))
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)

	img := image{name: o.name, created: created, labels: o.labels, binary: path.Join("/", o.dir, path.Base(filepath.ToSlash(o.pkg)))[1:], command: o.command}
	for p := range strings.SplitSeq(o.platforms, ",") {
		goos, arch, ok := strings.Cut(p, "/")
		if !ok {
			return fmt.Errorf("%q is not a platform such as linux/amd64", p)
		}
		file := o.pkg
		if !o.prebuilt {
			file = filepath.Join(tmp, arch)
			if err := build(o.pkg, file, goos, arch, o.ldflags); err != nil {
				return err
			}
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		img.platforms = append(img.platforms, platform{os: goos, arch: arch, binary: data})
	}
	data, digest, err := img.layout()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(o.out), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(o.out, data, 0o644); err != nil {
		return err
	}
	fmt.Printf("%s %s %s\n", o.out, o.name, digest)
	return nil
}

// build compiles a static binary that does not depend on where it is built.
func build(pkg, out, goos, arch, ldflags string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", ldflags, "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+arch, "GOFLAGS=")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build %s for %s/%s: %w", pkg, goos, arch, err)
	}
	return nil
}

// sourceDate reads SOURCE_DATE_EPOCH (reproducible-builds.org/specs).
func sourceDate(s string) (time.Time, error) {
	if s == "" {
		return time.Unix(0, 0).UTC(), nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH: %q is not a number of seconds", s)
	}
	return time.Unix(n, 0).UTC(), nil
}
