#!/usr/bin/env bash
# Reads mutated files with every reader (tests/fuzz/*.cpp), with libFuzzer, the address and the undefined-behaviour sanitizer.
#
#   bash tests/fuzz.sh [MINUTES] [NAME...]    each harness, or those named, for so many minutes (default 1; 0.1 is 6 seconds)
#   bash tests/fuzz.sh lines [NAME...]        which share of the readers' lines the inputs found so far reach
#   FATHOM_FUZZ=NAME build/sanitizers/tests/fuzz_readers FILE    one input again
#
# Per input: at most 10 seconds, 2 GB in all and 1 GB at once. Inputs that reach new code are kept in build/fuzz/corpus/NAME, those
# that something is wrong with in build/fuzz/findings; fails if there are any. FATHOM_FUZZ_FOLDER is another folder than build/fuzz,
# FATHOM_FUZZ_PROGRAM a program that is already built.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${FATHOM_FUZZ_FOLDER:-build/fuzz}
minutes=1
if [[ ${1:-} =~ ^([0-9]+(\.[0-9]*)?|\.[0-9]+|lines)$ ]]; then minutes=$1; shift; fi
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
export ASAN_OPTIONS=${ASAN_OPTIONS:-allocator_may_return_null=0:detect_stack_use_after_return=0}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}

target=fuzz_readers
if [ "$minutes" = lines ]; then
  target=fuzz_lines
  llvm=$(clang++ -dumpversion | cut -d. -f1)  # its tools have the compiler's version
  bash cmake/require-packages.sh "llvm-$llvm"
fi
program=${FATHOM_FUZZ_PROGRAM:-}
mkdir -p build
if [ -z "$program" ]; then
  { cmake --preset sanitizers -DFATHOM_EXAMPLES=OFF && cmake --build --preset sanitizers --target $target; } >build/fuzz.log 2>&1 ||
    { tail -n 40 build/fuzz.log >&2; exit 1; }
  program=$PWD/build/sanitizers/tests/$target
fi
names=("$@")
if [ ${#names[@]} -eq 0 ]; then
  known=$("$program" names)
  mapfile -t names <<<"$known"
fi

# The files whose lines are counted for a harness, as an extended regular expression.
readers_of() {
  case $1 in
    safetensors) echo 'io/safetensors|core/json\.|core/bf16' ;;
    gguf) echo 'io/gguf\.|io/gguf_models|core/ggml_blocks' ;;
    config) echo 'core/json|io/config|io/read_config|io/json' ;;
    tokenizer_json | tokenizer_files) echo 'data/(bpe|added_tokens|space_pieces|gpt2_pieces|llama3_pieces|text_form|nfc\.)' ;;
    tokenizer_gguf) echo 'data/gguf' ;;
    tokens) echo 'data/(token|text\.|corpus|files)' ;;
    npy) echo 'data/(npy|codec_tokens|token_numbers)' ;;
    midi) echo 'data/(midi|performance|key_events)' ;;
    sound) echo 'data/(audio|sound_|mpeg|ogg)' ;;
    codec2) echo 'data/(codec2|frames)' ;;
    checkpoint) echo 'train/checkpoint' ;;
    adapter) echo 'io/adapter' ;;
    packed) echo 'io/packed_file' ;;
    folder) echo 'io/(transformers|families|model_files|named_files)' ;;
    decode) echo 'io/(weights|conversion)' ;;
    chat_template) echo 'chat/templates' ;;
    *) echo '.' ;;
  esac
}

# Files for readers of paths, in memory. A program that finds something ends at once, and leaves its own.
if [ -d /dev/shm ]; then place=/dev/shm; else place=${TMPDIR:-/tmp}; fi
TMPDIR=$(mktemp -d -p "$place" fathom-fuzz-XXXXXX)
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT

mkdir -p "$folder/findings"
findings=0
for name in "${names[@]}"; do
  export FATHOM_FUZZ=$name
  corpus=$folder/corpus/$name
  seeds=$folder/seeds/$name
  log=$folder/$name.log
  if [ "$minutes" = lines ]; then
    LLVM_PROFILE_FILE=$folder/$name.profraw "$program" -runs=0 -rss_limit_mb=4096 "$corpus" "$folder/seeds/$name" >"$log.lines" 2>&1 ||
      { tail -n 20 "$log.lines" >&2; continue; }
    "llvm-profdata-$llvm" merge -sparse "$folder/$name.profraw" -o "$folder/$name.profdata"
    "llvm-cov-$llvm" report "$program" -instr-profile="$folder/$name.profdata" 2>/dev/null |
      awk -v name="$name" -v which="$(readers_of "$name")" '$1 ~ which && $8 > 0 { lines += $8; missed += $9 }
        END { printf "%-16s %6d of %6d lines, %3.0f%%\n", name, lines - missed, lines, lines ? 100 * (lines - missed) / lines : 0 }'
    continue
  fi
  rm -rf "$seeds"
  mkdir -p "$corpus" "$seeds"
  "$program" seeds "$seeds"
  dictionary=tests/fuzz/dictionaries/$name.txt
  options=(-max_total_time="$(awk -v m="$minutes" 'BEGIN { printf "%d", m * 60 + 0.5 }')" -timeout=10 -rss_limit_mb=2048
           -malloc_limit_mb=1024 -max_len=65536 -print_final_stats=1 -reload=0 -artifact_prefix="$folder/findings/$name-")
  if [ -f "$dictionary" ]; then options+=(-dict="$dictionary"); fi
  for attempt in 1 2 3; do  # an input that took long only because the machine stood still is none
    status=0
    "$program" "${options[@]}" "$corpus" "$seeds" >"$log" 2>&1 || status=$?
    slow=$(sed -nE 's/.*Test unit written to (.*-timeout-.*)/\1/p' "$log" | tail -n 1)
    if [ $status -eq 0 ] || [ -z "$slow" ] || ! "$program" -timeout=10 -rss_limit_mb=2048 "$slow" >/dev/null 2>&1; then break; fi
    rm "$slow"
    status=0
  done
  awk -v name="$name" -v status="$status" '
    match($0, /cov: [0-9]+ ft: [0-9]+ corp: [0-9]+/) { state = substr($0, RSTART, RLENGTH) }
    /stat::number_of_executed_units/ { runs = $2 }
    /stat::peak_rss_mb/ { peak = $2 }
    match($0, /in [0-9]+ second/) { seconds = substr($0, RSTART + 3, RLENGTH - 10) }
    END { printf "%-16s %9d executions in %4s s, %s, %4s MB: %s\n", name, runs, seconds, state, peak, status == 0 ? "nothing found" : "A FINDING" }' "$log"
  if [ $status -ne 0 ]; then
    findings=$((findings + 1))
    grep -E '^(==[0-9]+==ERROR|SUMMARY|.*runtime error|.*does not hold|.*terminating|Test unit written|artifact_prefix)' "$log" | head -n 8 | sed 's/^/    /' || true
  fi
done
if [ $findings -gt 0 ]; then
  echo "$findings harnesses found something: inputs in $folder/findings, reports in $folder/NAME.log" >&2
  exit 1
fi
