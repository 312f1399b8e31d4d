#!/usr/bin/env bash
# Growth of the time of a decoded token with its position, and of a training step with the batch: tables and a figure.
#
#   bash bench/growth.sh [OPTIONS OF bench/growth.py]
#
# Installs and builds what is missing. With BUILD_ONLY=1 it measures nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
bash cmake/require-packages.sh g++ cmake ninja-build libeigen3-dev libxsimd-dev libbenchmark-dev
bash bench/peers.sh python
cmake --preset release -DFATHOM_TESTS=OFF -DFATHOM_EXAMPLES=OFF -B build/bench >/dev/null
cmake --build build/bench -j"${JOBS:-$(nproc)}" --target bench_stream \
  bench_steps_{tiny,small,medium}{,_shortcut} >/dev/null
[ -n "${BUILD_ONLY:-}" ] || build/venv-peers/bin/python bench/growth.py "$@"
