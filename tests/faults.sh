#!/usr/bin/env bash
# Injects faults (tests/faults.cpp), more than the tests do, with the sanitizers, which also look for leaks.
#
#   bash tests/faults.sh [KILLS] [STRIDE]
#
# KILLS: processes killed while they train and write checkpoints (default 1000). STRIDE: every n-th byte at which a disk is full and
# every n-th allocation at which memory runs out (default 1: all).
set -euo pipefail
cd "$(dirname "$0")/.."
export FATHOM_FAULTS_KILLS=${1:-1000} FATHOM_FAULTS_STRIDE=${2:-1}
for number in "$FATHOM_FAULTS_KILLS" "$FATHOM_FAULTS_STRIDE"; do
  [[ $number =~ ^[1-9][0-9]*$ ]] || { echo "tests/faults.sh: expected [KILLS] [STRIDE], numbers of 1 and more" >&2; exit 2; }
done
mkdir -p build
{ cmake --preset sanitizers -DFATHOM_EXAMPLES=OFF && cmake --build --preset sanitizers --target test_faults; } >build/faults.log 2>&1 ||
  { tail -n 40 build/faults.log >&2; exit 1; }
if [ -w /dev/shm ]; then export TMPDIR=/dev/shm; fi  # not thousands of flushes to a disk
OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive build/sanitizers/tests/test_faults
