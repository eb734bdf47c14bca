#!/bin/sh
# Ends what up.sh began.
set -eu
folder=$(cd "${1:?usage: down.sh FOLDER}" && pwd)
export SLURM_CONF="$folder/slurm.conf"
scancel --user="$(id -un)" 2>/dev/null || true
for pid in slurmd.pid slurmctld.pid munge/munged.pid; do
  if [ -f "$folder/$pid" ]; then
    kill "$(cat "$folder/$pid")" 2>/dev/null || true
  fi
done
