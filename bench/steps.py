"""Controls programs that run single steps on demand (steps.cpp, compare_ggml.cpp, stream.cpp)."""

import json
import os
import platform
import statistics
import subprocess

THREADS = os.cpu_count()


class Program:
    """A program that answers each line with a line of numbers. `about` is its first output, if it `introduces` itself."""

    def __init__(self, *command, introduces=True, **environment):
        self.process = subprocess.Popen([str(c) for c in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env={**os.environ, "OMP_NUM_THREADS": str(THREADS), **environment})
        self.about = json.loads(self._line()) if introduces else None

    def ask(self, *words):
        print(*words, file=self.process.stdin, flush=True)
        return [float(word) for word in self._line().split()]

    def close(self):
        self.process.stdin.close()
        self.process.wait()

    def _line(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(self.process.args)}: ended with {self.process.wait()}")
        return line


def stream(program, size, seconds=1.0):
    """Read bandwidth of all threads for a block of `size` bytes, in bytes per second, with the best of several patterns."""
    return max(program.ask(size, seconds))


def step_seconds(program, seconds, *words):
    """Median seconds of one step, over about `seconds` and after one step to warm up. `words` is the command without its
    count."""
    (one,) = program.ask(*words, 1)
    return statistics.median(program.ask(*words, max(1, int(seconds / one))))


def digits(x):
    """Three digits, or all before the decimal point."""
    return f"{x:.0f}" if abs(x) >= 100 else f"{x:.3g}"


def machine():
    with open("/proc/cpuinfo") as info:
        cpu = next((line.split(":")[1].strip() for line in info if line.startswith("model name")), platform.machine())
    return f"{cpu}, {THREADS} threads"
