"""Exchanges GPT-2 checkpoints between the package transformers and fathom.

    python tests/transformers_checkpoints.py golden      writes tests/golden/transformers, which tests/io_transformers.cpp reads
    python tests/transformers_checkpoints.py compare     live, both ways: fathom loads the files of save_pretrained, and
                                                         from_pretrained loads fathom's (minutes)
    python tests/transformers_checkpoints.py compare NAME ...      some of them

Models have random weights with a large initializer_range, so that logits vary and greedy decoding does not get stuck at a
token. Needs torch, transformers, safetensors, g++ and fathom's requirements.
"""

import logging
import pathlib
import shutil
import sys
import tempfile

import safetensors.torch
import torch
import transformers

from pytorch_driver import TESTS, Driver, distance

transformers.utils.logging.disable_progress_bar()

COUNT = 200  # tokens to generate after a prompt


def sizes(vocab, positions, width, layers, heads, **others):
    return dict(vocab_size=vocab, n_positions=positions, n_embd=width, n_layer=layers, n_head=heads, **others)


# The settings of GPT2Config, the type of the saved weights, and the size of the largest shard.
SMALL = {
    "tied": (sizes(97, 208, 32, 2, 4), torch.float32, None),
    "untied_inner": (sizes(61, 224, 24, 3, 3, n_inner=40, tie_word_embeddings=False), torch.float32, None),
    "half_shards": (sizes(50, 216, 48, 1, 2, activation_function="gelu_pytorch_tanh"), torch.float16, "24KB"),
    "bfloat16_one_head": (sizes(128, 256, 16, 4, 1, reorder_and_upcast_attn=True), torch.bfloat16, None),
}
# For `compare` only: other shapes, and GPT-2's own.
LARGE = {
    "wide_head": (sizes(300, 300, 192, 2, 2), torch.float32, "200KB"),
    "deep": (sizes(1000, 256, 64, 12, 8, tie_word_embeddings=False), torch.float32, None),
    "gpt2": (dict(), torch.float32, None),
}


def build(settings):
    """A model with random weights."""
    torch.manual_seed(1)
    width = settings.get("n_embd", 768)
    config = transformers.GPT2Config(initializer_range=4 / width**0.5, bos_token_id=None, eos_token_id=None, **settings)
    model = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():  # new models have biases 0 and gains 1, which would hide a dropped term
        for p in model.parameters():
            if p.dim() == 1:
                p.add_(0.2 * torch.randn_like(p))
    return model


def save(model, folder, dtype, shards):
    model.to(dtype).save_pretrained(folder, **({"max_shard_size": shards} if shards else {}))


def from_pretrained(folder, kind=transformers.GPT2LMHeadModel):
    """Loads in float with eager attention; fails on any warning."""
    records = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    try:
        model, found = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    finally:
        logger.removeHandler(handler)
    assert not any(found.values()), found
    assert not records, records
    return model.eval()


@torch.no_grad()
def expectations(model):
    """inputs [2, 24] and their logits, a prompt [8] and the COUNT tokens after it: written [COUNT]."""
    numbers = torch.Generator().manual_seed(2)
    vocab = model.config.vocab_size
    inputs, prompt = torch.randint(vocab, (2, 24), generator=numbers), torch.randint(vocab, (1, 8), generator=numbers)
    whole = model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=COUNT,
                           pad_token_id=0, output_logits=True, return_dict_in_generate=True)
    first, second = torch.cat(whole.logits).double().topk(2).values.T  # [COUNT] each
    gap = ((first - second) / torch.cat(whole.logits).abs().max()).min().item()
    written = whole.sequences[0, prompt.shape[1] :]
    assert written.shape == (COUNT,)
    return {"inputs": inputs.int(), "logits": model(inputs).logits, "prompt": prompt[0].int(), "written": written.int()}, gap


