"""Writes include/fathom/data/unicode.hpp: which code points are letters, numbers and white space.

    pip install unicodedata2==16.0.0
    python cmake/make_unicode.py

The version is that of tokenizers 0.23 and tiktoken 0.14; tests/make_bpe.py compares all code points with theirs.
"""

import pathlib

import unicodedata2

OTHER, LETTER, NUMBER, SPACE = range(4)
# The property White_Space, which does not follow from categories.
WHITE_SPACE = {*range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000}
BLOCK = 128  # code points; at this size index and blocks are smallest


def kind(code):
    if code in WHITE_SPACE:
        return SPACE
    return {"L": LETTER, "N": NUMBER}.get(unicodedata2.category(chr(code))[0], OTHER)


def rows(items, width=120):
    """The items, separated by commas, in lines of maximum length."""
    lines = ["   "]
    for item in items:
        if len(lines[-1]) + len(item) + 2 > width:
            lines.append("   ")
        lines[-1] += f" {item},"
    return "\n".join(lines)


def main():
    kinds = [kind(code) for code in range(0x110000)]
    used = max(code for code in range(0x110000) if kinds[code] != OTHER) // BLOCK + 1
    blocks, index = [], []
    for n in range(used):
        block = kinds[n * BLOCK : (n + 1) * BLOCK]
        words = [sum(block[w * 32 + i] << 2 * i for i in range(32)) for w in range(BLOCK // 32)]
        if words not in blocks:
            blocks.append(words)
        index.append(blocks.index(words))
    assert len(blocks) <= 256 and BLOCK == 128

    pathlib.Path(__file__).parent.parent.joinpath("include/fathom/data/unicode.hpp").write_text(f"""\
// Which code points are letters, numbers and white space: Unicode {unicodedata2.unidata_version}. Made by cmake/make_unicode.py.
#pragma once

#include "fathom/core/standard.hpp"  // first

#include <array>
#include <cstdint>

namespace fathom::data {{

/// Unicode categories: letters are L*, numbers N*; space has the property White_Space.
enum class symbol_kind : std::uint8_t {{ other, letter, number, space }};

namespace detail {{
// clang-format off
/// For each {BLOCK} code points from 0 on, the index of the block with their kinds.
inline constexpr std::array<std::uint8_t, {used}> unicode_index{{
{rows(map(str, index))}
}};
/// The kinds of {BLOCK} code points, 32 to a word, two bits each, the first lowest.
inline constexpr std::array<std::uint64_t, {4 * len(blocks)}> unicode_blocks{{
{rows(f"{word:#x}" for block in blocks for word in block)}
}};
// clang-format on
}}  // namespace detail

/// The kind of a code point. Unassigned code points are other.
[[nodiscard]] constexpr symbol_kind kind_of(std::uint32_t code) {{
  if (code / {BLOCK} >= detail::unicode_index.size()) return symbol_kind::other;
  const std::uint64_t word = detail::unicode_blocks[4U * detail::unicode_index[code / {BLOCK}] + code % {BLOCK} / 32];
  return static_cast<symbol_kind>(word >> 2 * (code % 32) & 3);
}}

}}  // namespace fathom::data
""")


main()
