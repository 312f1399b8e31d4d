"""Decodes greedily from a prompt of bytes, one byte for each token, with two threads, as each peer advises.

    python deployment_peers.py pytorch FOLDER TYPE PROMPT COUNT
    python deployment_peers.py onnxruntime FILE.onnx PROMPT COUNT
    python deployment_peers.py ctranslate2 FOLDER TYPE PROMPT COUNT

compare_deployment.py runs it. Each peer imports only what it needs, because imports are part of the start-up time."""

import sys

THREADS = 2


def put(token):
    sys.stdout.buffer.write(bytes([token]))
    sys.stdout.buffer.flush()


def pytorch(folder, kind, prompt, count):
    """transformers on PyTorch: eager, a key-value cache, PyTorch's scaled dot-product attention, only the last logits."""
    import torch
    from transformers import GPT2LMHeadModel

    torch.set_num_threads(THREADS)
    model = GPT2LMHeadModel.from_pretrained(folder, dtype=getattr(torch, kind), attn_implementation="sdpa").eval()
    ids, past = torch.tensor([list(prompt)]), None  # [1, T]
    with torch.inference_mode():
        for _ in range(count):
            out = model(ids, past_key_values=past, use_cache=True, logits_to_keep=1)
            ids, past = out.logits[:, -1].argmax(-1, keepdim=True), out.past_key_values
            put(ids.item())


def onnxruntime(file, prompt, count):
    """Keys and values are in buffers allocated once, [1, heads, context, width of a head], which every step extends."""
    import numpy as np
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = THREADS, 1
    options.log_severity_level = 3
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    caches = {i.name: ort.OrtValue.ortvalue_from_numpy(np.zeros(i.shape, np.float32))
              for i in session.get_inputs() if i.name.startswith("past")}
    value = ort.OrtValue.ortvalue_from_numpy
    token = value(np.zeros((1, 1), np.int64))

    def bound(ids, positions, last, total):
        binding = session.io_binding()
        for name, given in {"ids": ids, "positions": positions, "last": last, "total": total, **caches}.items():
            binding.bind_ortvalue_input(name, given)
        binding.bind_ortvalue_output("token", token)
        for name, cache in caches.items():
            binding.bind_ortvalue_output(name.replace("past", "present"), cache)
        return binding

    length = len(prompt)
    positions, last = value(np.zeros((1, 1), np.int64)), value(np.zeros(1, np.int32))
    total = value(np.zeros(1, np.int32))
    step = bound(token, positions, last, total)  # each step reads the token that the step before wrote
    session.run_with_iobinding(bound(value(np.array([list(prompt)], np.int64)), value(np.arange(length)[None]),
                                     value(np.array([length - 1], np.int32)), value(np.array([length], np.int32))))
    for at in range(length, length + count):
        put(int(token.numpy()[0, 0]))
        if at + 1 == length + count:
            return
        positions.update_inplace(np.array([[at]]))
        last.update_inplace(np.array([at], np.int32))
        total.update_inplace(np.array([at + 1], np.int32))
        session.run_with_iobinding(step)


def ctranslate2(folder, kind, prompt, count):
    import json
    import pathlib

    import ctranslate2

    names = json.loads((pathlib.Path(folder) / "vocabulary.json").read_text())
    model = ctranslate2.Generator(folder, device="cpu", compute_type=kind, inter_threads=1, intra_threads=THREADS)
    for result in model.generate_tokens([names[t] for t in prompt], max_length=count, sampling_topk=1, end_token=[]):
        put(result.token_id)


peer = {f.__name__: f for f in (pytorch, onnxruntime, ctranslate2)}[sys.argv[1]]
*how, prompt, count = sys.argv[2:]
peer(*how, prompt.encode(), int(count))
