"""Compares fathom with PyTorch: the same models, batches and optimiser, the same number of threads, in turns.

Training in fp32 against fp32, and with products in bf16 against bf16 autocast; decoding from a KV cache, batch 1; prefill of
the whole context for the logits of its last token. PyTorch's side is idiomatic: nn.Module,
scaled_dot_product_attention, AdamW(fused=True); eager, and, with --compile, the fastest variant of torch.compile. Models
named -llama are transformers' LlamaForCausalLM, in training and prefill only. A
row gives the median over the rounds and, in parentheses, the best round, of both sides, and the ratio of each (PyTorch's
time over fathom's: above 1, fathom is faster). Each round measures all work of a model, so that plain and shortcut
are comparable, too: the last table shows the cost of the shortcut.
"""

import argparse
import os
import platform
import statistics

import torch
import torch._dynamo
from torch import nn
from torch.nn import functional as F

from neighbours import busy
from pytorch import fathom, timed

# vocab, context, width, depth, heads; sequences and tokens of a training batch; depths of the shortcut
MODELS = {
    "tiny": ((256, 128, 128, 6, 4), (16, 128), (2, 4)),
    "tiny-llama": ((256, 128, 128, 6, 4), (16, 128), ()),
    "small": ((512, 256, 256, 8, 8), (8, 256), (2, 4, 6)),
    "small-llama": ((512, 256, 256, 8, 8), (8, 256), ()),
    "medium": ((50257, 1024, 768, 12, 12), (2, 256), (4, 6, 8)),
}


def heads_first(x, heads):
    """[B, T, E] to [B, H, T, d]"""
    batch, tokens, width = x.shape
    return x.view(batch, tokens, heads, width // heads).transpose(1, 2)


def merged(x):
    """[B, H, T, d] to [B, T, E]"""
    batch, heads, tokens, width = x.shape
    return x.transpose(1, 2).reshape(batch, tokens, heads * width)


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.c_attn = nn.Linear(width, 3 * width)
        self.c_proj = nn.Linear(width, width)

    def forward(self, x, cache=None):
        q, k, v = (heads_first(part, self.heads) for part in self.c_attn(x).chunk(3, dim=2))
        if cache is None:
            return self.c_proj(merged(F.scaled_dot_product_attention(q, k, v, is_causal=True)))
        k, v = cache.append(k, v)
        return self.c_proj(merged(F.scaled_dot_product_attention(q, k, v)))


class Mlp(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, x):
        return self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))


class Features(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.ln = nn.LayerNorm(width)
        self.c_fc = nn.Linear(width, width)
        self.c_proj = nn.Linear(width, width)

    def forward(self, x):
        return self.c_proj(F.gelu(self.c_fc(self.ln(x)), approximate="tanh"))


class Shortcut(nn.Module):
    """Cross-attention over the features of several depths. The mask over the concatenated keys is made once."""

    def __init__(self, width, heads, depths, context):
        super().__init__()
        self.heads, self.depths = heads, depths
        self.ln = nn.LayerNorm(width)
        self.features = nn.ModuleList(Features(width) for _ in depths)
        self.c_q = nn.Linear(width, width)
        self.c_kv = nn.Linear(width, 2 * width)
        self.c_proj = nn.Linear(width, width)
        causal = torch.ones(context, context).tril().bool()
        self.register_buffer("mask", causal.repeat(1, len(depths)), persistent=False)
        self.context = context

    def forward(self, x, states, cache=None):
        tokens = x.shape[1]
        memory = torch.cat([f(states[s]) for f, s in zip(self.features, self.depths)], dim=1)  # depth-major
        q = heads_first(self.c_q(self.ln(x)), self.heads)
        k, v = (heads_first(part, self.heads) for part in self.c_kv(memory).chunk(2, dim=2))
        if cache is None:
            mask = self.mask[:tokens].view(tokens, len(self.depths), self.context)[:, :, :tokens].reshape(tokens, -1)
            return self.c_proj(merged(F.scaled_dot_product_attention(q, k, v, attn_mask=mask)))
        k, v = cache.append(k, v)  # for one token, the whole cache is visible
        return self.c_proj(merged(F.scaled_dot_product_attention(q, k, v)))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn, self.mlp = Attention(width, heads), Mlp(width)

    def forward(self, x, cache=None, cross=lambda x: x):
        x = cross(x + self.attn(self.ln_1(x), cache))
        return x + self.mlp(self.ln_2(x))


class Cache:
    """Keys and values of one attention, in a buffer allocated once."""

    def __init__(self, heads, rows, width):
        self.k = torch.zeros(1, heads, rows, width)
        self.v = torch.zeros(1, heads, rows, width)
        self.length = 0

    def append(self, k, v):
        end = self.length + k.shape[2]
        self.k[:, :, self.length : end] = k
        self.v[:, :, self.length : end] = v
        self.length = end
        return self.k[:, :, :end], self.v[:, :, :end]


class Gpt(nn.Module):
    def __init__(self, vocab, context, width, depth, heads, depths=()):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocab, width), nn.Embedding(context, width)
        self.h = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.ln_f = nn.LayerNorm(width)
        self.shortcut = Shortcut(width, heads, depths, context) if depths else None
        for p in self.parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=0.02)

    def forward(self, ids, targets=None, caches=None, position=0):
        x = self.wte(ids) + self.wpe(torch.arange(position, position + ids.shape[1]))
        states = [x]
        for i, block in enumerate(self.h):
            cross = lambda x: x
            if self.shortcut and i == len(self.h) - 1:
                cross = lambda x: x + self.shortcut(x, states, caches[-1] if caches else None)
            x = block(x, caches[i] if caches else None, cross)
            states.append(x)
        if targets is None:
            return F.linear(self.ln_f(x[:, -1]), self.wte.weight)
        logits = F.linear(self.ln_f(x), self.wte.weight)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


