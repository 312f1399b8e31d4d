"""Runs tests/interop_pytorch.cpp for PyTorch: compiles it for a config, and exchanges tokens and results in files."""

import hashlib
import os
import pathlib
import subprocess

import safetensors.torch

TESTS = pathlib.Path(__file__).resolve().parent
BUILD = TESTS.parent / "build" / "interop_pytorch"


class Driver:
    """interop_pytorch for a config, the members of a fathom::config, and a backend."""

    def __init__(self, config, backend, optimisation="-O1"):
        eigen = subprocess.run(["pkg-config", "--cflags", "eigen3"], capture_output=True, text=True, check=True).stdout.split()
        command = [os.environ.get("CXX", "g++"), "-std=c++20", optimisation, "-march=native", "-fopenmp",
                   f"-I{TESTS.parent}/include", *eigen, f"-DFATHOM_CONFIG={config}", f"-DFATHOM_BACKEND={backend}",
                   str(TESTS / "interop_pytorch.cpp")]
        sources = [TESTS / "interop_pytorch.cpp", *sorted((TESTS.parent / "include").rglob("*.hpp"))]
        key = hashlib.sha256("\n".join(command).encode() + b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
        self.program = BUILD / key
        if not self.program.exists():
            BUILD.mkdir(parents=True, exist_ok=True)
            subprocess.run([*command, "-o", f"{self.program}.new"], check=True)
            os.replace(f"{self.program}.new", self.program)

    def __call__(self, *arguments):
        done = subprocess.run([str(self.program), *map(str, arguments)], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"interop_pytorch {' '.join(map(str, arguments))}:\n{done.stderr}")

    def compute(self, command, weights, folder, **tensors):
        """logits, greedy or step: its output tensors, by name."""
        safetensors.torch.save_file({name: tensor.int().contiguous() for name, tensor in tensors.items()}, folder / "in")
        self(command, weights, folder / "in", folder / "out")
        return safetensors.torch.load_file(folder / "out")


def distance(found, expected):
    """The largest difference, relative to the largest expected value."""
    assert found.shape == expected.shape, (found.shape, expected.shape)
    assert found.isfinite().all()
    return ((found.double() - expected.double()).abs().max() / expected.double().abs().max()).item()
