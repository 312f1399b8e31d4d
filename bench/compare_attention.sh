#!/usr/bin/env bash
# Compares attention with PyTorch's on this machine: forward and backward, self and shortcut, in turns, and memory.
#
#   bash bench/compare_attention.sh [--avx2] [OPTIONS OF bench/compare_attention.py]
#
# For installation and environment see pytorch.sh.
exec bash "$(dirname "$0")/pytorch.sh" attention compare_attention "$@"
