#!/usr/bin/env bash
# The end of what start.sh FOLDER started: its jobs, then its daemons.
set -uo pipefail
here=$1
export SLURM_CONF="$here/slurm.conf"
timeout 10 scancel -u root
for _ in $(seq 100); do
  [ -z "$(timeout 10 squeue -h 2> /dev/null)" ] && break
  sleep 0.1
done
for daemon in slurmd slurmctld munged; do
  [ -s "$here/$daemon.pid" ] || continue
  pid=$(cat "$here/$daemon.pid")
  kill "$pid" 2> /dev/null
  for _ in $(seq 100); do
    [ -e "$here/$daemon.pid" ] && kill -0 "$pid" 2> /dev/null || break # a dead one may stay as a zombie
    sleep 0.1
  done
done
