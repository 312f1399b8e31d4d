#!/usr/bin/env bash
# What a model in a program costs: size, the time to assemble it, start-up, memory, speed (story.py).
#
#   bash bench/story.sh
set -euo pipefail
cd "$(dirname "$0")/.."
bash cmake/require-packages.sh g++ cmake ninja-build time python3 libeigen3-dev libxsimd-dev
python3 bench/story.py
