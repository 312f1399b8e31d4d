"""GGUF files as llama.cpp's own Python package writes them, and what it reads in them.

    pip install gguf==0.19.0 numpy
    python tests/make_gguf.py golden                     # makes tests/golden/gguf
    python tests/make_gguf.py compare FILE.gguf NUMBERS  # NUMBERS: all tensors of the file, as fathom dequantises them to float32

`golden` writes types.gguf, with a tensor of each type that fathom reads, and types.safetensors, with the same dequantised by
gguf.quants; and metadata.gguf, with values of all types. The K types, which gguf.quants does not quantise, are random bytes with
finite scales. `compare` finds numbers of any GGUF file that differ in a bit.
"""

import json
import pathlib
import struct
import sys

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFValueType as Value

GOLDEN = pathlib.Path(__file__).parent / "golden" / "gguf"
K_SCALES = {Type.Q2_K: (80, 82), Type.Q3_K: (108,), Type.Q4_K: (0, 2), Type.Q5_K: (0, 2), Type.Q6_K: (208,)}  # halves in a block


def numbers(random, rows, width):
    """Of different magnitudes in each block of 32, some of them all zero or subnormal as halves."""
    x = random.standard_normal((rows, width // 32, 32)) * 2.0 ** random.integers(-6, 5, (rows, width // 32, 1))
    x[0, 0] = 0
    x[0, 1] *= 2.0**-20
    return x.reshape(rows, width).astype(np.float32)


def blocks_of(random, kind, rows, width):
    """A tensor of a type: its bytes, or numbers, as the package wants them."""
    x = numbers(random, rows, width)
    if kind == Type.F64:
        return x.astype(np.float64) * (1 + 1e-9)  # which are no floats
    if kind in (Type.I8, Type.I16, Type.I32):
        dtype = {Type.I8: np.int8, Type.I16: np.int16, Type.I32: np.int32}[kind]
        info = np.iinfo(dtype)
        return random.integers(info.min, info.max, (rows, width), dtype, endpoint=True)
    if kind == Type.F16:
        x[1, :12] = [0, -0.0, 65504, -65504, 2.0**-24, -(2.0**-24), 1023 * 2.0**-24, 2.0**-14, np.inf, -np.inf, np.nan, 1]
    if kind in (Type.F32, Type.BF16):
        x[1, :6] = [0, -0.0, np.inf, -np.inf, np.nan, 1e-40]
    if kind not in K_SCALES:
        return gguf.quants.quantize(x, kind)
    numbers_of, bytes_of = gguf.GGML_QUANT_SIZES[kind]
    bytes_ = random.integers(0, 256, (rows, width // numbers_of, bytes_of), np.uint8)
    for at in K_SCALES[kind]:
        scales = random.standard_normal((rows, width // numbers_of)).astype(np.float16)
        scales[0, 0] = 3 * 2.0**-24
        bytes_[:, :, at : at + 2] = scales.view(np.uint8).reshape(rows, width // numbers_of, 2)
    return bytes_.reshape(rows, -1)


def dequantised(data, kind):
    if kind in (Type.F64, Type.I8, Type.I16, Type.I32):
        return data.astype(np.float32)
    return gguf.quants.dequantize(data, kind)


def write_safetensors(path, tensors):
    header, data = {}, b""
    for name, tensor in tensors.items():
        tensor = np.ascontiguousarray(tensor, np.float32)
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [len(data), len(data) + tensor.nbytes]}
        data += tensor.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def close(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make_types():
    random = np.random.default_rng(1)
    writer, expected = gguf.GGUFWriter(GOLDEN / "types.gguf", "golden"), {}
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for kind in (Type.F32, Type.F16, Type.BF16, Type.F64, Type.I8, Type.I16, Type.I32, Type.Q4_0, Type.Q4_1, Type.Q5_0,
                 Type.Q5_1, Type.Q8_0, Type.Q2_K, Type.Q3_K, Type.Q4_K, Type.Q5_K, Type.Q6_K):
        rows, width = (3, 512) if kind in K_SCALES else (3, 96)
        data = blocks_of(random, kind, rows, width)
        expected[kind.name] = dequantised(data, kind)
        assert expected[kind.name].shape == (rows, width)
        writer.add_tensor(kind.name, data, raw_dtype=kind)
    writer.add_tensor("IQ4_NL", np.zeros((1, 18), np.uint8), raw_dtype=Type.IQ4_NL)  # which fathom does not dequantise
    close(writer)
    write_safetensors(GOLDEN / "types.safetensors", expected)


def make_metadata():
    writer = gguf.GGUFWriter(GOLDEN / "metadata.gguf", "golden")
    writer.add_custom_alignment(64)
    for kind, value in ((Value.UINT8, 255), (Value.INT8, -128), (Value.UINT16, 65535), (Value.INT16, -32768),
                        (Value.UINT32, 2**32 - 1), (Value.INT32, -(2**31)), (Value.FLOAT32, 1e-5), (Value.BOOL, True),
                        (Value.STRING, "Grüße\n"), (Value.UINT64, 2**64 - 1), (Value.INT64, -(2**63)), (Value.FLOAT64, 0.1)):
        writer.add_key_value("one." + kind.name.lower(), value, kind)
    for kind, values in ((Value.UINT8, [0, 255]), (Value.INT8, [-1, 1]), (Value.UINT16, [1, 2, 3]), (Value.INT16, [-4]),
                         (Value.UINT32, [5, 6]), (Value.INT32, [3, -3, 3]), (Value.FLOAT32, [0.5, -1e30]),
                         (Value.BOOL, [True, False, True]), (Value.STRING, ["", "Ġ", "two words"]),
                         (Value.UINT64, [2**63 - 1]), (Value.INT64, [-(2**63)]), (Value.FLOAT64, [0.1, 1e300])):
        writer.add_key_value("many." + kind.name.lower(), values, Value.ARRAY, sub_type=kind)
    writer.add_key_value("many.array", [[["a", "b"], [""]], [["c"]]], Value.ARRAY)
    x = np.arange(24, dtype=np.float32)
    writer.add_tensor("one", x[:3])
    writer.add_tensor("two", x[:6].reshape(2, 3).astype(np.float16))
    writer.add_tensor("three", x.reshape(4, 3, 2))
    writer.add_tensor("four", x.reshape(4, 3, 2, 1).astype(np.int16))
    close(writer)


def compare(path, numbers_path):
    found, at, different = np.memmap(numbers_path, np.uint32), 0, 0
    tensors = gguf.GGUFReader(path).tensors
    for tensor in tensors:
        expected = dequantised(tensor.data, tensor.tensor_type).ravel().view(np.uint32)
        here = found[at : at + expected.size]
        count = np.count_nonzero(expected != here) if here.size == expected.size else expected.size
        if count:
            print(f"{tensor.name}: {count} of {expected.size} numbers differ")
        different, at = different + count, at + expected.size
    print(f"{len(tensors)} tensors, {at} numbers, {different} different; {found.size} were given")
    return different == 0 and at == found.size


if __name__ == "__main__":
    if sys.argv[1:] == ["golden"]:
        GOLDEN.mkdir(exist_ok=True)
        make_types()
        make_metadata()
    elif len(sys.argv) == 4 and sys.argv[1] == "compare":
        sys.exit(0 if compare(*sys.argv[2:]) else 1)
    else:
        sys.exit(__doc__)
