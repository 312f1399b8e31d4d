"""Prints a table of examples/story with models of two sizes, packed in each type. story.sh runs it.

The weights are random, because neither size nor time depends on them. Start-up is a whole run that writes one byte, from
before the process is created until it ends; the program is in the page cache. Memory is the peak resident size.
Speed is measured over the further bytes of a longer run, each flushed, including the sliding of a full context."""

import array
import json
import pathlib
import random
import statistics
import struct
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "bench-story"
MODELS = {"tiny": {"vocab": 256, "context": 128, "width": 128, "depth": 6, "heads": 4},
          "100 MB": {"vocab": 256, "context": 512, "width": 512, "depth": 8, "heads": 8}}
RUNS = 11


def write_checkpoint(folder, config):
    """config.json and model.safetensors of a GPT, with GPT-2's names."""
    e, names = config["width"], {"wte.weight": [config["vocab"], config["width"]], "wpe.weight": [config["context"], config["width"]]}
    for i in range(config["depth"]):
        for name, shape in {"ln_1.weight": [e], "ln_1.bias": [e], "attn.c_attn.weight": [e, 3 * e], "attn.c_attn.bias": [3 * e],
                            "attn.c_proj.weight": [e, e], "attn.c_proj.bias": [e], "ln_2.weight": [e], "ln_2.bias": [e],
                            "mlp.c_fc.weight": [e, 4 * e], "mlp.c_fc.bias": [4 * e], "mlp.c_proj.weight": [4 * e, e],
                            "mlp.c_proj.bias": [e]}.items():
            names[f"h.{i}.{name}"] = shape
    names |= {"ln_f.weight": [e], "ln_f.bias": [e]}

    generator = random.Random(1)
    block = array.array("f", (generator.gauss(0, 0.02) for _ in range(1 << 16)))
    header, data = {}, bytearray()
    for name, shape in names.items():
        count = shape[0] * (shape[1] if len(shape) == 2 else 1)
        numbers = (block * (count // len(block) + 1))[:count]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + 4 * count]}
        data += numbers.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)


def run(command):
    subprocess.run(command, check=True, capture_output=True)


def seconds(command, runs=RUNS):
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def megabytes(command):
    told = subprocess.run(["/usr/bin/time", "-f", "%M", *command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    return int(told.stderr.split()[-1]) / 1e3


def main():
    print(f"medians of {RUNS} runs, of 5 for the speed; a program that does nothing takes {seconds(['/bin/true']) * 1e3:.1f} ms\n")
    print("| model | packed as | program | of it weights | start-up | memory | bytes a second |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for model, config in MODELS.items():
        folder = FOLDER / model.replace(" ", "")
        folder.mkdir(parents=True, exist_ok=True)
        write_checkpoint(folder, config)
        for kind in ["f32", "bf16", "int8", "int4"]:
            build = folder / kind
            run(["cmake", "-G", "Ninja", "-S", ROOT / "examples" / "story", "-B", build, "-DCMAKE_CXX_FLAGS=-march=native",
                 f"-DSTORY_CONFIG={folder / 'config.json'}", f"-DSTORY_WEIGHTS={folder / 'model.safetensors'}",
                 f"-DSTORY_TYPE={kind}"])
            run(["cmake", "--build", build])
            weights = (build / "fathom-models" / "story_model" / f"story_model.{kind}.safetensors").stat().st_size
            story, more = build / "story", 2000 if model == "tiny" else 300
            start_up = seconds([story, "--count", "1", "a"])
            speed = (more - 1) / (seconds([story, "--count", str(more), "a"], 5) - start_up)
            print(f"| {model} | {kind} | {story.stat().st_size / 1e6:.2f} MB | {weights / 1e6:.2f} MB | "
                  f"{start_up * 1e3:.1f} ms | {megabytes([story, '--count', str(more), 'a']):.1f} MB | {speed:,.0f} |", flush=True)


main()
