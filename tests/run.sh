#!/usr/bin/env bash
# Installs the tests' requirements, builds and runs the tests, and lists the slowest compilations and tests.
#
#   bash tests/run.sh                 all four builds below
#   bash tests/run.sh PRESET ...      some of them: release, sanitizers, clang, portable
#   bash tests/run.sh quick           while you work: the release build's tests, without slow ones and those that build projects
#
# release     everything, with g++ for this machine and warnings as errors; also builds examples and benches
# sanitizers  the tests again, with clang++ and its address and undefined-behaviour sanitizers
# clang       the tests of the numerical core, with clang++ for this machine
# portable    the same with g++, for any x86-64, with each of the instruction sets that one program holds kernels for
#
# Uses ccache if installed. Fails if a test fails, or if a test is skipped that
# tests/expected_skips.txt does not list.
set -euo pipefail
cd "$(dirname "$0")/.."
presets=("$@")
if [ ${#presets[@]} -eq 0 ]; then presets=(release sanitizers clang portable); fi
for preset in "${presets[@]}"; do
  case $preset in
    quick | release | sanitizers | clang | portable) ;;
    *) echo "tests/run.sh: $preset is none of quick, release, sanitizers, clang, portable" >&2; exit 2 ;;
  esac
done

bash cmake/require-packages.sh g++ clang libclang-rt-dev libomp-dev cmake ninja-build pkg-config libeigen3-dev libxsimd-dev \
  catch2 libbenchmark-dev libcli11-dev libcairo2-dev libsndfile1-dev libsamplerate0-dev libcodec2-dev codec2 \
  fonts-dejavu-core bible-kjv python3-venv g++-aarch64-linux-gnu g++-arm-linux-gnueabihf qemu-user chromium chromium-driver \
  python3-selenium openmpi-bin libopenmpi-dev mpich libmpich-dev meson git
# Other software that reads and writes the files, for tests of interoperability.
mkdir -p build
if ! build/venv/bin/python -c 'import matplotlib, mido, numpy, safetensors, scipy' 2>/dev/null; then
  echo "Installing matplotlib, mido, numpy, safetensors and scipy into build/venv"
  python3 -m venv build/venv && build/venv/bin/python -m pip install --quiet matplotlib mido numpy safetensors scipy ||
    echo "not to be had: the tests that need them will be skipped" >&2
fi

options=(-DFATHOM_TESTS=ON -DFATHOM_WERROR=ON -DFATHOM_MPI=ON -DPython3_EXECUTABLE="$PWD/build/venv/bin/python")
if command -v ccache >/dev/null; then
  options+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  export CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime  # for precompiled headers
fi
core=(golden backend_matmul backend_attention backend_operations model_decoding layer_gradients)
skipped=0
for preset in "${presets[@]}"; do
  name=$preset more=() targets=() select=()
  case $preset in
    quick)
      name=release
      targets=(--target quick)
      select=(-LE "slow|gpu")
      ;;
    release) ;;
    sanitizers) more=(-DFATHOM_EXAMPLES=OFF) ;;
    clang)
      more=(-DFATHOM_EXAMPLES=OFF -DFATHOM_BENCHES=OFF)
      targets=(--target "${core[@]/#/test_}")
      select=(-R "^($(IFS='|'; echo "${core[*]}"))$")
      ;;
    portable)  # with some of the sets, to save time; the core's tests run once with each
      more=(-DFATHOM_EXAMPLES=OFF -DFATHOM_BENCHES=OFF "-DFATHOM_INSTRUCTION_SETS=avx512_vnni_bf16_amx;avx512_vnni_bf16;avx2_fma")
      targets=(--target "${core[@]/#/test_}" test_instruction_sets)
      select=(-R "^instruction_set")
      ;;
  esac
  log=build/$preset.log
  echo "== $preset: building"
  begin=$(date +%s)
  { cmake --preset "$name" "${options[@]}" "${more[@]}" && cmake --build --preset "$name" "${targets[@]}"; } >"$log" 2>&1 ||
    { grep -nE 'error|FAILED' "$log" | head -40 >&2; echo "the whole log is in $log" >&2; exit 1; }
  # The log of ninja: begin and end in ms, time of the file in ns or s, file.
  awk -v begin="$begin" -F '\t' 'NR > 1 && $3 / ($3 > 1e12 ? 1e9 : 1) >= begin { t = ($2 - $1) / 1e3; n = split($4, path, "/")
    printf "%8.1f s  %s\n", t, path[n] }' "build/$name/.ninja_log" | sort -rn | uniq | awk 'NR <= 10' >"$log.slowest"
  echo "== $preset: built in $(($(date +%s) - begin)) s; what took longest:"
  cat "$log.slowest"
  echo "== $preset: testing"
  begin=$(date +%s)
  ctest --preset "$name" "${select[@]}" -j "$(nproc)" 2>&1 | tee "$log.tests"
  echo "== $preset: tested in $(($(date +%s) - begin)) s; what took longest:"
  sed -nE 's/^ *[0-9]+\/[0-9]+ +Test +#[0-9]+: ([^ ]+) .* ([0-9.]+) sec.*/\2 \1/p' "$log.tests" | sort -rn |
    awk 'NR <= 10 { printf "%8.1f s  %s\n", $1, $2 }'
  # ctest counts skipped tests as passed: print each with its reason, and whether it is expected.
  while read -r test; do
    reason=$(grep -E "^$test( |:)" tests/expected_skips.txt || true)
    if [ -n "$reason" ]; then
      echo "skipped, as expected: $reason"
    else
      echo "skipped, but not in tests/expected_skips.txt: $test" >&2
      skipped=1
    fi
  done < <(sed -nE 's/^[^#]*Test +#[0-9]+: ([^ ]+) .*\*\*\*Skipped.*/\1/p' "$log.tests")
done
exit $skipped
