#!/usr/bin/env bash
# A real Slurm of one node on loopback, all of it in one folder: start.sh FOLDER, as root, without systemd.
# Then SLURM_CONF=FOLDER/slurm.conf is its address. stop.sh FOLDER ends it.
# No accounting, as on many small clusters: sacct has nothing to say.
set -euo pipefail
mkdir -p "$1"/{state,spool,log}
here=$(cd "$1" && pwd)
host=$(hostname -s)

free_port() { # from $1 upwards, one that nobody listens to
  local port=$1
  while (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null; do port=$((port + 2)); done
  echo "$port"
}

# A munged of its own, so that the machine's, if it has one, is neither needed nor touched.
head -c 1024 /dev/urandom > "$here/munge.key"
chmod 600 "$here/munge.key"
# Forced, for temporary folders are closed to others, which munged takes for a mistake.
munged --force --key-file="$here/munge.key" --socket="$here/munge.socket" --pid-file="$here/munged.pid" \
  --log-file="$here/log/munged.log" --seed-file="$here/munge.seed" 2> "$here/log/munged.start"

# cred_expire: a job that is queued again starts only after the credential of its first start has expired,
# which takes two minutes unless said otherwise.
# nproc would otherwise count threads of OpenMP, and a job that asks for more cores than the node has waits for ever.
cat > "$here/slurm.conf" << CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$(free_port 16817)
SlurmdPort=$(free_port 16818)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$here/munge.socket,cred_expire=5
StateSaveLocation=$here/state
SlurmdSpoolDir=$here/spool
SlurmctldPidFile=$here/slurmctld.pid
SlurmdPidFile=$here/slurmd.pid
SlurmctldLogFile=$here/log/slurmctld.log
SlurmdLogFile=$here/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=0,bf_interval=2
ReturnToService=2
JobRequeue=1
KillWait=5
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(env -u OMP_NUM_THREADS nproc) RealMemory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)
PartitionName=main Nodes=$host Default=YES MaxTime=60 State=UP
CONF

export SLURM_CONF="$here/slurm.conf"
slurmctld -c
slurmd -c
for _ in $(seq 300); do
  [ "$(timeout 10 sinfo -h -o %T 2> /dev/null)" = idle ] && exit 0
  sleep 0.1
done
echo "slurm = $here: does not come up, see $here/log" >&2
exit 1
