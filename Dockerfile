# syntax=docker/dockerfile:1
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY api api
COPY cmd cmd
COPY config/crd config/crd
COPY controllers controllers
COPY dataplane dataplane
ARG TARGETOS TARGETARCH VERSION=devel
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$VERSION" -o /ferrum ./cmd/ferrum

# The same as `make image` makes: one static binary and nothing else.
FROM scratch
COPY --from=build /ferrum /ferrum
# A number, so that runAsNonRoot can be checked without a passwd file.
USER 65532:65532
WORKDIR /
ARG VERSION=devel
LABEL org.opencontainers.image.title=ferrum \
      org.opencontainers.image.version=$VERSION \
      org.opencontainers.image.licenses=Apache-2.0
ENTRYPOINT ["/ferrum"]
CMD ["run"]
