"""Compares attention with PyTorch's scaled_dot_product_attention: forward, and forward with backward, in turns, and memory.

One sequence of T tokens in fp32: causal self-attention, and the shortcut's over 3 depths, for which PyTorch gets keys depth by
depth and a boolean mask [T, 3T]. PyTorch gets contiguous tensors [B, H, T, d]; the faster of its two CPU kernels, flash and
math, is reported. Times are medians over the rounds, with the best in parentheses, and the ratio of the medians
(PyTorch's over fathom's: above 1, fathom is faster). Memory is the growth of a fresh process from before the first call of
forward and backward to the end: everything beyond q, k, v, dout and PyTorch's mask, including results.
"""

import argparse
import os
import statistics
import subprocess
import sys

import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from pytorch import fathom, timed

BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "math": SDPBackend.MATH}
DEPTHS = {"self": 1, "shortcut": 3}


def attention(kind, shape, tokens, work, how):
    """A call of PyTorch's attention. shape: heads x width of a head."""
    heads, width = map(int, shape.split("x"))
    depths = DEPTHS[kind]
    q, dout = torch.rand(1, heads, tokens, width), torch.rand(1, heads, tokens, width)
    k, v = torch.rand(2, 1, heads, depths * tokens, width)
    causal = {"is_causal": True}
    if depths > 1:
        causal = {"attn_mask": torch.ones(tokens, tokens).tril().bool().repeat(1, depths)}

    def forward():
        with sdpa_kernel(BACKENDS[how]):
            return F.scaled_dot_product_attention(q, k, v, **causal)

    def both():
        return torch.autograd.grad(forward(), (q, k, v), dout)

    if work == "both":
        for x in (q, k, v):
            x.requires_grad_()
        return both
    return torch.inference_mode()(forward)


def memory_of_process(line):
    """A line of /proc/self/status in bytes: VmRSS, resident memory; VmHWM, its peak."""
    with open("/proc/self/status") as status:
        return next(1024 * int(text.split()[1]) for text in status if text.startswith(line))


def growth(kind, shape, tokens, how):
    """The growth of this process in forward and backward in bytes, after a small call that loads the kernels."""
    attention(kind, shape, 32, "both", how)()
    f = attention(kind, shape, tokens, "both", how)
    with open("/proc/self/clear_refs", "w") as reset:
        reset.write("5")  # resets VmHWM
    before = memory_of_process("VmRSS")
    results = f()
    grown = memory_of_process("VmHWM") - before
    del results
    return grown


def measured(row, options):
    """(PyTorch's fastest variant, its times, fathom's times, fathom's fraction of the burst), with one time per round"""
    kind, shape, tokens, work = row.split("/")
    hows = [how for how in BACKENDS if how == "flash" or int(tokens) <= 1024]  # math stores all scores: gigabytes, and slow
    peers = {how: attention(kind, shape, int(tokens), work, how) for how in hows}
    theirs, ours, fractions = {how: [] for how in peers}, [], []
    for _ in range(options.rounds):
        t, counters = fathom(options.fathom, row, options.seconds)
        ours.append(t)
        fractions.append(counters["of burst"])
        for how, f in peers.items():
            theirs[how].append(timed(f, options.seconds))
    how = min(theirs, key=lambda peer: statistics.median(theirs[peer]))
    return how, theirs[how], ours, statistics.median(fractions)


def microseconds(times):
    return f"{1e6 * statistics.median(times):.0f} ({1e6 * min(times):.0f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fathom", help="the program bench_attention")
    parser.add_argument("--tokens", nargs="+", type=int, default=[128, 256, 512, 1024, 2048, 4096])
    parser.add_argument("--kinds", nargs="+", default=list(DEPTHS), choices=list(DEPTHS))
    parser.add_argument("--heads", nargs="+", default=["12x64", "4x32"], choices=["12x64", "4x32"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.3, help="duration of each measurement in a round")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--growth", nargs=2, metavar=("ROW", "HOW"), help=argparse.SUPPRESS)  # this program, called by itself
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_float32_matmul_precision("highest")
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    torch.manual_seed(1)
    if options.growth:
        kind, shape, tokens = options.growth[0].split("/")
        print(growth(kind, shape, int(tokens), options.growth[1]))
        return

    print(f"{options.threads} threads; PyTorch {torch.__version__}; median (best) of {options.rounds} rounds, in microseconds\n")
    print("| attention | PyTorch | how | fathom | of the burst | ratio |\n| --- | --- | --- | --- | --- | --- |")
    fastest = {}
    for kind in options.kinds:
        for shape in options.heads:
            for tokens in options.tokens:
                for work in ("forward", "both"):
                    row = f"{kind}/{shape}/{tokens}/{work}"
                    how, theirs, ours, fraction = measured(row, options)
                    fastest[f"{kind}/{shape}/{tokens}"] = how
                    print(f"| {row} | {microseconds(theirs)} | {how} | {microseconds(ours)} | {fraction:.2f} "
                          f"| {statistics.median(theirs) / statistics.median(ours):.2f} |", flush=True)
    print("\n| forward and backward | PyTorch grows by, MB | fathom grows by, MB |\n| --- | --- | --- |")
    for row, how in fastest.items():
        if int(row.split("/")[2]) >= 1024:  # for shorter ones, the process's other pages hide it
            theirs = int(subprocess.run([sys.executable, __file__, "--growth", row, how, "--threads", str(options.threads)],
                                        capture_output=True, check=True, text=True).stdout)
            _, counters = fathom(options.fathom, row + "/both", 0.01)
            print(f"| {row} | {theirs / 1e6:.1f} | {counters['beyond inputs'] / 1e6:.1f} |", flush=True)


if __name__ == "__main__":
    main()
