"""Encodes texts with fathom, tiktoken and tokenizers, one core each, in turns, and prints medians and ratios. All must give the
same tokens. tiktoken and tokenizers return Python lists, as in normal use, and their times include that.

    compare_tokenizers.py PROGRAM VOCAB MERGES TEXT... [--rounds N]
"""

import argparse
import array
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
import tiktoken  # noqa: E402
import tokenizers  # noqa: E402
from tokenizers import models, pre_tokenizers  # noqa: E402

PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""  # tiktoken's own for gpt2


def bytes_of_spellings():
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return {**{chr(b): b for b in printable}, **{chr(256 + n): b for n, b in enumerate(others)}}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("vocab", type=pathlib.Path)
    parser.add_argument("merges", type=pathlib.Path)
    parser.add_argument("texts", type=pathlib.Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()

    vocab = json.loads(arguments.vocab.read_text(encoding="utf-8"))
    merges = [tuple(line.split(" ")) for line in arguments.merges.read_text(encoding="utf-8").split("\n")[1:] if line]
    made = bytes_of_spellings()
    ranks = {bytes([b]): vocab[s] for s, b in made.items()}
    ranks |= {bytes(made[s] for s in left + right): vocab[left + right] for left, right in merges}
    specials = {s: i for s, i in vocab.items() if i not in set(ranks.values())}
    tik = tiktoken.Encoding("gpt2", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens=specials)
    hugging_face = tokenizers.Tokenizer(models.BPE(vocab, merges))
    hugging_face.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)

    fathom = subprocess.Popen([arguments.program, arguments.vocab, arguments.merges], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              text=True)
    loading = float(fathom.stdout.readline())
    print(f"tiktoken {tiktoken.__version__}, tokenizers {tokenizers.__version__}, {len(vocab)} tokens, medians of {arguments.rounds} "
          f"rounds; fathom reads the files in {1e3 * loading:.0f} ms\n")
    print("| text | bytes | tokens | tiktoken, MB/s | tokenizers, MB/s | fathom, MB/s | over tiktoken |")
    print("| --- | --- | --- | --- | --- | --- | --- |")

    def by_fathom(path):
        fathom.stdin.write(f"{path}\n")
        fathom.stdin.flush()
        return float(fathom.stdout.readline().split()[0])

    for path in arguments.texts:
        text = path.read_bytes().decode()
        size = len(text.encode())

        def timed(encode):
            start = time.perf_counter()
            encode(text)
            return time.perf_counter() - start

        # An untimed run, to fill caches and to compare tokens.
        by_fathom(path)
        tokens = array.array("H", pathlib.Path(f"{path}.tokens").read_bytes()).tolist()
        if tokens != tik.encode_ordinary(text) or tokens != hugging_face.encode(text, add_special_tokens=False).ids:
            sys.exit(f"{path}: fathom, tiktoken and tokenizers find different tokens")
        seconds = {"tiktoken": [], "tokenizers": [], "fathom": []}
        for _ in range(arguments.rounds):
            seconds["tiktoken"].append(timed(tik.encode_ordinary))
            seconds["fathom"].append(by_fathom(path))
            seconds["tokenizers"].append(timed(lambda t: hugging_face.encode(t, add_special_tokens=False)))
        speed = {name: size / statistics.median(s) / 1e6 for name, s in seconds.items()}
        print(f"| {path.name} | {size:,} | {len(tokens):,} | {speed['tiktoken']:.1f} | {speed['tokenizers']:.1f} "
              f"| {speed['fathom']:.1f} | {speed['fathom'] / speed['tiktoken']:.1f} |", flush=True)


main()
