#!/usr/bin/env python3
"""Makes what tests/distance_slopes.cpp reads: a small MPT, a model with ALiBi, with random weights, in fathom's names and layout,
and what `transformers` computes with it: the loss, logits and gradients, with plain logits and with logits softly capped at 3/2.

  python3 -m venv build/transformers && build/transformers/bin/pip install torch transformers safetensors
  build/transformers/bin/python tests/make_mpt.py [FOLDER]

Without a folder it writes tests/mpt. Six heads are no power of two, so that their slopes are of both kinds.
"""
import pathlib
import sys

import torch
import transformers
from safetensors.torch import save_file

CAP = 1.5
config = transformers.MptConfig(d_model=12, n_heads=6, n_layers=2, max_seq_len=64, vocab_size=29, no_bias=True,
                                attn_config=dict(alibi=True, attn_impl="torch"))
config.bos_token_id = config.eos_token_id = config.pad_token_id = None


def in_our_names(tensors):
    """Linear maps are stored [in, out] here. MPT's norms have no biases; ours are 0."""
    ours = {"wte.weight": tensors["transformer.wte.weight"], "ln_f.weight": tensors["transformer.norm_f.weight"]}
    for block in range(config.n_layers):
        of = lambda name: tensors[f"transformer.blocks.{block}.{name}.weight"]
        ours.update({f"h.{block}.ln_1.weight": of("norm_1"), f"h.{block}.ln_2.weight": of("norm_2"),
                     f"h.{block}.attn.c_attn.weight": of("attn.Wqkv").T, f"h.{block}.attn.c_proj.weight": of("attn.out_proj").T,
                     f"h.{block}.mlp.c_fc.weight": of("ffn.up_proj").T, f"h.{block}.mlp.c_proj.weight": of("ffn.down_proj").T})
    return ours


def main():
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "mpt"
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(1)
    model = transformers.MptForCausalLM(config).float().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(1 + 0.2 * torch.randn_like(parameter) if parameter.dim() == 1 else 0.5 * torch.randn_like(parameter))
    weights = in_our_names(dict(model.named_parameters()))
    for name in [name for name in weights if "ln_" in name]:
        weights[name.replace("weight", "bias")] = torch.zeros_like(weights[name])
    tokens = torch.randint(0, config.vocab_size, (2, 24))
    expected = {"tokens": tokens.to(torch.int32)}
    for kind in "plain", "capped":
        model.zero_grad()
        logits = model(tokens).logits
        if kind == "capped":
            logits = CAP * torch.tanh(logits / CAP)
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].reshape(-1, config.vocab_size), tokens[:, 1:].reshape(-1))
        loss.backward()
        expected |= {f"{kind}.logits": logits, f"{kind}.loss": loss.reshape(1)}
        gradients = in_our_names({name: parameter.grad for name, parameter in model.named_parameters()})
        expected |= {f"{kind}.gradient.{name}": gradient.clone() for name, gradient in gradients.items()}
        print(kind, "loss", float(loss.detach()), "transformers", transformers.__version__)
    for name, tensors in ("weights", weights), ("expected", expected):
        save_file({key: tensor.detach().contiguous() for key, tensor in tensors.items()}, folder / f"{name}.safetensors")


if __name__ == "__main__":
    main()
