// Causal multi-head self-attention.
#pragma once

#include "fathom/layer/attention.hpp"

namespace fathom::layers {

/// y = residual + Attention(x): q, k, v = x W + b; softmax(q k^T / sqrt(d)) v per head, over the positions up to the
/// query's own; then the output projection (Vaswani et al., arXiv 1706.03762).   x, y [rows, E]; H heads, d = E / H
template <index E, index H>
using self_attention = attention<E, H, attention_options, own_context>;

}  // namespace fathom::layers

namespace fathom {
using layers::self_attention;
}  // namespace fathom
