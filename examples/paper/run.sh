#!/usr/bin/env bash
# Runs the paper's experiments from scratch: installs missing packages, builds, gathers the data, trains, and writes tables and
# figures to examples/paper/results.
#
#   bash examples/paper/run.sh                    the comparison, for all kinds of data
#   bash examples/paper/run.sh --quick            tiny runs of comparison, look and speed, as a smoke test (5 minutes)
#   bash examples/paper/run.sh EXPERIMENT ... [OPTIONS]      see examples/paper/paper.py
set -euo pipefail
cd "$(dirname "$0")/../.."

bash cmake/require-packages.sh g++ cmake ninja-build pkg-config libeigen3-dev libxsimd-dev libcli11-dev \
  libcairo2-dev fonts-dejavu-core libsndfile1-dev libsamplerate0-dev libcodec2-dev libsword-utils python3-venv
mkdir -p build/paper
python=build/paper/venv/bin/python
if ! $python -c 'import matplotlib, numpy, scipy, tokenizers' 2>/dev/null; then
  python3 -m venv build/paper/venv
  $python -m pip install --quiet matplotlib numpy scipy tokenizers
fi
cmake --preset release -DFATHOM_TESTS=OFF -DFATHOM_BENCHES=OFF -B build/paper/programs >build/paper/cmake.log 2>&1 ||
  { cat build/paper/cmake.log >&2; exit 1; }

experiments=()
while [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; do
  experiments+=("$1")
  shift
done
if [ ${#experiments[@]} -eq 0 ]; then
  experiments=(comparison)
  case " $* " in *" --quick "*) experiments+=(look speed) ;; esac
fi
$python examples/paper/paper.py "${experiments[@]}" "$@"
