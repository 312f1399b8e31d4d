// The cross-attention of the layerwise attention shortcut: a query looks at features of earlier depths, at its own and
// at all earlier positions (Verma and Pilanci, arXiv 2409.10870).
#pragma once

#include "fathom/layer/attention.hpp"

namespace fathom::layers {

/// The options of a shortcut whose output projection begins as `Output`.
template <initial Output>
struct shortcut_options : attention_options {
  static constexpr initial output_initial = Output;
};

/// y = residual + Cross(x, memory):  q = x W_q + b_q;  k, v = memory W_kv + b_kv;  softmax(q k^T / sqrt(d)) v over the
/// rows of memory that belong to the query's own and to earlier positions, all in one softmax; output projection.
///   x, y [rows, E];  memory [rows * D, E], D rows for every position;  H heads, d = E / H
template <index E, index H, index D, initial Output = initial::residual>
using shortcut_attention = attention<E, H, shortcut_options<Output>, rows_of_source<D>>;

}  // namespace fathom::layers

namespace fathom {
using layers::shortcut_attention;
}  // namespace fathom
