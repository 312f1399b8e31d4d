#!/usr/bin/env bash
# Measures a program with an embedded model: size, start-up, memory, speed (story.py).
#
#   bash bench/story.sh
set -euo pipefail
cd "$(dirname "$0")/.."
bash cmake/require-packages.sh g++ cmake ninja-build time python3 libeigen3-dev libxsimd-dev
python3 bench/story.py
