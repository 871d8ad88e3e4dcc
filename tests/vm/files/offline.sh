#!/bin/sh
# Story 10, in namespaces of its own: no network but an empty loopback, none of this machine's bundles and builds. What is shared with
# the machine is the ready snapshot: it is found by a hash of the bundle's content, and making it again would take minutes.
# Usage: offline.sh SAMPAN DIR SHARED_CACHE BUNDLE_FILE, with SAMPAN_HOME, SAMPAN_CACHE and KUBECONFIG set.
set -eu
sampan=$1 dir=$2 shared=$3 file=$4
fail() { echo "offline: $*" >&2; exit 1; }

mkdir -p "$dir/bundles" "$dir/build"
mount --bind "$dir/bundles" "$shared/bundles"
mount --bind "$dir/build" "$shared/build"
ip link set lo up
[ -z "$(ip route)" ] || fail "there is a network: $(ip route)"
[ "$("$sampan" bundle list -o json)" = "[]" ] || fail "there is a bundle already"
trap '"$sampan" delete --all >/dev/null 2>&1 || true' EXIT

echo "--- import"
"$sampan" bundle import "$file"
echo "--- start"
"$sampan" start -p offline --driver qemu --wait=all
echo "--- addons"
"$sampan" addons enable metrics-server -p offline
"$sampan" addons enable ingress -p offline
echo "--- a pod"
kubectl() { "$sampan" -p offline kubectl -- "$@"; }
kubectl apply -f "$(dirname "$0")/app.yaml"
kubectl wait pod/app --for condition=Ready --timeout 180s
kubectl -n kube-system rollout status deployment/metrics-server --timeout 180s
kubectl exec app -- nslookup kubernetes.default.svc.cluster.local
[ -z "$(ls "$dir/build")" ] || fail "something was built"
[ ! -d "$SAMPAN_CACHE/downloads" ] || fail "something was fetched"
"$sampan" delete -p offline
trap - EXIT
