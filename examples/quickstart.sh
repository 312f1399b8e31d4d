#!/usr/bin/env bash
# From nothing to a language model: installs missing packages, builds, fetches English text, trains for about three minutes
# on two cores, and generates text.
#
#   bash examples/quickstart.sh [TEXT_FILE] [OPTIONS OF examples/quickstart.cpp, for example --seconds 60]
set -euo pipefail
cd "$(dirname "$0")/.."

text=""
if [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; then
  text=$1
  shift
fi
packages=(g++ cmake ninja-build pkg-config libeigen3-dev libxsimd-dev libcli11-dev libcairo2-dev
          fonts-dejavu-core)
if [ -z "$text" ]; then packages+=(bible-kjv); fi
bash cmake/require-packages.sh "${packages[@]}"

mkdir -p quickstart
if [ -z "$text" ]; then
  text=quickstart/kjv.txt  # the King James text, 4.1 MB, without the names of books and numbers of verses
  [ -s "$text" ] || { bible -f gen1:1-rev22:21 | cut -d' ' -f2- >"$text.part" && mv "$text.part" "$text"; }
fi

echo "Building (about a minute)"
log=quickstart/build.log
{ cmake --preset release -DFATHOM_TESTS=OFF -DFATHOM_BENCHES=OFF -B build/quickstart &&
  cmake --build build/quickstart --target quickstart generate; } >"$log" 2>&1 || { cat "$log" >&2; exit 1; }

build/quickstart/examples/quickstart "$text" --folder quickstart "$@"
