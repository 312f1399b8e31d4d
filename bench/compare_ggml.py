"""Compares fathom with llama.cpp (ggml): decoding and prefill of the same models with the same weights, in turns.

Run by compare_ggml.sh. f32 is compared with F32, bf16 with the faster of F16 and BF16, int8 with Q8_0, int4 with Q4_1.
llama.cpp gets its best settings: a search tries those that may matter (flash attention, type of the cache, threads, huge pages;
for prefill OpenBLAS and the number of tokens computed at once; for several sequences one cache or one for each), and the rounds
use the fastest. The models are GPT-2s with random weights, and SmolLM2-135M with its own (a Q4_1 file, whose numbers are
rounded anew for the other types).

Every round measures llama.cpp, fathom, and the current read bandwidth of memory, one after the other. A decoding round
is the median token at the first 64 positions from half of the context on; decode-4 decodes 4 sequences at once, from
position 128 on. batch-1 to batch-64 are steps of fathom's batch_generator beside llama.cpp's batched decoding of as many
sequences, at the same positions; fathom's time includes the choice of each token (greedy), llama.cpp's does not. prefill reads
the whole context, of SmolLM2 512 tokens. Tables show medians of the rounds, and best rounds in parentheses; the ratio is the
median of the rounds' ratios.
"""

import argparse
import itertools
import json
import pathlib
import statistics
import struct

import gguf
import numpy as np

from neighbours import busy
from steps import THREADS, Program, digits, machine, step_seconds, stream

PEER_TYPES = {"f32": ["F32"], "bf16": ["F16", "BF16"], "int8": ["Q8_0"], "int4": ["Q4_1"]}
BATCHES = [1, 4, 16, 64]  # sequences at once
WORKS = ["decode", "prefill", "decode-4", "decode-16"] + [f"batch-{n}" for n in BATCHES]
TARGETS = {("decode", "tiny"): (5, 12), ("decode", "small"): (3, 3), ("decode", "medium"): (1.5, 1.5, 1.5),
           ("prefill", "tiny"): (3,), ("prefill", "small"): (3,), ("prefill", "medium"): (3,),
           ("decode", "smollm2"): (1.2, 1.2, 1.2, 1.5), ("prefill", "smollm2"): (1.5, 1.5, 1.5, 1.5),
           ("decode-4", "smollm2"): (1.2, 1.2, 1.2, 1.2), ("decode-16", "smollm2"): (1.2, 1.2, 1.2, 1.2)}
