package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func sample() *image {
	return &image{
		name: "registry.example/team/ferrum:v1", created: time.Unix(1_700_000_000, 0).UTC(), binary: "ferrum",
		labels: map[string]string{"b": "2", "a": "1"}, command: []string{"run"},
		platforms: []platform{{"linux", "amd64", []byte("one")}, {"linux", "arm64", []byte("two")}},
	}
}

// untar returns the files of a tar by name.
func untar(t *testing.T, data []byte) map[string][]byte {
	t.Helper()
	files := make(map[string][]byte)
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

// open follows a descriptor, which must describe what it leads to.
func open(t *testing.T, files map[string][]byte, d descriptor) []byte {
	t.Helper()
	data, ok := files["blobs/"+strings.Replace(d.Digest, ":", "/", 1)]
	if !ok || digestOf(data) != d.Digest || len(data) != d.Size {
		t.Fatalf("%+v leads to %d bytes (there: %t) with the digest %s", d, len(data), ok, digestOf(data))
	}
	return data
}

func decode[T any](t *testing.T, data []byte) (v T) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestALayoutLeadsFromItsIndexToTheBinaryOfEachPlatform(t *testing.T) {
	data, digest, err := sample().layout()
	if err != nil {
		t.Fatal(err)
	}
	files := untar(t, data)
	if string(files["oci-layout"]) != `{"imageLayoutVersion":"1.0.0"}` {
		t.Errorf("oci-layout holds %s", files["oci-layout"])
	}
	entry := decode[index](t, files["index.json"])
	if len(entry.Manifests) != 1 || entry.Manifests[0].Digest != digest || entry.Manifests[0].MediaType != typeIndex {
		t.Fatalf("the entry point is %+v", entry)
	}
	if got := entry.Manifests[0].Annotations; got["io.containerd.image.name"] != "registry.example/team/ferrum:v1" || got["org.opencontainers.image.ref.name"] != "v1" {
		t.Errorf("the image is named %v", got)
	}
	platforms := decode[index](t, open(t, files, entry.Manifests[0])).Manifests
	want := map[string]string{"amd64": "one", "arm64": "two"}
	if len(platforms) != len(want) {
		t.Fatalf("%d platforms", len(platforms))
	}
	for _, p := range platforms {
		m := decode[manifest](t, open(t, files, p))
		cfg := decode[config](t, open(t, files, m.Config))
		if p.Platform.OS != "linux" || cfg.OS != "linux" || cfg.Architecture != p.Platform.Architecture {
			t.Errorf("the index says %+v, the image %s/%s", p.Platform, cfg.OS, cfg.Architecture)
		}
		c := cfg.Config
		if c.User != "65532:65532" || !slices.Equal(c.Entrypoint, []string{"/ferrum"}) || !slices.Equal(c.Cmd, []string{"run"}) || c.Labels["a"] != "1" {
			t.Errorf("the container's configuration is %+v", c)
		}
		z, err := gzip.NewReader(bytes.NewReader(open(t, files, m.Layers[0])))
		if err != nil {
			t.Fatal(err)
		}
		layer, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(cfg.RootFS.DiffIDs, []string{digestOf(layer)}) {
			t.Errorf("diff_ids %v, the layer has %s", cfg.RootFS.DiffIDs, digestOf(layer))
		}
		if got := untar(t, layer); len(got) != 1 || string(got["ferrum"]) != want[cfg.Architecture] {
			t.Errorf("%s holds %v", cfg.Architecture, got)
		}
	}
}

func TestTheSameSourcesGiveTheSameBytes(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	var all [][]byte
	for range 2 {
		out := filepath.Join(t.TempDir(), "hello.tar")
		o, err := parse([]string{"-name", "hello:1", "-o", out, "-platform", "linux/amd64", "-label", "x=y", "./testdata/hello"})
		if err != nil {
			t.Fatal(err)
		}
		if err := o.run(); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, data)
	}
	if !bytes.Equal(all[0], all[1]) {
		t.Error("two builds differ")
	}
	if bytes.Contains(all[0], []byte(t.TempDir())) {
		t.Error("the image names a directory of the build")
	}
}

