#!/bin/sh
# A SLURM of one machine, on loopback, for a trial of `drelu sweep --runner slurm`. Needs root and
# Debian's slurm-wlm and munge; everything it makes lies in the folder given.
#
#   benchmarks/slurm/up.sh FOLDER     # then: export SLURM_CONF=FOLDER/slurm.conf
#   benchmarks/slurm/down.sh FOLDER
set -eu
folder=${1:?usage: up.sh FOLDER}
mkdir -p "$folder/state" "$folder/spool" "$folder/munge"
folder=$(cd "$folder" && pwd)
name=$(hostname -s)
socket="$folder/munge/munge.socket"

dd if=/dev/urandom of="$folder/munge/munge.key" bs=1024 count=1 2>/dev/null
chmod 400 "$folder/munge/munge.key"
chmod 755 "$folder" "$folder/munge"
munged --force --socket="$socket" --key-file="$folder/munge/munge.key" \
  --pid-file="$folder/munge/munged.pid" --log-file="$folder/munge/munged.log" \
  --seed-file="$folder/munge/munged.seed"

cat > "$folder/slurm.conf" <<CONF
ClusterName=trial
SlurmctldHost=$name(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
AuthType=auth/munge
AuthInfo=socket=$socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
KillWait=5
NodeName=$name NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=trial Nodes=$name Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF="$folder/slurm.conf"
slurmctld
slurmd
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
  if sinfo -h -o %t 2>/dev/null | grep -q idle; then
    break
  fi
  sleep 1
done
sinfo
