#!/usr/bin/env bash
# Does training with bf16 products learn as well as training in float? Trains a tiny GPT-2 with the shortcut on the quickstart's
# text with both, from the same weights and batches, prints a table, and plots the losses in bench/bf16_training.png.
#
#   bash bench/bf16_training.sh [STEPS [SEED ...]]
set -euo pipefail
cd "$(dirname "$0")/.."
bash cmake/require-packages.sh g++ cmake ninja-build libeigen3-dev libxsimd-dev libbenchmark-dev bible-kjv
bash bench/peers.sh python
cmake --preset release -DFATHOM_TESTS=OFF -DFATHOM_EXAMPLES=OFF -B build/bench >/dev/null
cmake --build build/bench --target bench_bf16_training >/dev/null
bible -f gen1:1-rev22:21 | cut -d' ' -f2- >build/bench/kjv.txt
build/bench/bench/bench_bf16_training build/bench/kjv.txt "${1:-1000}" build/bench/bf16_training.csv "${@:2}"
build/venv-peers/bin/python bench/bf16_training.py build/bench/bf16_training.csv bench/bf16_training.png
