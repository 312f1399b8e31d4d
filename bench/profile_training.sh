#!/usr/bin/env bash
# Where the time of a training step goes, by operation.
#
#   bash bench/profile_training.sh [--avx2] [OPTIONS OF bench/profile_training.py]
#
# Installs and builds what is missing. Samples with Linux's perf, whose counters the machine must allow.
set -euo pipefail
cd "$(dirname "$0")/.."
source bench/isa.sh
bash cmake/require-packages.sh g++ cmake ninja-build libeigen3-dev libxsimd-dev libbenchmark-dev linux-perf
configure
cmake --build "$build" --target bench_models >/dev/null
exec python3 bench/profile_training.py --models "$build/bench/bench_models" "${arguments[@]}"
