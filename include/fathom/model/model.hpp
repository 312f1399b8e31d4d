// fathom::model<config, backend>: the type that a user owns.
#pragma once

#include "fathom/model/config.hpp"
#include "fathom/model/families.hpp"
#include "fathom/model/gpt.hpp"
#include "fathom/model/transformer.hpp"

namespace fathom {

namespace detail {
template <config C, class Backend>
struct model_of {
  static constexpr config c = checked<C>();
  using architecture = gpt<c.vocab, c.context, c.width, c.depth, c.heads, c.hidden, c.tied, c.shortcut.depths.bits, c.shortcut.features,
                           c.shortcut.hidden, c.shortcut.placement, c.shortcut.zero_init, options_in(c.shortcut)>;
  using type = transformer<architecture, Backend>;
};
template <config C, class Backend>
  requires(C.family != family::gpt2)
struct model_of<C, Backend> {
  static constexpr config c = checked<C>();
  static constexpr rotary_positions r = c.rotary;
  using architecture = decoder<c.family, c.vocab, c.context, c.width, c.depth, c.heads, c.kv_heads, c.head_width, c.hidden, c.tied, c.window,
                               r.base, r.width, r.scaling, r.factor, r.low_factor, r.high_factor, r.original, c.inverse_epsilon,
                               c.window_pattern, c.local_base, c.score_width, c.shortcut.depths.bits, c.shortcut.features,
                               c.shortcut.hidden, c.shortcut.placement, c.shortcut.zero_init, options_in(c.shortcut)>;
  using type = transformer<architecture, Backend>;
};
}  // namespace detail

/// The architecture of a config, to edit (edit.hpp): edit<gpt2<c>, last_blocks<2>, insert_before<"attn", ...>>.
template <config C>
using gpt2 = typename detail::model_of<C, void>::architecture;

/// The model of a config: parameters, tape, cache; forward, backward, prefill, decode (model/transformer.hpp). Equal
/// architectures are one type, however they were written down.
template <config C, class Backend = backend::cpu<float>>
using model = typename detail::model_of<C, Backend>::type;

}  // namespace fathom
