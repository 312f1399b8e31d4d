"""Exchanges files between fathom and Python in both directions. Run with the path of the program interop.

Needs the packages safetensors and numpy; without them the test is skipped (exit status 77).
"""

import json
import pathlib
import subprocess
import sys
import tempfile

try:
    import numpy as np
    import safetensors
    import safetensors.numpy
except ImportError as missing:
    print(f"skipped: {missing}; pip install safetensors numpy")
    sys.exit(77)

PROGRAM = sys.argv[1]

# The model of interop.cpp.
CONFIG = {
    "vocab": 13, "context": 6, "width": 8, "depth": 3, "heads": 2, "mlp_ratio": 4, "tied": False, "layer_norm_eps": 1e-5,
    "shortcut": {"depths": [0, 2], "features": "mlp", "hidden": 5, "placement": "after_self_attention"},
}
V, T, E, H = 13, 6, 8, 5
BLOCK = {
    "ln_1.weight": (E,), "ln_1.bias": (E,), "ln_2.weight": (E,), "ln_2.bias": (E,),
    "attn.c_attn.weight": (E, 3 * E), "attn.c_attn.bias": (3 * E,), "attn.c_proj.weight": (E, E), "attn.c_proj.bias": (E,),
    "mlp.c_fc.weight": (E, 4 * E), "mlp.c_fc.bias": (4 * E,), "mlp.c_proj.weight": (4 * E, E), "mlp.c_proj.bias": (E,),
}
FEATURE = {
    "ln.weight": (E,), "ln.bias": (E,), "c_fc.weight": (E, H), "c_fc.bias": (H,), "c_proj.weight": (H, E), "c_proj.bias": (E,),
}
SHAPES = {
    "wte.weight": (V, E), "wpe.weight": (T, E), "ln_f.weight": (E,), "ln_f.bias": (E,), "lm_head.weight": (V, E),
    "shortcut.ln.weight": (E,), "shortcut.ln.bias": (E,),
    "shortcut.attn.c_q.weight": (E, E), "shortcut.attn.c_q.bias": (E,),
    "shortcut.attn.c_kv.weight": (E, 2 * E), "shortcut.attn.c_kv.bias": (2 * E,),
    "shortcut.attn.c_proj.weight": (E, E), "shortcut.attn.c_proj.bias": (E,),
    **{f"h.{i}.{name}": shape for i in range(3) for name, shape in BLOCK.items()},
    **{f"shortcut.features.{s}.{name}": shape for s in (0, 2) for name, shape in FEATURE.items()},
}


def interop(*arguments):
    return subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True)


def run(*arguments):
    done = interop(*arguments)
    assert done.returncode == 0, f"interop {arguments}: {done.stderr}"


def refused(reason, *arguments):
    done = interop(*arguments)
    assert done.returncode == 1 and reason in done.stderr, f"interop {arguments}: {done.returncode}, {done.stderr}"


def same(a, b, what):
    """The same type, shape and bits."""
    assert a.dtype == b.dtype and a.shape == b.shape, f"{what}: {a.dtype} {a.shape}, {b.dtype} {b.shape}"
    assert a.tobytes() == b.tobytes(), what


def value(name, shape, dtype):
    """The same as value() in interop.cpp."""
    count = int(np.prod(shape))
    return (sum(name.encode()) + np.arange(count) / 1024).astype(dtype).reshape(shape)


def python_reads_weights(folder):
    for kind, dtype in ("float", np.float32), ("double", np.float64):
        path = folder / f"{kind}.safetensors"
        run("save", kind, path)
        tensors = safetensors.numpy.load_file(path)
        assert tensors.keys() == SHAPES.keys(), tensors.keys() ^ SHAPES.keys()
        for name, shape in SHAPES.items():
            same(tensors[name], value(name, shape, dtype), name)
        with safetensors.safe_open(path, "np") as file:
            metadata = file.metadata()
        assert metadata["format"] == "pt"  # transformers requires it
        assert json.loads(metadata["fathom.config"]) == CONFIG, metadata["fathom.config"]


