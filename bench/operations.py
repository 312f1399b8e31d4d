"""Runs bench_operations and prints a table: each operation on the cpu backend, against reference.

    python3 bench/operations.py build/release/bench/bench_operations [--repetitions 3] [--seconds 0.2]
"""

import argparse
import json
import subprocess

UNITS = {"ns": 1e-3, "us": 1.0, "ms": 1e3}  # in microseconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.2, help="duration of each repetition")
    options = parser.parse_args()
    output = subprocess.run(
        [options.program, "--benchmark_format=json", f"--benchmark_repetitions={options.repetitions}",
         f"--benchmark_min_time={options.seconds}", "--benchmark_enable_random_interleaving=true"],
        capture_output=True, check=True, text=True).stdout
    result = json.loads(output)
    rows = {}
    for b in sorted(result["benchmarks"], key=lambda b: b["family_index"]):
        if b.get("aggregate_name") == "median":
            name, backend = b["run_name"].removesuffix("/real_time").rsplit("/", 1)
            rows.setdefault(name, {})[backend] = b
    for key, value in result["context"].items():
        if "burst" in key:
            print(f"{key}: {float(value):.0f}\n")
    print("| operation | cpu, us | reference, us | reference / cpu | GFLOP/s | of the burst | GB/s |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, backends in rows.items():
        cpu, reference = (b["real_time"] * UNITS[b["time_unit"]] for b in (backends["cpu"], backends["reference"]))
        counters = [f"{backends['cpu'][key] * scale:{form}}" if key in backends["cpu"] else ""
                    for key, scale, form in (("FLOP/s", 1e-9, ".0f"), ("of burst", 1, ".2f"), ("bytes/s", 1e-9, ".1f"))]
        print(f"| {name} | {cpu:.0f} | {reference:.0f} | {reference / cpu:.1f} | {' | '.join(counters)} |")


if __name__ == "__main__":
    main()
