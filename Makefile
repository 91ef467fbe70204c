# `make` alone lists the targets.

VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
IMAGE     ?= ferrum:dev
PLATFORM  ?= linux/amd64,linux/arm64
PKG       ?= ./...
BENCH     ?= .
BENCHTIME ?= 1s
FUZZTIME  ?= 10s

TOOL = go tool -modfile=hack/tools/go.mod

# The race detector needs cgo, and cgo a C compiler with its headers.
RACE = $(shell echo 'int main(void){return 0;}' \
	| $$(go env CC) -include stdlib.h -x c -o /dev/null - 2>/dev/null && echo -race)

.DEFAULT_GOAL := help
.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "  Variables: PKG=$(PKG) BENCH=$(BENCH) BENCHTIME=$(BENCHTIME) FUZZTIME=$(FUZZTIME) IMAGE=$(IMAGE) PLATFORM=$(PLATFORM) VERSION"

.PHONY: run
run: ## Serve config/samples with sample backends; prints what to try, Ctrl-C ends all of it
	@go run ./hack/run

# Tests with the build tag redis need a redis-server, which Debian has.
REDIS_SERVER ?= $(shell command -v redis-server 2>/dev/null)

# Tests that count allocations run without the race detector too, which
# allocates by itself.
ALLOC_PKG = ./dataplane/http1 ./dataplane/proxy ./dataplane/route ./dataplane/telemetry ./dataplane/upstream

.PHONY: test
test: ## Run all tests, against a real API server (the first time gets or builds one: up to 10 min)
	@assets=$$(hack/kube/assets.sh) && helm=$$(hack/kube/helm.sh) || exit; race="$(RACE)"; \
	[ -n "$$race" ] || echo "no C compiler with headers (Debian: gcc libc6-dev): testing without the race detector" >&2; \
	redis="$(REDIS_SERVER)" tags=; [ -z "$$redis" ] || tags="-tags redis"; \
	[ -n "$$redis" ] || echo "no redis-server (Debian: redis-server): leaving out the tests of rate limits that are counted in Redis" >&2; \
	set -ex; \
	[ -z "$$race" ] || go test -run Alloc $(ALLOC_PKG); \
	KUBEBUILDER_ASSETS=$$assets HELM=$$helm REDIS_SERVER=$$redis go test $$race $$tags -shuffle=on -timeout 20m $(PKG)

.PHONY: slow
slow: ## Let a thousand slow clients at it; needs slowhttptest (Debian: slowhttptest)
	@tool=$$(command -v slowhttptest) || { echo "no slowhttptest (Debian: slowhttptest)" >&2; exit 1; }; set -x; \
	SLOWHTTPTEST=$$tool go test -tags slowhttptest -count=1 -v -run TestAThousandSlowClients ./cmd/ferrum

.PHONY: lint
lint: ## Run golangci-lint (the first time builds it: some minutes)
	$(TOOL) golangci-lint run

.PHONY: vulncheck
vulncheck: ## Look for known vulnerabilities in what is called; needs internet
	$(TOOL) govulncheck ./...

# $(call controller-gen,ROOT) writes all generated files below ROOT.
define controller-gen
	$(TOOL) controller-gen \
		object crd:crdVersions=v1 rbac:roleName=ferrum-controller \
		paths=./api/... paths=./controllers/... \
		output:object:dir=$(1)/api/v1alpha1 output:crd:dir=$(1)/config/crd/bases output:rbac:dir=$(1)/config/rbac
endef

.PHONY: generate
generate: ## Regenerate deepcopy functions, CRDs, RBAC and what of the chart follows from them
	$(call controller-gen,.)
	go run ./hack/chart

.PHONY: verify
verify: ## Check that generated files, the chart and config/, formatting, go vet and go.mod agree
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && set -e; \
	$(call controller-gen,"$$tmp"); \
	go run ./hack/chart "$$tmp"; \
	for file in $$(cd "$$tmp" && find . -type f); do \
		diff -u "$$file" "$$tmp/$$file" || { echo "$$file is not what it is made from; run make generate" >&2; exit 1; }; \
	done
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "not gofmt'ed:" $$unformatted >&2; exit 1; }
	@helm=$$(hack/kube/helm.sh) || exit; set -x; HELM=$$helm go test -run '^TestTheChartAndTheKustomizeBasesInstallTheSame' ./hack/chart
	go vet -tags redis ./...
	go vet -tags cluster ./hack/e2e/cluster
	go vet -tags promtool ./cmd/ferrum
	go vet -tags slowhttptest ./cmd/ferrum
	go mod tidy -diff
	go -C hack/tools mod tidy -diff

.PHONY: build
build: ## Build the static binary bin/ferrum
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/ferrum ./cmd/ferrum

.PHONY: image
image: ## Build the image bin/ferrum-VERSION.tar (OCI layout) for PLATFORM; needs no Docker
	@SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct 2>/dev/null)} \
	go run ./hack/image -name $(IMAGE) -o bin/ferrum-$(VERSION).tar -platform $(PLATFORM) \
		-ldflags '-s -w -X main.version=$(VERSION)' \
		-label org.opencontainers.image.title=ferrum -label org.opencontainers.image.version=$(VERSION) \
		-label org.opencontainers.image.licenses=Apache-2.0 \
		./cmd/ferrum -- run

.PHONY: alerts
alerts: ## Try the chart's alerts and dashboard on faults, made up and real; needs promtool (Debian: prometheus)
	promtool check rules charts/ferrum-proxy/files/alerts.yaml
	promtool test rules hack/chart/testdata/alerts_test.yaml
	@assets=$$(hack/kube/assets.sh) || exit; set -x; \
	KUBEBUILDER_ASSETS=$$assets go test -tags promtool -run '^TestEachAlert' ./cmd/ferrum

.PHONY: e2e
e2e: ## Install the image and the chart into a real Kubernetes, with traffic; needs root (hack/kube/cluster.sh check)
	hack/e2e/run.sh '^TestA'

.PHONY: e2e-prometheus
e2e-prometheus: ## The same with a Prometheus Operator, which has to find targets and rules (builds both: 5 min more)
	hack/e2e/run.sh '^TestThePrometheusOperator'

.PHONY: bench
bench: ## Measure what a request costs, beside nginx, HAProxy and others (docs/benchmarking.md)
	go run ./hack/bench

.PHONY: microbench
microbench: ## Run Go's benchmarks, with allocations
	go test -run '^$$' -bench '$(BENCH)' -benchtime $(BENCHTIME) -benchmem $(PKG)

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME
	@set -e; for file in $$(grep -rl --include='*_test.go' '^func Fuzz' .); do \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' $$file); do \
			echo "$$(dirname $$file) $$target"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$(dirname $$file); \
		done; \
	done

.PHONY: clean
clean: ## Remove what build made; the tests' API server stays in ~/.cache/ferrum-kube
	rm -rf bin
