"""Compares deployments of one GPT-2 checkpoint with fathom and others in tables: size, start-up, memory, speed.

Run by compare_deployment.sh. The checkpoint is saved by transformers, with random weights (as in
tests/transformers_checkpoints.py, so that greedy decoding does not get stuck), over 256 tokens, which are bytes. Every
program gets a prompt, decodes greedily with batch 1, and writes and flushes a byte for each token. This script reads the bytes:
start-up is the time from before the process is created to the first byte; speed is measured over the bytes after it; memory is
the peak resident size. In every round each program runs once, in turns; tables show medians of the rounds.

smollm2 is SmolLM2-135M-Instruct, in a GGUF file, with fathom and llama.cpp only; both have room for 1,024 tokens, and write the
last byte of a token's number."""

import argparse
import importlib.metadata
import json
import os
import pathlib
import re
import socket
import statistics
import subprocess
import sys
import time

from steps import machine

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "bench-deployment"
PEERS = ROOT / "bench" / "deployment_peers.py"
PROMPT = "In the beginning"
# The settings of GPT2Config, and the number of tokens to write.
MODELS = {"small": (dict(vocab_size=256, n_positions=256, n_embd=256, n_layer=8, n_head=8), 224),
          "medium": (dict(vocab_size=256, n_positions=1024, n_embd=768, n_layer=12, n_head=12), 48)}
SMOLLM2 = ("{.vocab = 49152, .context = 1024, .width = 576, .depth = 30, .heads = 9, .hidden = 1536, .shortcut = {}, "
           ".family = fathom::family::llama, .kv_heads = 3, .rotary = {.base = 100'000}}", 48)


# ---- Checkpoints, and their conversion for each program ------------------------------------------------------------------


def save_checkpoint(folder, settings):
    """The output of save_pretrained, and a tokenizer, which CTranslate2 requires: token t is named after byte t. The last
    token is the end of a text, which GPT-2's tokenizer must have."""
    sys.path.insert(0, str(ROOT / "tests"))
    import torch
    from transformers_checkpoints import build, save

    save(build(settings), folder, torch.float32, None)
    names = [f"<{t}>" for t in range(settings["vocab_size"] - 1)] + ["<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({name: t for t, name in enumerate(names)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"}))


def convert_checkpoint(target, folder, dtype):
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.GPT2LMHeadModel.from_pretrained(folder, dtype=getattr(torch, dtype)).save_pretrained(target)


def tensors(folder):
    import safetensors.numpy

    stored = safetensors.numpy.load_file(folder / "model.safetensors")
    return {name.removeprefix("transformer."): values for name, values in stored.items()}


def write_onnx(file, folder, settings):
    """GPT-2 built from operations with fused kernels in ONNX Runtime, which its own transformer tools also produce:
    SkipLayerNormalization, FastGelu, and GroupQueryAttention, whose cache may be one buffer. ids, positions [1, T]; last [1],
    the last position; total [1], the length with the cache. token [1, 1]."""
    import numpy as np
    import onnx
    from onnx import TensorProto as of
    from onnx import helper

    weights = tensors(folder)
    depth, heads, context, width = (settings[k] for k in ("n_layer", "n_head", "n_positions", "n_embd"))
    nodes = []

    def node(kind, inputs, outputs=None, domain="", **attributes):
        outputs = outputs or [f"{kind}{len(nodes)}"]
        nodes.append(helper.make_node(kind, inputs, outputs, domain=domain, **attributes))
        return outputs[0]

    def linear(name, x):
        return node("MatMul", [x, f"{name}.weight"])

    def add_and_norm(norm, x, y, bias):
        """x + y + bias, and that normalized."""
        at = len(nodes)
        return node("SkipLayerNormalization", [x, y, f"{norm}.weight", f"{norm}.bias", bias],
                    [f"norm{at}", "", "", f"sum{at}"], "com.microsoft", epsilon=1e-5), f"sum{at}"

    x = node("Add", [node("Gather", ["wte.weight", "ids"]), node("Gather", ["wpe.weight", "positions"])])
    y = node("LayerNormalization", [x, "h.0.ln_1.weight", "h.0.ln_1.bias"], epsilon=1e-5)
    for i in range(depth):
        block = f"h.{i}."
        qkv = node("Add", [linear(block + "attn.c_attn", y), block + "attn.c_attn.bias"])
        node("GroupQueryAttention", [qkv, "", "", f"past_key{i}", f"past_value{i}", "last", "total"],
             [f"attended{i}", f"present_key{i}", f"present_value{i}"], "com.microsoft", num_heads=heads, kv_num_heads=heads)
        y, x = add_and_norm(block + "ln_2", x, linear(block + "attn.c_proj", f"attended{i}"), block + "attn.c_proj.bias")
        y = node("FastGelu", [linear(block + "mlp.c_fc", y), block + "mlp.c_fc.bias"], domain="com.microsoft")
        after = f"h.{i + 1}.ln_1" if i + 1 < depth else "ln_f"
        y, x = add_and_norm(after, x, linear(block + "mlp.c_proj", y), block + "mlp.c_proj.bias")
    y = node("Gather", [y, "minus one"], axis=1)  # [1, width]
    node("ArgMax", [node("Gemm", [y, "wte.weight"], transB=1)], ["token"], axis=1, keepdims=1)

    value, cache = helper.make_tensor_value_info, (1, heads, context, width // heads)
    pairs = [f"{what}{i}" for i in range(depth) for what in ("key", "value")]
    graph = helper.make_graph(
        nodes, "gpt2",
        [value("ids", of.INT64, (1, "T")), value("positions", of.INT64, (1, "T")), value("last", of.INT32, (1,)),
         value("total", of.INT32, (1,)), *(value(f"past_{p}", of.FLOAT, cache) for p in pairs)],
        [value("token", of.INT64, (1, 1)), *(value(f"present_{p}", of.FLOAT, cache) for p in pairs)],
        [onnx.numpy_helper.from_array(np.ascontiguousarray(values), name) for name, values in weights.items()]
        + [onnx.numpy_helper.from_array(np.array(-1), "minus one")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)])
    model.ir_version = 8
    onnx.save(model, file)


