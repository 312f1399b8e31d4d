#!/usr/bin/env bash
# Compares programs that choose among kernels for several instruction sets (the preset portable) with the same programs
# compiled for this machine, in turns: decoding, prompts and training. A table.
#
#   bash bench/portable.sh [--models tiny small] [--types f32 bf16 int8] [--rounds 11] [--isa avx2_fma]
#
# --isa: forces that set, and compiles the other program for it (-march=x86-64-v3 for avx2_fma; no others).
set -euo pipefail
cd "$(dirname "$0")/.."
bash cmake/require-packages.sh g++ cmake ninja-build libeigen3-dev libxsimd-dev libbenchmark-dev python3
models=(tiny small) types=(f32 bf16 int8) rounds=11 alone=build/bench march=native
unset FATHOM_ISA
while [ $# -gt 0 ]; do
  option=$1 && shift
  case $option in
    --models | --types)
      declare -n values=${option#--} && values=()
      while [ $# -gt 0 ] && [[ $1 != --* ]]; do values+=("$1") && shift; done ;;
    --rounds) rounds=$1 && shift ;;
    --isa)
      [ "$1" = avx2_fma ] || { echo "bench/portable.sh: --isa: there is only avx2_fma" >&2; exit 2; }
      export FATHOM_ISA=$1 && alone=build/bench-avx2 march=x86-64-v3 && shift ;;
    *) echo "bench/portable.sh: unknown option $option" >&2; exit 2 ;;
  esac
done
targets=("${models[@]/#/bench_steps_}")
cmake --preset release -DFATHOM_TESTS=OFF -DFATHOM_EXAMPLES=OFF "-DCMAKE_CXX_FLAGS=-march=$march" -B "$alone" >/dev/null
cmake --preset portable -DFATHOM_TESTS=OFF -DFATHOM_EXAMPLES=OFF -B build/bench-portable >/dev/null
for build in "$alone" build/bench-portable; do cmake --build "$build" --target "${targets[@]}" -- --quiet; done
python3 bench/portable.py "$alone/bench" build/bench-portable/bench "$rounds" "${models[*]}" "${types[*]}"
