"""Compares examples/shortcut_gpt.py with fathom: every placement with every feature map, tied and untied, and no shortcut.

    python tests/pytorch_module.py compare    compiles a program for each config and compares them, both ways (minutes)
    python tests/pytorch_module.py golden     writes this module's part of tests/golden: see README.md there

Needs torch, safetensors, g++ and fathom's requirements. The other golden models come from another implementation; `compare`
also checks the module against these.
"""

import dataclasses
import json
import pathlib
import sys
import tempfile

import safetensors.torch
import torch

from pytorch_driver import TESTS, Driver, distance

sys.path.insert(0, str(TESTS.parent / "examples"))
import shortcut_gpt
from shortcut_gpt import Config, Shortcut, ShortcutGPT

ADAMW = {"lr": 1e-3, "betas": [0.9, 0.95], "eps": 1e-8, "weight_decay": 0.1, "clip": 1.0, "steps": 3}


def small(**shortcut):
    return Config(vocab=13, context=8, width=8, depth=3, heads=2, shortcut=Shortcut(**shortcut) if shortcut else None)


SHORT = {"after": "after_self_attention", "replace": "replace_self_attention", "joint": "joint"}
MODELS = {
    f"{short}_{features}": small(depths=depths, features=features, placement=SHORT[short])
    for short in SHORT
    for features, depths in (("identity", [0, 2]), ("linear", [1, 2]), ("mlp", [0, 1, 2]))
}
GOLDEN = ["after_identity", "after_linear", "replace_identity", "replace_mlp", "joint_linear"]
COMPARED = MODELS | {
    "gpt": small(),
    "gpt_untied_mlp_20": dataclasses.replace(small(), tied=False, mlp_hidden=20),
    "untied_mlp_5": dataclasses.replace(small(depths=[1], hidden=5), tied=False),
    "zero_init": small(depths=[1, 2], zero_init=True),
}


@torch.no_grad()
def randomize(model, seed):
    """Large weights, no bias zero and no gain one, so that a dropped term shows."""
    numbers = torch.Generator().manual_seed(seed)
    for name, p in sorted(model.named_parameters()):
        gain = p.dim() == 1 and name.endswith("weight")
        p.copy_(float(gain) + 0.4 * torch.randn(p.shape, generator=numbers))
    return model


def batch(config, seed, sequences=2, tokens=7):
    """inputs, targets [sequences, tokens]"""
    numbers = torch.Generator().manual_seed(seed)
    return torch.randint(config.vocab, (2, sequences, tokens), generator=numbers)


def one_step(model, optimizer, inputs, targets):
    """Logits, loss, gradients by name, and their norm; then takes a clipped step."""
    optimizer.zero_grad()
    logits, loss = model(inputs, targets)
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), ADAMW["clip"])
    optimizer.step()
    return logits.detach(), loss.detach(), gradients, norm


