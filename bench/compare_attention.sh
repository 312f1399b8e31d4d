#!/usr/bin/env bash
# Attention beside PyTorch's on this machine: forward and backward, self and shortcut, in turns, and the memory.
#
#   bash bench/compare_attention.sh [--avx2] [OPTIONS OF bench/compare_attention.py]
#
# What it installs, and its environment: pytorch.sh.
exec bash "$(dirname "$0")/pytorch.sh" attention compare_attention "$@"