def fathom_reads_weights(folder):
    numbers = np.random.default_rng(1)
    path, back = folder / "python.safetensors", folder / "back.safetensors"

    def check(tensors, metadata=None, prefix=""):
        safetensors.numpy.save_file({prefix + name: tensor for name, tensor in tensors.items()}, path, metadata)
        run("resave", path, back)
        again = safetensors.numpy.load_file(back)
        assert again.keys() == SHAPES.keys()
        for name, tensor in tensors.items():
            same(again[name], tensor.astype(np.float32), name)

    single = {name: numbers.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}
    double = {name: numbers.standard_normal(shape) for name, shape in SHAPES.items()}
    # Any finite bits: numbers of every magnitude, including subnormals.
    half = {}
    for name, shape in SHAPES.items():
        bits = numbers.integers(0, 0x7C00, shape) | (numbers.integers(0, 2, shape) << 15)
        half[name] = bits.astype(np.uint16).view(np.float16)
    mixed = {name: (single, double, half)[i % 3][name] for i, name in enumerate(reversed(SHAPES))}
    for tensors in single, double, half, mixed:
        check(tensors)
    check(single, {"format": "pt"}, "transformer.")
    check(half, {"fathom.config": json.dumps(CONFIG, indent=1)})

    # Mismatched files from Python are refused.
    safetensors.numpy.save_file({**single, "wte.weight": single["wte.weight"].T.copy()}, path)
    refused("wte.weight: expected F32, F64, BF16 or F16 [13, 8], found F32 [8, 13]", "resave", path, back)
    safetensors.numpy.save_file({**single, "ln_f.bias": np.zeros(E, np.int64)}, path)
    refused("ln_f.bias: expected F32, F64, BF16 or F16 [8], found I64 [8]", "resave", path, back)
    safetensors.numpy.save_file(single, path, {"fathom.config": json.dumps({**CONFIG, "heads": 4})})
    refused("config heads: expected 2, found 4", "resave", path, back)


def write_tensors(path, tensors):
    """{name: (type, array)}, with bf16 as its bits. By hand, because safetensors' API for bytes has changed between versions."""
    header, data = {}, b""
    for name, (dtype, array) in tensors.items():
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": (len(data), len(data) + array.nbytes)}
        data += array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    safetensors.deserialize(path.read_bytes())  # checks that the file is valid


