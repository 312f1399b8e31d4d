"""GPT-2 with layerwise attention shortcuts (Verma and Pilanci, arXiv 2409.10870) in PyTorch: train here, deploy with fathom.

    python shortcut_gpt.py TEXT_FILE        # trains a byte-level model on a text and saves tiny.safetensors
    ./write tiny.safetensors "In the beginning"   # write.cpp in programs.md: fathom's programs load it unchanged

The model, its tensors' names and its files are fathom's (include/fathom/README.md has the equations); tests compare the
logits, every gradient and AdamW steps of both. Needs torch and safetensors. To use it, copy this file.

    model = ShortcutGPT(Config(vocab=256, context=128, width=128, depth=6, heads=4, shortcut=Shortcut(depths=[2, 4])))
    logits, loss = model(tokens, targets)   # tokens, targets [B, T]; logits [B, T, vocab]; the loss in nats a token
    model.save("model.safetensors")         # ShortcutGPT.load("model.safetensors") also loads fathom's files
    print(model.config.cpp())               # the same config, for a C++ program
"""

import argparse
import dataclasses
import json
import math
import time

import safetensors
import safetensors.torch
import torch
from torch import nn
from torch.nn import functional as F


# ---- Config: the keys of fathom's config.json -------------------------------------------------------------------------


@dataclasses.dataclass
class Shortcut:
    depths: list[int]  # from 0 (the embedding) to depth - 1; s >= 1 is the output of block s
    features: str = "mlp"  # identity | linear | mlp
    hidden: int | None = None  # of an mlp feature map; None: width
    placement: str = "after_self_attention"  # replace_self_attention | joint
    zero_init: bool = False  # start as exactly the plain GPT; not saved, as it only affects initialisation

    def __post_init__(self):
        self.depths = sorted(self.depths)
        assert self.features in ("identity", "linear", "mlp"), self.features
        assert self.placement in ("after_self_attention", "replace_self_attention", "joint"), self.placement
        assert not (self.zero_init and self.placement == "joint"), "joint has no projection to zero"


