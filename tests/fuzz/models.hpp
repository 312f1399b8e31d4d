// The small models of harnesses that load weights.
#pragma once

#include <fathom/backend/cpu.hpp>
#include <fathom/model/initialize.hpp>
#include <fathom/model/model.hpp>

namespace fuzz {

inline constexpr fathom::config tiny{.vocab = 7, .context = 8, .width = 8, .depth = 1, .heads = 2};
using tiny_net = fathom::model<tiny>;
inline constexpr fathom::config small_llama{.vocab = 7, .context = 8, .width = 32, .depth = 1, .heads = 2, .hidden = 32, .tied = false, .shortcut = {},
                                            .family = fathom::family::llama, .kv_heads = 1};
using llama_net = fathom::model<small_llama>;

template <class Net>
auto weights_of() {
  auto weights = fathom::make<typename Net::parameters>();
  fathom::initialize<Net>(*weights, 3);
  return weights;
}

}  // namespace fuzz
