"""Timing of both sides, for compare_pytorch.py and compare_attention.py, which pytorch.sh runs."""

import json
import os
import subprocess
import time


def timed(f, seconds):
    """Mean time of f over at least `seconds`, after one call to warm up, as Google Benchmark measures fathom."""
    f()
    calls, start = 0, time.perf_counter()
    while calls < 1 or time.perf_counter() - start < seconds:
        f()
        calls += 1
    return (time.perf_counter() - start) / calls


def fathom(program, row, seconds):
    """Mean time of one row of a Google Benchmark program over at least `seconds`, and the row's full output."""
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    output = subprocess.run([program, f"--benchmark_filter=^{row}/real_time$", "--benchmark_format=json",
                             f"--benchmark_min_time={seconds}"],
                            capture_output=True, check=True, text=True, env=environment).stdout
    result = json.loads(output)["benchmarks"][0]
    return result["real_time"] * {"ns": 1e-9, "us": 1e-6, "ms": 1e-3}[result["time_unit"]], result