func TestEachPlatformGetsABinaryOfItsOwnThatNeedsNoLibraries(t *testing.T) {
	for arch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		file := filepath.Join(t.TempDir(), arch)
		if err := build("./testdata/hello", file, "linux", arch, "-s -w"); err != nil {
			t.Fatal(err)
		}
		f, err := elf.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if f.Machine != machine || f.Class != elf.ELFCLASS64 || f.Section(".interp") != nil {
			t.Errorf("%s: %s, %s, with an interpreter: %t", arch, f.Machine, f.Class, f.Section(".interp") != nil)
		}
	}
}

// A package that the Dockerfile does not copy would break its build, which nothing
// here runs.
func TestTheDockerfileCopiesEveryPackageOfTheProgram(t *testing.T) {
	dockerfile, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	var copied []string
	for _, m := range regexp.MustCompile(`(?m)^COPY (\S+) (\S+)$`).FindAllStringSubmatch(string(dockerfile), -1) {
		if m[1] != m[2] {
			t.Errorf("%s is copied to %s", m[1], m[2])
		}
		copied = append(copied, m[1])
	}
	const module = "github.com/ferrum-proxy/ferrum-proxy/"
	out, err := exec.Command("go", "list", "-deps", module+"cmd/ferrum").Output()
	if err != nil {
		t.Fatal(err)
	}
	var own int
	for pkg := range strings.Lines(string(out)) {
		dir, ours := strings.CutPrefix(strings.TrimSpace(pkg), module)
		if !ours {
			continue
		}
		own++
		if !slices.ContainsFunc(copied, func(c string) bool { return dir == c || strings.HasPrefix(dir, c+"/") }) {
			t.Errorf("%s is not copied", dir)
		}
	}
	if own < 10 {
		t.Errorf("only %d packages", own)
	}
	for _, want := range []string{"USER 65532:65532\n", `ENTRYPOINT ["/ferrum"]`, `CMD ["run"]`, "CGO_ENABLED=0", "-trimpath -buildvcs=false", "\nFROM scratch\n"} {
		if !strings.Contains(string(dockerfile), want) {
			t.Errorf("no %q: not the image that `make image` makes", want)
		}
	}
}

func TestTheDigestChangesWithWhatIsInTheImage(t *testing.T) {
	_, before, err := sample().layout()
	if err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*image){
		"binary":  func(i *image) { i.platforms[1].binary = []byte("three") },
		"label":   func(i *image) { i.labels["a"] = "2" },
		"time":    func(i *image) { i.created = i.created.Add(time.Second) },
		"command": func(i *image) { i.command = nil },
	} {
		img := sample()
		change(img)
		if _, after, err := img.layout(); err != nil || after == before {
			t.Errorf("another %s: %s, %v", what, after, err)
		}
	}
}

func TestTheTagIsWhatFollowsTheNameNotThePortOfARegistry(t *testing.T) {
	for name, want := range map[string]string{"a:1": "1", "a": "latest", "host:5000/a": "latest", "host:5000/a:2": "2"} {
		if got := (&image{name: name}).tag(); got != want {
			t.Errorf("%s has the tag %s, want %s", name, got, want)
		}
	}
}

func TestWrongUsageIsRefused(t *testing.T) {
	for _, args := range [][]string{
		{}, {"-name", "a:1", "./x"}, {"-name", "a:1", "-o", "x"}, {"-name", "a:1", "-o", "x", "./x", "./y"}, {"-label", "x", "./x"},
	} {
		if _, err := parse(args); err == nil {
			t.Errorf("%v is taken", args)
		}
	}
	if _, err := sourceDate("yesterday"); err == nil {
		t.Error("SOURCE_DATE_EPOCH=yesterday is taken")
	}
}
