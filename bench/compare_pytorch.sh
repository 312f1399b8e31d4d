#!/usr/bin/env bash
# fathom beside PyTorch on this machine: training steps, decoding and prefill of the same models, in turns, and the ratios.
#
#   bash bench/compare_pytorch.sh [--avx2] [OPTIONS OF bench/compare_pytorch.py]
#
# What it installs, and its environment: pytorch.sh.
exec bash "$(dirname "$0")/pytorch.sh" models compare_pytorch "$@"
