#!/usr/bin/env bash
# inside.sh COMMAND... - runs on the node: COMMAND, and when it fails a look at the
# cluster, while it is still there.
set -uo pipefail
"$@"
status=$?
if [ $status -ne 0 ]; then
	timeout 60 kubectl get all,endpointslices,proxyroutes,proxyclasses,events -A -o wide
	timeout 60 kubectl describe pods -A
	timeout 60 kubectl -n ferrum-system logs -l app.kubernetes.io/name=ferrum-proxy --tail=200 --prefix
fi >"$RUN/log/at-failure.log" 2>&1
exit $status
