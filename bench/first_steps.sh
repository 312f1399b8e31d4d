#!/usr/bin/env bash
# What a small model learns in its first steps, by body and optimiser, on the King James text: how the quickstart's was chosen.
#
#   bash bench/first_steps.sh [STEPS [SEED ...]]
set -euo pipefail
cd "$(dirname "$0")/.."
bash cmake/require-packages.sh g++ cmake ninja-build libeigen3-dev libxsimd-dev libbenchmark-dev bible-kjv
cmake --preset release -DFATHOM_TESTS=OFF -DFATHOM_EXAMPLES=OFF -B build/bench >/dev/null
cmake --build build/bench --target bench_first_steps >/dev/null
bible -f gen1:1-rev22:21 | cut -d' ' -f2- >build/bench/kjv.txt
build/bench/bench/bench_first_steps build/bench/kjv.txt "${1:-500}" "${@:2}"
