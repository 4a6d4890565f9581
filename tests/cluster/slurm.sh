#!/usr/bin/env bash
# A Slurm of one node on this machine, without systemd, cgroups and accounting. All that it writes lies below FOLDER.
#
#   tests/cluster/slurm.sh install          Debian's packages of it, where this is root and apt can
#   tests/cluster/slurm.sh start FOLDER     prints SLURM_CONF=..., which Slurm's commands need in their environment:
#                                           export "$(tests/cluster/slurm.sh start FOLDER)"
#   tests/cluster/slurm.sh status FOLDER    prints the same line, and the nodes on standard error; fails where none runs
#   tests/cluster/slurm.sh stop FOLDER      cancels all jobs and ends all daemons
#
# The node has two cpus, whatever the machine has. The partition "main" has no time limit, "short" one of an hour.
# Sockets lie in FOLDER, so its path may have 80 characters. Jobs run as the user who starts the cluster.
set -euo pipefail

. "$(dirname "$0")/shared.sh"
name=slurm.sh
PATH=$PATH:/usr/sbin

install() {
    if ! type -P slurmctld slurmd munged sbatch >/dev/null; then
        [ "$(id -u)" -eq 0 ] || fail "Slurm is not installed, and only root can: apt-get install slurm-wlm munge"
        # The package's own start of the services fails where there is no systemd; they are not needed.
        local packages=(slurm-wlm munge) said
        export DEBIAN_FRONTEND=noninteractive
        said=$({ apt-get update && apt-get install -y --no-install-recommends "${packages[@]}"; } 2>&1) || true
        type -P slurmctld slurmd munged sbatch >/dev/null ||
            fail "apt-get install ${packages[*]}: $(tail -n 1 <<<"$said")"
    fi
}

configure() {
    local host memory port
    host=$(uname -n) host=${host%%.*}
    port=$(free_port 127.0.0.1)
    memory=$(awk '/^MemTotal/ {print int($2 / 1024)}' /proc/meminfo)
    cat >"$folder/slurm.conf" <<CONF
ClusterName=$cluster
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$(free_port 127.0.0.1 "$port")
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
# A requeued job waits for cred_expire seconds before it starts again: by default 120, at least 5.
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$folder/munge/socket,cred_expire=5

StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
MailProg=/bin/true

ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
PropagateResourceLimits=NONE

SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
# config_overrides: the node has the cpus that are written here, not those of the machine.
SlurmdParameters=config_overrides
ReturnToService=2
SlurmctldTimeout=10
SlurmdTimeout=10
InactiveLimit=0
KillWait=5
OverTimeLimit=0
MinJobAge=300
JobRequeue=1

NodeName=$host NodeAddr=127.0.0.1 Sockets=1 CoresPerSocket=2 ThreadsPerCore=1 RealMemory=$memory State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE DefaultTime=60 State=UP
PartitionName=short Nodes=ALL MaxTime=60 DefaultTime=60 State=UP
CONF
}

is_idle() { [ "$(sinfo --noheader --partition=main --format=%t 2>/dev/null)" = idle ]; }
no_jobs() { [ -z "$(squeue --noheader 2>/dev/null)" ]; }

start() {
    none_of_ours || fail "it runs already: $folder"
    rm -rf "${folder:?}"/{state,spool,munge}
    mkdir -p "$folder"/{state,spool,munge}
    # munged wants a key and folders that nobody else can write to, and a socket that everybody can reach.
    # --force: without it, it refuses below a folder that is private to its user, as those of pytest are.
    chmod 755 "$folder/munge"
    (umask 077 && head -c 128 /dev/urandom >"$folder/munge/key")
    configure
    cd "$folder/munge"
    env "$mark" munged --force --socket="$PWD/socket" --key-file="$PWD/key" --seed-file="$PWD/seed" \
        --pid-file="$PWD/pid" --log-file="$PWD/log" 2>warnings || fail "munged does not start: $(tail -n 1 warnings)"
    env "$mark" slurmctld -c -f "$SLURM_CONF" || { stop; fail "slurmctld does not start: see $folder/slurmctld.log"; }
    env "$mark" slurmd -f "$SLURM_CONF" || { stop; fail "slurmd does not start: see $folder/slurmd.log"; }
    within 20 is_idle || { stop; fail "the node does not come up: see $folder/slurmctld.log and $folder/slurmd.log"; }
    echo "SLURM_CONF=$SLURM_CONF"
}

status() {
    if none_of_ours || ! scontrol ping >/dev/null 2>&1; then fail "none runs in $folder"; fi
    sinfo >&2
    echo "SLURM_CONF=$SLURM_CONF"
}

stop() {
    if none_of_ours; then return; fi
    # KillWait is 5 seconds. Without a controller, Slurm's commands wait long in vain.
    if timeout 5 scancel --user="$(id -un)" 2>/dev/null; then within 10 no_jobs || true; fi
    end_ours
}

case ${1:-} in
install) install ;;
start | status | stop)
    type -P slurmctld slurmd munged sbatch >/dev/null || fail "Slurm is not installed: tests/cluster/slurm.sh install"
    mkdir -p "${2:?which folder?}"
    folder=$(realpath "$2")
    [ ${#folder} -le 80 ] || fail "the path has more than 80 characters: $folder"
    export SLURM_CONF=$folder/slurm.conf
    cluster=harness$(cksum <<<"$folder" | cut -d' ' -f1)
    mark=SLURM_CLUSTER_NAME=$cluster  # Slurm sets it for what runs in a job
    "$1"
    ;;
*) fail "install, start FOLDER, status FOLDER or stop FOLDER is expected, not: $*" ;;
esac
