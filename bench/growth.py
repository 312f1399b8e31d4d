"""Growth of costs: the time of a decoded token with its position, and of a training step with the batch.

Run by growth.sh. Prints Markdown tables and plots the curves.

Decoding reads all weights, and the keys and values of all earlier positions. So a token's time should be linear in its
position, with the time to read one position's bytes of the cache as the slope. The read bandwidth is measured at the same
time, with a block as large as weights and cache together, so that it comes from the same level of memory.
A training step should be linear in the batch, with AdamW and all other work once per step as the constant.
"""

import argparse
import pathlib
import statistics

import matplotlib
import numpy as np

from steps import Program, digits, machine, stream

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402 (after the choice of the backend)

BATCHES = {"tiny": [1, 2, 4, 8, 16, 32], "small": [1, 2, 4, 8, 16], "medium": [1, 2, 4]}


def line(x, y):
    """Constant and slope of the line through the points, by the median of all slopes between two points, which is robust to
    outliers (Theil and Sen); and the points' relative distance from the line: median and maximum."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    i, j = np.triu_indices(len(x), 1)
    slope = np.median((y[j] - y[i]) / (x[j] - x[i]))
    constant = np.median(y - slope * x)
    off = np.abs(y / (constant + slope * x) - 1)
    return constant, slope, f"{100 * np.median(off):.1f}%, {100 * np.max(off):.1f}%"


def decoding(program, memory, rounds, points, tokens):
    """Positions, the seconds at each in all rounds, and in all rounds the bandwidth of reading weights and cache."""
    context = program.about["context"]
    starts = np.unique(np.linspace(0, context - tokens, points).astype(int))[::-1]  # downwards, as decoding truncates the cache
    times, speeds = {start: [] for start in starts}, []
    size = program.about["weight_bytes"] + context * program.about["position_bytes"]
    for _ in range(rounds):
        program.ask("prefill", 1)
        program.ask("decode", starts[0], tokens)  # to warm up
        for start in starts:
            times[start] += program.ask("decode", start, tokens)
        speeds.append(stream(memory, size, 0.4))
    return [start + (tokens - 1) / 2 for start in starts], [times[start] for start in starts], speeds


def training(program, batches, rounds):
    times = {batch: [] for batch in batches}
    for _ in range(rounds):
        for batch in batches:
            times[batch] += program.ask("train", batch, max(1, 8 // batch))
    return [times[batch] for batch in batches]


def draw(panel, x, seconds, factor, name):
    """Plots medians as points, the fastest rounds as fainter points, and a line through the medians. Returns its constant and
    slope."""
    medians, fastest = (factor * np.array([f(t) for t in seconds]) for f in (statistics.median, min))
    (points,) = panel.plot(x, medians, ".", label=name)
    panel.plot(x, fastest, ".", color=points.get_color(), alpha=0.3)
    constant, slope, _ = line(x, medians)
    ends = np.array([0, max(x)])
    panel.plot(ends, constant + slope * ends, "-", color=points.get_color(), lw=0.8)
    return constant, slope, ends, points.get_color()


def decode_rows(panel, model, memory, options):
    for variant, kind in [(model, kind) for kind in options.types] + [(f"{model}_shortcut", "f32")]:
        program = Program(options.build / f"bench/bench_steps_{variant}", kind)
        at, seconds, speeds = decoding(program, memory, options.rounds, 16, 8)
        name = f"{variant.replace('_', '-')}/{kind}"
        weights, cache = program.about["weight_bytes"], program.about["position_bytes"]
        program.close()
        both = []
        for time, speed in ((statistics.median, statistics.median(speeds)), (min, max(speeds))):
            constant, slope, off = line(at, [time(t) for t in seconds])
            both.append((digits(1e6 * constant), f"{weights / constant / speed:.2f}", digits(1e9 * slope),
                         f"{speed / 1e9:.0f}", digits(1e9 * cache / speed), f"{slope * speed / cache:.2f}", off))
        zero, part, slope, speed, cost, ratio, off = (f"{a} ({b})" for a, b in zip(*both))
        yield f"| {name} | {zero} us | {part} | {slope} | {cache} | {speed} GB/s | {cost} | {ratio} | {off} |"
        constant, slope, ends, color = draw(panel, at, seconds, 1e6, name)
        panel.plot(ends, constant + 1e6 * cache / statistics.median(speeds) * ends, ":", color=color, lw=0.8)
    panel.set(title=f"decode, {model} (dotted: the cache's bytes)", xlabel="position", ylabel="us a token", ylim=(0, None))
    panel.legend(fontsize="small")


def train_rows(panel, model, options):
    for variant in (model, f"{model}_shortcut"):
        program = Program(options.build / f"bench/bench_steps_{variant}", "f32")
        seconds = training(program, BATCHES[model], options.rounds)
        program.close()
        name = variant.replace("_", "-")
        both = []
        for time in (statistics.median, min):
            constant, slope, off = line(BATCHES[model], [time(t) for t in seconds])
            both.append((digits(1e3 * constant), digits(1e3 * slope), off))
        constant, slope, off = (f"{a} ({b})" for a, b in zip(*both))
        told = ", ".join(f"{b}: {digits(1e3 * statistics.median(t))}" for b, t in zip(BATCHES[model], seconds))
        yield f"| {name} | {constant} ms | {slope} ms | {off} | {told} |"
        draw(panel, BATCHES[model], seconds, 1e3, name)
    panel.set(title=f"training step, {model}", xlabel="sequences in the batch", ylabel="ms", ylim=(0, None))
    panel.legend(fontsize="small")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build/bench", type=pathlib.Path, help="folder of the programs")
    parser.add_argument("--models", nargs="+", default=list(BATCHES), choices=list(BATCHES))
    parser.add_argument("--types", nargs="+", default=["f32", "bf16", "int8"], choices=["f32", "bf16", "int8"])
    parser.add_argument("--work", nargs="+", default=["decode", "train"], choices=["decode", "train"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--figure", default="build/bench/growth.svg")
    options = parser.parse_args()

    shape = len(options.work), len(options.models)
    figure, axes = plt.subplots(*shape, figsize=(4.5 * shape[1], 3.75 * shape[0]), squeeze=False, layout="constrained")
    print(f"{machine()}; medians of {options.rounds} rounds, and in parentheses the same of the fastest at each point")
    for panels, work in zip(axes, options.work):
        if work == "decode":
            memory = Program(options.build / "bench/bench_stream", introduces=False)
            print("\n| decode | at position 0 | weights read at, of memory's speed | ns a position | bytes a position "
                  "| memory's speed | ns that these take | ratio | off the line: median, most |\n" + "| --- " * 9 + "|")
        else:
            print("\n| training step | constant | for each sequence | off the line: median, most | ms by batch |\n"
                  + "| --- " * 5 + "|")
        for panel, model in zip(panels, options.models):
            for row in decode_rows(panel, model, memory, options) if work == "decode" else train_rows(panel, model, options):
                print(row, flush=True)
    figure.savefig(options.figure)
    print(f"\n{options.figure}")


if __name__ == "__main__":
    main()
