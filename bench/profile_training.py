"""Samples training steps with perf, and prints a table of operations whose shares sum up to the step.

Run by profile_training.sh. One thread, so that no time passes in barriers; samples begin after the model was made. A share is the
median of the rounds.
"""
import argparse
import collections
import os
import re
import statistics
import subprocess
import tempfile

# The first that matches counts: what is printed, and a pattern for the symbol.
OPERATIONS = [
    ("products: register tiles", r"tile_product|detail::multiply<|pairs_product|amx"),
    ("products: packing of operands", r"columns_in_panels|rows_in_panels|columns_of<|rows_of<|::panel\b|::block\b"),
    ("GELU and its gradient (epilogues)", r"apply_epilogue.*activat"),
    ("biases, residuals, caps (epilogues)", r"apply_epilogue"),
    ("products: blocks and their order", r"detail::product<"),
    ("attention", r"attend|attention"),
    ("norms", r"layer_norm|rms_norm"),
    ("gradients of biases (sums of columns)", r"column_sums"),
    ("loss", r"cross_entropy"),
    ("embedding and its gradient", r"token|position|embedding|read_table"),
    ("optimiser, norm of the gradient", r"update_range|gradient_step|sum_of_squares|adamw"),
    ("copies, zeros", r"memmove|memset|memcpy|clear_page"),
]


def profile(program: str, work: str, seconds: float) -> dict[str, float]:
    """The share of each operation in the samples of one run."""
    with tempfile.NamedTemporaryFile(suffix=".perf") as data:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run(["perf", "record", "-q", "-F", "997", "-D", "3000", "-o", data.name, program, f"--benchmark_filter=^{work}/real_time$",
                        f"--benchmark_min_time={seconds + 3}"], check=True, capture_output=True, env=environment)
        report = subprocess.run(["perf", "report", "-i", data.name, "--stdio", "--no-children", "-g", "none", "-F", "sample,sym"],
                                check=True, capture_output=True, text=True).stdout
    counts: dict[str, int] = collections.Counter()
    for line in report.splitlines():
        if match := re.match(r"\s*(\d+)\s+\[.\]\s+(.*)", line):
            name = next((name for name, pattern in OPERATIONS if re.search(pattern, match[2])), "the rest")
            counts[name] += int(match[1])
    if not counts:
        raise SystemExit(f"profile_training.py: perf recorded nothing of {program}, {work}")
    return {name: count / sum(counts.values()) for name, count in counts.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", required=True, help="the program bench_models")
    parser.add_argument("--work", nargs="+", default=["train/tiny", "train/tiny/bf16", "train/small", "train/small/bf16"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="of samples, in each round")
    options = parser.parse_args()
    columns = []
    for work in options.work:
        rounds = [profile(options.models, work, options.seconds) for _ in range(options.rounds)]
        columns.append({name: statistics.median(r.get(name, 0) for r in rounds) for name in {n for r in rounds for n in r}})
    names = [name for name, _ in OPERATIONS] + ["the rest"]
    names.sort(key=lambda name: -columns[0].get(name, 0))
    print("| percent of a step, one thread | " + " | ".join(options.work) + " |")
    print("| --- |" + " --- |" * len(options.work))
    for name in names:
        print(f"| {name} | " + " | ".join(f"{100 * column.get(name, 0):.1f}" for column in columns) + " |")


main()
