#!/usr/bin/env bash
# Compares encoding of text by fathom, tiktoken and tokenizers on this machine, one core each, in turns: tokens and speed.
#
#   bash bench/compare_tokenizers.sh VOCAB MERGES [ROUNDS]     such as GPT-2's encoder.json and vocab.bpe
#
# Texts: King James, Russian fortunes, Japanese manual pages, this project's headers, and one letter a million times. Installs
# and builds what is missing. With BUILD_ONLY=1 it measures nothing.
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: bash bench/compare_tokenizers.sh VOCAB MERGES [ROUNDS]" >&2; exit 2; }
vocab=$(realpath "$1") merges=$(realpath "$2") rounds=${3:-5}
cd "$(dirname "$0")/.."
bash cmake/require-packages.sh g++ cmake ninja-build libeigen3-dev libxsimd-dev libbenchmark-dev bible-kjv
bash bench/peers.sh tokenizers
cmake --preset release -DFATHOM_TESTS=OFF -DFATHOM_EXAMPLES=OFF -B build/bench >/dev/null
cmake --build build/bench -j"${JOBS:-$(nproc)}" --target bench_tokenizers >/dev/null

texts=build/bench/texts
mkdir -p $texts
bible -f gen1:1-rev22:21 | cut -d' ' -f2- >$texts/kjv
# Unpacks only the texts of Debian packages, without installing the packages.
for package in fortunes-ru manpages-ja; do
  [ -d $texts/$package ] || (cd $texts && apt-get download -qq $package && dpkg-deb -x ${package}_*.deb $package)
done
find $texts/fortunes-ru/usr/share/games -type f ! -name '*.dat' | sort | xargs cat | iconv -f utf-8 -t utf-8 -c >$texts/russian
find $texts/manpages-ja/usr/share/man -type f -name '*.gz' | sort | xargs zcat >$texts/manuals
head -c 4000000 $texts/manuals | iconv -f utf-8 -t utf-8 -c >$texts/japanese
find include -name '*.hpp' | sort | xargs cat >$texts/headers
head -c 1000000 /dev/zero | tr '\0' a >$texts/a-million-a
[ -n "${BUILD_ONLY:-}" ] ||
  build/venv-peers/bin/python bench/compare_tokenizers.py build/bench/bench/bench_tokenizers "$vocab" "$merges" \
    $texts/{kjv,russian,japanese,headers,a-million-a} --rounds "$rounds"