def weights_of(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


# ---- Live comparison -----------------------------------------------------------------------------------------------------


def step_excess(found, expected, gradient, tolerance, rounding):
    """The ratio of the weights' difference after a step to the permitted one. A step has length lr * g / (|g| + eps): if a
    gradient is almost 0, its error, `tolerance` of the tensor's largest, determines its sign (tests/golden.hpp)."""
    error = (2 * tolerance * gradient.abs().max() / gradient.abs()).nan_to_num(0).clamp(max=2.0)
    allowed = ADAMW["lr"] * error + 4 * rounding * expected.abs() + 1e-12
    return ((found.double() - expected).abs() / allowed).max().item()


def compare_one(name, config, folder):
    inputs, targets = batch(config, seed=2)
    single, double = Driver(config.cpp(), "cpu<float>"), Driver(config.cpp(), "reference<double>")
    files = {"from PyTorch": folder / "module.safetensors", "from fathom": folder / "fathom.safetensors"}
    randomize(ShortcutGPT(config), seed=1).save(files["from PyTorch"])
    single("initialize", 1, files["from fathom"])
    for path in files.values():  # nothing changes through either
        ShortcutGPT.load(path).save(folder / "again.safetensors")
        single("resave", folder / "again.safetensors", folder / "back.safetensors")
        tensors, back = (safetensors.torch.load_file(p) for p in (path, folder / "back.safetensors"))
        assert tensors.keys() == back.keys(), tensors.keys() ^ back.keys()
        for key, tensor in tensors.items():
            assert torch.equal(back[key], tensor), f"{name}: {key} comes back changed"

    worst = {}
    for kind, driver, tolerance, rounding in ("double", double, 1e-9, 2**-53), ("float", single, 1e-4, 2**-24):
        for way, path in files.items():
            model = ShortcutGPT.load(path).double()
            expected_logits, loss, gradients, norm = one_step(model, model.optimizer(ADAMW["lr"]), inputs, targets)
            found = driver.compute("step", path, folder, inputs=inputs, targets=targets)
            errors = {"logits": distance(found["logits"], expected_logits), "loss": abs(found["loss"].item() / loss.item() - 1),
                      "norm": abs(found["norm"].item() / norm.item() - 1), "gradient": 0.0}
            names = {key[5:] for key in found if key.startswith("grad.")}
            assert names == gradients.keys(), names ^ gradients.keys()
            for key, gradient in gradients.items():
                if gradient.any():
                    errors["gradient"] = max(errors["gradient"], distance(found["grad." + key], gradient))
                else:  # before the first step of zero_init, nothing flows beyond its projection
                    assert not found["grad." + key].any(), key
            # fathom's settings of AdamW are floats, and PyTorch clips to a norm that is 1e-6 larger.
            excess = max(step_excess(found["after." + key], p.detach(), gradients[key], max(tolerance, 1e-6), rounding)
                         for key, p in model.named_parameters())
            for what, error in errors.items():
                assert error < tolerance, f"{name}, {way}, in {kind}: {what} differs by {error:.1e}"
            assert excess <= 1, f"{name}, {way}, in {kind}: the step differs {excess:.1f} times as much as it may"
            worst[kind] = max(worst.get(kind, 0), *errors.values())
            # fathom's weights after the step go back into PyTorch, like a file of fathom's.
            model.load_state_dict({key[6:]: tensor for key, tensor in found.items() if key.startswith("after.")})
    print(f"{name:20} logits, loss, gradients, AdamW: within {worst['double']:.1e} in double, {worst['float']:.1e} in float",
          flush=True)


def compare_zero_init(folder):
    """zero_init starts as the plain GPT: the same logits without the shortcut's tensors."""
    shortcut = ShortcutGPT(COMPARED["zero_init"])
    plain = ShortcutGPT(COMPARED["gpt"])
    plain.load_state_dict({key: tensor for key, tensor in shortcut.state_dict().items() if not key.startswith("shortcut.")})
    inputs, _ = batch(plain.config, seed=3)
    assert torch.equal(shortcut(inputs)[0], plain(inputs)[0])
    print("zero_init begins as the plain GPT")


def compare_golden():
    """Compares the module with the other implementation's golden values."""
    for path in sorted(TESTS.glob("golden/*/weights.safetensors")):
        if path.parent.name in GOLDEN:
            continue
        expected = safetensors.torch.load_file(path.parent / "expected.safetensors")
        model = ShortcutGPT(Config.from_json((path.parent / "config.json").read_text()))
        model.load_state_dict(safetensors.torch.load_file(path))
        model.double()
        optimizer, losses = model.optimizer(ADAMW["lr"]), []
        for step in range(ADAMW["steps"]):
            logits, loss, gradients, _ = one_step(model, optimizer, expected["inputs"], expected["targets"])
            losses.append(loss)
            if step == 0:
                errors = [distance(logits, expected["logits"]), abs(loss / expected["loss"] - 1).item()]
                errors += [distance(gradient, expected["grad." + name]) for name, gradient in gradients.items()]
        errors.append(distance(torch.stack(losses), expected["losses"]))
        errors += [distance(p.detach(), expected["after." + name]) for name, p in model.named_parameters()]
        assert max(errors) < 1e-6, f"{path.parent.name}: differs by {max(errors):.1e}"
        print(f"golden/{path.parent.name:19} logits, gradients, 3 steps of AdamW: within {max(errors):.1e}")


def compare():
    compare_golden()
    with tempfile.TemporaryDirectory() as folder:
        compare_zero_init(pathlib.Path(folder))
        for name, config in COMPARED.items():
            compare_one(name, config, pathlib.Path(folder))


# ---- Golden values -------------------------------------------------------------------------------------------------------


def attention_of(model, inputs):
    """The last block's attention, [B, heads, T, n T]: the softmax in the last call of attention()."""
    kept, attention = [], shortcut_gpt.attention

    def watch(q, k, v, heads):
        (B, T, E), n = q.shape, k.shape[1] // q.shape[1]
        q_, k_ = (x.view(B, -1, heads, E // heads).transpose(1, 2) for x in (q, k))
        visible = torch.ones(T, T, dtype=torch.bool).tril().repeat(1, n)
        scores = (q_ @ k_.transpose(2, 3) / (E // heads) ** 0.5).masked_fill(~visible, -torch.inf)
        kept.append(scores.softmax(-1))
        return attention(q, k, v, heads)

    shortcut_gpt.attention = watch
    try:
        model(inputs)
    finally:
        shortcut_gpt.attention = attention
    return kept[-1].detach()


def golden():
    for name in GOLDEN:
        folder, config = TESTS / "golden" / name, MODELS[name]
        folder.mkdir(exist_ok=True)
        inputs, targets = batch(config, seed=2)
        model = randomize(ShortcutGPT(config), seed=1)
        # Saved by the module, with the config as metadata.
        model.save(folder / "weights.safetensors")
        model.double()
        expected = {"inputs": inputs.int(), "targets": targets.int(), "attention": attention_of(model, inputs).float()}
        optimizer, losses = model.optimizer(ADAMW["lr"]), []
        for step in range(ADAMW["steps"]):
            logits, loss, gradients, _ = one_step(model, optimizer, inputs, targets)
            losses.append(loss)
            if step == 0:
                expected |= {"logits": logits.float(), "loss": loss.reshape(1)}
                expected |= {"grad." + key: gradient.float() for key, gradient in gradients.items()}
        expected["losses"] = torch.stack(losses)
        expected |= {"after." + key: tensor.float() for key, tensor in weights_of(model).items()}
        expected = {key: tensor.contiguous() for key, tensor in expected.items()}
        safetensors.torch.save_file(expected, folder / "expected.safetensors")
        text = json.loads(config.to_json()) | {"batch": inputs.shape[0], "tokens": inputs.shape[1], "adamw": ADAMW}
        (folder / "config.json").write_text(json.dumps(text, indent=1) + "\n")


if __name__ == "__main__":
    commands = {"compare": compare, "golden": golden}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]]()
