// The layout of packed weights: the same bytes for every processor, whatever its vectors are, so that files can hold them.
//
// Version 1. All numbers are little-endian. A matrix is W [In, Out], of y = x W; a head of a table [Rows, Width] is the matrix
// [Width, Rows], its transpose. Its columns are divided into panels of N columns, panel p with columns p N to p N + N - 1:
// N = 16, or 8 for double. The last one is filled up with columns of zeros. Panels follow each other without gaps:
// panels = ceil(Out / N).
//
//   float, double   words [panels][In][N]              W[k, p N + c] is word [p][k][c]
//   bf16            words [panels][depth][N], 32 bits   word [p][d][c] has W[2 d, p N + c] in its lower half and
//                                                       W[2 d + 1, p N + c] in its upper half; depth = 16 ceil(In / 32)
//   int8            words [panels][depth][N], 32 bits   byte r (the lowest is 0) of word [p][d][c] is q[4 d + r, p N + c], from
//                                                       -127 to 127; depth = ceil(In / 4)
//                   scales [panels N], float            W[k, j] = scales[j] q[k, j]; NaN: column j is not finite
//                   totals [panels N], 32 bits, signed  totals[j] is the sum of q[k, j] over k
//   in groups       groups [panels][ceil(In / 32)]      group [p][g] has the rows 32 g to 32 g + 31 of panel p:
//   (core/            scales [N], f16
//   grouped.hpp)      offsets [N], f16                  int4 only
//                     words [8][N], 32 bits             eight bits: byte r of word [d][c] is q of row 4 d + r
//                     words [4][N], 32 bits             four bits: byte r of word [d][c] has q of row 4 d + r in its lower
//                                                       half and q of row 4 d + r + 16 in its upper half
//
// Rows from In on, and columns from Out on, are 0: in groups, their q is 0, and so are scales and offsets of such columns; for
// int8, so are their totals, and their scales. A matrix begins at a multiple of 64 bytes, as do the scales and the totals of
// int8, which follow its words in that order. Where the last group ends elsewhere, what follows up to a multiple of 64 bytes
// is not specified.
#pragma once

#include "fathom/core/standard.hpp"  // first

#include "fathom/core/types.hpp"

namespace fathom {

/// The version of the layout above. It grows with every change of the bytes.
inline constexpr int packed_layout_version = 1;

/// Columns of a panel of weights with the scalar T: 64 bytes of words. For float that is one vector of AVX-512, two of AVX2,
/// four of SSE and NEON, and the width of an AMX tile.
template <class T>
inline constexpr index panel_columns = 64 / static_cast<index>(sizeof(T));

/// A column of bf16 has a multiple of this many words, pairs of rows: the depth of an AMX tile.
inline constexpr index packed_bf16_words = 16;

}  // namespace fathom
