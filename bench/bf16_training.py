"""Plots the losses from bench_bf16_training:  bf16_training.py CSV FIGURE"""

import csv
import sys
from collections import defaultdict

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

SMOOTHED = 20  # steps averaged for each point of a curve

losses = defaultdict(list)
with open(sys.argv[1]) as rows:
    for row in csv.DictReader(rows):
        losses[row["compute"], int(row["seed"])].append(float(row["loss"]))
seeds = sorted({seed for _, seed in losses})


def smooth(values):
    return np.convolve(values, np.ones(SMOOTHED) / SMOOTHED, mode="valid")


figure, (above, below) = plt.subplots(2, 1, figsize=(8, 6.4), height_ratios=(2, 1), sharex=True, layout="constrained")
for n, seed in enumerate(seeds):
    exact, rounded = (smooth(losses[compute, seed]) for compute in ("float", "bf16"))
    steps = np.arange(SMOOTHED, SMOOTHED + len(exact))
    above.plot(steps, exact, color=f"C{n}", label=f"float, seed {seed}")
    above.plot(steps, rounded, color=f"C{n}", linestyle=":", linewidth=2, label=f"bf16, seed {seed}")
    below.plot(steps, rounded - exact, color=f"C{n}", label=f"bf16 - float, seed {seed}")
    if n:  # the difference between seeds, as a noise level
        below.plot(steps, exact - smooth(losses["float", seeds[0]]), color="0.7", zorder=0,
                   label=f"float, seed {seed} - seed {seeds[0]}")
above.set_ylabel("training NLL, nats a byte")
above.set_ylim(top=3.2)
below.set_ylabel("difference")
below.set_xlabel(f"step (means of {SMOOTHED})")
for axes in (above, below):
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
figure.savefig(sys.argv[2])
print(f"{sys.argv[2]}: {len(seeds)} seeds")
