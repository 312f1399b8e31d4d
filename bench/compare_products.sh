#!/usr/bin/env bash
# Matrix products of the three models beside Eigen, OpenBLAS, oneDNN and libxsmm on this machine, in turns: a table.
#
#   bash bench/compare_products.sh [--bf16] [--models tiny small medium] [--rows 64 512 2048] [--rounds 7]
#                                  [--threads 2] [--filter dW]
#
# --bf16: operands rounded to bf16, beside oneDNN. Installs what is missing (bench/peers.sh).
set -euo pipefail
cd "$(dirname "$0")/.."
bash cmake/require-packages.sh g++ cmake ninja-build libeigen3-dev libxsimd-dev nlohmann-json3-dev libbenchmark-dev
bash bench/peers.sh products

# Settings of the machine's owner may hold a library back: each chooses for itself.
unset ${!OPENBLAS_@} ${!DNNL_@} ${!ONEDNN_@} ${!LIBXSMM_@} ${!OMP_@} ${!GOMP_@}

cmake --preset release -DFATHOM_TESTS=OFF -DFATHOM_EXAMPLES=OFF -DFATHOM_BENCH_PEERS=ON -B build/bench >/dev/null
cmake --build build/bench --target bench_products -- --quiet
build/bench/bench/bench_products "$@"