TARGETS.update({(f"batch-{n}", "smollm2"): (1.2, 1.2, 1.2, 1.2) for n in BATCHES})
PROMPT = 512  # tokens of a prompt of SmolLM2
BLOCK = 512 << 20  # bytes to read for the bandwidth of memory
# GPT-2's tensor names in safetensors and in GGUF, where linear maps are stored [in, out] and [out, in].
NAMES = {"wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm", "ln_1": "attn_norm", "attn.c_attn": "attn_qkv",
         "attn.c_proj": "attn_output", "ln_2": "ffn_norm", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"}


def read_safetensors(path):
    data = np.memmap(path, np.uint8, "r")
    (size,) = struct.unpack("<Q", data[:8].tobytes())
    header = json.loads(data[8:8 + size].tobytes())
    config = json.loads(header.pop("__metadata__")["fathom.config"])
    return config, {name: data[8 + size:].view("<f4")[t["data_offsets"][0] // 4:t["data_offsets"][1] // 4]
                    .reshape(t["shape"]) for name, t in header.items()}


def write_gguf(path, config, tensors, kind):
    """Like llama.cpp's own converter: matrices and the token table in `kind`, the rest in F32."""
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_vocab_size(config["vocab"])
    writer.add_context_length(config["context"])
    writer.add_embedding_length(config["width"])
    writer.add_feed_forward_length(config.get("hidden") or 4 * config["width"])
    writer.add_block_count(config["depth"])
    writer.add_head_count(config["heads"])
    writer.add_layer_norm_eps(1e-5)
    writer.add_file_type(getattr(gguf.LlamaFileType, "ALL_F32" if kind == "F32" else f"MOSTLY_{kind}"))
    writer.add_tokenizer_model("no_vocab")
    for name, values in tensors.items():
        place, what = name.rsplit(".", 1)
        if place.startswith("h."):
            _, block, place = place.split(".", 2)
            new = f"blk.{block}.{NAMES[place]}.{what}"
        else:
            new = f"{NAMES[place]}.{what}"
        if values.ndim == 2 and place not in ("wte", "wpe"):
            values = np.ascontiguousarray(values.T)
        if values.ndim == 2 and place != "wpe" and kind != "F32":
            quantized = getattr(gguf.GGMLQuantizationType, kind)
            writer.add_tensor(new, gguf.quants.quantize(values, quantized), raw_dtype=quantized)
        else:
            writer.add_tensor(new, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def rewrite_gguf(source, path, kind):
    """The model in a GGUF file with its matrices in `kind`, from the file's dequantised numbers."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(path, reader.fields["general.architecture"].contents())
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key not in ("general.architecture", "general.file_type"):
            writer.add_key_value(key, field.contents(), field.types[0], field.types[-1] if len(field.types) > 1 else None)
    writer.add_file_type(getattr(gguf.LlamaFileType, "ALL_F32" if kind == "F32" else f"MOSTLY_{kind}"))
    for tensor in reader.tensors:
        values = np.array(gguf.quants.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        if values.ndim == 2 and kind != "F32":
            quantized = getattr(gguf.GGMLQuantizationType, kind)
            writer.add_tensor(tensor.name, gguf.quants.quantize(values, quantized), raw_dtype=quantized)
        else:
            writer.add_tensor(tensor.name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Bench:
    def __init__(self, build, seconds, smollm2, search=True):
        self.search = search
        self.build, self.seconds, self.smollm2 = pathlib.Path(build), seconds, smollm2
        self.files = self.build / "ggml"
        self.files.mkdir(exist_ok=True)
        self.memory = Program(self.build / "bench/bench_stream", introduces=False)

    def fathom(self, model, kind):
        return Program(self.build / f"bench/bench_steps_{model}", kind, *([self.smollm2] if model == "smollm2" else []))

    def prepare(self, model, kinds):
        """Writes and checks the model's files if they are missing or older than the program that makes the weights."""
        program = self.fathom(model, "f32")
        self.context = program.about["context"]
        if model == "smollm2":
            program.close()
            for kind in kinds:
                file = self.files / f"{model}-{kind}.gguf"
                if kind != "Q4_1" and not file.exists():
                    rewrite_gguf(self.smollm2, file.with_suffix(".part"), kind)
                    file.with_suffix(".part").rename(file)
            return self.check(model)
        made = (self.build / f"bench/bench_steps_{model}").stat().st_mtime
        files = {kind: self.files / f"{model}-{kind}.gguf" for kind in kinds}
        missing = [kind for kind, file in files.items() if not file.exists() or file.stat().st_mtime < made]
        if missing:
            stored = self.files / f"{model}.safetensors"
            program.ask("save", stored)
            config, tensors = read_safetensors(stored)
            stored.unlink()
            for kind in missing:
                unfinished = files[kind].with_suffix(".part")
                write_gguf(unfinished, config, tensors, kind)
                unfinished.rename(files[kind])
            try:
                self.check(model)
            except BaseException:  # so that the next run checks again
                for kind in missing:
                    files[kind].unlink()
                raise
        program.close()

    def ggml(self, model, kind, cache="f16", flash=1, threads=THREADS, batch=None, blas=0, huge=0, sequences=1, unified=0, context=None):
        environment = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"} if huge else {}
        file = self.smollm2 if (model, kind) == ("smollm2", "Q4_1") else self.files / f"{model}-{kind}.gguf"
        return Program(self.build / "ggml_steps", file, context or self.context, threads, cache, flash, batch or context or self.context, blas, sequences,
                       unified, **environment)

    def step(self, program, model, work, seconds):
        if work == "prefill":
            return step_seconds(program, seconds, *(["prompt", PROMPT] if model == "smollm2" else ["prefill"]))
        if work != "decode":  # reads all prompts each time, so they are short
            command = "batch" if work.startswith("batch") and program.about.get("vocab") else "together"
            return statistics.median(program.ask(command, work.split("-")[1], min(128, self.context // 2), 32))
        start, count = self.context // 2, self.walk()
        one = statistics.median(program.ask("decode", start, count))  # to warm up
        walks = max(1, int(seconds / one / count))
        return statistics.median(t for _ in range(walks) for t in program.ask("decode", start, count))

    def walk(self):
        """Repeatedly decodes tokens from half of the context on, at the same positions for both programs."""
        return min(self.context // 2, 64)

    def best_settings(self, model, kinds, work):
        """llama.cpp's fastest settings, by a short measurement of each."""
        choices = {"cache": ["f16", "f32", "bf16"], "flash": [1, 0], "huge": [1, 0]}
        fixed = {}
        if work != "prefill":
            choices["threads"] = sorted({1, THREADS}, reverse=True)
        if "-" in work:
            fixed["sequences"] = int(work.split("-")[1])
            choices["unified"] = [0, 1]
        if work.startswith("batch"):  # room for what is read and written, as fathom has, and not for 64 whole contexts
            fixed["context"] = min(self.context, 256)
        if not self.search:
            return kinds[0], {name: values[0] for name, values in choices.items()} | fixed
        if work == "prefill":
            choices.update(batch=sorted({self.context, min(self.context, 512), 64}, reverse=True), blas=[0, 1])
        tried = []

        def measure(kind, settings):
            if any((kind, settings) == (k, s) for _, k, s in tried):
                return
            program = self.ggml(model, kind, **settings, **fixed)
            step = min(self.step(program, model, work, self.seconds / 4) for _ in range(2))
            program.close()
            tried.append((step, kind, settings))

        # Optimises one setting after the other, because all combinations would take an hour.
        for kind in kinds:
            measure(kind, {name: values[0] for name, values in choices.items()})
        for name, values in choices.items():
            _, kind, best = min(tried, key=lambda t: t[0])
            for value in values:
                measure(kind, {**best, name: value})
        _, kind, best = min(tried, key=lambda t: t[0])
        return kind, {**best, **fixed}

    def check(self, model):
        """Checks that both compute the same model: logits of the last token, all prefilled, and half prefilled, half decoded."""
        ours, theirs = self.fathom(model, "f32"), self.ggml(model, "F32", cache="f32", flash=0)
        worst = 0
        for prompt in (self.context, self.context // 2):
            a, b = (np.array(program.ask("logits", prompt)) for program in (ours, theirs))
            worst = max(worst, np.abs(a - b).max())
        ours.close()
        theirs.close()
        print(f"{model}: logits of fathom f32 and llama.cpp F32 differ by at most {worst:.1e}, their deviation being {a.std():.2f}",
              flush=True)
        if not worst < 1e-3:
            raise SystemExit("they are not the same model")

    def rows(self, model, kind, work, rounds, neighbours):
        peer_kind, settings = self.best_settings(model, PEER_TYPES[kind], work)
        ours, theirs = self.fathom(model, kind), self.ggml(model, peer_kind, **settings)
        times = {"theirs": [], "ours": [], "stream": []}
        with busy(neighbours):
            for _ in range(rounds):
                times["theirs"].append(self.step(theirs, model, work, self.seconds))
                times["ours"].append(self.step(ours, model, work, self.seconds))
                if work == "decode":
                    times["stream"].append(stream(self.memory, BLOCK, self.seconds))
        about = ours.about
        ours.close()
        theirs.close()
        return times, about, peer_kind, settings


def time(values):
    unit, factor = ("us", 1e6) if statistics.median(values) < 1e-3 else ("ms", 1e3)
    return f"{digits(factor * statistics.median(values))} ({digits(factor * min(values))}) {unit}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build/bench", help="folder of the programs")
    parser.add_argument("--models", nargs="+", default=["tiny", "small", "medium"], choices=["tiny", "small", "medium", "smollm2"])
    parser.add_argument("--types", nargs="+", default=["f32", "bf16", "int8"], choices=list(PEER_TYPES))
    parser.add_argument("--work", nargs="+", default=["decode", "prefill"], choices=WORKS)
    parser.add_argument("--smollm2", help="the GGUF file of SmolLM2-135M-Instruct in Q4_1")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="duration of each measurement in a round")
    parser.add_argument("--busy", type=int, default=0, help="processes that keep a core busy during the rounds, not during the search")
    parser.add_argument("--no-search", action="store_true", help="llama.cpp with a cache in f16, flash attention and huge pages, without a search")
    parser.add_argument("--prepare", action="store_true", help="only write the models' files, and check them")
    options = parser.parse_args()

    bench = Bench(options.build, options.seconds, options.smollm2, not options.no_search)
    print(f"{machine()}; medians of {options.rounds} rounds, and the best{f', beside {options.busy} busy processes' if options.busy else ''}\n")
    table, reading = [], []
    for model in options.models:
        bench.prepare(model, [peer for kind in options.types for peer in PEER_TYPES[kind]] + ["F32"])
        if options.prepare:
            continue
        for work, kind in itertools.product(options.work, options.types):
            times, about, peer_kind, settings = bench.rows(model, kind, work, options.rounds, options.busy)
            ratio = statistics.median(a / b for a, b in zip(times["theirs"], times["ours"]))
            target = dict(zip(PEER_TYPES, TARGETS.get((work, model), ()))).get(kind)
            told = ", ".join(f"{name} {value}" for name, value in settings.items())
            table.append(f"| {work}/{model}/{kind} | {time(times['theirs'])} | {time(times['ours'])} | {ratio:.2f} | "
                         f"{f'{target:g}' if target else ''} | {peer_kind}: {told} |")
            print(table[-1], flush=True)
            if work == "decode" and model in ("medium", "smollm2"):
                cache = about["position_bytes"] * (bench.context // 2 + bench.walk() // 2)
                rates = [about["weight_bytes"] / t for t in times["ours"]]
                whole = [(about["weight_bytes"] + cache) / t for t in times["ours"]]
                of = [statistics.median(r / s for r, s in zip(x, times["stream"])) for x in (rates, whole)]
                reading.append(f"| {work}/{model}/{kind} | {about['weight_bytes'] / 1e6:.0f} MB | {cache / 1e6:.0f} MB | "
                               f"{statistics.median(rates) / 1e9:.1f} GB/s | {statistics.median(times['stream']) / 1e9:.1f} GB/s | "
                               f"{of[0]:.2f} | {of[1]:.2f} | 0.85 |")
                print(reading[-1], flush=True)
    if options.prepare:
        return
    print("\n| work | ggml | fathom | ratio | target | ggml's settings |\n| --- | --- | --- | --- | --- | --- |")
    print("\n".join(table))
    if reading:
        print("\n| work | weights | cache | weights read at | memory is read at | fraction | with the cache | target |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
        print("\n".join(reading))


if __name__ == "__main__":
    main()