def quantize_onnx(file, source):
    """Weights in 8 bits, and activations too at run time, as ONNX Runtime advises for transformers on a CPU."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(source, file, op_types_to_quantize=["MatMul"], per_channel=True, weight_type=QuantType.QInt8,
                     extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT})  # it cannot infer the type of some operations


def write_ctranslate2(target, folder, kind):
    import ctranslate2.converters

    ctranslate2.converters.TransformersConverter(str(folder)).convert(str(target), quantization=kind, force=True)


def write_ggml(file, folder, settings, kind):
    import compare_ggml

    names = {"vocab": "vocab_size", "context": "n_positions", "width": "n_embd", "depth": "n_layer", "heads": "n_head"}
    compare_ggml.write_gguf(file, {ours: settings[theirs] for ours, theirs in names.items()}, tensors(folder), kind)


def run(command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}:\n{done.stdout}{done.stderr}")


def build_story(checkpoint, folder, kind):
    build = folder / f"story-{kind}"
    run(["cmake", "-G", "Ninja", "-S", ROOT / "examples" / "story", "-B", build, "-DCMAKE_CXX_FLAGS=-march=native",
         f"-DSTORY_CONFIG={checkpoint / 'config.json'}", f"-DSTORY_WEIGHTS={checkpoint / 'model.safetensors'}",
         f"-DSTORY_TYPE={kind}"])
    run(["cmake", "--build", build])
    return build / "story"


def config_of(settings):
    return (f"{{.vocab = {settings['vocab_size']}, .context = {settings['n_positions']}, .width = {settings['n_embd']}, "
            f".depth = {settings['n_layer']}, .heads = {settings['n_head']}}}")


def build_fathom(folder, config, kind, cpp):
    program, source, include = folder / f"fathom-{kind}", ROOT / "bench" / "deployment_fathom.cpp", ROOT / "include"
    changed = max(f.stat().st_mtime for f in [source, *include.rglob("*.hpp")])
    if not program.exists() or program.stat().st_mtime < changed:
        eigen = subprocess.run(["pkg-config", "--cflags", "eigen3"], capture_output=True, text=True, check=True).stdout.split()
        run(["g++", "-std=c++20", "-O3", "-march=native", "-fopenmp", "-s", f"-I{include}", *eigen, f"-DFATHOM_CONFIG={config}",
             f"-DFATHOM_TYPE={cpp}", source, "-o", program])
    return program


def build_ggml():
    """A program that contains llama.cpp with only its CPU backend."""
    source, build, program = ROOT / "build" / "peers" / "llama.cpp", FOLDER / "llama.cpp", FOLDER / "ggml"
    run(["cmake", "-S", source, "-B", build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=OFF",
         *(f"-D{name}=ON" for name in ("GGML_NATIVE", "GGML_OPENMP", "GGML_LLAMAFILE", "GGML_CPU_REPACK")),
         "-DLLAMA_CURL=OFF", *(f"-DLLAMA_BUILD_{name}=OFF" for name in ("COMMON", "TESTS", "EXAMPLES", "TOOLS", "SERVER"))])
    run(["cmake", "--build", build, "--target", "llama"])
    run(["g++", "-std=c++20", "-O2", "-s", ROOT / "bench" / "deployment_ggml.cpp", f"-I{source / 'include'}",
         f"-I{source / 'ggml' / 'include'}", f"-L{build / 'src'}", f"-L{build / 'ggml' / 'src'}", "-Wl,--start-group", "-lllama",
         "-lggml", "-lggml-cpu", "-lggml-base", "-Wl,--end-group", "-fopenmp", "-pthread", "-ldl", "-o", program])
    return program


# ---- Sizes ---------------------------------------------------------------------------------------------------------------


def bytes_of(*paths):
    """The total size of files, and of all files in folders."""
    files = [f for path in paths for f in ([path] if path.is_file() else path.rglob("*")) if f.is_file()]
    return sum(f.stat().st_size for f in files)


def packages(*names):
    """The size of installed packages and their dependencies in bytes, without Python, its cache of compiled files, and parts
    for GPUs."""
    seen, size = set(), 0

    def visit(name):
        nonlocal size
        name = re.sub(r"[-_.]+", "-", name).lower()
        if name in seen or re.match(r"nvidia-|cuda-|triton$", name):
            return
        seen.add(name)
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:  # a dependency on another system
            return
        for file in found.files or []:
            path = pathlib.Path(found.locate_file(file))
            if "__pycache__" not in path.parts and not re.search(r"lib.*(cuda|nvshmem)", path.name) and path.is_file():
                size += path.stat().st_size
        for required in found.requires or []:
            if "extra ==" not in required:
                visit(re.match(r"[\w.-]+", required)[0])

    for name in names:
        visit(name)
    return size


# ---- Measuring -----------------------------------------------------------------------------------------------------------


class Row:
    """A program that writes COUNT tokens from PROMPT, after `skip` bytes of other output."""

    def __init__(self, name, threads, kind, shipped, *command, skip=0, **environment):
        self.name, self.threads, self.kind, self.shipped, self.skip = name, threads, kind, shipped, skip
        self.command = [str(c) for c in command]
        self.environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", **environment}
        self.starts, self.rates = [], []

    def warm_up(self, count):
        """An untimed run: loads files into the page cache, and gets the tokens and the peak resident memory."""
        told = subprocess.run(["/usr/bin/time", "-f", "%M", *self.command], capture_output=True, env=self.environment)
        if told.returncode != 0:
            raise SystemExit(f"{self.name}: {told.stderr.decode()}")
        self.memory = int(told.stderr.split()[-1]) * 1024
        self.tokens = told.stdout[self.skip:self.skip + count]

    def measure(self, count):
        """Waits in the kernel for all tokens after the first: waking up for each would take a core from the program."""
        ours, theirs = socket.socketpair()
        start = time.perf_counter()
        process = subprocess.Popen(self.command, stdout=theirs, stderr=subprocess.DEVNULL, env=self.environment)
        theirs.close()
        got = len(ours.recv(self.skip + 1, socket.MSG_WAITALL))
        first = time.perf_counter()
        got += len(ours.recv(count - 1, socket.MSG_WAITALL))
        last = time.perf_counter()
        while ours.recv(1 << 16):
            pass
        ours.close()
        if process.wait() != 0 or got != self.skip + count:
            raise SystemExit(f"{self.name}: ended with {process.returncode} after {got} bytes")
        self.starts.append(first - start)
        self.rates.append((count - 1) / (last - first))


def alike(tokens, others):
    """The number of leading tokens that agree."""
    return next((i for i, (a, b) in enumerate(zip(tokens, others)) if a != b), len(tokens))


def size(count):
    return f"{count / 1e6:.2f} MB" if count < 1e7 else f"{count / 1e6:,.0f} MB"


def rows(folder, settings, count):
    """Makes all missing programs and files, and returns the rows of the table."""
    theirs = folder / "checkpoint"
    if not (theirs / "tokenizer_config.json").exists():
        theirs.mkdir(parents=True, exist_ok=True)
        save_checkpoint(theirs, settings)
    found = []
    for kind in ("f32", "bf16", "int8"):
        story = build_story(theirs, folder, kind)
        found.append(Row("story: static, model in it", 1, kind, bytes_of(story), story, "--temperature", 0, "--count", count,
                         PROMPT, skip=len(PROMPT)))
    for kind, cpp in {"f32": "float", "bf16": "fathom::bf16", "int8": "std::int8_t"}.items():
        program, file = build_fathom(folder, config_of(settings), kind, cpp), folder / f"fathom-{kind}.safetensors"
        run([program, "--pack", theirs, file])
        found.append(Row("fathom: program and file", 2, kind, bytes_of(program, file), program, file, PROMPT, count))

    installed = packages("torch", "transformers")
    mkl = {"LD_PRELOAD": os.environ["MKL"]} if os.environ.get("MKL") else {}
    for kind, dtype in {"f32": "float32", "bf16": "bfloat16"}.items():
        saved = theirs if kind == "f32" else folder / f"checkpoint-{kind}"
        if not (saved / "model.safetensors").exists():
            convert_checkpoint(saved, theirs, dtype)
        shipped = installed + bytes_of(saved / "model.safetensors", saved / "config.json")
        found.append(Row("PyTorch, transformers", 2, kind, shipped, sys.executable, PEERS, "pytorch", saved, dtype, PROMPT, count,
                         **mkl))

    installed = packages("onnxruntime", "numpy")
    for kind in ("f32", "int8"):
        file = folder / f"{kind}.onnx"
        if not file.exists():
            if kind == "f32":
                write_onnx(file, theirs, settings)
            else:
                quantize_onnx(file, folder / "f32.onnx")
        found.append(Row("ONNX Runtime", 2, kind, installed + bytes_of(file), sys.executable, PEERS, "onnxruntime", file, PROMPT,
                         count))

    installed = packages("ctranslate2")
    for kind, quantization in {"f32": "float32", "int8": "int8"}.items():
        made = folder / f"ctranslate2-{kind}"
        if not (made / "model.bin").exists():
            write_ctranslate2(made, theirs, quantization)
        found.append(Row("CTranslate2", 2, kind, installed + bytes_of(made), sys.executable, PEERS, "ctranslate2", made,
                         quantization, PROMPT, count))

    program = build_ggml()
    for kind, type_ in {"f32": "F32", "bf16": "BF16", "int8": "Q8_0"}.items():
        file = folder / f"{kind}.gguf"
        if not file.exists():
            write_ggml(file, theirs, settings, type_)
        found.append(Row("llama.cpp, in C++", 2, kind, bytes_of(program, file), program, file, PROMPT, count))
    return found


def rows_of_smollm2(folder, source):
    import compare_ggml

    folder.mkdir(parents=True, exist_ok=True)
    found, (config, count) = [], SMOLLM2
    for kind, cpp in {"f32": "float", "bf16": "fathom::bf16", "int8": "std::int8_t", "int4": "fathom::int4"}.items():
        program, file = build_fathom(folder, config, kind, cpp), folder / f"fathom-{kind}.safetensors"
        run([program, "--pack", source, file])
        found.append(Row("fathom: program and file", 2, kind, bytes_of(program, file), program, file, PROMPT, count))
    program = build_ggml()
    for kind, type_ in {"f32": "F32", "bf16": "BF16", "int8": "Q8_0", "int4": "Q4_1"}.items():
        file = source if type_ == "Q4_1" else folder / f"{kind}.gguf"
        if not file.exists():
            compare_ggml.rewrite_gguf(source, file, type_)
        found.append(Row("llama.cpp, in C++", 2, kind, bytes_of(program, file), program, file, PROMPT, count, 1024))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=[*MODELS, "smollm2"])
    parser.add_argument("--smollm2", type=pathlib.Path, help="the GGUF file of SmolLM2-135M-Instruct in Q4_1")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prepare", action="store_true", help="only build the programs and write the models' files")
    options = parser.parse_args()
    prepared = {model: rows_of_smollm2(FOLDER / model, options.smollm2) if model == "smollm2" else rows(FOLDER / model, *MODELS[model])
                for model in options.models}
    if options.prepare:
        return

    told = ["torch", "transformers", "onnxruntime", "ctranslate2"]
    print(f"{machine()}; " + ", ".join(f"{name} {importlib.metadata.version(name)}" for name in told))
    for model, found in prepared.items():
        settings, count = MODELS.get(model, ({}, SMOLLM2[1]))
        for row in found:
            row.warm_up(count)
        for _ in range(options.rounds):
            for row in found:
                row.measure(count)
        peer = "PyTorch" if settings else "llama.cpp"
        reference = next(row for row in found if row.name.startswith(peer) and row.kind == "f32").tokens
        shape = "".join(f", {name} {value}" for name, value in settings.items())
        print(f"\n{model}{shape}: {count} tokens after a prompt of {len(PROMPT)}, {len(set(reference))} of them different; "
              f"medians of {options.rounds} rounds\n")
        print(f"| program | threads | type | shipped | start-up | memory | tokens a second | tokens as {peer}'s in f32 |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
        for row in found:
            start, rate, same = statistics.median(row.starts), statistics.median(row.rates), alike(row.tokens, reference)
            print(f"| {row.name} | {row.threads} | {row.kind} | {size(row.shipped)} | {start * 1e3:,.{int(start < 0.1)}f} ms | "
                  f"{size(row.memory)} | {rate:,.0f} | {'all' if same == count else f'the first {same}'} |", flush=True)


if __name__ == "__main__":
    main()
