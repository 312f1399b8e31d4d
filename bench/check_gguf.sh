#!/usr/bin/env bash
# Checks that llama.cpp computes with the files of save_gguf what fathom computes: for a small model of each family and for each
# type, the largest difference of all logits of 100 tokens, as a fraction of the largest logit.
#
#   bash bench/check_gguf.sh
#
# Installs and builds what is missing, with llama.cpp in build/peers.
set -euo pipefail
cd "$(dirname "$0")/.."
bash cmake/require-packages.sh g++ cmake ninja-build libeigen3-dev libxsimd-dev libbenchmark-dev
source bench/isa.sh
[ -e "build/peers/llama.cpp/build-$isa/bin/libllama.so" ] || ISA=$isa bash bench/peers.sh ggml
configure -DFATHOM_LLAMA_CPP="$PWD/build/peers/llama.cpp" -DFATHOM_LLAMA_CPP_LIBRARIES="$PWD/build/peers/llama.cpp/build-$isa/bin"
cmake --build "$build" -j"${JOBS:-$(nproc)}" --target bench_check_gguf >/dev/null
files=$(mktemp -d)
trap 'rm -r "$files"' EXIT
"$build/bench/bench_check_gguf" "$files"
