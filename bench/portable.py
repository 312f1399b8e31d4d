"""Times two builds of bench_steps in turns (portable.sh)."""

import statistics
import sys

from steps import Program, digits, machine

alone, chosen, rounds, models, types = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4].split(), sys.argv[5].split()
work = {"decoding": "decode 100 20", "a prompt": "prompt 64 10", "training": "train 4 1"}
print(f"{machine()}; milliseconds, medians of {rounds} rounds (best); ratio of the medians (of the best)\n")
print("| work | compiled for one set | chosen at start | ratio |\n| --- | --- | --- | --- |")
ratios = []
for model in models:
    for kind in types:
        programs = [Program(f"{folder}/bench_steps_{model}", kind) for folder in (alone, chosen)]
        for name, command in work.items():
            if name == "training" and kind == "int8":
                continue
            times = [[], []]
            for round in range(rounds + 1):
                for n in (0, 1) if round % 2 else (1, 0):
                    step = programs[n].ask(*command.split())
                    if round:  # the first one warms up
                        times[n] += step
            medians, bests = [statistics.median(t) for t in times], [min(t) for t in times]
            ratios.append(medians[1] / medians[0])
            cells = [f"{digits(1e3 * m)} ({digits(1e3 * b)})" for m, b in zip(medians, bests)]
            print(f"| {model} {kind} {name} | {cells[0]} | {cells[1]} | {ratios[-1]:.2f} ({bests[1] / bests[0]:.2f}) |", flush=True)
        for program in programs:
            program.close()
print(f"\nratio: geometric mean {statistics.geometric_mean(ratios):.3f}, largest {max(ratios):.2f}")
