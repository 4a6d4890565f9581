#!/usr/bin/env bash
# A Ray of two nodes on this machine, of one cpu each, without dashboard and usage statistics. Their addresses are
# 127.0.0.2, the head, and 127.0.0.3; a token protects it, since Ray listens on all interfaces. All that it writes lies
# below FOLDER.
#
#   tests/cluster/ray.sh start FOLDER     prints the variables that clients need, RAY_ADDRESS among them:
#                                         export $(tests/cluster/ray.sh start FOLDER)
#   tests/cluster/ray.sh status FOLDER    prints the same lines; fails where none runs
#   tests/cluster/ray.sh stop FOLDER      ends all nodes and all that they run
#
# Ray's sockets lie in FOLDER, so its path may have 30 characters.
set -euo pipefail

. "$(dirname "$0")/shared.sh"
name=ray.sh

# node IP ARGUMENTS...
node() {
    env "$mark" ray start --node-ip-address="$1" "${@:2}" --num-cpus=1 --object-store-memory=100000000 \
        --min-worker-port=0 --max-worker-port=0 --temp-dir="$folder" >>"$folder/start.log" 2>&1 </dev/null ||
        { stop; fail "ray does not start: see $folder/start.log"; }
}

start() {
    none_of_ours || fail "it runs already: $folder"
    (umask 077 && od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$folder/token")
    cat >"$folder/environment" <<VARIABLES
RAY_ADDRESS=127.0.0.2:$(free_port 127.0.0.2)
RAY_AUTH_MODE=token
RAY_AUTH_TOKEN_PATH=$folder/token
RAY_USAGE_STATS_ENABLED=0
RAY_worker_niceness=0
VARIABLES
    # shellcheck disable=SC2046  # one argument each
    export $(cat "$folder/environment")
    node 127.0.0.2 --head --port="${RAY_ADDRESS#*:}" --include-dashboard=false
    node 127.0.0.3 --address="$RAY_ADDRESS"
    cat "$folder/environment"
}

status() {
    if none_of_ours; then fail "none runs in $folder"; fi
    cat "$folder/environment"
}

stop() { end_ours; }

case ${1:-} in
start | status | stop)
    type -P ray >/dev/null || fail "Ray is not installed: pip install ray"
    mkdir -p "${2:?which folder?}"
    folder=$(realpath "$2")
    [ ${#folder} -le 30 ] || fail "the path has more than 30 characters: $folder"
    mark=HARNESS_RAY=$folder
    "$1"
    ;;
*) fail "start FOLDER, status FOLDER or stop FOLDER is expected, not: $*" ;;
esac
