// fathom::model<config, backend>: the type that a user owns.
#pragma once

#include "fathom/model/config.hpp"
#include "fathom/model/families.hpp"
#include "fathom/model/gpt.hpp"
#include "fathom/model/residual_forms.hpp"
#include "fathom/model/transformer.hpp"

namespace fathom {

namespace detail {
template <config C, class Backend>
struct model_of {
  static constexpr config c = checked<C>();
  static constexpr residual_connections x = c.residual;
  using plain = gpt<c.vocab, c.context, c.width, c.depth, c.heads, c.hidden, c.tied, c.shortcut.depths.bits, c.shortcut.features,
                    c.shortcut.hidden, c.shortcut.placement, c.shortcut.zero_init, options_in(c.shortcut)>;
  using architecture =
      typename with_residual_form<plain, x.form, x.dilation, x.period, x.backout, x.group, x.streams, x.dynamic, x.last_blocks>::type;
  using type = transformer<architecture, Backend>;
};
template <config C, class Backend>
  requires(C.family != family::gpt2)
struct model_of<C, Backend> {
  static constexpr config c = checked<C>();
  static constexpr rotary_positions r = c.rotary;
  static constexpr residual_connections x = c.residual;
  using plain = decoder<c.family, c.vocab, c.context, c.width, c.depth, c.heads, c.kv_heads, c.head_width, c.hidden, c.tied, c.window,
                        r.base, r.width, r.scaling, r.factor, r.low_factor, r.high_factor, r.original, c.inverse_epsilon,
                        c.window_pattern, c.local_base, c.score_width, c.shortcut.depths.bits, c.shortcut.features,
                        c.shortcut.hidden, c.shortcut.placement, c.shortcut.zero_init, options_in(c.shortcut)>;
  using architecture =
      typename with_residual_form<plain, x.form, x.dilation, x.period, x.backout, x.group, x.streams, x.dynamic, x.last_blocks>::type;
  using type = transformer<architecture, Backend>;
};
}  // namespace detail

namespace check {
template <family of_config, family of_alias>
inline constexpr bool config_is_of_this_family = of_config == family::gpt2 || of_config == of_alias;
}

namespace detail {
/// The architecture of a family for a config, which need not name it.
template <family Family, config C>
struct of_family {
  static_assert(check::config_is_of_this_family<C.family, Family>, "fathom: the config is of another family than the architecture that is named");
  static constexpr config c = [] {
    config named = C;
    named.family = Family;
    return named;
  }();
  using architecture = typename model_of<c, void>::architecture;
};
}  // namespace detail

/// The architecture of a config, to edit (edit.hpp): edit<gpt2<c>, last_blocks<2>, insert_before<"attn", ...>>.
template <config C>
using gpt2 = typename detail::model_of<C, void>::architecture;

// The architectures of the other families (families.hpp), to edit as well. The config need not name the family:
//   constexpr config c{.vocab = 49152, .context = 2048, .width = 576, .depth = 30, .heads = 9, .hidden = 1536, .kv_heads = 3};
//   using net = transformer<edit<llama<c>, last_block, insert_after<"attn", cross>>>;
// In gpt_neox, the stage to edit is "parallel", which is both sublayers.
template <config C>
using llama = typename detail::of_family<family::llama, C>::architecture;
template <config C>
using mistral = typename detail::of_family<family::mistral, C>::architecture;
template <config C>
using qwen2 = typename detail::of_family<family::qwen2, C>::architecture;
template <config C>
using qwen3 = typename detail::of_family<family::qwen3, C>::architecture;
template <config C>
using gemma3 = typename detail::of_family<family::gemma3, C>::architecture;
template <config C>
using gpt_neox = typename detail::of_family<family::gpt_neox, C>::architecture;
template <config C>
using olmo2 = typename detail::of_family<family::olmo2, C>::architecture;

/// The model of a config: parameters, tape, cache; forward, backward, prefill, decode (model/transformer.hpp). Equal
/// architectures are one type, however they were written down.
template <config C, class Backend = backend::cpu<float>>
using model = typename detail::model_of<C, Backend>::type;

}  // namespace fathom
