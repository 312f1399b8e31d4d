// Self-attention whose softmax also covers features of earlier depths: the shortcut's `joint` placement; or whose values have them
// added: `own_values`.
#pragma once

#include "fathom/layer/attention.hpp"
#include "fathom/layer/part.hpp"

namespace fathom::layers {

/// y = residual + Joint(x, memory): c_attn makes queries, keys and values of the own context, shortcut.attn.c_kv makes
/// further keys and values of the features. One softmax covers both; then comes the block's output projection. MoDA (Zhu et al.,
/// arXiv 2603.15619) is near: its queries see keys and values of all preceding layers, but only those of their own position.
///   x, y [rows, E];  memory [rows * D, E];  H heads
template <index E, index H, index D>
using joint_attention = attention<E, H, attention_options, own_context, rows_of_source<D, "/shortcut.attn.c_kv">>;

}  // namespace fathom::layers

namespace fathom {
using layers::joint_attention;

/// Self-attention whose softmax also covers a source's rows, as a part that replaces `attention`. With AtRoot, the
/// shortcut's tensors are named `shortcut.*`, outside of the block; use it in one block only.
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

/// Self-attention whose values have features added to them, at the same token: v += sum over depths of gate F_s W_v + b_v. A part
/// that replaces `attention`; names and AtRoot are as in look_back_jointly, with c_v in place of c_kv. It costs no room in caches
/// (after value residuals, arXiv 2410.17897, and MUDD's value channel, arXiv 2502.12170, whose sources are other).
/// Or, if the source's rows are values already (earlier_values.hpp), v += sum over depths of gate v_s.
template <index Heads, bool AtRoot = true, bool AreValues = false, class... Options>
struct look_back_in_values {
  static constexpr auto source_name = look_back_jointly<Heads, AtRoot>::source_name;
  static constexpr auto options = fields(field<"heads">(Heads), Options::option...);

 private:
  static consteval auto value_name() {
    if constexpr (AtRoot)
      return fixed_string("/shortcut.attn.c_v");
    else
      return fixed_string("c_v");
  }

 public:
  template <class At>
  using bind = layers::attention<At::width, Heads, typename detail::changed_options<layers::attention_options, Options...>::type,
                                 layers::own_context, layers::values_of_source<At::source_rows, value_name(), AreValues>>;
};

}  // namespace fathom
