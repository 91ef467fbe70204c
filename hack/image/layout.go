package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// user is a number, so that runAsNonRoot can be checked without a passwd file.
const user = "65532:65532"

// Media types of the OCI image specification.
const (
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// image is what goes into a layout.
type image struct {
	name      string // NAME:TAG
	created   time.Time
	labels    map[string]string
	binary    string   // path of the program, without the leading slash
	command   []string // default arguments of the program
	platforms []platform
}

type platform struct {
	os, arch string
	binary   []byte
}

// The documents of the specification, with the fields that we fill.
type (
	descriptor struct {
		MediaType   string            `json:"mediaType"`
		Digest      string            `json:"digest"`
		Size        int               `json:"size"`
		Platform    *ociPlatform      `json:"platform,omitempty"`
		Annotations map[string]string `json:"annotations,omitempty"`
	}
	ociPlatform struct {
		Architecture string `json:"architecture"`
		OS           string `json:"os"`
	}
	index struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Manifests     []descriptor `json:"manifests"`
	}
	manifest struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Config        descriptor   `json:"config"`
		Layers        []descriptor `json:"layers"`
	}
	config struct {
		Created      string          `json:"created"`
		Architecture string          `json:"architecture"`
		OS           string          `json:"os"`
		Config       containerConfig `json:"config"`
		RootFS       rootFS          `json:"rootfs"`
		History      []history       `json:"history"`
	}
	containerConfig struct {
		User       string            `json:"User"`
		Entrypoint []string          `json:"Entrypoint"`
		Cmd        []string          `json:"Cmd,omitempty"`
		WorkingDir string            `json:"WorkingDir"`
		Labels     map[string]string `json:"Labels,omitempty"`
	}
	rootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	}
	history struct {
		Created   string `json:"created"`
		CreatedBy string `json:"created_by"`
	}
)

// blobs are the contents of a layout by digest.
type blobs map[string][]byte

// add stores data and describes it.
func (b blobs) add(mediaType string, data []byte) descriptor {
	d := digestOf(data)
	b[d] = data
	return descriptor{MediaType: mediaType, Digest: d, Size: len(data)}
}

// addJSON stores a document.
func (b blobs) addJSON(mediaType string, v any) (descriptor, error) {
	data, err := json.Marshal(v) // sorts the keys of maps
	if err != nil {
		return descriptor{}, err
	}
	return b.add(mediaType, data), nil
}

func digestOf(data []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(data)) }

// layout returns the tar of the image and the digest that a registry knows it
// by: that of the index of its platforms.
func (img *image) layout() (tarball []byte, digest string, err error) {
	all := make(blobs)
	idx := index{SchemaVersion: 2, MediaType: typeIndex}
	for _, p := range img.platforms {
		d, err := img.addPlatform(all, p)
		if err != nil {
			return nil, "", err
		}
		idx.Manifests = append(idx.Manifests, d)
	}
	top, err := all.addJSON(typeIndex, idx)
	if err != nil {
		return nil, "", err
	}
	top.Annotations = map[string]string{"org.opencontainers.image.ref.name": img.tag(), "io.containerd.image.name": img.name}
	entry, err := json.Marshal(index{SchemaVersion: 2, MediaType: typeIndex, Manifests: []descriptor{top}})
	if err != nil {
		return nil, "", err
	}
	tarball, err = img.pack(all, entry)
	return tarball, top.Digest, err
}

func (img *image) tag() string {
	last := img.name[strings.LastIndexByte(img.name, '/')+1:]
	if _, tag, ok := strings.Cut(last, ":"); ok {
		return tag
	}
	return "latest"
}

// addPlatform adds layer, config and manifest of one platform.
func (img *image) addPlatform(all blobs, p platform) (descriptor, error) {
	files, err := writeTar(img.created, []file{{name: img.binary, mode: 0o755, data: p.binary}})
	if err != nil {
		return descriptor{}, err
	}
	zipped, err := compress(files)
	if err != nil {
		return descriptor{}, err
	}
	created := img.created.Format(time.RFC3339)
	cfg, err := all.addJSON(typeConfig, config{
		Created: created, Architecture: p.arch, OS: p.os,
		Config: containerConfig{
			User: user, Entrypoint: []string{"/" + img.binary}, Cmd: img.command, WorkingDir: "/", Labels: img.labels,
		},
		RootFS:  rootFS{Type: "layers", DiffIDs: []string{digestOf(files)}},
		History: []history{{Created: created, CreatedBy: "hack/image"}},
	})
	if err != nil {
		return descriptor{}, err
	}
	m := manifest{SchemaVersion: 2, MediaType: typeManifest, Config: cfg, Layers: []descriptor{all.add(typeLayer, zipped)}}
	d, err := all.addJSON(typeManifest, m)
	d.Platform = &ociPlatform{Architecture: p.arch, OS: p.os}
	return d, err
}

// pack writes the layout: the marker, the entry point and all blobs in the order
// of their digests.
func (img *image) pack(all blobs, entry []byte) ([]byte, error) {
	files := []file{
		{name: "oci-layout", mode: 0o644, data: []byte(`{"imageLayoutVersion":"1.0.0"}`)},
		{name: "index.json", mode: 0o644, data: entry},
	}
	for d, data := range all {
		files = append(files, file{name: "blobs/" + strings.Replace(d, ":", "/", 1), mode: 0o644, data: data})
	}
	slices.SortFunc(files[2:], func(a, b file) int { return strings.Compare(a.name, b.name) })
	return writeTar(img.created, files)
}

type file struct {
	name string
	mode int64
	data []byte
}

func writeTar(modified time.Time, files []file) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: f.mode, Size: int64(len(f.data)), ModTime: modified}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

func compress(data []byte) ([]byte, error) {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf) // writes no time and no name
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}
