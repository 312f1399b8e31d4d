#!/usr/bin/env bash
# Runs a bench of fathom against PyTorch:  bash bench/pytorch.sh BENCH SCRIPT [--avx2] [OPTIONS OF bench/SCRIPT.py]
# Used by compare_pytorch.sh and compare_attention.sh.
#
# Installs what is missing: Debian packages, and PyTorch from PyPI (several GB) into build/venv-pytorch.
# PYTHON=/path/to/python measures that interpreter's PyTorch instead.
#
# On non-Intel processors, PyTorch's MKL uses slow AVX2 kernels even if the processor supports more (half the
# speed, on an EPYC with AVX-512). The script tells MKL that this is an Intel processor, so that the faster PyTorch is the peer;
# AS_INSTALLED=1 prevents that. --avx2: see isa.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
bash cmake/require-packages.sh g++ cmake ninja-build libeigen3-dev libxsimd-dev libbenchmark-dev python3-venv

bench=$1 script=$2
shift 2
source bench/isa.sh
if [ -z "${PYTHON:-}" ]; then
  PYTHON=build/venv-pytorch/bin/python
  [ -x "$PYTHON" ] || python3 -m venv build/venv-pytorch
  "$PYTHON" -c 'import torch, transformers' 2>/dev/null || "$PYTHON" -m pip install --quiet torch numpy transformers
fi
configure
cmake --build "$build" --target "bench_$bench" >/dev/null
if [ "${AS_INSTALLED:-0}" = 0 ] && ! grep -q GenuineIntel /proc/cpuinfo; then
  echo 'int mkl_serv_intel_cpu_true(void) { return 1; }' | gcc -shared -fPIC -x c - -o "$build/mkl.so"
  export LD_PRELOAD="$PWD/$build/mkl.so"
fi
"$PYTHON" "bench/$script.py" --fathom "$build/bench/bench_$bench" "${arguments[@]}"
