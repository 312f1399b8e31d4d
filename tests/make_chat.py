#!/usr/bin/env python3
"""Makes tests/golden/chat.json: conversations as `transformers` writes and tokenizes them by chat templates of each kind that
examples/chat knows. The templates are short ones that write the marks of each kind.

  build/transformers/bin/python tests/make_chat.py       (packages: transformers, tokenizers, jinja2)
"""
import json
import pathlib

from transformers import PreTrainedTokenizerFast

GOLDEN = pathlib.Path(__file__).parent / "golden"
TURNS = "{%% for m in messages %%}%s{%% endfor %%}{%% if add_generation_prompt %%}%s{%% endif %%}"
FIRST_SYSTEM = "{% if messages[0].role == 'system' %}{% set s = messages[0].content %}{% set messages = messages[1:] %}{% else %}{% set s = '' %}{% endif %}"
KINDS = {
    "chatml": ("smollm2", None, "<|im_end|>", "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\\nBe brief<|im_end|>\\n' }}{% endif %}" + TURNS % (
        "{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}", "{{ '<|im_start|>assistant\\n' }}")),
    "llama3": ("llama3", "<|begin_of_text|>", "<|eot_id|>", "{{ bos_token }}" + TURNS % (
        "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' + m.content | trim + '<|eot_id|>' }}",
        "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}")),
    "llama2": ("llama2", "<s>", "</s>", FIRST_SYSTEM + "{% for m in messages %}{% if m.role == 'user' %}"
               "{% set system = '<<SYS>>\\n' + s + '\\n<</SYS>>\\n\\n' if loop.first and s else '' %}"
               "{{ bos_token + '[INST] ' + (system + m.content).strip() + ' [/INST]' }}"
               "{% else %}{{ ' ' + m.content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"),
    "mistral": ("llama2", "<s>", "</s>", "{{ bos_token }}" + FIRST_SYSTEM + "{% for m in messages %}{% if m.role == 'user' %}"
                "{{ '[INST] ' }}{% if loop.first and s %}{{ s + '\\n\\n' }}{% endif %}{{ m.content + ' [/INST]' }}"
                "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"),
    "gemma": ("gemma", "<bos>", "<eos>", "{{ bos_token }}" + FIRST_SYSTEM + TURNS % (
        "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\\n' }}{% if loop.first and s %}{{ s + '\\n\\n' }}{% endif %}"
        "{{ m.content | trim + '<end_of_turn>\\n' }}", "{{ '<start_of_turn>model\\n' }}")),
    "zephyr": ("llama2", "<s>", "</s>", TURNS % ("{{ '<|' + m.role + '|>\\n' + m.content + eos_token + '\\n' }}", "{{ '<|assistant|>\\n' }}")),
}
ROUNDS = [("  What is 2 + 2? \n", "Four, naïvely."), ("And 3 + 3?", "Six."), ("Why?", None)]

cases = []
for kind, (folder, bos, eos, template) in KINDS.items():
    template = template + "{# <|assistant|> #}" if kind == "zephyr" else template
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(GOLDEN / "tokenizers" / folder / "tokenizer.json"), bos_token=bos, eos_token=eos)
    for system in [None, "You count.\nWell."]:
        rounds = ROUNDS if kind in ("llama3", "llama2", "gemma") else [(user.strip(), answer) for user, answer in ROUNDS]
        messages = [{"role": "system", "content": system}] if system else []
        for user, answer in rounds:
            messages.append({"role": "user", "content": user})
            if answer:
                messages.append({"role": "assistant", "content": answer})
        first = messages[:2 if system else 1]
        text = tokenizer.apply_chat_template(messages, chat_template=template, add_generation_prompt=True, tokenize=False)
        prompt = tokenizer.apply_chat_template(first, chat_template=template, add_generation_prompt=True, tokenize=False)
        cases.append({"kind": kind, "tokenizer": folder, "bos": bos, "eos": eos, "template": template, "system": system, "rounds": rounds,
                      "text": text, "prompt": prompt, "tokens": tokenizer(prompt, add_special_tokens=False).input_ids})
(GOLDEN / "chat.json").write_text(json.dumps(cases, indent=1, ensure_ascii=False) + "\n")
print(len(cases), "conversations")
