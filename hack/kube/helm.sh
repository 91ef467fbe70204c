#!/usr/bin/env bash
# helm.sh [--no-build] - prints the path of the helm that tests run, after building
# it if need be (1 to 3 minutes on 2 cores, once): HELM if set, else the version of
# helm/go.mod, in the cache of assets.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/source.sh"

if [ -n "${HELM:-}" ]; then
	echo "$HELM"
	exit
fi
if ! is helm $helm; then
	if [ "${1:-}" = --no-build ]; then
		say "helm $helm is not in $cache yet"
		exit 1
	fi
	exec 9>"$(lockfile)"
	alone 9
	build helm $helm "-X helm.sh/helm/v4/internal/version.version=$helm" helm.sh/helm/v4/cmd/helm "$root/hack/kube/helm"
fi
echo "$bin/helm"
