"""Prints the table of bench/adapters.sh: python3 bench/adapters.py [--best-rate METHOD] [RESULTS]."""

import collections
import json
import statistics
import sys

arguments = sys.argv[1:]
method = arguments[1] if arguments[:1] == ["--best-rate"] else None
rest = arguments[2:] if method else arguments
with open(rest[0] if rest else "build/adapters/results.jsonl") as lines:
    runs = [json.loads(line) for line in lines]
for run in runs:
    words = run["run"].split(" ")  # method, text, rate, steps, seed, part
    run["method"], run["text"], run["part"] = words[0], " ".join(words[1:-4]), words[-1]

if method:
    rated = [run for run in runs if run["part"] == "rates" and run["method"] == method]
    print(f"{min(rated, key=lambda run: run['nll']['after'])['rate']:g}")
    sys.exit()

groups = collections.defaultdict(list)
for run in runs:
    if run["part"] != "rates":
        groups[run["part"], run["text"], run["kind"]].append(run)
print("| part | text | trained | seeds | numbers | before | after (spread) | other text, before | after | seconds | "
      "gradients, moments, tape (MB) | peak (MB) |")
print("| --- " * 12 + "|")
for (part, text, kind), some in groups.items():
    after = [run["nll"]["after"] for run in some]
    mean = lambda get: statistics.mean(get(run) for run in some)
    print(f"| {part} | {text} | {kind} | {len(some)} | {some[0]['trained']:,} | {some[0]['nll']['before']:.4f} | "
          f"{statistics.mean(after):.4f} ({max(after) - min(after):.4f}) | {some[0]['other']['before']:.4f} | "
          f"{mean(lambda run: run['other']['after']):.4f} | {mean(lambda run: run['seconds']):.0f} | "
          f"{(some[0]['gradients_and_moments'] + some[0]['tape']) / 1e6:.0f} | {mean(lambda run: run['memory']) / 1e6:.0f} |")
