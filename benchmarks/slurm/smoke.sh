#!/bin/sh
# The smoke sweep through a SLURM of one machine, a training cancelled in the middle: it is
# submitted again. Needs root, slurm-wlm, munge, and drelu with the extra slurm.
#
#   benchmarks/slurm/smoke.sh FOLDER
set -eu
folder=${1:?usage: smoke.sh FOLDER}
here=$(dirname "$0")
sh "$here/up.sh" "$folder"
folder=$(cd "$folder" && pwd)
export SLURM_CONF="$folder/slurm.conf"
trap 'sh "$here/down.sh" "$folder"' EXIT
(
  until id=$(squeue --array --noheader --states=R --format=%i | head -1) && [ -n "$id" ]; do
    sleep 0.2
  done
  sleep 4
  squeue --array
  scancel "$id"
  echo "cancelled $id"
) > "$folder/cancelled.txt" 2>&1 &
python -m drelu_cli sweep smoke --preset tiny --set train.epochs=40 \
  --set data.train_samples=1500 --device cpu --store "$folder/runs" \
  --runner slurm --set slurm.time=10 --set slurm.poll=1
cat "$folder/cancelled.txt"
