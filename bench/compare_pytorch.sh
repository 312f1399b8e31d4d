#!/usr/bin/env bash
# Compares fathom with PyTorch on this machine: training steps, decoding and prefill of the same models, in turns, and ratios.
#
#   bash bench/compare_pytorch.sh [--avx2] [OPTIONS OF bench/compare_pytorch.py]
#
# For installation and environment see pytorch.sh.
exec bash "$(dirname "$0")/pytorch.sh" models compare_pytorch "$@"
