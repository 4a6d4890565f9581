# shellcheck shell=bash disable=SC2154  # name and mark: see below
# What slurm.sh and ray.sh share. They set their own name, and in mark a NAME=VALUE that all processes of the cluster
# have in their environment, and the session that uses the cluster does not.

fail() { echo "$name: $*" >&2; exit 1; }

# free_port ADDRESS [NOT]: a port below those that the kernel gives to clients, on which nothing listens, other than NOT
free_port() {
    local port
    while port=$((20000 + RANDOM % 12000))
        [ "$port" = "${2:-}" ] || (exec 3<>"/dev/tcp/$1/$port") 2>/dev/null; do :; done
    echo "$port"
}

# within SECONDS COMMAND...: until the command succeeds
within() {
    local end=$((SECONDS + $1))
    until "${@:2}"; do [ $SECONDS -lt $end ] || return 1; sleep 0.1; done
}

# ours: the processes of the cluster, and what descends from them: some overwrite their environment with a title.
ours() {
    local found children
    found=$(grep -lzsxF "$mark" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3 || true)
    children=$found
    while [ -n "$children" ]; do
        children=$(pgrep -P "$(echo "$children" | paste -sd,)" | grep -vxF "$found" || true)
        [ -z "$children" ] || found+=$'\n'$children
    done
    echo "$found"
}

none_of_ours() { [ -z "$(ours)" ]; }

# alive PIDS: those of them that run; a zombie does not.
alive() { echo "$1" | xargs -r ps -o pid=,stat= -p | awk '$2 !~ /^Z/ {print $1}' || true; }
none_alive() { [ -z "$(alive "$1")" ]; }

end_ours() {
    local pids signal
    pids=$(ours)
    for signal in TERM KILL; do
        [ -n "$pids" ] || return 0
        # shellcheck disable=SC2086  # one argument each
        kill -"$signal" $pids 2>/dev/null || true
        within 5 none_alive "$pids" || true
        pids=$(alive "$pids $(ours)")
    done
    [ -z "$pids" ] || fail "these processes do not end: $(echo "$pids" | paste -sd' ')"
}
