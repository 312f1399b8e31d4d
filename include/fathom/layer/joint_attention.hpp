// Self-attention whose one softmax also runs over features of earlier depths: the shortcut's `joint` placement.
#pragma once

#include "fathom/layer/attention.hpp"
#include "fathom/layer/part.hpp"

namespace fathom::layers {

/// y = residual + Joint(x, memory): queries, keys and values of the block's own context come from its c_attn, further
/// keys and values from the features (shortcut.attn.c_kv); one softmax over both; the block's output projection.
///   x, y [rows, E];  memory [rows * D, E];  H heads
template <index E, index H, index D>
using joint_attention = attention<E, H, attention_options, own_context, rows_of_source<D, "/shortcut.attn.c_kv">>;

}  // namespace fathom::layers

namespace fathom {
using layers::joint_attention;

/// Self-attention whose softmax also runs over a source's rows, as a part; it stands in place of `attention`. In one block only, the
/// tensors of the shortcut may stand at the root, as `shortcut.*`; in several, they are the block's.
template <index Heads, bool AtRoot = true, class... Options>
struct look_back_jointly {
  static constexpr auto source_name = [] {
    if constexpr (AtRoot)
      return fixed_string("/shortcut.features");
    else
      return fixed_string("shortcut.features");
  }();
  static constexpr auto options = fields(field<"heads">(Heads), Options::option...);

 private:
  static consteval auto key_value_name() {
    if constexpr (AtRoot)
      return fixed_string("/shortcut.attn.c_kv");
    else
      return fixed_string("c_kv");
  }

 public:
  template <class At>
  using bind = layers::attention<At::width, Heads, typename detail::changed_options<layers::attention_options, Options...>::type,
                                 layers::own_context, layers::rows_of_source<At::source_rows, key_value_name()>>;
};

}  // namespace fathom
