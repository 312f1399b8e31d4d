#!/usr/bin/env bash
# Compile time and peak memory of one translation unit that trains, saves and writes: the program of the README, but
# for its prompt, for the models of the benches. The median of several runs.
#
#   bash bench/compile.sh [RUNS]          CXX=clang++ CXXFLAGS="-O3 -march=native" bash bench/compile.sh
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-3}
compiler=${CXX:-g++}
read -ra flags <<<"${CXXFLAGS:--O3 -march=native}"
bash cmake/require-packages.sh g++ time libeigen3-dev libxsimd-dev nlohmann-json3-dev

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
compile() { # NAME SOURCE
  for ((i = 0; i < runs; ++i)); do
    /usr/bin/time -f '%e %M' "$compiler" -std=c++20 "${flags[@]}" -fopenmp -Iinclude -isystem /usr/include/eigen3 -Ibench \
      -c "$2" -o "$folder/object.o" 2>>"$folder/$1" ||
      { cat "$folder/$1" >&2; exit 1; }
  done
  sort -n "$folder/$1" | awk -v name="$1" '{ s[NR] = $1; m[NR] = $2 }
    END { printf "| %s | %.1f s | %.2f GB |\n", name, s[int((NR + 1) / 2)], m[int((NR + 1) / 2)] / 1e6 }'
}

echo "$("$compiler" --version | head -1), ${flags[*]}, median of $runs"
echo
echo "| translation unit | time | memory |"
echo "| --- | --- | --- |"
echo '#include <fathom/fathom.hpp>' >"$folder/headers.cpp"
compile "the headers alone" "$folder/headers.cpp"
for model in tiny tiny_shortcut small_shortcut medium medium_shortcut; do
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
  fathom::generator<net> writer(trainer.weights(), {.temperature = 0.8f, .top_k = 40, .seed = 1});
  const fathom::token prompt[] = {1, 2, 3};
  writer.write(prompt, 200, [](fathom::token t) { std::putchar(t); return true; });
}
END
  compile "$model" "$folder/$model.cpp"
done