def read_tensors(path):
    """{name: (type, array)}, with bf16 as its bits."""
    types = {"F32": np.float32, "BF16": np.uint16, "I8": np.int8}
    tensors = {}
    for name, entry in safetensors.deserialize(pathlib.Path(path).read_bytes()):
        tensors[name] = entry["dtype"], np.frombuffer(entry["data"], types[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def bf16_bits(x):
    """The bits of the nearest bf16, ties to even: of the two neighbours, the one that is nearer or has an even last bit."""
    bits = x.astype(np.float32).view(np.uint32)
    below = bits & 0xFFFF0000
    above = below + 0x10000
    exact = x.astype(np.float64)
    down = np.abs(exact - below.view(np.float32))
    up = np.abs(exact - above.view(np.float32))
    even = (below >> 16) % 2 == 0
    return np.where((down < up) | ((down == up) & even), below >> 16, above >> 16).astype(np.uint16)


def int8_of(x, axis):
    """Scales along an axis, and the nearest steps, halves away from zero."""
    scale = np.abs(x).max(axis) / np.float32(127)
    ratio = x / np.expand_dims(scale, axis)
    return scale, (np.sign(ratio) * np.floor(np.abs(ratio) + np.float32(0.5))).astype(np.int8)


def weights_in_other_types(folder):
    numbers = np.random.default_rng(4)
    path, back, again = folder / "python.safetensors", folder / "back.safetensors", folder / "again.safetensors"
    single = {name: numbers.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}
    safetensors.numpy.save_file(single, path)

    bf16 = {name: ("BF16", bf16_bits(x)) if x.ndim == 2 else ("F32", x) for name, x in single.items()}
    # The two embeddings are not multiplied; all else has a scale for each output: row of the projection, otherwise column.
    int8 = {}
    for name, x in single.items():
        if x.ndim == 1:
            int8[name] = "F32", x
        elif name in ("wte.weight", "wpe.weight"):
            int8[name] = bf16[name]
        else:
            scale, steps = int8_of(x, 1 if name == "lm_head.weight" else 0)
            int8[name], int8[name + ".scale"] = ("I8", steps), ("F32", scale)
    for kind, expected in ("bf16", bf16), ("int8", int8):
        run("resave", path, back, kind)
        found = read_tensors(back)
        assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
        for name, (dtype, array) in expected.items():
            assert found[name][0] == dtype, f"{name}: {found[name][0]}, {dtype}"
            same(found[name][1], array, f"{kind} {name}")
        with safetensors.safe_open(back, "np") as file:
            assert json.loads(file.metadata()["fathom.config"]) == CONFIG

        # The other direction: fathom reads Python's file as these numbers.
        write_tensors(path, expected)
        run("resave", path, again)
        read = safetensors.numpy.load_file(again)
        for name in SHAPES:
            dtype, array = expected[name]
            if dtype == "BF16":
                array = (array.astype(np.uint32) << 16).view(np.float32)
            if dtype == "I8":
                scale = expected[name + ".scale"][1]
                array = array.astype(np.float32) * (scale[:, None] if name == "lm_head.weight" else scale)
            same(read[name], array, f"{kind} {name}")
        safetensors.numpy.save_file(single, path)


def fathom_reads_tokens(folder):
    numbers = np.random.default_rng(2)
    back = folder / "back.npy"

    def check(array, vocab=1 << 31):
        run("tokens", path, vocab, back)
        same(np.load(back), array.astype(np.int32).reshape(-1), f"{array.dtype} {array.shape}")

    path = folder / "tokens.npy"
    for dtype in "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64":
        largest = min(np.iinfo(dtype).max, 2**31 - 1)
        for shape in (1000,), (50, 20), (2, 3, 4), (1,), ():
            array = numbers.integers(0, largest, shape, dtype=dtype, endpoint=True)
            np.save(path, array)
            check(array)
    array = numbers.integers(0, 50257, (3, 7), dtype=np.uint16)
    for version in (1, 0), (2, 0), (3, 0):
        with open(path, "wb") as file:
            np.lib.format.write_array(file, array, version)
        check(array)
    np.save(path, array[:, ::2])  # contiguous in the file, but not in memory
    check(array[:, ::2])

    np.save(path, np.asfortranarray(array))
    check(array)
    np.save(path, array.T)  # the same bytes, declared as Fortran order
    check(array.T)
    array = numbers.integers(0, 50257, (2, 5, 3, 4), dtype=np.int32)
    np.save(path, np.asfortranarray(array))
    check(array)
    for dtype in ">u1", ">i1", ">u2", ">i2", ">u4", ">i4", ">u8", ">i8":
        np.save(path, (array % 100).astype(dtype))
        check(array % 100)

    # Files that numpy.save does not write: exactly those that numpy.load reads are accepted.
    def file(descr, shape, data, order):
        header = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode("latin1")
        return b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header + data

    def check_as_numpy(name, shape="(2,)", order="False"):
        """Whether both read it, or neither."""
        try:
            itemsize = np.dtype(name).itemsize
        except TypeError:
            itemsize = 1
        path.write_bytes(file(f"'{name}'", shape, bytes(range(2 * itemsize)) if itemsize < 4 else bytes(2 * itemsize), order))
        try:
            array = np.load(path)
            valid = array.dtype.kind in "iu"
        except (ValueError, TypeError):
            valid = False
        if valid:
            check(array)
        else:
            refused("", "tokens", path, 1 << 31, back)
        return valid

    for shape, order in ("(2L,)", "False"), ("(1L, 2L)", "False"), ("(2, 1)", "True"), ("[2]", "False"), ("(2)", "False"):
        check_as_numpy("<u2", shape, order)
    kinds = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "i16", "u3", "i", "u", "b", "B", "h", "H", "I", "l", "L", "q", "Q", "p",
             "P", "n", "N", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "int", "uint", "byte", "ushort",
             "intc", "longlong", "intp", "e", "?", "f4", "c8", "S2")
    assert sum(check_as_numpy(order + kind) for order in ("", "<", ">", "=", "|", "!") for kind in kinds) > 100
    path.write_bytes(file("[('a', '<u2')]", "(2,)", bytes(4), "False"))
    assert np.load(path).dtype.names == ("a",)
    refused("records", "tokens", path, 65536, back)
    path = folder / "tokens.npy"
    np.save(path, np.array([True, False]))
    refused("|b1", "tokens", path, 65536, back)
    np.save(path, array.astype(np.float32))
    refused("<f4", "tokens", path, 65536, back)
    np.save(path, np.array([1, 2, 50257]))
    refused("token 50257 at position 2", "tokens", path, 50257, back)
    np.save(path, np.array([{"a": 1}]), allow_pickle=True)
    refused("|O", "tokens", path, 65536, back)
    np.savez(folder / "archive.npz", array)
    (folder / "archive.npz").rename(path)
    refused("is not a .npy file", "tokens", path, 65536, back)

    path = folder / "tokens.bin"
    array = numbers.integers(0, 65536, 1000, dtype=np.uint16)
    array.tofile(path)
    check(array)


def python_reads_tokens(folder):
    numbers = np.random.default_rng(3)
    source = folder / "source.npy"
    for count in 1, 9, 10, 1000:
        array = numbers.integers(0, 65536, count, dtype=np.int64)
        np.save(source, array)
        run("tokens", source, 65536, folder / "out.bin")
        same(np.fromfile(folder / "out.bin", "<u2"), array.astype("<u2"), ".bin")
        run("tokens", source, 65536, folder / "out.npy")
        same(np.load(folder / "out.npy"), array.astype(np.int32), ".npy")
        same(np.load(folder / "out.npy", mmap_mode="r"), array.astype(np.int32), ".npy, mapped")
        with open(folder / "out.npy", "rb") as file:
            assert np.lib.format.read_magic(file) == (1, 0)
            assert np.lib.format.read_array_header_1_0(file)[1:] == (False, np.dtype("<i4"))


def arrays_of_codecs(folder):
    numbers = np.random.default_rng(5)
    path, back = folder / "codes.npy", folder / "back.npy"
    for dtype, shape in ("int64", (8, 75)), ("int64", (1, 8, 75)), ("int32", (1, 1, 4, 2)), ("uint16", (2, 300)):
        array = numbers.integers(0, 1024, shape, dtype)
        np.save(path, array)
        run("codes", path, shape[-2], back)
        same(np.load(back), array.astype(np.int32).reshape(shape[-2:]), f"{dtype} {shape}")
    np.save(path, np.asfortranarray(array))
    run("codes", path, 2, back)
    same(np.load(back), array.astype(np.int32), "Fortran order")
    np.save(path, array.T)
    refused("the shape [300, 2]; expected 2 codebooks", "codes", path, 2, back)


for test in (python_reads_weights, fathom_reads_weights, weights_in_other_types, fathom_reads_tokens, python_reads_tokens,
             arrays_of_codecs):
    with tempfile.TemporaryDirectory() as name:
        test(pathlib.Path(name))
    print(f"{test.__name__}: passed")
