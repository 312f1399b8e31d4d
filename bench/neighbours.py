"""Other work on the machine's cores, while compare_pytorch.py and compare_ggml.py measure (--busy N)."""

import contextlib
import subprocess


@contextlib.contextmanager
def busy(count):
    """`count` processes of ordinary priority that compute all the time, each on one core."""
    neighbours = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(count)]
    try:
        yield
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait()
