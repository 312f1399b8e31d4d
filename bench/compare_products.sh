#!/usr/bin/env bash
# Compares matrix products of the three models with Eigen, OpenBLAS, oneDNN and libxsmm on this machine, in turns: a table.
#
#   bash bench/compare_products.sh [--avx2] [--bf16] [--models tiny small medium] [--rows 64 512 2048] [--rounds 7]
#                                  [--threads 2] [--filter dW]
#
# --bf16: operands rounded to bf16, against oneDNN. --avx2: see isa.sh. Installs what is missing (bench/peers.sh). Fails if a peer
# is faster than the burst of multiplications and additions, the base of all fractions, because then the burst is wrong.
set -euo pipefail
cd "$(dirname "$0")/.."
bash cmake/require-packages.sh g++ cmake ninja-build libeigen3-dev libxsimd-dev libbenchmark-dev
source bench/isa.sh
bash bench/peers.sh products
configure -DFATHOM_BENCH_PEERS=ON
cmake --build "$build" --target bench_products -- --quiet
"$build/bench/bench_products" "${arguments[@]}"
