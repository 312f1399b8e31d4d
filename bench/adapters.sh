#!/usr/bin/env bash
# Adapters of SmolLM2-135M-Instruct: NLL on held-back text against seconds and memory.
#
#   bash bench/adapters.sh [--quick] TEXT [TEXT ...]
#
# Protocol, written before the first run:
# - Methods: the shortcut (mlp features of depths 10, 20 and 29, zero_init); the same shortcut reading the last depth alone (29);
#   LoRA of rank 8 and 16 (alpha twice the rank) on all matrices of all blocks; the last block alone; everything.
# - Each text is split: the last tenth is held back, and the first 4096 tokens of it are measured. Forgetting is the NLL on the held-back
#   part of the next text in the list (of the first, for the last one; include/fathom/README.md if there is only one).
# - All train for the same steps (200) on the same windows, 4 x 256 tokens, with AdamW (decay 0.01, clip 1, cosine after warm-up).
# - Rates: 1e-4, 3e-4, 1e-3 and 3e-3 for every method, on the first text with seed 1; each method keeps its best one, by NLL after the
#   last step, for all texts and seeds.
# - Seeds 1, 2 and 3: of initial values and windows. Reported: mean and spread of the NLL after the last step; NLL against seconds in
#   steps (evaluation does not count); peak memory of the process, and bytes of gradients, moments and tape.
# - Runs take turns over the methods, one at a time, so that a slow machine is slow for all.
# --quick: one text, one seed, the rate 1e-3 for shortcuts and LoRA, 3e-4 for the last block, 1e-4 for everything; 60 steps. It
# compares nothing but cost and direction, and is marked so.
#
# Writes a JSON object a line to build/adapters/results.jsonl; `python3 bench/adapters.py` prints the table.
set -euo pipefail
here=$PWD
cd "$(dirname "$0")/.."
quick=no texts=()
for argument in "$@"; do
  case $argument in
    --quick) quick=yes ;;
    /*) texts+=("$argument") ;;
    *) texts+=("$here/$argument") ;;
  esac
done
[ ${#texts[@]} -gt 0 ] || { echo "adapters.sh: no text; expected at least one file" >&2; exit 2; }
for text in "${texts[@]}"; do [ -f "$text" ] || { echo "adapters.sh: $text: there is no such file" >&2; exit 1; }; done
twice=$(for text in "${texts[@]}"; do basename -- "$text"; done | sort | uniq -d)
[ -z "$twice" ] || { echo "adapters.sh: texts of the same name, $twice; expected names that differ, as results go by them" >&2; exit 2; }
bash cmake/require-packages.sh g++ cmake ninja-build libeigen3-dev libxsimd-dev python3
model=$(bash examples/fetch-smollm2.sh)
methods=(shortcut last_depth lora8 lora16 last_block everything)
mkdir -p build/adapters
for method in "${methods[@]}"; do
  folder=build/adapters/$method
  { cmake -G Ninja -S examples/adapt -B "$folder" -DCMAKE_CXX_FLAGS=-march=native "-DADAPT_MODEL=$model" "-DADAPT_METHOD=$method" &&
    cmake --build "$folder" --target compare; } >"$folder.log" 2>&1 || { cat "$folder.log" >&2; exit 1; }
done
results=build/adapters/results.jsonl
export OMP_WAIT_POLICY=passive
# run METHOD TEXT NUMBER RATE STEPS SEED: a run that has its line is not repeated.
run() {
  local text=${texts[$3]} other=$PWD/include/fathom/README.md key
  [ ${#texts[@]} -lt 2 ] || other=${texts[$((($3 + 1) % ${#texts[@]}))]}
  key="\"run\":\"$1 $(basename "$text") $4 $5 $6 $2\""
  [ -e "$results" ] && grep -qF "$key" "$results" && return
  echo "$1 on $(basename "$text"), rate $4, seed $6" >&2
  local line
  line=$("build/adapters/$1/compare" "$text" "$other" "$4" "$5" "$6")
  printf '{%s,%s\n' "$key" "${line#\{}" >>"$results"
}
if [ $quick = yes ]; then
  for method in "${methods[@]}"; do
    case $method in last_block) rate=3e-4 ;; everything) rate=1e-4 ;; *) rate=1e-3 ;; esac
    run "$method" quick 0 $rate 60 1
  done
else
  for rate in 1e-4 3e-4 1e-3 3e-3; do
    for method in "${methods[@]}"; do run "$method" rates 0 $rate 200 1; done
  done
  for seed in 1 2 3; do
    for number in "${!texts[@]}"; do
      for method in "${methods[@]}"; do
        rate=$(python3 bench/adapters.py --best-rate "$method" "$results")
        run "$method" final "$number" "$rate" 200 $seed
      done
    done
  done
fi
python3 bench/adapters.py "$results"
