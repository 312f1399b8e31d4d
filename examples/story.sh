#!/usr/bin/env bash
# Turns a checkpoint into a program: builds build/story/story, one static file that contains the model of quickstart.sh, and runs
# it. Trains that model first (about four minutes) if it is missing.
#
#   bash examples/story.sh [OPTIONS FOR CMAKE, for example -DSTORY_TYPE=int8]
#
# For a GGUF file or a folder of `transformers`: -DSTORY_MODEL=model.gguf. For another checkpoint of GPT-2:
# -DSTORY_CONFIG=gpt2/config.json -DSTORY_WEIGHTS=gpt2/model.safetensors -DSTORY_TOKENIZER=gpt2
set -euo pipefail
here=$PWD
cd "$(dirname "$0")/.."
bash cmake/require-packages.sh g++ cmake ninja-build libeigen3-dev libxsimd-dev

[ -s quickstart/tiny.safetensors ] || [[ "$*" == *-DSTORY_MODEL=* || "$*" == *-DSTORY_WEIGHTS=* ]] || bash examples/quickstart.sh

echo "Building (about half a minute)"
mkdir -p build
log=build/story.log
options=() models=()
for option in "$@"; do
  case $option in
    -DSTORY_MODEL=?* | -DSTORY_CONFIG=?* | -DSTORY_WEIGHTS=?* | -DSTORY_TOKENIZER=?*)  # from the caller's folder
      models+=("$(cd "$here" && realpath -m -- "${option#*=}")")
      options+=("${option%%=*}=${models[-1]}") ;;
    *) options+=("$option") ;;
  esac
done
{ cmake --fresh -G Ninja -S examples/story -B build/story -DCMAKE_CXX_FLAGS=-march=native ${options[@]+"${options[@]}"} && cmake --build build/story; } >"$log" 2>&1 || {
  bash cmake/say-why.sh "$log" ${models[@]+"${models[@]}"} >&2
  [ -e build/story/story ] || rm -rf build/story "$log"  # nothing in it is of use
  exit 1
}

ls -lh build/story/story
build/story/story "In the beginning"
