// Self-attention whose one softmax also runs over features of earlier depths: the shortcut's `joint` placement.
#pragma once

#include "fathom/layer/attention.hpp"

namespace fathom::layers {

/// y = residual + Joint(x, memory): queries, keys and values of the block's own context come from its c_attn, further
/// keys and values from the features (shortcut.attn.c_kv); one softmax over both; the block's output projection.
///   x, y [rows, E];  memory [rows * D, E];  H heads
template <index E, index H, index D>
using joint_attention = attention<E, H, attention_options, own_context, rows_of_source<D, "/shortcut.attn.c_kv">>;

}  // namespace fathom::layers

namespace fathom {
using layers::joint_attention;
}  // namespace fathom