@dataclasses.dataclass
class Config:
    vocab: int
    context: int
    width: int
    depth: int
    heads: int
    mlp_ratio: int = 4
    mlp_hidden: int | None = None  # instead of mlp_ratio * width
    tied: bool = True
    layer_norm_eps: float = 1e-5
    shortcut: Shortcut | None = None

    def __post_init__(self):
        assert self.width % self.heads == 0, "width must be a multiple of heads"
        assert self.layer_norm_eps == 1e-5, "fathom's layer norms have an epsilon of 1e-5"
        if s := self.shortcut:
            distinct = len(set(s.depths)) == len(s.depths)
            assert s.depths and distinct and 0 <= s.depths[0] and s.depths[-1] < self.depth, s.depths
            s.hidden = (s.hidden or self.width) if s.features == "mlp" else None

    @property
    def hidden(self):
        return self.mlp_hidden or self.mlp_ratio * self.width

    def to_json(self):
        keys = dataclasses.asdict(self)
        del keys["mlp_ratio"], keys["mlp_hidden"]
        keys |= {"mlp_hidden": self.hidden} if self.hidden % self.width else {"mlp_ratio": self.hidden // self.width}
        if keys["shortcut"]:
            del keys["shortcut"]["zero_init"]
            if self.shortcut.hidden is None:
                del keys["shortcut"]["hidden"]
        return json.dumps(keys)

    @classmethod
    def from_json(cls, text):
        known = lambda kind, found: {f.name: found[f.name] for f in dataclasses.fields(kind) if f.name in found}
        keys = json.loads(text)
        shortcut = keys.get("shortcut")
        return cls(**known(cls, keys) | {"shortcut": shortcut and Shortcut(**known(Shortcut, shortcut))})

    def cpp(self):
        """The members of a fathom::config."""
        text = f".vocab = {self.vocab}, .context = {self.context}, .width = {self.width}, .depth = {self.depth}, "
        text += f".heads = {self.heads}, .hidden = {self.hidden}, .tied = {str(self.tied).lower()}"
        if s := self.shortcut:
            text += f", .shortcut = {{.depths = {{{', '.join(map(str, s.depths))}}}, .features = fathom::feature_map::{s.features}"
            text += f", .hidden = {s.hidden or 0}, .placement = fathom::placement::{s.placement}"
            text += f", .zero_init = {str(s.zero_init).lower()}}}"
        return text


# ---- Model ---------------------------------------------------------------------------------------------------------------


class Linear(nn.Module):
    """y = x W + b, with W [in, out] as GPT-2 stores it."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.empty(outputs))

    def forward(self, x):
        return x @ self.weight + self.bias


class MLP(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.c_fc = Linear(width, hidden)
        self.c_proj = Linear(hidden, width)

    def forward(self, x):
        return self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))


def attention(q, k, v, heads):
    """Per head, softmax(q k^T / sqrt(width of a head)) v.   q, result [B, T, E]; k, v [B, n T, E]: n runs of T positions;
    query i sees the first i + 1 of each run."""
    B, T, E = q.shape
    split = lambda x: x.view(B, -1, heads, E // heads).transpose(1, 2)  # [B, heads, ., E / heads]
    visible = torch.ones(T, T, dtype=torch.bool, device=q.device).tril().repeat(1, k.shape[1] // T)  # [T, n T]
    return F.scaled_dot_product_attention(split(q), split(k), split(v), visible).transpose(1, 2).reshape(B, T, E)


class SelfAttention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.heads = c.heads
        self.c_attn = Linear(c.width, 3 * c.width)
        self.c_proj = Linear(c.width, c.width)

    def forward(self, x, memory=None):
        """x [B, T, E]. With memory (a shortcut's keys and values, each [B, D T, E]) one softmax covers both: joint placement."""
        q, k, v = self.c_attn(x).chunk(3, dim=-1)
        if memory:
            k, v = torch.cat([k, memory[0]], dim=1), torch.cat([v, memory[1]], dim=1)
        return self.c_proj(attention(q, k, v, self.heads))


class FeatureMap(nn.Module):
    """A shortcut's features of a depth: LN(X), LN(X) W + b, or an MLP of LN(X)."""

    def __init__(self, c):
        super().__init__()
        self.ln = nn.LayerNorm(c.width, eps=c.layer_norm_eps)
        if c.shortcut.features == "mlp":
            self.c_fc = Linear(c.width, c.shortcut.hidden)
        if c.shortcut.features != "identity":
            self.c_proj = Linear(c.shortcut.hidden or c.width, c.width)
        self.kind = c.shortcut.features

    def forward(self, x):
        x = self.ln(x)
        if self.kind == "mlp":
            x = F.gelu(self.c_fc(x), approximate="tanh")
        return x if self.kind == "identity" else self.c_proj(x)


class ShortcutAttention(nn.Module):
    """Cross-attention of the last block to features of earlier depths."""

    def __init__(self, c):
        super().__init__()
        self.heads, self.depths = c.heads, c.shortcut.depths
        self.features = nn.ModuleDict({str(s): FeatureMap(c) for s in self.depths})
        self.attn = nn.ModuleDict({"c_kv": Linear(c.width, 2 * c.width)})
        if c.shortcut.placement != "joint":
            self.ln = nn.LayerNorm(c.width, eps=c.layer_norm_eps)
            self.attn.update({"c_q": Linear(c.width, c.width), "c_proj": Linear(c.width, c.width)})

    def memory(self, hidden):
        """Keys and values, each [B, D T, E], of hidden[s] [B, T, E], depth by depth."""
        features = torch.cat([self.features[str(s)](hidden[s]) for s in self.depths], dim=1)
        return self.attn["c_kv"](features).chunk(2, dim=-1)

    def forward(self, x, hidden):
        return self.attn["c_proj"](attention(self.attn["c_q"](self.ln(x)), *self.memory(hidden), self.heads))


class Block(nn.Module):
    def __init__(self, c, has_self_attention):
        super().__init__()
        if has_self_attention:
            self.ln_1 = nn.LayerNorm(c.width, eps=c.layer_norm_eps)
            self.attn = SelfAttention(c)
        self.ln_2 = nn.LayerNorm(c.width, eps=c.layer_norm_eps)
        self.mlp = MLP(c.width, c.hidden)

    def forward(self, x, hidden=None, shortcut=None, placement=None):
        """x [B, T, E]; hidden: the outputs of earlier blocks, for the last block's shortcut."""
        if placement == "joint":
            x = x + self.attn(self.ln_1(x), shortcut.memory(hidden))
        elif placement != "replace_self_attention":
            x = x + self.attn(self.ln_1(x))
        if placement in ("after_self_attention", "replace_self_attention"):
            x = x + shortcut(x, hidden)
        return x + self.mlp(self.ln_2(x))


class ShortcutGPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = c = config
        self.placement = c.shortcut and c.shortcut.placement
        self.wte = nn.Embedding(c.vocab, c.width)
        self.wpe = nn.Embedding(c.context, c.width)
        self.h = nn.ModuleList(
            Block(c, has_self_attention=i < c.depth - 1 or self.placement != "replace_self_attention") for i in range(c.depth)
        )
        self.shortcut = ShortcutAttention(c) if c.shortcut else None
        self.ln_f = nn.LayerNorm(c.width, eps=c.layer_norm_eps)
        self.lm_head = None if c.tied else nn.Linear(c.width, c.vocab, bias=False)
        self.initialize()

    @torch.no_grad()
    def initialize(self):
        """normal(0, 0.02), smaller for projections that write to the residual stream; biases 0, gains 1."""
        for name, p in self.named_parameters():
            writes = name.endswith(("attn.c_proj.weight", "mlp.c_proj.weight"))
            if p.dim() == 1:
                p.fill_(0.0 if name.endswith("bias") else 1.0)
            elif name == "shortcut.attn.c_proj.weight" and self.config.shortcut.zero_init:
                p.zero_()
            else:
                p.normal_(0, 0.02 / math.sqrt(2 * self.config.depth) if writes else 0.02)

    def forward(self, tokens, targets=None):
        """tokens, targets [B, T] -> logits [B, T, vocab], and the mean loss over the targets that are not -1, or None."""
        hidden = [self.wte(tokens) + self.wpe.weight[: tokens.shape[1]]]  # [B, T, E] each
        for block in self.h[:-1]:
            hidden.append(block(hidden[-1]))
        x = self.h[-1](hidden[-1], hidden, self.shortcut, self.placement)
        logits = self.ln_f(x) @ (self.wte if self.lm_head is None else self.lm_head).weight.T
        if targets is None:
            return logits, None
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten().long(), ignore_index=-1)

    def optimizer(self, rate=1e-3, decay=0.1):
        """AdamW as in fathom's trainer: only tensors of two dimensions decay."""
        matrices = [p for p in self.parameters() if p.dim() == 2]
        vectors = [p for p in self.parameters() if p.dim() != 2]
        groups = [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95), eps=1e-8)

    def save(self, path):
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        safetensors.torch.save_file(tensors, path, {"format": "pt", "fathom.config": self.config.to_json()})

    @classmethod
    def load(cls, path):
        """A model from a file with a config, written by save or by fathom."""
        with safetensors.safe_open(path, "pt") as file:
            model = cls(Config.from_json(file.metadata()["fathom.config"]))
            # Skip the optimiser's state of a weight, such as "adamw.first.wte.weight".
            states = tuple("." + name for name in model.state_dict())
            tensors = {name: file.get_tensor(name) for name in file.keys() if not name.endswith(states)}
        model.load_state_dict(tensors)
        return model


