#!/usr/bin/env bash
# Training on two ranks of one thread each, beside one process with two threads and one with one: the same model, the same global batch,
# the same result. Medians over rounds in which the three take turns.
#
#   bash bench/distributed.sh [ROUNDS [STEPS]]            needs openmpi-bin and libopenmpi-dev
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-5}
steps=${2:-30}
bash cmake/require-packages.sh g++ cmake ninja-build libeigen3-dev libxsimd-dev openmpi-bin libopenmpi-dev bible-kjv
mkdir -p build
log=build/bench_distributed.log
{ cmake --preset release -DFATHOM_MPI=ON -DFATHOM_TESTS=OFF -DFATHOM_BENCHES=OFF -B build/bench-distributed &&
  cmake --build build/bench-distributed --target distributed_train; } >"$log" 2>&1 ||
  { tail -40 "$log" >&2; exit 1; }
program=build/bench-distributed/examples/distributed/distributed_train
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
bible -f gen1:1-exo40:38 | cut -d' ' -f2- >"$folder/text"

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_WAIT_POLICY=active
run() {  # NAME THREADS COMMAND ...
  rm -f "$folder"/distributed.*
  OMP_NUM_THREADS=$2 "${@:3}" "$program" "$folder/text" "$steps" "$folder" | sed -nE \
    "s|.*validation NLL ([0-9.]+) .* ([0-9]+) tokens/s.*waited ([0-9.]+)%.*|$1 \2 \1 \3|p" >>"$folder/results"
}
for ((i = 0; i < rounds; ++i)); do
  run one_process_two_threads 2
  run two_ranks_one_thread 1 mpirun -n 2 --bind-to core
  run one_process_one_thread 1
done
echo "$steps steps of 16 x 128 bytes, medians of $rounds rounds:"
sort -k1,1 -k2,2n "$folder/results" | awk '
  { speed[$1, ++n[$1]] = $2; loss[$1] = $3; waits[$1] += $4 }
  END {
    for (name in n) {
      k = n[name]
      median[name] = k % 2 ? speed[name, (k + 1) / 2] : (speed[name, k / 2] + speed[name, k / 2 + 1]) / 2
      printf "%-26s %8.0f tokens/s  validation NLL %s  waits %.1f%%\n", name, median[name], loss[name], waits[name] / k
    }
    printf "two ranks / two threads: %.2f; two ranks / one thread: %.2f\n",
           median["two_ranks_one_thread"] / median["one_process_two_threads"], median["two_ranks_one_thread"] / median["one_process_one_thread"]
  }'
