"""What packed_layout.cpp must print: the bytes of packed weights made from the description in core/packed_layout.hpp alone."""
import struct

IN, OUT = 69, 37
PANELS = -(-OUT // 16)


def show(name, data):
    h = 14695981039346656037  # FNV-1a
    for byte in data:
        h = (h ^ byte) * 1099511628211 % 2**64
    print(name, f"{h:016x}")


def as_float(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def number(k, j):  # exact in bf16
    return ((31 * k + 7 * j + k * j) % 127 - 63) / 64 if k < IN and j < OUT else 0.0


def bits_of_bf16(x):
    return struct.unpack("<I", struct.pack("<f", x))[0] >> 16


def columns(panel, n=16):
    return range(panel * n, panel * n + n)


print("version 1")
show("double", b"".join(struct.pack("<d", number(k, j)) for p in range(-(-OUT // 8)) for k in range(IN) for j in columns(p, 8)))
show("float", b"".join(struct.pack("<f", number(k, j)) for p in range(PANELS) for k in range(IN) for j in columns(p)))
show("bf16", b"".join(struct.pack("<HH", bits_of_bf16(number(2 * d, j)), bits_of_bf16(number(2 * d + 1, j)))
                      for p in range(PANELS) for d in range(16 * -(-IN // 32)) for j in columns(p)))

scales = [as_float(max(abs(number(k, j)) for k in range(IN)) / 127) for j in range(PANELS * 16)]


def q8(k, j):  # to the nearest, halves away from 0
    ratio = as_float(number(k, j) / scales[j]) if scales[j] else 0.0
    whole = int(ratio)
    return whole + (ratio - whole >= 0.5) - (ratio - whole <= -0.5)


show("int8", b"".join(struct.pack("<4b", *(q8(4 * d + r, j) for r in range(4)))
                      for p in range(PANELS) for d in range(-(-IN // 4)) for j in columns(p))
     + b"".join(struct.pack("<f", scale) for scale in scales)
     + b"".join(struct.pack("<i", sum(q8(k, j) for k in range(IN))) for j in range(PANELS * 16)))


def groups(name, bits, has_offset):
    def q(k, j):
        return (31 * k + 7 * j + k * j) % 2**bits if k < IN and j < OUT else 0

    data = bytearray()
    for p in range(PANELS):
        for g in range(-(-IN // 32)):
            data += b"".join(struct.pack("<H", 100 * g + j if j < OUT else 0) for j in columns(p))
            if has_offset:
                data += b"".join(struct.pack("<H", 1000 + j + g if j < OUT else 0) for j in columns(p))
            for d in range(bits):
                for j in columns(p):
                    for k in range(32 * g + 4 * d, 32 * g + 4 * d + 4):
                        data.append(q(k, j) if bits == 8 else q(k, j) | q(k + 16, j) << 4)
    show(name, data)


groups("int4", 4, True)
groups("symmetric_int4", 4, False)
groups("grouped_int8", 8, False)
