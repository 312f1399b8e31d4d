#!/usr/bin/env python3
"""Compares fathom::json with Python's json: python3 json_python.py JSON_LINES

Texts are JSON of all kinds, most of them damaged at a few bytes. Both must accept the same ones, except where Python is not
strict: it accepts NaN and Infinity, numbers too large for a double and halves of surrogate pairs, and no byte order mark. Values
must be the same, integers exactly and doubles bit for bit. fathom's output must be valid JSON in Python, with keys in order,
Python's escapes, and no more digits than Python's repr, which is the shortest.
"""
import json
import random
import re
import subprocess
import sys

rng = random.Random(7)


def number():
    kind = rng.randrange(6)
    if kind == 0:
        return str(rng.randrange(-10, 100))
    if kind == 1:
        return str(rng.choice([1, -1]) * ((1 << rng.choice([31, 32, 53, 63, 64])) + rng.randrange(-2, 3)))
    if kind == 2:
        return repr(rng.choice([1, -1]) * rng.random() * 10.0 ** rng.randrange(-320, 309))
    if kind == 3:
        return f"{rng.randrange(10**6)}.{rng.randrange(10**rng.choice([1, 5, 25]))}"
    if kind == 4:
        return f"{rng.randrange(100)}{rng.choice('eE')}{rng.choice(['', '+', '-'])}{rng.randrange(330)}"
    return repr(rng.uniform(-1, 1))


def string():
    pieces = []
    for _ in range(rng.randrange(6)):
        kind = rng.randrange(5)
        if kind == 0:
            pieces.append(rng.choice(['\\"', "\\\\", "\\/", "\\b", "\\f", "\\n", "\\r", "\\t"]))
        elif kind == 1:
            pieces.append(f"\\u{rng.randrange(0xD800):04{rng.choice('xX')}}")
        elif kind == 2:
            code = rng.randrange(0x10000, 0x110000) - 0x10000
            pieces.append(f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 1023):04x}")
        elif kind == 3:
            pieces.append(chr(rng.choice([0x7F, 0xE9, 0x4E16, 0xFFFF, 0x1F600, 0x10FFFF])))
        else:
            pieces.append(rng.choice(["a", "key", " ", "0", "~"]))
    return '"' + "".join(pieces) + '"'


def space():
    return rng.choice(["", "", "", " ", "\n", "\t\r "])


def text(depth=0):
    kind = rng.randrange(10 if depth < 5 else 7)
    if kind < 3:
        return number()
    if kind < 6:
        return string()
    if kind == 6:
        return rng.choice(["null", "true", "false"])
    inner = [space() + (string() + space() + ":" if kind == 7 else "") + space() + text(depth + 1) + space()
             for _ in range(rng.randrange(5))]
    return ("{%s}" if kind == 7 else "[%s]") % ",".join(inner) if inner else ("{%s}" if kind == 7 else "[%s]") % space()


def damaged(data):
    data = bytearray(data)
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(4)
        if kind == 0:
            del data[at:at + rng.randrange(1, 4)]
        elif kind == 1:
            data[at:at] = bytes([rng.choice(b'{}[]:,"\\u0123eE+-.tn \x00\x01\x7f\x80\xbf\xc0\xc3\xe0\xed\xa0\xf0\xf4\xff')])
        elif kind == 2 and at < len(data):
            data[at] = rng.randrange(256)
        elif at < len(data):
            data[at:at] = data[at:at + rng.randrange(8)]
    return bytes(data)


class NotStrict(Exception):
    pass


def refuse(_):
    raise NotStrict


def real(digits):
    value = float(digits)
    return value if abs(value) != float("inf") else refuse(digits)


def integer(digits):
    value = int(digits)
    return value if -(2**63) <= value < 2**64 else real(digits)


def expected(data):
    """Python's value, with strict rules; raises an error for invalid JSON."""
    value = json.loads(data.decode("utf-8-sig"), parse_constant=refuse, parse_float=real, parse_int=integer)
    json.dumps(value, ensure_ascii=False).encode()  # halves of surrogate pairs fail here
    return value


def is_same(a, b):
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return a.hex() == b.hex()
    if isinstance(a, list):
        return len(a) == len(b) and all(map(is_same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(is_same(a[key], b[key]) for key in a)
    return a == b


def has_reals(value):
    if isinstance(value, (list, dict)):
        return any(map(has_reals, value.values() if isinstance(value, dict) else value))
    return isinstance(value, float)


def digits(number):
    return len(re.sub(r"e.*|[-.]", "", number).strip("0"))


def main():
    cases = [damaged(text().encode()) for _ in range(20000)] + [b"\xef\xbb\xbf[1]", b"", b"\xff\xfe[\0"]
    run = subprocess.run([sys.argv[1]], input="".join(case.hex() + "\n" for case in cases).encode(), stdout=subprocess.PIPE, check=True)
    lines = run.stdout.decode().split("\n")
    assert len(lines) == len(cases) + 1, f"{len(lines)} lines of {len(cases)} texts"
    good = 0
    for case, line in zip(cases, lines):
        try:
            value = expected(case)
        except (ValueError, NotStrict, RecursionError):
            assert line == "no JSON", f"{case!r} is no JSON to Python, and fathom makes {line} of it"
            continue
        assert line != "no JSON", f"{case!r} is no JSON to fathom, and Python makes {value!r} of it"
        assert is_same(json.loads(line), value), f"{case!r}: fathom makes {line} of it, and Python {value!r}"
        if not has_reals(value):
            written = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
            assert line == written, f"{case!r}: fathom writes {line}, and Python {written}"
        elif isinstance(value, float):
            assert digits(line) <= digits(repr(value)), f"{case!r}: fathom writes {line}, and Python {value!r}"
        good += 1
    assert 5000 < good < len(cases) - 5000, f"only {good} of {len(cases)} texts are JSON, or too many"
    print(f"{len(cases)} texts, {good} of them JSON: the same as Python's")


if __name__ == "__main__":
    main()
