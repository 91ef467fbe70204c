// Command image builds a Go program for one or more platforms and packs it into
// an OCI image layout, as one tar file, without Docker and without a network:
//
//	go run ./hack/image -name ferrum:dev -o bin/ferrum.tar ./cmd/ferrum -- run
//
// The image is FROM scratch: it holds one static binary, /NAME (or DIR/NAME), which
// is its entrypoint; what follows "--" is its default command. It runs as user 65532.
// The Dockerfile of the repository makes the same out of the same sources.
//
// The same sources, Go version and flags give the same bytes, hence the same
// digest: the build is stripped of paths and of the state of version control,
// and every time in the image is SOURCE_DATE_EPOCH (Unix seconds, default 0).
//
// The tar is what `ctr images import`, `skopeo copy oci-archive:FILE` and
// `docker load` (with containerd's image store) read.
//
// The package owns the file it writes and a temporary directory. It keeps no
// state between calls and starts no goroutine.
package main
