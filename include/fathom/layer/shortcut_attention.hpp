// The cross-attention of the layerwise attention shortcut: a query attends to features of earlier depths, at its own
// and at earlier positions (Verma and Pilanci, arXiv 2409.10870).
#pragma once

#include "fathom/layer/attention.hpp"
#include "fathom/layer/part.hpp"

namespace fathom::layers {

/// The options of a shortcut whose output projection is initialized as `Output`.
template <initial Output>
struct shortcut_options : attention_options {
  static constexpr initial output_initial = Output;
};

/// y = residual + Cross(x, memory):  q = x W_q + b_q;  k, v = memory W_kv + b_kv;  softmax(q k^T / sqrt(d)) v over all
/// rows of memory at the query's own and at earlier positions; then the output projection.
///   x, y [rows, E];  memory [rows * D, E], D rows for every position;  H heads, d = E / H
template <index E, index H, index D, initial Output = initial::residual>
using shortcut_attention = attention<E, H, shortcut_options<Output>, rows_of_source<D>>;

}  // namespace fathom::layers

namespace fathom {
using layers::shortcut_attention;

/// The paper's cross-attention to a source's rows, as a part: pre<"shortcut", layer_norm<>, look_back<4>,
/// features<...>>. `Output` initializes the output projection: initial::residual or initial::zero.
template <index Heads, initial Output = initial::residual, class... Options>
struct look_back {
  static constexpr auto tensor_name = fixed_string("attn");
  static constexpr auto options = fields(field<"heads">(Heads), Options::option...);
  template <class At>
  using bind = layers::attention<At::width, Heads, typename detail::changed_options<layers::shortcut_options<Output>, Options...>::type,
                                 layers::rows_of_source<At::source_rows>>;
};

}  // namespace fathom
