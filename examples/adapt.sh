#!/usr/bin/env bash
# Adapts a real model to your text: installs what is missing, fetches SmolLM2-135M-Instruct, gives it a shortcut, and trains only
# that, which needs no backward pass through the model. Says what was gained on held-back text and lost on another one, saves an
# adapter of a few MB, and writes before and after.
#
#   bash examples/adapt.sh TEXT [TEXT ...] [--minutes N] [--rate R] [--batch N] [--other TEXT] [--folder FOLDER] [--seed N] [--model MODEL]
#   bash examples/adapt.sh --prompt TEXT [--folder FOLDER] [--seed N]
#
# TEXT: files of UTF-8, at least 20 kB in all. --minutes: of training (4); all takes up to ten minutes on two cores. --other:
# the text on which forgetting is measured (include/fathom/README.md). --folder: for results (adapted). --model: another GGUF file or folder of
# `transformers`, with as many blocks as 4 to 63.
set -euo pipefail
here=$PWD
cd "$(dirname "$0")/.."
model="" texts=() options=() other=$PWD/include/fathom/README.md folder=$here/adapted prompt=""
place() { [[ $1 == /* ]] && printf %s "$1" || printf %s "$here/$1"; }
while [ $# -gt 0 ]; do
  case $1 in
    --minutes | --rate | --batch | --seed | --other | --folder | --model | --prompt)
      [ $# -gt 1 ] || { echo "adapt.sh: $1 needs a value" >&2; exit 2; } ;;&
    --minutes | --rate | --batch | --seed) options+=("$1" "$2"); shift 2 ;;
    --other) other=$(place "$2"); shift 2 ;;
    --folder) folder=$(place "$2"); shift 2 ;;
    --model) model=$(place "$2"); shift 2 ;;
    --prompt) prompt=$2; shift 2 ;;
    -*) echo "adapt.sh: unknown option $1" >&2; exit 2 ;;
    *) texts+=("$(place "$1")"); shift ;;
  esac
done
if [ -n "$prompt" ]; then
  [ -e "$folder/adapter.safetensors" ] || { echo "adapt.sh: $folder: has no adapter.safetensors; train one first" >&2; exit 1; }
  options+=(--prompt "$prompt")
else
  [ ${#texts[@]} -gt 0 ] || { echo "adapt.sh: no text; expected at least one file" >&2; exit 2; }
  for text in "${texts[@]}" "$other"; do
    [ -f "$text" ] || { echo "adapt.sh: $text: there is no such file" >&2; exit 1; }
  done
fi
if [ -n "$model" ] && [ ! -e "$model" ]; then
  echo "adapt.sh: $model: there is no such file or folder" >&2; exit 1
fi
mkdir -p build/chat
bash cmake/require-packages.sh g++ cmake ninja-build libeigen3-dev libxsimd-dev
[ -n "$model" ] || model=$(bash examples/fetch-smollm2.sh)

name=$(basename "$model")
program=build/adapt/${name//[^A-Za-z0-9._-]/_}-$(printf %s "$model" | cksum | cut -d ' ' -f 1)
mkdir -p build/adapt
[ -e "$program/adapt" ] || echo "Compiling (about a minute)" >&2
{ cmake -G Ninja -S examples/adapt -B "$program" -DCMAKE_CXX_FLAGS=-march=native "-DADAPT_MODEL=$model" && cmake --build "$program" --target adapt; } \
  >"$program.log" 2>&1 || { cat "$program.log" >&2; exit 1; }
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}  # threads that spin crawl on a busy machine
"$program/adapt" ${texts[@]+"${texts[@]}"} --other "$other" --folder "$folder" ${options[@]+"${options[@]}"}
