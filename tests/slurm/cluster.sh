#!/usr/bin/env bash
# A SLURM of four virtual nodes on this machine, for the tests: `cluster.sh up DIR`, `cluster.sh down DIR`.
#
# Everything lies in DIR: configuration, key, sockets, logs, state. All addresses are loopback, and the ports are asked
# of the system, so that several such clusters, or one beside a SLURM of the machine, do not meet. It needs neither root
# nor a running service, only the programs: Debian's packages slurmctld, slurmd, slurm-client and munge.
#
# Talk to it with SLURM_CONF=DIR/slurm.conf. `cluster.sh lose DIR n3` kills a node with all that runs there, as a power
# cut does; `cluster.sh back DIR n3` starts it again.
set -eu

PATH=$PATH:/usr/sbin:/sbin
NODES="n1 n2 n3 n4"
COMMAND=${1:?say up, down, lose or back} DIR=${2:?say where}

start_node() {
  # -N: several slurmd on one machine, each by its name; -D: in the foreground, so that its number is known
  SLURM_CONF="$DIR/slurm.conf" setsid slurmd -D -N "$1" >"$DIR/$1.out" 2>&1 </dev/null &
  echo $! >"$DIR/$1.pid"
}

end() { # of a file with the number of a process: ask, and after 5 seconds insist
  [ -f "$1" ] || return 0
  number=$(cat "$1")
  kill "$number" 2>/dev/null || true
  for _ in $(seq 50); do kill -0 "$number" 2>/dev/null || break; sleep 0.1; done
  kill -KILL "$number" 2>/dev/null || true
  rm -f "$1"
}

wait_for() { # a command that succeeds, within 30 seconds
  for _ in $(seq 150); do "$@" >/dev/null 2>&1 && return 0; sleep 0.2; done
  echo "cluster.sh: waited 30 s for: $*" >&2
  tail -n 5 "$DIR"/*.out "$DIR"/*.log >&2 || true
  return 1
}

all_idle() { [ "$(SLURM_CONF="$DIR/slurm.conf" sinfo -h -N -t idle -p main -o %N | wc -l)" = 4 ]; }

case $COMMAND in
up)
  mkdir -p "$DIR/state" "$DIR/spool"
  DIR=$(cd "$DIR" && pwd)
  chmod 755 "$DIR"
  head -c 1024 /dev/urandom >"$DIR/key"
  chmod 400 "$DIR/key"
  # --force: munged mistrusts folders that others may write to, as those for temporary files are
  setsid munged --foreground --force --key-file="$DIR/key" --socket="$DIR/munge.socket" --pid-file="$DIR/munged.own" \
    --log-file="$DIR/munged.log" --seed-file="$DIR/seed" >"$DIR/munged.out" 2>&1 </dev/null &
  echo $! >"$DIR/munged.pid"
  read -r -a PORTS <<<"$(python3 - <<'PYTHON'
import socket
taken = [socket.socket() for _ in range(5)]
for one in taken:
    one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in taken))
PYTHON
)"
  USER_NAME=$(id -un)
  cat >"$DIR/slurm.conf" <<CONF
ClusterName=virtual
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=$USER_NAME
SlurmdUser=$USER_NAME
AuthType=auth/munge
# cred_expire is also how long a requeued job waits: 120 seconds by default, 5 at least
AuthInfo=socket=$DIR/munge.socket,cred_expire=5
CredType=cred/munge
SlurmctldPort=${PORTS[0]}
CommunicationParameters=NoAddrCache
StateSaveLocation=$DIR/state
SlurmdSpoolDir=$DIR/spool/%n
SlurmctldPidFile=$DIR/slurmctld.own
SlurmdPidFile=$DIR/%n.own
SlurmctldLogFile=$DIR/slurmctld.log
SlurmdLogFile=$DIR/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_min_interval=100000,batch_sched_delay=0,bf_interval=1,requeue_setup_env_fail
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SlurmdTimeout=10
SlurmctldTimeout=10
BatchStartTimeout=10
KillWait=20
OverTimeLimit=0
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmdParameters=config_overrides
CONF
  number=1
  for node in $NODES; do
    echo "NodeName=$node NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=${PORTS[$number]} CPUs=2 RealMemory=1000 State=UNKNOWN" \
      >>"$DIR/slurm.conf"
    number=$((number + 1))
  done
  echo "PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1" >>"$DIR/slurm.conf"
  echo "PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF" >>"$DIR/slurm.conf"
  wait_for test -S "$DIR/munge.socket"
  SLURM_CONF="$DIR/slurm.conf" setsid slurmctld -D -c >"$DIR/slurmctld.out" 2>&1 </dev/null &
  echo $! >"$DIR/slurmctld.pid"
  for node in $NODES; do start_node "$node"; done
  wait_for all_idle
  ;;
down)
  [ -d "$DIR" ] || exit 0
  DIR=$(cd "$DIR" && pwd)
  if [ -f "$DIR/slurmctld.pid" ]; then
    SLURM_CONF="$DIR/slurm.conf" timeout 10 scancel --full --signal=KILL --user="$(id -un)" 2>/dev/null || true
    SLURM_CONF="$DIR/slurm.conf" timeout 10 scancel --user="$(id -un)" 2>/dev/null || true
  fi
  for name in $NODES slurmctld munged; do end "$DIR/$name.pid" & done
  wait
  # keepers of jobs that could not tell a lost node how these ended
  for folder in /proc/[0-9]*; do
    [ "$(cat "$folder/comm" 2>/dev/null)" = slurmstepd ] || continue
    environment=$(tr '\0' '\n' 2>/dev/null <"$folder/environ") || continue
    grep -qx "SLURM_CONF=$DIR/slurm.conf" <<<"$environment" && kill -KILL "${folder#/proc/}" 2>/dev/null || true
  done
  ;;
lose)
  DIR=$(cd "$DIR" && pwd)
  NODE=${3:?say which node}
  # the daemon and the keepers of jobs first, so that nobody tells the controller how the jobs ended
  kill -KILL "$(cat "$DIR/$NODE.pid")"
  rm -f "$DIR/$NODE.pid"
  jobs="" keepers=""
  for folder in /proc/[0-9]*; do
    environment=$(tr '\0' '\n' 2>/dev/null <"$folder/environ") || continue
    grep -qx "SLURM_CONF=$DIR/slurm.conf" <<<"$environment" && grep -qx "SLURMD_NODENAME=$NODE" <<<"$environment" || continue
    jobs="$jobs ${folder#/proc/}"
    parent=$(awk '/^PPid/ {print $2}' "$folder/status" 2>/dev/null) || continue
    [ "$(cat "/proc/$parent/comm" 2>/dev/null)" != slurmstepd ] || keepers="$keepers $parent"
  done
  for number in $keepers $jobs; do kill -KILL "$number" 2>/dev/null || true; done
  ;;
back)
  DIR=$(cd "$DIR" && pwd)
  start_node "${3:?say which node}"
  ;;
*)
  echo "cluster.sh: $COMMAND is none of up, down, lose, back" >&2
  exit 2
  ;;
esac
