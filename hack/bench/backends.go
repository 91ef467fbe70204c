package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// startBackends starts two backends that answer GETs and one that answers them
// with 503, in nginx if there is one (one process on three ports), and one that
// takes request bodies.
func (b *bench) startBackends(ctx context.Context) error {
	own := filepath.Join(b.dir, "backend")
	if err := build(ctx, own, "./hack/bench/backend"); err != nil {
		return err
	}
	for range 2 {
		addr, err := b.listenAddress()
		if err != nil {
			return err
		}
		b.small = append(b.small, addr)
	}
	var err error
	if b.upload, err = b.listenAddress(); err != nil {
		return err
	}
	if b.unavailable, err = b.listenAddress(); err != nil {
		return err
	}
	nginx, lookErr := look(nonEmpty(*b.o.binaries["nginx"], "nginx"))
	if lookErr == nil {
		b.backendName = "nginx " + versionOf(ctx, nginx, []string{"-v"})
		if err := b.startNginxBackend(nginx); err != nil {
			return err
		}
		err = b.startOwnBackend(own, b.upload)
	} else {
		b.backendName = "hack/bench/backend"
		err = b.startOwnBackend(own, b.small[0], b.small[1], b.upload, b.unavailable)
	}
	if err != nil {
		return err
	}
	for _, p := range []probe{
		{addr: b.small[0], path: smallPath, expect: smallBody}, {addr: b.small[1], path: largePath, expect: largeBody},
		{addr: b.upload, path: uploadPath, upload: uploadBody},
	} {
		if err := p.wait(ctx, b.backends...); err != nil {
			return fmt.Errorf("backend: %w", err)
		}
	}
	return nil
}

func nonEmpty(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func (b *bench) startOwnBackend(binary string, addrs ...string) error {
	dir, err := b.newDir("backend")
	if err != nil {
		return err
	}
	p, err := b.start("backend", dir, b.cpus.load, []string{fmt.Sprintf("GOMAXPROCS=%d", len(b.cpus.load))},
		binary, "-listen", strings.Join(addrs, ","), "-unavailable", b.unavailable, "-small", fmt.Sprint(smallBody), "-large", fmt.Sprint(largeBody))
	if err == nil {
		b.backends = append(b.backends, p)
	}
	return err
}

func (b *bench) startNginxBackend(binary string) error {
	dir, err := b.newDir("backend")
	if err != nil {
		return err
	}
	err = os.WriteFile(filepath.Join(dir, strings.TrimPrefix(largePath, "/")), bytes.Repeat([]byte("x"), largeBody), 0o644)
	if err != nil {
		return err
	}
	var config bytes.Buffer
	err = templates.ExecuteTemplate(&config, "backend.conf.tmpl", map[string]any{
		"Root": os.Geteuid() == 0, "Workers": len(b.cpus.load), "Dir": dir, "Listen": b.small, "Unavailable": b.unavailable,
		"Small": strings.Repeat("x", smallBody),
	})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "nginx.conf"), config.Bytes(), 0o644); err != nil {
		return err
	}
	p, err := b.start("backend", dir, b.cpus.load, nil, binary, "-p", dir, "-c", "nginx.conf", "-e", "stderr", "-g", "daemon off;")
	if err == nil {
		b.backends = append(b.backends, p)
	}
	return err
}
