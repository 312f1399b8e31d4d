// fathom::model<config, backend>: the type that a user owns.
#pragma once

#include "fathom/backend/cpu/isa.hpp"
#include "fathom/model/config.hpp"
#include "fathom/model/gpt.hpp"
#include "fathom/model/transformer.hpp"

namespace fathom {

namespace backend {
inline namespace FATHOM_ISA {
template <class Compute>
struct cpu;  // backend/cpu.hpp
}
}  // namespace backend

namespace detail {
template <config C, class Backend>
struct model_of {
  static constexpr config c = checked<C>();
  using type = transformer<gpt<c.vocab, c.context, c.width, c.depth, c.heads, c.hidden, c.tied, c.shortcut.depths.bits,
                               c.shortcut.features, c.shortcut.hidden, c.shortcut.placement, c.shortcut.zero_init>,
                           Backend>;
};
}  // namespace detail

/// The model of a config: parameters, tape, cache; forward, backward, prefill, decode (model/transformer.hpp). Equal
/// architectures are one type, however they were written down.
template <config C, class Backend = backend::cpu<float>>
using model = typename detail::model_of<C, Backend>::type;

}  // namespace fathom