# ---- Training ------------------------------------------------------------------------------------------------------------


def train(model, tokens, steps, batch=16, rate=1e-3, decay=0.1, clip=1.0, device="cpu"):
    """tokens [N]. Random windows as long as the context; linear warm-up, then cosine decay to a tenth of the rate."""
    model.to(device).train()
    optimizer, context, start = model.optimizer(rate, decay), model.config.context, time.time()
    warmup = max(1, min(200, steps // 20))
    for step in range(steps):
        done = max(0, step - warmup) / max(1, steps - warmup)
        now = rate * (step + 1) / warmup if step < warmup else rate * (0.55 + 0.45 * math.cos(math.pi * done))
        for group in optimizer.param_groups:
            group["lr"] = now
        at = torch.randint(len(tokens) - context, (batch, 1)) + torch.arange(context + 1)  # [B, T + 1]
        window = tokens[at].to(device)
        _, loss = model(window[:, :-1], window[:, 1:])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad()
        if (step + 1) % max(1, steps // 10) == 0:
            print(f"step {step + 1:5}  loss {loss.item():.3f} nats a token  {time.time() - start:.0f} s", flush=True)


@torch.no_grad()
def evaluate(model, tokens, batches=20, batch=16):
    """The mean loss over consecutive windows from the beginning of tokens [N]."""
    context = model.config.context
    count = min(batches * batch, (len(tokens) - 1) // context)
    inputs, targets = (tokens[i : i + count * context].view(count, context) for i in (0, 1))
    losses = [model(x, y)[1] * len(x) for x, y in zip(inputs.split(batch), targets.split(batch))]
    return (sum(losses) / count).item()


def main():
    arguments = argparse.ArgumentParser(description="Trains the model of fathom's README on the bytes of a text.")
    arguments.add_argument("text")
    arguments.add_argument("--out", default="tiny.safetensors")
    arguments.add_argument("--steps", type=int, default=1000)
    arguments.add_argument("--rate", type=float, default=3e-3)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = arguments.parse_args()

    torch.manual_seed(given.seed)
    with open(given.text, "rb") as file:
        tokens = torch.frombuffer(bytearray(file.read()), dtype=torch.uint8).long()
    held_back = len(tokens) // 10
    model = ShortcutGPT(Config(vocab=256, context=128, width=128, depth=6, heads=4, shortcut=Shortcut(depths=[2, 4])))
    train(model, tokens[:-held_back], given.steps, rate=given.rate, device=given.device)
    model.cpu().save(given.out)
    print(f"validation {evaluate(model, tokens[-held_back:]):.3f} nats a token\n{given.out}: weights of\n"
          f"constexpr fathom::config tiny{{{model.config.cpp()}}};")


if __name__ == "__main__":
    main()
