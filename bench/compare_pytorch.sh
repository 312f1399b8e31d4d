#!/usr/bin/env bash
# fathom beside PyTorch on this machine: training steps and decoding of the same models, in turns, and the ratios.
#
#   bash bench/compare_pytorch.sh [OPTIONS OF bench/compare_pytorch.py]
#
# Installs what is missing: Debian packages, and PyTorch from PyPI (several GB) into build/venv-pytorch. With
# PYTHON=/path/to/python that interpreter's PyTorch is measured instead.
set -euo pipefail
cd "$(dirname "$0")/.."
bash cmake/require-packages.sh g++ cmake ninja-build libeigen3-dev libxsimd-dev nlohmann-json3-dev libbenchmark-dev python3-venv

if [ -z "${PYTHON:-}" ]; then
  PYTHON=build/venv-pytorch/bin/python
  [ -x "$PYTHON" ] || python3 -m venv build/venv-pytorch
  "$PYTHON" -c 'import torch' 2>/dev/null || "$PYTHON" -m pip install --quiet torch numpy
fi
cmake --preset release -DFATHOM_TESTS=OFF -DFATHOM_EXAMPLES=OFF -B build/bench >/dev/null
cmake --build build/bench --target bench_models >/dev/null
"$PYTHON" bench/compare_pytorch.py --fathom build/bench/bench/bench_models "$@"
