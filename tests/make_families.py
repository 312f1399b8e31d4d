#!/usr/bin/env python3
"""Makes what tests/io_families.cpp reads: for each family of models a small one with random weights, as `transformers` saves it, and
what it computes: logits, 200 greedy tokens, gradients.

  python3 -m venv build/transformers && build/transformers/bin/pip install torch transformers safetensors
  build/transformers/bin/python tests/make_families.py [FOLDER]

Without a folder it writes tests/families. With one, it makes other weights there (--seed), for a test of the same program on models
that are not committed: FATHOM_FAMILIES=FOLDER test_io_families.

  build/transformers/bin/python tests/make_families.py --random N --seed S [--build build/release] [FOLDER]

makes N models of each family with random configurations, and compares them with fathom in a program that it compiles in a build folder
that cmake has configured. See random_families.py, which it calls.
"""
import argparse
import pathlib

import torch
import transformers
from safetensors.torch import save_file

LLAMA = dict(vocab_size=61, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=20,
             max_position_embeddings=256, rms_norm_eps=1e-5, initializer_range=0.1, attention_dropout=0.0)


def llama(**more):
    return transformers.LlamaConfig(**{**LLAMA, **more})


MODELS = {
    "llama": llama(tie_word_embeddings=True, rope_theta=100000.0),
    "llama3": llama(head_dim=8, rope_theta=500000.0, rope_scaling=dict(
        rope_type="llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64)),
    "linear": llama(rope_scaling=dict(rope_type="linear", factor=4.0)),
    "yarn": llama(head_dim=8, rope_scaling=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=64)),
    "mistral": transformers.MistralConfig(**LLAMA, sliding_window=16),
    "qwen2": transformers.Qwen2Config(**LLAMA, rope_theta=1000000.0),
    "qwen3": transformers.Qwen3Config(**{**LLAMA, "rms_norm_eps": 1e-6}, head_dim=8, tie_word_embeddings=True),
    "gpt_neox": transformers.GPTNeoXConfig(
        vocab_size=61, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=20, max_position_embeddings=256,
        rotary_pct=0.25, initializer_range=0.1, attention_dropout=0.0, hidden_dropout=0.0),
    "olmo2": transformers.Olmo2Config(**LLAMA),
    # Depth 5 is no multiple of the pattern, 3; heads are wider than width / heads; scores are over another root than theirs.
    "gemma3": transformers.Gemma3TextConfig(
        **{**LLAMA, "num_hidden_layers": 5, "rms_norm_eps": 1e-6}, head_dim=8, sliding_window=16, query_pre_attn_scalar=6,
        layer_types=["full_attention" if i % 3 == 2 else "sliding_attention" for i in range(5)],
        rope_parameters=dict(sliding_attention=dict(rope_type="default", rope_theta=10000.0),
                             full_attention=dict(rope_type="linear", factor=8.0, rope_theta=1000000.0))),
}


def set_weights(model):
    """Random weights, with gains and biases that matter."""
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if parameter.dim() == 1:
                is_gain = "norm" in key and key.endswith("weight") and not isinstance(model.config, transformers.Gemma3TextConfig)  # 1 + weight
                parameter.copy_(is_gain + 0.2 * torch.randn_like(parameter))
            else:
                parameter.copy_(0.25 * torch.randn_like(parameter))


def make(name, config, folder, seed):
    torch.manual_seed(seed)
    config.bos_token_id = config.eos_token_id = config.pad_token_id = None
    config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
    set_weights(model)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)

    tokens = torch.randint(0, config.vocab_size, (2, 40))
    result = model(tokens, labels=tokens)
    result.loss.backward()
    with torch.no_grad():
        continued = tokens[:1, :8]
        for _ in range(200):
            continued = torch.cat([continued, model(continued).logits[:, -1:].argmax(-1)], dim=1)
    expected = {"tokens": tokens.to(torch.int32), "logits": result.logits.detach(), "loss": result.loss.detach().reshape(1),
                "greedy": continued[0].to(torch.int32).contiguous()}
    for key, parameter in model.named_parameters():
        if "layers.1." not in key:
            expected["gradient." + key] = parameter.grad
    save_file({k: v.contiguous() for k, v in expected.items()}, folder / "expected.safetensors")
    print(name, sum(p.numel() for p in model.parameters()), "parameters, loss", float(result.loss), "transformers", transformers.__version__)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=pathlib.Path, default=pathlib.Path(__file__).parent / "families")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--random", type=int, metavar="N", help="N models of each family with random configurations, compared with fathom")
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build/release"), help="for --random: a configured build folder")
    arguments = parser.parse_args()
    if arguments.random:
        import random_families
        folder = arguments.folder if "families" != arguments.folder.name else arguments.build / "random_families"
        raise SystemExit(random_families.run(arguments.random, arguments.seed, folder, arguments.build))
    for name, config in MODELS.items():
        make(name, config, arguments.folder / name, arguments.seed)
