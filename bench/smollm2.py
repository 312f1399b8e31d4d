"""Compares SmolLM2-135M in fathom, transformers and llama.cpp, with the same dequantised numbers (smollm2.sh runs it)."""

import argparse
import pathlib
import subprocess
import tempfile

import gguf
import numpy
import tokenizers
import torch
import transformers
from gguf.quants import dequantize

NAMES = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
         "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
         "ffn_down": "mlp.down_proj", "token_embd": "model.embed_tokens", "output_norm": "model.norm"}


def read(path):
    """The model and the tokenizer in a GGUF file, as transformers and tokenizers have them."""
    reader = gguf.GGUFReader(path)
    config = transformers.LlamaConfig(
        vocab_size=49152, hidden_size=576, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3, intermediate_size=1536,
        max_position_embeddings=8192, rms_norm_eps=1e-5, rope_theta=100000.0, tie_word_embeddings=True)
    config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
    weights = {}
    for tensor in reader.tensors:
        numbers = torch.from_numpy(numpy.array(dequantize(tensor.data, tensor.tensor_type), dtype=numpy.float32))
        parts = tensor.name.split(".")
        kind = parts[2] if parts[0] == "blk" else parts[0]
        if kind in ("attn_q", "attn_k"):  # rows of pairs side by side become rows of halves
            heads = 9 if kind == "attn_q" else 3
            numbers = numbers.reshape(heads, -1, 2, numbers.shape[1]).swapaxes(1, 2).reshape(numbers.shape)
        weights[(f"model.layers.{parts[1]}." if parts[0] == "blk" else "") + NAMES[kind] + ".weight"] = numbers
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert set(missing) <= {"lm_head.weight"} and not unexpected
    model.tie_weights()

    field = {key: value.contents() for key, value in reader.fields.items() if key.startswith("tokenizer.ggml.")}
    vocabulary = {token: i for i, token in enumerate(field["tokenizer.ggml.tokens"])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(
        vocab=vocabulary, merges=[tuple(m.split(" ", 1)) for m in field["tokenizer.ggml.merges"]]))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([
        tokenizers.pre_tokenizers.Digits(individual_digits=True),
        tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    return model, tokenizer


def nll(model, tokens, length):
    """Mean over all tokens but the first, in windows that do not overlap, as fathom::evaluate has it."""
    total = 0.0
    with torch.no_grad():
        for begin in range(0, len(tokens) - 1, length):
            inputs, targets = tokens[begin:begin + length], tokens[begin + 1:begin + length + 1]
            logits = model(torch.tensor([inputs[:len(targets)]])).logits[0].double()
            total += torch.nn.functional.cross_entropy(logits, torch.tensor(targets), reduction="sum").item()
    return total / (len(tokens) - 1)


def compare_caches(arguments, texts):
    """Prints the loss of each text with each kind of cache."""
    results = []
    for _, tokens in texts:
        with tempfile.NamedTemporaryFile() as file:
            file.write(numpy.array(tokens, dtype=numpy.int32).tobytes())
            file.flush()
            printed = subprocess.run([arguments.program, arguments.model, file.name], check=True, capture_output=True, text=True).stdout
        results.append([line.split() for line in printed.splitlines()])
    print("| keys and values | bytes a token | " + " | ".join(f"NLL, {name}" for name, _ in texts) + " |\n| --- | --- " + "| --- " * len(texts) + "|")
    for kinds in zip(*results):
        print(f"| {kinds[0][0]} | {kinds[0][2]} | " + " | ".join("%.5f" % float(kind[1]) for kind in kinds) + " |")


def in_float(path, to):
    """Writes a GGUF file with the tensors of another one dequantised to F32, for llama.cpp."""
    reader, writer = gguf.GGUFReader(path), gguf.GGUFWriter(to, "llama")
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            kind = field.types[0]
            writer.add_key_value(field.name, field.contents(), kind, field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, numpy.array(dequantize(tensor.data, tensor.tensor_type), dtype=numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def printed_by(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("model", "program", "ggml", "text", "python"):
        parser.add_argument("--" + name, type=pathlib.Path, required=True)
    parser.add_argument("--caches", action="store_true", help="only the loss with keys and values in float, bf16 and int8")
    arguments = parser.parse_args()
    model, tokenizer = read(arguments.model)
    texts = [(name, tokenizer.encode(path.read_bytes()[:20000].decode(errors="ignore")).ids)
             for name, path in (("King James", arguments.text), ("Python (argparse.py)", arguments.python))]
    if arguments.caches:
        return compare_caches(arguments, texts)
    torch.set_num_threads(2)
    print(f"transformers {transformers.__version__}, torch {torch.__version__}; 20,000 bytes of each text, windows of 512 tokens")
    kinds = ("float", "bf16", "int8", "grouped_int8", "int4", "symmetric_int4")
    types = {kind: [] for kind in kinds}
    print("| text | tokens | logits: largest difference / largest | NLL, fathom | NLL, transformers | NLL, llama.cpp F32 | NLL, llama.cpp, the file |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        at = pathlib.Path(folder)
        in_float(arguments.model, at / "float.gguf")
        for name, tokens in texts:
            (at / "tokens").write_bytes(numpy.array(tokens, dtype=numpy.int32).tobytes())
            printed = subprocess.run([arguments.program, arguments.model, at / "tokens", at / "logits"], check=True, capture_output=True, text=True).stdout
            lines = {line.split()[0]: [float(x) for x in line.split()[1:]] for line in printed.splitlines()}
            found = numpy.fromfile(at / "logits", dtype=numpy.float32).reshape(64, -1)
            with torch.no_grad():
                expected = model(torch.tensor([tokens[:64]])).logits[0].numpy()
            # llama.cpp with the same numbers and a cache in float, and with the file's own and its standard cache
            theirs = [float(printed_by(arguments.ggml, file, at / "tokens", *cache)) for file, *cache in ((at / "float.gguf",), (arguments.model, "f16"))]
            off = numpy.abs(found - expected).max() / numpy.abs(expected).max()
            for kind in kinds:
                types[kind].append(lines[kind])
            print(f"| {name} | {len(tokens)} | {off:.1e} | {lines['nll'][0]:.5f} | {nll(model, tokens, 512):.5f} | "
                  f"{theirs[0]:.5f} | {theirs[1]:.5f} |")
    print("\n| weights | MB | NLL: King James, Python | packed from floats | ms a token | ms a prompt of 512 |")
    print("| --- | --- | --- | --- | --- | --- |")
    for kind, both in types.items():
        print(f"| {kind} | {both[0][0]} | {', '.join('%.5f' % x[1] for x in both)} | {', '.join('%.5f' % x[2] for x in both)} | "
              f"{min(x[3] for x in both)} | {min(x[4] for x in both):.0f} |")


main()
