// Small models of every family (model/families.hpp), some with shortcuts, for tests of a backend: training, prompts and decoding
// give what the reference backend gives.
#pragma once

#include <cstddef>
#include <span>
#include <type_traits>
#include <vector>

#include <fathom/backend/reference.hpp>
#include <fathom/model/initialize.hpp>
#include <fathom/model/model.hpp>

#include "catch.hpp"
#include "golden.hpp"
#include "some_weights.hpp"

namespace family_models {

using fathom::config;
using fathom::family;
using fathom::token;

constexpr config of(family f, fathom::shortcut shortcut = {}) {
  config c{.vocab = 23, .context = 14, .width = 24, .depth = 3, .heads = 4, .hidden = 20, .tied = f != family::olmo2, .shortcut = shortcut, .family = f,
           .kv_heads = 2, .head_width = 8};
  if (f == family::gpt_neox) c.kv_heads = 4, c.head_width = 6, c.rotary.width = 2;
  if (f == family::mistral || f == family::gemma3) c.window = 5;
  if (f == family::gemma3) c.window_pattern = 2, c.score_width = 6;
  if (f == family::qwen2) c.rotary = {.scaling = fathom::rotary_scaling::yarn, .factor = 4, .original = 8};
  return c;
}
/// The same without the name of the family.
constexpr config nameless(family f) {
  config c = of(f);
  c.family = family::gpt2;
  return c;
}
template <family Family>
struct plain {
  static constexpr config c = of(Family);
};
struct gemma3_joint {
  static constexpr config c = of(family::gemma3, {.depths = {0, 2}, .placement = fathom::placement::joint});
};
struct mistral_after {
  static constexpr config c = of(family::mistral, {.depths = {1, 2}, .features = fathom::feature_map::linear});
};

/// Residual connections that look back, between them every operation that they need.
template <family Family, fathom::residual_form Form, int Group = 0>
struct looking_back {
  static constexpr config c = [] {
    config of_form = of(Family);
    of_form.residual = {.form = Form, .group = Group, .streams = 2};
    return of_form;
  }();
};

/// Weights of which no gain is 1 and no bias 0.
template <class Weights>
void fill(Weights& weights) {
  fathom::initialize<typename Weights::model>(weights, 6);
  fathom::test::disturb(weights);
}

inline constexpr int length = 13;
inline std::vector<token> tokens_of() {
  std::vector<token> tokens;
  for (int i = 0; i < length + 1; ++i) tokens.push_back(i * i * 7 % 23);
  return tokens;
}

/// The loss and the gradients of two sequences.
template <class Net>
std::vector<double> gradients_of(const std::vector<token>& tokens) {
  auto weights = fathom::make<typename Net::parameters>(), gradients = fathom::make<typename Net::parameters>();
  fill(*weights);
  typename Net::tape tape(2, 6);
  Net::forward_backward(*weights, {std::span(tokens).first(12), std::span(tokens).subspan(1, 12), 2, 6}, tape, *gradients);
  std::vector<double> all{static_cast<double>(tape.loss())};
  Net::visit_tensors(
      [&](fathom::initial, const auto& g) {
        for (const auto x : g.span()) all.push_back(static_cast<double>(x));
      },
      *fathom::on_host(*gradients));
  return all;
}

/// Checks a model of the backend. Calls with_cache(f), which calls f(cache) with each cache to decode with.
template <config C, class Backend, class F>
void meets_reference(const F& with_cache) {
  using net = fathom::model<C, Backend>;
  using oracle = fathom::model<C, fathom::backend::reference<double>>;
  const std::vector<token> tokens = tokens_of();
  CHECK(distance(gradients_of<net>(tokens), gradients_of<oracle>(tokens)) < 1e-5);

  auto weights = fathom::make<typename net::parameters>();
  auto elsewhere = fathom::make<typename oracle::parameters>();
  fill(*weights);
  fill(*elsewhere);
  typename oracle::tape tape(1, length);
  oracle::forward(*elsewhere, {std::span(tokens).first(length), {}, 1, length}, tape);
  const auto ready = fathom::pack<float>(*weights);
  with_cache([&](auto& cache) {
    const auto check = [&](std::span<const float> logits, int position) {
      INFO("position " << position);
      const auto expected = tape.logits().subspan(static_cast<std::size_t>(position * net::vocab), static_cast<std::size_t>(net::vocab));
      CHECK(distance(std::vector<float>(logits.begin(), logits.end()), std::vector<double>(expected.begin(), expected.end())) < 1e-5);
    };
    check(net::prefill(*ready, std::span(tokens).first(7), cache), 6);
    for (int i = 7; i < length; ++i) check(net::decode(*ready, tokens[static_cast<std::size_t>(i)], cache), i);
  });
}

#define FATHOM_FAMILY_MODELS                                                                                                          \
  plain<family::llama>, plain<family::mistral>, plain<family::qwen2>, plain<family::qwen3>, plain<family::olmo2>, plain<family::gemma3>, \
      plain<family::gpt_neox>, gemma3_joint, mistral_after

#define FATHOM_RESIDUAL_MODELS                                                                                                       \
  (looking_back<family::gpt2, fathom::residual_form::dense_former>), (looking_back<family::llama, fathom::residual_form::attention, 2>), \
      (looking_back<family::gpt2, fathom::residual_form::delta_attention>),                                                          \
      (looking_back<family::gpt_neox, fathom::residual_form::hyper_connections>), (looking_back<family::olmo2, fathom::residual_form::mudd>)

}  // namespace family_models
