#!/usr/bin/env bash
# Compile time and peak memory of one translation unit that trains, saves, loads and generates, for the models of the benches:
# header-only and with fathom::kernels; also at another commit, if one is given. In turns; medians.
#
#   bash bench/compile.sh [--runs 3] [--beside COMMIT] [--models tiny medium_shortcut]
#
# CXX=clang++ and CXXFLAGS="-O3 -march=native" set the compiler and its flags.
set -euo pipefail
cd "$(dirname "$0")/.."
runs=3 beside="" models=()
while [ $# -gt 0 ]; do
  case $1 in
    --runs) runs=$2; shift 2 ;;
    --beside) beside=$2; shift 2 ;;
    --models) shift; while [ $# -gt 0 ] && [[ $1 != --* ]]; do models+=("$1"); shift; done ;;
    *) echo "compile.sh: unknown option $1" >&2; exit 2 ;;
  esac
done
if [ ${#models[@]} -eq 0 ]; then models=(tiny tiny_shortcut small_shortcut medium medium_shortcut); fi
compiler=${CXX:-g++}
read -ra flags <<<"${CXXFLAGS:--O3 -march=native}"
bash cmake/require-packages.sh g++ time libeigen3-dev libxsimd-dev

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir -p "$folder/now" "$folder/before"
cp -r include bench "$folder/now"
hows=("now, header-only" "now, with fathom::kernels")
if [ -n "$beside" ]; then
  git archive "$beside" include bench | tar -x -C "$folder/before"
  if [ -e "$folder/before/include/fathom/kernels" ]; then hows=("$beside, with fathom::kernels" "${hows[@]}"); fi
  hows=("$beside, header-only" "${hows[@]}")
fi
isa=$(printf '#include <fathom/backend/cpu/isa.hpp>\nFATHOM_ISA\n' | "$compiler" -std=c++20 "${flags[@]}" -Iinclude -E -P -x c++ - | tail -n 1)

# measure UNIT HOW SOURCE: appends a line "seconds kilobytes" to UNIT's file for HOW
measure() {
  local unit=$1 how=$2 source=$3 tree=$folder/now more=()
  if [[ -n $beside && $how == "$beside, "* ]]; then tree=$folder/before; fi
  if [[ $how == *", with fathom::kernels" ]]; then more=("-DFATHOM_KERNELS=$isa"); fi
  /usr/bin/time -f '%U %M' "$compiler" -std=c++20 "${flags[@]}" "${more[@]}" -fopenmp "-I$tree/include" -isystem /usr/include/eigen3 \
    "-I$tree/bench" -c "$source" -o "$folder/object.o" 2>>"$folder/$unit.$how" || { cat "$folder/$unit.$how" >&2; exit 1; }
}
median() { # FILE COLUMN
  sort -n -k "$2" "$1" | awk -v column="$2" '{ v[NR] = $column } END { print v[int((NR + 1) / 2)] }'
}
all() { # UNIT SOURCE: a row of the table
  local unit=$1 source=$2
  for ((i = 0; i < runs; ++i)); do
    for how in "${hows[@]}"; do measure "$unit" "$how" "$source"; done
  done
  local row="| $unit |" first=""
  for how in "${hows[@]}"; do
    local seconds; seconds=$(median "$folder/$unit.$how" 1)
    first=${first:-$seconds}
    row+=$(awk -v s="$seconds" -v m="$(median "$folder/$unit.$how" 2)" -v f="$first" 'BEGIN { printf " %.1f s, %.2f GB (%.2f) |", s, m / 1e6, s / f }')
  done
  echo "$row"
}

echo "$("$compiler" --version | head -1), ${flags[*]}; CPU seconds and memory, median of $runs; in parentheses, beside the first column"
echo
printf '| translation unit |'; printf ' %s |' "${hows[@]}"; echo
printf '| --- |'; printf ' --- |%.0s' "${hows[@]}"; echo
echo '#include <fathom/fathom.hpp>' >"$folder/headers.cpp"
all "the headers alone" "$folder/headers.cpp"
for model in "${models[@]}"; do
  cat >"$folder/$model.cpp" <<END
#include <cstdio>

#include <fathom/data/text.hpp>
#include <fathom/fathom.hpp>

#include "models.hpp"

using net = fathom::model<bench::$model>;

int main(int, char** argv) {
  const auto text = fathom::data::bytes(argv[1]);
  fathom::trainer<net> trainer({.batch = 16, .steps = 2000, .rate = 1e-3f, .seed = 1});
  trainer.fit(text.train(), text.validation());
  fathom::save("model.safetensors", trainer.weights());
  auto weights = fathom::make<net::parameters>();
  fathom::load("model.safetensors", *weights);
  fathom::generator<net> writer(*weights, {.temperature = 0.8f, .top_k = 40, .seed = 1});
  const fathom::token prompt[] = {1, 2, 3};
  writer.write(prompt, 200, [](fathom::token t) { std::putchar(t); return true; });
}
END
  all "$model" "$folder/$model.cpp"
done

echo
echo "| a source of fathom::kernels, compiled once | time | memory |"
echo "| --- | --- | --- |"
for source in include/fathom/kernels/*.cpp; do
  measure "$(basename "$source")" "now, with fathom::kernels" "$source"
  awk -v name="$(basename "$source")" '{ printf "| %s | %.1f s | %.2f GB |\n", name, $1, $2 / 1e6 }' \
    "$folder/$(basename "$source").now, with fathom::kernels"
done
