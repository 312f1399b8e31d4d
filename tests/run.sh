#!/usr/bin/env bash
# Installs what the tests need, builds them and runs them.
#
#   bash tests/run.sh                 all four builds below
#   bash tests/run.sh PRESET ...      some of them: release, sanitizers, clang, portable
#
# release     everything, with g++ for this machine, warnings being errors; examples and benches are built as well
# sanitizers  the tests again, with clang++ and its address and undefined-behaviour sanitizers
# clang       the tests of the numerical core, with clang++ for this machine
# portable    the same with g++, for any x86-64, without AVX
#
# Fails when a test fails, and when one is skipped that tests/expected_skips.txt does not list.
set -euo pipefail
cd "$(dirname "$0")/.."
presets=("$@")
if [ ${#presets[@]} -eq 0 ]; then presets=(release sanitizers clang portable); fi

bash cmake/require-packages.sh g++ clang libclang-rt-dev libomp-dev cmake ninja-build pkg-config libeigen3-dev libxsimd-dev \
  nlohmann-json3-dev catch2 libbenchmark-dev libcli11-dev libcairo2-dev libsndfile1-dev libsamplerate0-dev libcodec2-dev codec2 \
  fonts-dejavu-core bible-kjv python3-venv g++-aarch64-linux-gnu g++-arm-linux-gnueabihf qemu-user chromium chromium-driver \
  python3-selenium
# Other people's readers and writers of the files, for the tests that meet them.
mkdir -p build
if ! build/venv/bin/python -c 'import matplotlib, mido, numpy, safetensors, scipy' 2>/dev/null; then
  echo "Installing matplotlib, mido, numpy, safetensors and scipy into build/venv"
  python3 -m venv build/venv && build/venv/bin/python -m pip install --quiet matplotlib mido numpy safetensors scipy ||
    echo "not to be had: the tests that need them will be skipped" >&2
fi

core=(golden backend_matmul backend_operations model_decoding layer_gradients)
skipped=0
for preset in "${presets[@]}"; do
  log=build/$preset.log
  options=(-DFATHOM_WERROR=ON -DPython3_EXECUTABLE="$PWD/build/venv/bin/python")
  targets=() select=()
  case $preset in
    release) ;;
    sanitizers) options+=(-DFATHOM_EXAMPLES=OFF) ;;
    clang | portable)
      options+=(-DFATHOM_EXAMPLES=OFF -DFATHOM_BENCHES=OFF)
      targets=(--target "${core[@]/#/test_}")
      select=(-R "^($(IFS='|'; echo "${core[*]}"))$")
      ;;
    *) echo "tests/run.sh: $preset is none of release, sanitizers, clang, portable" >&2; exit 2 ;;
  esac
  echo "== $preset: building"
  { cmake --preset "$preset" "${options[@]}" && cmake --build --preset "$preset" "${targets[@]}"; } >"$log" 2>&1 ||
    { grep -nE 'error|FAILED' "$log" | head -40 >&2; echo "the whole log is in $log" >&2; exit 1; }
  echo "== $preset: testing"
  ctest --preset "$preset" "${select[@]}" -j 2 2>&1 | tee "$log.tests"
  # ctest counts a skipped test as passed; say which, and why, and whether that is known.
  while read -r name; do
    reason=$(grep -E "^$name( |:)" tests/expected_skips.txt || true)
    if [ -n "$reason" ]; then
      echo "skipped, as expected: $reason"
    else
      echo "skipped, but not in tests/expected_skips.txt: $name" >&2
      skipped=1
    fi
  done < <(sed -nE 's/^[^#]*Test +#[0-9]+: ([^ ]+) .*\*\*\*Skipped.*/\1/p' "$log.tests")
done
exit $skipped