def members(settings):
    """The members of a fathom::config."""
    c = transformers.GPT2Config(bos_token_id=None, eos_token_id=None, **settings)
    return (f".vocab = {c.vocab_size}, .context = {c.n_positions}, .width = {c.n_embd}, .depth = {c.n_layer}, "
            f".heads = {c.n_head}, .hidden = {c.n_inner or 0}, .tied = {str(c.tie_word_embeddings).lower()}")


# ---- Live comparison -----------------------------------------------------------------------------------------------------


def compare_one(name, settings, dtype, shards, folder):
    theirs, ours, bare = folder / "theirs", folder / "ours", folder / "bare"
    save(build(settings), theirs, dtype, shards)
    model = from_pretrained(theirs)
    expected, gap = expectations(model)
    driver = Driver(members(settings), "cpu<float>", "-O2")
    count = torch.tensor([COUNT])

    def check(path, what):
        logits = driver.compute("logits", path, folder, inputs=expected["inputs"])["logits"]
        written = driver.compute("greedy", path, folder, prompt=expected["prompt"], count=count)["written"]
        error = distance(logits, expected["logits"])
        assert error < 1e-4, f"{name}, {what}: logits differ by {error:.1e}"
        assert torch.equal(written, expected["written"]), f"{name}, {what}: greedy decoding differs"
        return error

    error = check(theirs, "from save_pretrained")
    # Without the head, where save_pretrained uses other names.
    if model.config.tie_word_embeddings:
        transformers.GPT2Model.from_pretrained(theirs, dtype=dtype).save_pretrained(bare)
        check(bare, "of GPT2Model")

    # Back into transformers, bit for bit, with either class.
    driver("transformers", theirs, ours)
    for kind in transformers.GPT2LMHeadModel, transformers.AutoModelForCausalLM:
        again = from_pretrained(ours, kind)
        assert type(again) is transformers.GPT2LMHeadModel
        for key, tensor in model.state_dict().items():
            assert torch.equal(again.state_dict()[key], tensor), f"{name}: {key} comes back changed"
    for key in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "tie_word_embeddings", "layer_norm_epsilon"):
        assert getattr(again.config, key) == getattr(model.config, key), key
    back, _ = expectations(again)
    assert torch.equal(back["written"], expected["written"])
    error = max(error, distance(back["logits"], expected["logits"]), check(ours, "back from fathom"))
    # Also for fathom's own weights.
    driver("initialize", 3, folder / "initial.safetensors")
    driver("transformers", folder / "initial.safetensors", ours)
    logits = driver.compute("logits", ours, folder, inputs=expected["inputs"])["logits"]
    with torch.no_grad():
        initial = distance(logits, from_pretrained(ours)(expected["inputs"]).logits)
    assert initial < 1e-4, f"{name}: logits of fathom's initial weights differ by {initial:.1e}"
    distinct = len(set(expected["written"].tolist()))
    files = len(list(theirs.glob("*.safetensors")))
    print(f"{name:18} logits within {max(error, initial):.1e}; {COUNT} tokens alike, {distinct} of them different, won by at "
          f"least {gap:.1e} of the largest logit; of {files} file(s), and back bit for bit", flush=True)


def compare(*names):
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    for name, case in (SMALL | LARGE).items():
        if names and name not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            compare_one(name, *case, pathlib.Path(folder))


# ---- Golden values -------------------------------------------------------------------------------------------------------


def golden():
    for name, (settings, dtype, shards) in SMALL.items():
        folder = TESTS / "golden" / "transformers" / name
        shutil.rmtree(folder, ignore_errors=True)
        save(build(settings), folder, dtype, shards)
        (folder / "generation_config.json").unlink()
        expected, gap = expectations(from_pretrained(folder))
        safetensors.torch.save_file(expected, folder / "expected.safetensors")
        distinct = len(set(expected["written"].tolist()))
        print(f"{name}: {distinct} different tokens, won by at least {gap:.1e} of the largest logit")


if __name__ == "__main__":
    commands = {"compare": compare, "golden": golden}
    if len(sys.argv) < 2 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]](*sys.argv[2:])
