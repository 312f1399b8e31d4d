"""Compares fathom with PyTorch on one GPU: training steps of the same models, batches and optimiser, in turns; and decoding.

PyTorch is the fastest of eager, torch.compile, and torch.compile with CUDA graphs (reduce-overhead); for the shortcut each with
a dense mask and with FlexAttention. fp32 is without TF32; bf16 is autocast. Neither side reads the loss in a measured step. Both
wait for the GPU once per measurement. Shares are of PyTorch's rate of a matrix product and bandwidth of a copy. gpu.sh builds the
programs and runs it.
"""

import argparse
import json
import statistics
import subprocess
import time

import torch
import torch._dynamo
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

import compare_pytorch as peer

BATCHES = {"tiny": 16, "small": 8, "medium": 16}  # sequences of the model's context
TRAINING_TARGETS = {"tiny": 3, "small": 3, "medium": 1.15, "medium_shortcut": 1.4}


class FlexShortcut(peer.Shortcut):
    """The shortcut's attention without a dense mask, for sequences of the model's context."""

    def __init__(self, width, heads, depths, context):
        super().__init__(width, heads, depths, context)
        self.visible = create_block_mask(lambda b, h, q, k: k % context <= q, None, None, context, context * len(depths),
                                         device="cuda")

    def forward(self, x, states, cache=None):
        memory = torch.cat([f(states[s]) for f, s in zip(self.features, self.depths)], dim=1)
        q = peer.heads_first(self.c_q(self.ln(x)), self.heads)
        k, v = (peer.heads_first(part, self.heads) for part in self.c_kv(memory).chunk(2, dim=2))
        return self.c_proj(peer.merged(flex_attention(q, k, v, block_mask=self.visible)))


class Fathom:
    """A running program bench_steps."""

    def __init__(self, program, kind):
        self.process = subprocess.Popen([program, kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.facts = json.loads(self.process.stdout.readline())

    def ask(self, *command):
        print(*command, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer.strip():
            raise RuntimeError(f"no answer to {command}")
        return [float(x) for x in answer.split()]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def seconds_each(f, steps):
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(steps):
        f()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / steps


def training(model, run, vocab, sequences, tokens, bf16):
    decayed = [p for p in model.parameters() if p.dim() == 2]
    others = [p for p in model.parameters() if p.dim() != 2]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0}],
                                  lr=1e-3, betas=(0.9, 0.95), fused=True)
    ids = torch.randint(vocab, (sequences, tokens + 1))
    inputs, targets = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()

    def step():
        with torch.autocast("cuda", torch.bfloat16, enabled=bf16):
            loss = run(inputs, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def peers_of(name, shortcut, kind):
    """{how: a step}, each made on demand."""
    sizes, _, depths = peer.MODELS[name]

    def made(how, flex):
        def make():
            torch._dynamo.reset()
            model = peer.Gpt(*sizes, depths if shortcut else ())
            if flex:
                model.shortcut = FlexShortcut(sizes[2], sizes[4], depths, sizes[1])
            run = model
            if how != "eager":
                run = torch.compile(model, mode="reduce-overhead" if how == "graphs" else None)
            return training(model, run, sizes[0], BATCHES[name], sizes[1], kind == "bf16")
        return make

    result = {how: made(how, False) for how in ("eager", "compile", "graphs")}
    if shortcut:
        result |= {f"{how}, flex": made(how, True) for how in ("compile", "graphs")}
    return result


def measured_rates():
    n = 8192
    a, b = (torch.randn(n, n, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    product = 2 * n**3 / seconds_each(lambda: a @ b, 20)
    x = torch.empty(1 << 30, dtype=torch.float32)
    y = torch.empty_like(x)
    y.copy_(x)
    return product, 2 * x.numel() * 4 / seconds_each(lambda: y.copy_(x), 10)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", required=True, help="folder of the programs bench_steps_MODEL")
    parser.add_argument("--models", nargs="+", default=["tiny", "small", "medium"], choices=list(BATCHES))
    parser.add_argument("--types", nargs="+", default=["f32", "bf16"], choices=["f32", "bf16"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20, help="steps of each measurement in a round")
    options = parser.parse_args()
    torch.set_default_device("cuda")
    torch.manual_seed(1)
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch._dynamo.config.recompile_limit = 64

    product, bandwidth = measured_rates()
    print(f"{torch.cuda.get_device_name()}; PyTorch {torch.__version__}; bf16 products of 8192 at {product / 1e12:.0f} TFLOP/s, copies "
          f"at {bandwidth / 1e12:.2f} TB/s; medians of {options.rounds} rounds of {options.steps} steps\n")
    print("| training step | PyTorch, ms | how | fathom, ms | ratio | target | share of the measured product rate |")
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    decoding = []
    for name in options.models:
        for shortcut in (False, True):
            row = name + ("_shortcut" if shortcut else "")
            for kind in options.types:
                ours = Fathom(f"{options.programs}/bench_steps_{row}", kind)
                steps = {}
                for how, make in peers_of(name, shortcut, kind).items():
                    try:
                        steps[how] = make()
                        for _ in range(5):
                            steps[how]()
                    except Exception as problem:  # reported, and left out
                        print(f"(PyTorch, {how}: {type(problem).__name__}: {str(problem).splitlines()[0][:120]})")
                        steps.pop(how, None)
                times = {how: [] for how in steps} | {"fathom": []}
                for _ in range(options.rounds):
                    times["fathom"].append(statistics.mean(ours.ask("train", BATCHES[name], options.steps)))
                    for how, step in steps.items():
                        times[how].append(seconds_each(step, options.steps))
                medians = {how: statistics.median(t) for how, t in times.items()}
                mine = medians.pop("fathom")
                best = min(medians, key=medians.get)
                operations = 3 * ours.facts["flops"] * BATCHES[name]
                target = TRAINING_TARGETS.get(row, TRAINING_TARGETS[name]) if kind == "bf16" or name != "medium" else "-"
                print(f"| {row}, {kind} | {1e3 * medians[best]:.3f} | {best} | {1e3 * mine:.3f} | {medians[best] / mine:.2f} "
                      f"| {target} | {100 * operations / mine / product:.1f}% |", flush=True)
                context = int(ours.facts["context"])
                where = context // 2, min(100, context // 2)
                one, many = (statistics.median(ours.ask(how, *where)) for how in ("one", "many"))
                written = statistics.median(ours.ask("write", min(300, context - 1)))
                percent = 100 * ours.facts["weight_bytes"] / min(one, many) / bandwidth
                decoding.append(f"| {row}, {kind} | {1e6 * one:.1f} | {1e6 * many:.1f} | {1e6 * written:.1f} | {percent:.1f}% |")
                ours.close()
                del steps
                torch.cuda.empty_cache()
    print("\nTargets of decoding: 60% of the bandwidth for medium in bf16, 40 us for tiny.\n")
    print("| a token decoded, batch 1: us | one kernel | a graph | written by a generator | of the measured bandwidth, weights read "
          "once |\n| --- | --- | --- | --- | --- |", *decoding, sep="\n")


if __name__ == "__main__":
    main()
