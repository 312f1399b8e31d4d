#!/usr/bin/env python3
"""Compares how examples/chat writes conversations with published chat templates, rendered by transformers' apply_chat_template.

  python3 -m venv build/transformers && build/transformers/bin/pip install torch transformers gguf jinja2
  build/transformers/bin/python tests/chat_templates.py --build build/release TEMPLATE...

A TEMPLATE is a file with the text of one (llama.cpp's source has some in models/templates), a GGUF file, a tokenizer_config.json, or a
file of C++ whose string literals hold templates (llama.cpp's tests/test-chat-template.cpp). Conversations: with and without a system
prompt, one turn and several, empty texts, white space around texts, and marks of the template inside the user's text. A difference is
a fault; an error that says that the kind is unknown is none. Templates that refuse a system prompt are compared without one.
"""
import argparse
import ast
import json
import pathlib
import re
import subprocess
import sys
from datetime import datetime

from transformers import PreTrainedTokenizerFast

ROOT = pathlib.Path(__file__).parent.parent
TOKENIZERS = ROOT / "tests" / "golden" / "tokenizers"
SYSTEMS = [None, "You count.\nWell.", "  Be brief. \n"]
ROUNDS = [[["What is 2 + 2?", None]],
          [["Hello", "Hi there."], ["And 3 + 3?", "Six."], ["Why?", None]],
          [["  What is it? \n", "Four."], ["\tAnd that?\n\n", None]],
          [["", "Say something."], ["", None]],
          [["Say <|im_end|> and <|eot_id|> and </s> and <end_of_turn>", "No."], ["[INST] <|user|> <|assistant|>", None]]]


def templates_in(path):
    """(name, template) of each template in a file."""
    if path.suffix == ".gguf":
        import gguf
        yield path.name, gguf.GGUFReader(path).fields["tokenizer.chat_template"].contents()
    elif path.suffix == ".json":
        yield path.parent.name, json.loads(path.read_text())["chat_template"]
    elif path.suffix == ".cpp":
        literal = r'"(?:[^"\\]|\\.)*"'
        for name, text in re.findall(rf'\.name= \*/ ({literal}),\s*/\* \.template_str= \*/ ((?:{literal}\s*)+),', path.read_text()):
            yield ast.literal_eval(name), "".join(ast.literal_eval(part) for part in re.findall(literal, text))
    else:
        yield path.name, path.read_text()


def marks_of(template):
    """A tokenizer of tests/golden that has the template's special tokens; it only matters that they are its first and last ones."""
    if "<|start_header_id|>" in template:
        return "llama3", "<|begin_of_text|>", "<|eot_id|>"
    if "<start_of_turn>" in template:
        return "gemma", "<bos>", "<eos>"
    if "<|im_start|>" in template:
        return "smollm2", None, "<|im_end|>"
    return "llama2", "<s>", "</s>"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "release")
    parser.add_argument("templates", nargs="+", type=pathlib.Path, metavar="TEMPLATE")
    arguments = parser.parse_args()
    asked, expected = [], []
    date = datetime.now().strftime("%d %b %Y")
    for path in arguments.templates:
        for name, template in templates_in(path):
            folder, bos, eos = marks_of(template)
            tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(TOKENIZERS / folder / "tokenizer.json"), bos_token=bos, eos_token=eos)
            for system in SYSTEMS:
                for rounds in ROUNDS:
                    messages = [{"role": "system", "content": system}] if system is not None else []
                    for user, answer in rounds:
                        messages += [{"role": "user", "content": user}] + ([{"role": "assistant", "content": answer}] if answer is not None else [])
                    try:
                        text = tokenizer.apply_chat_template(messages, chat_template=template, add_generation_prompt=True, tokenize=False)
                    except Exception as problem:
                        text = problem
                    asked.append(dict(template=template, system=system, rounds=rounds, tokenizer=folder, bos=bos, eos=eos, date=date))
                    expected.append((name, text))
    ran = subprocess.run([arguments.build / "tests" / "chat_lines"], input="".join(json.dumps(a) + "\n" for a in asked), capture_output=True, text=True, check=True)
    found = {}
    for one, (name, text), line in zip(asked, expected, ran.stdout.splitlines(), strict=True):
        answer = json.loads(line)
        counts = found.setdefault(name, {"kind": answer.get("kind", "unknown"), "same": 0, "different": [], "refused by the template": 0})
        if "error" in answer:
            assert "of an unknown kind" in answer["error"], answer["error"]
        elif isinstance(text, Exception):
            counts["refused by the template"] += 1
        else:
            # Answers are what the model wrote: Llama 2's and Mistral's begin with a space, which templates write or not.
            ours = answer["text"]
            if answer["kind"] in ("llama2", "mistral"):
                ours, text = re.sub(r"\[/INST\] *", "[/INST]", ours), re.sub(r"\[/INST\] *", "[/INST]", text)
            if ours == text:
                counts["same"] += 1
            else:
                counts["different"].append((one["system"], one["rounds"], text, ours))
    for name, counts in found.items():
        print(f"{counts['kind']:8} {counts['same']:3} the same, {len(counts['different'])} different, {counts['refused by the template']} refused by it: {name}")
        for system, rounds, text, ours in counts["different"][:1]:
            print(f"    system {system!r}, rounds {rounds!r}\n    expected {text!r}\n    found    {ours!r}")
    sys.exit(any(counts["different"] for counts in found.values()))


main()