class Llama(nn.Module):
    """transformers' own module, with the hidden width and the key-value heads of bench/models.hpp."""

    def __init__(self, vocab, context, width, depth, heads):
        super().__init__()
        from transformers import LlamaConfig, LlamaForCausalLM

        self.inner = LlamaForCausalLM(LlamaConfig(
            vocab_size=vocab, max_position_embeddings=context, hidden_size=width, num_hidden_layers=depth, num_attention_heads=heads,
            num_key_value_heads=heads // 2, intermediate_size=width * 11 // 4, tie_word_embeddings=True, attn_implementation="sdpa"))

    def forward(self, ids, targets=None):
        x = self.inner.model(ids, use_cache=False).last_hidden_state
        if targets is None:
            return self.inner.lm_head(x[:, -1])
        return F.cross_entropy(self.inner.lm_head(x).flatten(0, 1), targets.flatten())


def built(name, shortcut):
    sizes, _, depths = MODELS[name]
    if name.endswith("-llama"):
        return Llama(*sizes)
    return Gpt(*sizes, depths if shortcut else ())


def training(model, name, bf16, run):
    """A training step: `run` is the model, or its compiled form."""
    (vocab, *_), (sequences, tokens), _ = MODELS[name]
    decayed = [p for p in model.parameters() if p.dim() == 2]
    others = [p for p in model.parameters() if p.dim() != 2]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0}],
                                  lr=1e-3, betas=(0.9, 0.95), fused=True)
    ids = torch.randint(vocab, (sequences, tokens + 1))

    def step():
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = run(ids[:, :-1], ids[:, 1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def prefill(name, bf16, run):
    (vocab, context, *_), _, _ = MODELS[name]
    ids = torch.randint(vocab, (1, context))

    @torch.inference_mode()
    def read():
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            run(ids)

    return read


def decoding(model, name, shortcut):
    (_, context, width, depth, heads), _, depths = MODELS[name]
    caches = [Cache(heads, context, width // heads) for _ in range(depth)]
    if shortcut:
        caches.append(Cache(heads, context * len(depths), width // heads))
    start = context // 2
    state = {"position": 0}

    @torch.inference_mode()
    def token():
        if state["position"] < start or state["position"] == context:
            for i, cache in enumerate(caches):
                cache.length = start * (len(depths) if shortcut and i == depth else 1)
            state["position"] = start
        model(torch.ones(1, 1, dtype=torch.long), caches=caches, position=state["position"])
        state["position"] += 1

    return token


def works_of(name, options):
    """{row of bench_models: {how: a call of PyTorch's side}}; the first call of each compiles."""
    works = {}
    is_llama = name.endswith("-llama")
    for shortcut in (False,) if is_llama else (False, True):
        row = name + ("-shortcut" if shortcut else "")
        model = built(name, shortcut)
        kinds = {"eager": model}
        if options.compile:
            kinds["compile"] = torch.compile(model)
        if "train" in options.rows:
            for kind in options.types:
                works[f"train/{row}" + ("/bf16" if kind == "bf16" else "")] = {
                    how: training(model, name, kind == "bf16", run) for how, run in kinds.items()}
        if "decode" in options.rows and not is_llama:
            works[f"decode/{row}/f32"] = {"eager": decoding(model, name, shortcut)}
        if "prefill" in options.rows:
            fixed = built(name, shortcut).eval()  # freezing makes its weights constants
            kinds = {"eager": fixed}
            if options.compile:
                kinds["compile"] = torch.compile(fixed)
                kinds["compile, frozen"] = torch.compile(fixed, options={"freezing": True})
            for kind in options.types:
                works[f"prefill/{row}/{kind}"] = {how: prefill(name, kind == "bf16", run) for how, run in kinds.items()}
    return works


def one_round(works, seconds, options):
    """{row: (fathom's time, its operations, {how: PyTorch's time})}"""
    results = {}
    for row, peers in works.items():
        ours, counters = fathom(options.fathom, row, seconds)
        results[row] = (ours, counters["FLOP/s"] * ours, {how: timed(f, seconds) for how, f in peers.items()})
    return results


def measured(works, options):
    """{row: (PyTorch's fastest variant, its times, fathom's times, operations)}, with one time per round."""
    for peers in works.values():
        for f in peers.values():
            f()
    rounds = [one_round(works, options.seconds, options) for _ in range(options.rounds)]
    results = {}
    for row, peers in works.items():
        how = min(peers, key=lambda peer: statistics.median(r[row][2][peer] for r in rounds))
        results[row] = (how, [r[row][2][how] for r in rounds], [r[row][0] for r in rounds], rounds[0][row][1])
    return results


def milliseconds(times):
    return f"{1e3 * statistics.median(times):.3f} ({1e3 * min(times):.3f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fathom", required=True, help="the program bench_models")
    parser.add_argument("--models", nargs="+", default=["tiny", "small"], choices=list(MODELS))
    parser.add_argument("--rows", nargs="+", default=["train", "decode", "prefill"], choices=["train", "decode", "prefill"])
    parser.add_argument("--types", nargs="+", default=["f32", "bf16"], choices=["f32", "bf16"], help="product type (training, prefill)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="duration of each measurement in a round")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--busy", type=int, default=0, help="processes that keep a core busy while both sides are measured")
    parser.add_argument("--compile", action="store_true", help="also measure torch.compile, and report the faster")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    torch.manual_seed(1)
    torch.set_float32_matmul_precision("highest")  # fp32 against fp32
    torch._dynamo.config.recompile_limit = 64  # all models share one class; by default the ninth would run eager
    torch._dynamo.config.fail_on_recompile_limit_hit = True

    with open("/proc/cpuinfo") as info:
        cpu = next((line.split(":")[1].strip() for line in info if line.startswith("model name")), platform.machine())
    mkl = ", MKL with the kernels it has for Intel's processors" if "LD_PRELOAD" in os.environ else ""
    beside = f", beside {options.busy} busy processes" if options.busy else ""
    print(f"{cpu}, {options.threads} threads; PyTorch {torch.__version__}{mkl}; median (best) of {options.rounds} rounds{beside}\n")
    print("| work | PyTorch, ms | how | fathom, ms | ratio | of the bests |\n| --- | --- | --- | --- | --- | --- |")
    costs = []
    for name in options.models:
        with busy(options.busy):
            results = measured(works_of(name, options), options)
        for row, (how, theirs, ours, _) in results.items():
            print(f"| {row} | {milliseconds(theirs)} | {how} | {milliseconds(ours)} "
                  f"| {statistics.median(theirs) / statistics.median(ours):.2f} | {min(theirs) / min(ours):.2f} |", flush=True)
        for row, (_, theirs, ours, operations) in results.items():
            plain = results[row.replace("-shortcut", "")]
            if row.startswith("train") and "-shortcut" in row:
                cost = [statistics.median(b / a for a, b in zip(plain[side], results[row][side])) for side in (1, 2)]
                costs.append(f"| {row} | {operations / plain[3]:.3f} | {cost[1]:.3f} | {cost[0]:.3f} |")
        torch._dynamo.reset()
    if costs:
        print("\nThe shortcut over the plain model: floating-point operations, and time, the median of the rounds' ratios.\n")
        print("| work | operations | fathom | PyTorch |\n| --- | --- | --- | --- |", *costs, sep="\n")


if __name__ == "__main__":
    main()
