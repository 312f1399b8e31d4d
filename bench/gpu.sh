#!/usr/bin/env bash
# Runs everything that needs a GPU: builds the tests and benches with nvcc, runs the tests, then the benches.
#
#   HEADERS=/folder bash bench/gpu.sh [tests] [sanitizer] [bench]        default: tests bench
#
# Needs nvcc and cuBLASLt (the CUDA Toolkit), and for the comparison a python3 with PyTorch; no CMake, no packages. Put headers
# outside the compiler's search path under $HEADERS, such as HEADERS/catch2/catch.hpp (version 2).
# ARCH: the GPU's architecture, default 90a. Results: build/gpu/*.txt.
set -euo pipefail
cd "$(dirname "$0")/.."
what=("$@")
if [ ${#what[@]} -eq 0 ]; then what=(tests bench); fi
out=build/gpu arch=${ARCH:-90a}
mkdir -p "$out"
flags=(-std=c++20 -O3 "-gencode=arch=compute_$arch,code=sm_$arch" -Iinclude)
if [ -n "${HEADERS:-}" ]; then flags+=("-isystem=$HEADERS"); fi
compile() { nvcc "${flags[@]}" "$@" -lcublasLt; }

has() { [[ " ${what[*]} " == *" $1 "* ]]; }
jobs=()
start() { # name, arguments of nvcc
  local name=$1
  shift
  compile "$@" -o "$out/$name" >"$out/$name.log" 2>&1 &
  jobs+=("$!:$name")
}
if has tests || has sanitizer; then
  for test in tests/gpu_*.cu; do
    name=$(basename "$test" .cu) more=()
    if [ "$name" = gpu_operations ]; then more=(-x cu tests/cuda_second_unit.cpp); fi
    start "$name" -Xptxas=-v "-DFATHOM_GOLDEN=\"$PWD/tests/golden\"" "$test" "${more[@]}"
  done
fi
if has bench; then
  for model in tiny tiny_shortcut small small_shortcut medium medium_shortcut; do
    start "bench_steps_$model" -x cu "-DFATHOM_BENCH_MODEL=$model" bench/steps.cpp
  done
  start bench_cuda_attention bench/cuda_attention.cu
  start example examples/gpu.cu
fi
failed=0
for job in "${jobs[@]}"; do
  wait "${job%%:*}" || { echo "${job#*:} does not compile:"; tail -n 20 "$out/${job#*:}.log"; failed=1; }
done

run() { # name of the results, command
  local name=$1
  shift
  echo "== $name"
  "$@" 2>&1 | tee "$out/$name.txt" || failed=1
}
if has tests; then
  for test in tests/gpu_*.cu; do
    name=$(basename "$test" .cu)
    [ -x "$out/$name" ] && run "$name" "$out/$name"
    # Registers and spills of every kernel.
    grep -E "Compiling entry|registers|spill" "$out/$name.log" >"$out/$name.ptxas.txt" || true
  done
fi
if has sanitizer; then
  for tool in memcheck racecheck; do
    for test in tests/gpu_*.cu; do
      name=$(basename "$test" .cu)
      run "$name.$tool" compute-sanitizer --tool "$tool" --error-exitcode 1 "$out/$name"
    done
  done
fi
if has bench; then
  (cd "$out" && cat ../../include/fathom/*/*.hpp >text.txt)  # training text: the library
  run example bash -c "cd $out && time ./example text.txt"
  run attention "$out/bench_cuda_attention"
  run pytorch python3 bench/compare_pytorch_gpu.py --programs "$out"
fi
exit $failed
