"""Writes include/fathom/data/nfc_tables.hpp: what Unicode's normalisation form C needs to know of code points.

    pip install unicodedata2==16.0.0 tokenizers==0.23.3
    python cmake/make_nfc.py

The numbers are Unicode's. Of the code points, the tables have those that tokenizers knows, whose normaliser is of Unicode 9:
text of later ones is left as it is there, too.
"""

import pathlib

import unicodedata2
from tokenizers import normalizers

LAST, MARK = "\u0345", "\u0334"  # marks of the classes 240, the highest, and 1, the lowest
NFC, NFD = normalizers.NFC().normalize_str, normalizers.NFD().normalize_str
HANGUL = range(0xAC00, 0xAC00 + 11172)  # by rule, without a table


def rows(items, width=120):
    """The items with commas between them, in lines that are as long as they may be."""
    lines = ["   "]
    for item in items:
        if len(lines[-1]) + len(item) + 2 > width:
            lines.append("   ")
        lines[-1] += f" {item},"
    return "\n".join(lines)


def class_of(code):
    """The combining class, as far as tokenizers knows it."""
    s = chr(code)
    if not unicodedata2.combining(s):
        return 0
    known = any(NFD("a" + t) != "a" + NFD(t[0]) + NFD(t[1]) for t in (LAST + s, s + MARK))
    return unicodedata2.combining(s) if known or s in (LAST, MARK) else 0


def halves(code):
    """The one or two code points that a code point stands for, as far as tokenizers knows them."""
    known = unicodedata2.decomposition(chr(code))
    if not known or known.startswith("<") or NFD(chr(code)) == chr(code):
        return None
    return [int(part, 16) for part in known.split()]


def main():
    codes = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000 and code not in HANGUL]
    classes = {code: kind for code in codes if (kind := class_of(code))}
    parts = {code: two for code in codes if (two := halves(code))}
    composed = sorted((two, code) for code, two in parts.items() if NFC(chr(code)) == chr(code))
    seconds = {two[1] for two, _ in composed} | {*range(0x1161, 0x1176), *range(0x11A8, 0x11C3)}
    excluded = {code for code in parts if NFC(chr(code)) != chr(code)}

    ranges = []
    for code in sorted({*classes, *seconds, *excluded}):
        kind = classes.get(code, 0)
        if ranges and ranges[-1][1:] == [code - 1, kind]:
            ranges[-1][1] = code
        else:
            ranges.append([code, code, kind])
    decompositions = [f"{{{code:#x}, {two[0]:#x}, {two[1] if len(two) > 1 else 0:#x}}}" for code, two in sorted(parts.items())]
    numbers = {code: number for number, code in enumerate(sorted(parts))}

    pathlib.Path(__file__).parent.parent.joinpath("include/fathom/data/nfc_tables.hpp").write_text(f"""\
// What normalisation form C needs to know of code points: Unicode 9, with which tokenizers normalises. Made by
// cmake/make_nfc.py.
#pragma once

#include "fathom/core/standard.hpp"  // first

#include <array>
#include <cstdint>

namespace fathom::data::detail {{

/// Code points that may be another one, or stand elsewhere, in normalised text; with their combining class.
struct nfc_range {{
  std::uint32_t first, last, combining_class;
}};
/// A code point and the one (second is 0) or two that it stands for.
struct nfc_decomposition {{
  std::uint32_t code, first, second;
}};

// clang-format off
inline constexpr std::array<nfc_range, {len(ranges)}> nfc_ranges{{{{
{rows(f"{{{first:#x}, {last:#x}, {kind}}}" for first, last, kind in ranges)}
}}}};
/// In the order of their codes. Hangul has a rule instead.
inline constexpr std::array<nfc_decomposition, {len(decompositions)}> nfc_decompositions{{{{
{rows(decompositions)}
}}}};
/// The positions in nfc_decompositions of those that composing makes, in the order of their two code points.
inline constexpr std::array<std::uint16_t, {len(composed)}> nfc_compositions{{
{rows(str(numbers[code]) for _, code in composed)}
}};
// clang-format on

}}  // namespace fathom::data::detail
""")


main()
