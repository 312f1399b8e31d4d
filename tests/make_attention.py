#!/usr/bin/env python3
"""Makes tests/golden/attention.safetensors: what the blocks of the models in tests/families and tests/golden/transformers attend to,
as `transformers` computes it.

  build/transformers/bin/python tests/make_attention.py       (packages: torch, transformers, safetensors)
"""
import pathlib

import torch
import transformers
from safetensors.torch import save_file

TESTS = pathlib.Path(__file__).parent
FOLDERS = {name: TESTS / "families" / name for name in ["llama", "mistral", "qwen2", "qwen3", "gpt_neox", "olmo2", "gemma3"]}
FOLDERS["gpt2"] = TESTS / "golden" / "transformers" / "untied_inner"

found = {}
for name, folder in FOLDERS.items():
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").double().eval()
    torch.manual_seed(1)
    tokens = torch.randint(0, model.config.vocab_size, (1, min(20, model.config.max_position_embeddings)))
    with torch.no_grad():
        attentions = model(tokens, output_attentions=True).attentions  # of each block [1, heads, queries, keys]
    found[name + ".tokens"] = tokens[0].to(torch.int32)
    found[name + ".attention"] = torch.cat(attentions).float().contiguous()  # [blocks, heads, queries, keys]
    print(name, model.config.model_type, tuple(found[name + ".attention"].shape))
save_file(found, TESTS / "golden" / "attention.safetensors")
