// Whole models on the CUDA backend. Compiled by g++ or clang++, kernels run under emulation, with stand-ins for CUDA's
// libraries (cuda_library.hpp): all host code of the backend runs, and any access of the host to the GPU's memory crashes.
// Compiled by nvcc, as gpu_model.cu, the same tests run on a GPU.
#if !defined(__CUDACC__)
#include "cuda_library.hpp"
#endif

#include <fathom/cuda.cuh>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <ratio>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "fails_with.hpp"
#include "golden.hpp"
#include "head_norms.hpp"
#include "some_weights.hpp"
#include "temporary_folder.hpp"

namespace {

using fathom::bf16;
using fathom::config;
using fathom::token;
namespace backend = fathom::backend;

constexpr config plain{.vocab = 61, .context = 16, .width = 32, .depth = 3, .heads = 4};
constexpr config small{
    .vocab = 23, .context = 12, .width = 24, .depth = 2, .heads = 3, .tied = false, .shortcut = {.depths = {0, 1}}};
using net = fathom::model<small, backend::cuda<float>>;
using twin = fathom::model<small, backend::reference<float>>;
// Other cases of decoding: rows that are not whole 16 bytes, and longer than a warp; all placements and features of the shortcut;
// more depths than the rows of one product; a memory so long that several blocks share a head.
constexpr config odd{.vocab = 19, .context = 12, .width = 30, .depth = 2, .heads = 3, .tied = false};
constexpr config joint{.vocab = 23,
                       .context = 12,
                       .width = 16,
                       .depth = 3,
                       .heads = 2,
                       .shortcut = {.depths = {0, 2}, .placement = fathom::placement::joint}};
constexpr config replaced{.vocab = 23,
                          .context = 12,
                          .width = 16,
                          .depth = 2,
                          .heads = 1,
                          .shortcut = {.depths = {0, 1},
                                       .features = fathom::feature_map::identity,
                                       .placement = fathom::placement::replace_self_attention}};
constexpr config deep{.vocab = 23,
                      .context = 300,
                      .width = 16,
                      .depth = 6,
                      .heads = 2,
                      .hidden = 40,
                      .shortcut = {.depths = {0, 1, 2, 3, 4, 5}, .features = fathom::feature_map::linear, .zero_init = true}};

constexpr config over_depths{.vocab = 23,
                            .context = 12,
                            .width = 16,
                            .depth = 3,
                            .heads = 2,
                            .residual = {.form = fathom::residual_form::attention, .group = 2}};

std::vector<token> some_tokens(std::size_t count, fathom::index vocab) {
  std::vector<token> tokens;
  fathom::random from(3, 0);
  for (std::size_t i = 0; i < count; ++i)
    tokens.push_back(static_cast<token>(i % 3 ? tokens.back() * 7 % vocab : from.below(vocab)));
  return tokens;
}

template <class Model>
std::vector<float> values(const typename Model::parameters& parameters) {
  std::vector<float> all;
  Model::visit_tensors([&](fathom::initial, const auto& t) { all.insert(all.end(), t.span().begin(), t.span().end()); },
                       *fathom::on_host(parameters));
  return all;
}
bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}
/// Whether weights agree to within 1e-3 of the largest, except 2% of them: AdamW makes full steps from gradients that are
/// pure rounding errors, such as those of the keys' biases.
bool mostly_same(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  float largest = 0;
  for (const float x : b) largest = std::max(largest, std::abs(x));
  std::size_t others = 0;
  for (std::size_t i = 0; i < a.size(); ++i) others += !(std::abs(a[i] - b[i]) <= 1e-3f * largest);
  return 50 * others <= a.size();
}
/// The largest difference, relative to the largest number.
double difference(const std::vector<float>& a, const std::vector<float>& b) { return distance(a, b); }

}  // namespace

TEST_CASE("training on the GPU goes as in the reference backend, and every time the same", "[cuda]") {
  const auto tokens = some_tokens(300, small.vocab), held = some_tokens(70, small.vocab);
  const auto losses_of = [&]<class Model>(Model, std::vector<float>* weights) {
    std::vector<double> losses;
    fathom::trainer<Model> trainer({.batch = 3,
                                    .accumulate = 2,
                                    .steps = 6,
                                    .rate = 1e-2f,
                                    .seed = 4,
                                    .evaluate_every = 2,
                                    .progress = false,
                                    .observer = [&](const fathom::progress& p) {
                                      losses.push_back(p.loss);
                                      losses.push_back(p.gradient_norm);
                                      if (!std::isnan(p.validation)) losses.push_back(p.validation);
                                      return true;
                                    }});
    const auto result = trainer.fit(tokens, held);
    losses.push_back(result.validation_nll);
    *weights = values<Model>(trainer.weights());
    return losses;
  };
  std::vector<float> here, again, there;
  const auto found = losses_of(net{}, &here);
  CHECK(distance(found, losses_of(twin{}, &there)) < 1e-4);
  CHECK(mostly_same(here, there));
  CHECK(losses_of(net{}, &again) == found);
  CHECK(same_bits(here, again));
}

namespace {

/// Steps of an optimiser from the same weights with the same gradients, with groups; the weights and the states after them.
template <class Optimizer>
std::vector<std::vector<float>> after_steps(double rate, int steps) {
  using model = typename Optimizer::model;
  Optimizer optimizer;
  optimizer.set_groups(std::vector<fathom::parameter_group>{{.match = fathom::glob("h.0.*"), .rate = 0.5, .decay = 0.5},
                                                            {.match = fathom::glob("h.1.mlp.*"), .frozen = true}});
  auto weights = fathom::make<typename model::parameters>(), gradients = fathom::make<typename model::parameters>();
  fathom::initialize<model>(*weights, 5);
  for (int step = 0; step < steps; ++step) {
    fathom::random from(9, static_cast<std::uint64_t>(step));
    const auto fill = [&](auto& g) {
      model::visit_tensors(
          [&](fathom::initial, auto& t) {
            for (float& x : t.span()) x = static_cast<float>(from.normal());
          },
          g);
    };
    fathom::edit_on_host(*gradients, fill);
    CHECK(optimizer.step(*weights, *gradients, rate) > 1);  // and so is clipped
    const auto left = values<model>(*gradients);
    CHECK(std::count(left.begin(), left.end(), 0.f) == std::ssize(left));
  }
  std::vector<std::vector<float>> all{values<model>(*weights)};
  for (std::size_t i = 0; i < Optimizer::state_count; ++i) all.push_back(values<model>(optimizer.state(i)));
  return all;
}
template <template <class> class Optimizer>
void check_optimizer(double rate, double tolerance) {
  const auto here = after_steps<Optimizer<net>>(rate, 3), there = after_steps<Optimizer<twin>>(rate, 3);
  REQUIRE(here.size() == there.size());
  for (std::size_t i = 0; i < here.size(); ++i) {
    INFO(i);
    CHECK(difference(here[i], there[i]) < tolerance);
  }
  CHECK(same_bits(here[0], after_steps<Optimizer<net>>(rate, 3)[0]));
}

}  // namespace

TEST_CASE("every optimiser steps on the GPU as in the reference backend", "[cuda]") {
  check_optimizer<fathom::adamw>(1e-2, 1e-5);
  check_optimizer<fathom::sgd>(1e-1, 1e-5);
  check_optimizer<fathom::lion>(1e-2, 1e-5);
  check_optimizer<fathom::muon>(1e-2, 1e-3);
}

TEST_CASE("a run with any optimiser is resumed on the GPU, and what is frozen stays", "[cuda]") {
  const temporary_folder folder;
  const auto tokens = some_tokens(300, small.vocab);
  const auto run = [&](const char* file, fathom::index stop_after) {
    fathom::trainer<net, fathom::muon> trainer(
        {.batch = 2,
         .steps = 5,
         .groups = {{.match = [](std::string_view name) { return name.starts_with("w") || name.starts_with("h.0."); }, .frozen = true}},
         .seed = 4,
         .checkpoint = folder.path() / file,
         .resume = true,
         .progress = false,
         .observer = [&](const fathom::progress& p) { return p.step != stop_after; }});
    trainer.fit(tokens);
    return values<net>(trainer.weights());
  };
  const auto whole = run("whole", 5);
  run("parts", 3);
  CHECK(same_bits(run("parts", 5), whole));
  auto weights = fathom::make<net::parameters>(), now = fathom::make<net::parameters>();
  fathom::initialize<net>(*weights, 4);
  fathom::load(folder.path() / "whole", *now);
  net::visit(
      [&](const auto& name, fathom::initial, const auto& before, const auto& after) {
        INFO(name.view());
        const bool is_frozen = name.view().starts_with("w") || name.view().starts_with("h.0.");
        CHECK(std::equal(before.span().begin(), before.span().end(), after.span().begin()) == is_frozen);
      },
      *fathom::on_host(*weights), *fathom::on_host(*now));
}

TEST_CASE("a run begun on the GPU goes on anywhere, and the other way round", "[cuda]") {
  const temporary_folder folder;
  const auto tokens = some_tokens(300, small.vocab);
  const auto run = [&]<class Model>(Model, const char* file, fathom::index stop_after) {
    fathom::trainer<Model> trainer({.batch = 2,
                                    .steps = 6,
                                    .rate = 1e-2f,
                                    .seed = 4,
                                    .checkpoint = folder.path() / file,
                                    .resume = true,
                                    .progress = false,
                                    .observer = [&](const fathom::progress& p) { return p.step != stop_after; }});
    trainer.fit(tokens);
    return values<Model>(trainer.weights());
  };
  const auto whole = run(twin{}, "twin", 6);
  CHECK(mostly_same(run(net{}, "net", 6), whole));
  run(net{}, "begun on the GPU", 3);
  CHECK(mostly_same(run(twin{}, "begun on the GPU", 6), whole));
  run(twin{}, "begun elsewhere", 3);
  CHECK(mostly_same(run(net{}, "begun elsewhere", 6), whole));
  // Interrupted or not, the GPU computes the same bits.
  run(net{}, "interrupted", 3);
  CHECK(same_bits(run(net{}, "interrupted", 6), run(net{}, "net", 6)));
}

TEST_CASE("files of a GPU's weights are those of any weights", "[cuda]") {
  const temporary_folder folder;
  auto weights = fathom::make<net::parameters>(), loaded = fathom::make<net::parameters>();
  auto elsewhere = fathom::make<twin::parameters>();
  fathom::initialize<net>(*weights, 9);
  fathom::initialize<twin>(*elsewhere, 9);
  CHECK(same_bits(values<net>(*weights), values<twin>(*elsewhere)));
  fathom::save(folder.path() / "weights", *weights);
  fathom::load(folder.path() / "weights", *loaded);
  CHECK(same_bits(values<net>(*weights), values<net>(*loaded)));
  fathom::save<bf16>(folder.path() / "bf16", *weights);
  fathom::load(folder.path() / "bf16", *elsewhere);
  CHECK(difference(values<net>(*weights), values<twin>(*elsewhere)) < 0x1p-8);
  const auto any = fathom::load_any<fathom::model<plain, backend::cuda<bf16>>, net>(folder.path() / "weights");
  CHECK(same_bits(values<net>(*weights), values<net>(*std::get<1>(any))));
  // A mismatch changes nothing.
  auto other = fathom::make<fathom::model<plain, backend::cuda<bf16>>::parameters>();
  CHECK(fails_with([&] { fathom::load(folder.path() / "weights", *other); }, "does not fit the model"));
  // Packed weights are used without a copy.
  auto packed = fathom::make<net::packed<bf16>>();
  fathom::load(folder.path() / "weights", *packed);
  net::cache cache(1), cache2(1);
  const auto prompt = some_tokens(5, small.vocab);
  const auto logits = net::prefill(*packed, prompt, cache);
  const auto expected = net::prefill(*fathom::pack<bf16>(*weights), prompt, cache2);
  CHECK(std::equal(logits.begin(), logits.end(), expected.begin()));
}

namespace {
/// Decoding with weights packed as P, beside a full forward pass; by one kernel for each token, or by many.
template <class Architecture, class P>
void check_decoding_of(bool one_kernel) {
  using model = fathom::transformer<Architecture, backend::cuda<float>>;
  constexpr fathom::index vocab = model::vocab;
  INFO("width " << model::width << ", depth " << model::depth << (one_kernel ? ", one kernel" : ", many kernels"));
  auto weights = fathom::make<typename model::parameters>();
  fathom::initialize<model>(*weights, 6);
  fathom::test::disturb(*weights);
  const auto ready = fathom::pack<P>(*weights);
  const auto tokens = some_tokens(12, vocab);
  typename model::tape tape(1, 12);
  model::forward(*weights, {tokens, {}, 1, 12}, tape);
  const std::vector<float> full(tape.logits().begin(), tape.logits().end());
  const double tolerance = std::is_same_v<P, float> ? 1e-5 : 2e-2;
  const auto is_right = [&](std::span<const float> logits, fathom::index position) {
    const std::vector<float> found(logits.begin(), logits.end());
    return distance(found, std::span(full).subspan(static_cast<std::size_t>(position * vocab), vocab)) < tolerance;
  };
  typename model::executor where;
  if (!one_kernel) where.one_kernel = 0;
  for (const fathom::index first : {1, 3, 10}) {  // tokens of the prompt
    typename model::cache cache(1, model::context, where);
    CHECK(is_right(model::prefill(*ready, std::span(tokens).first(static_cast<std::size_t>(first)), cache), first - 1));
    for (fathom::index i = first; i < 12; ++i) {
#if defined(FATHOM_CUDA_EMULATION)
      const std::size_t launches = fathom::emulation::the_library().launches;
#endif
      CHECK(is_right(model::decode(*ready, tokens[static_cast<std::size_t>(i)], cache), i));
#if defined(FATHOM_CUDA_EMULATION)
      if (one_kernel) CHECK(fathom::emulation::the_library().launches == launches + 1);
#endif
    }
    cache.truncate(4);
    CHECK(cache.length() == 4);
    CHECK(is_right(model::decode(*ready, tokens[4 % 12], cache), 4));
  }
  // Several sequences of different lengths, which do not use a single kernel.
  typename model::cache cache(2, 12, where);
  model::prefill(*ready, std::span(tokens).first(2), cache, 0);
  model::prefill(*ready, std::span(tokens).first(7), cache, 1);
  const token next[] = {tokens[2], tokens[7]};
  for (int repeat = 0; repeat < 3; ++repeat) {  // the third is played back
    const auto logits = model::decode(*ready, next, cache);
    CHECK(is_right(logits.first(vocab), 2));
    CHECK(is_right(logits.last(vocab), 7));
    cache.truncate(2, 0);
    cache.truncate(7, 1);
  }
}
template <config C, class P>
void check_decoding(bool one_kernel) {
  check_decoding_of<fathom::gpt2<C>, P>(one_kernel);
}
}  // namespace

TEMPLATE_TEST_CASE("decoding on the GPU gives what a full forward pass gives", "[cuda]", float, bf16) {
#if defined(FATHOM_CUDA_EMULATION)
  auto& processors = fathom::emulation::the_library().processors;
  const int before = std::exchange(processors, 5);  // blocks that wait for each other
#endif
  for (const bool one_kernel : {true, false}) {
    check_decoding<plain, TestType>(one_kernel);
    check_decoding<small, TestType>(one_kernel);
    check_decoding<odd, TestType>(one_kernel);
    check_decoding<joint, TestType>(one_kernel);
    check_decoding<replaced, TestType>(one_kernel);
    check_decoding<deep, TestType>(one_kernel);
  }
  check_decoding<over_depths, TestType>(false);  // sums over depths are no steps of the single kernel
#if defined(FATHOM_CUDA_EMULATION)
  processors = before;
#endif
}

namespace {
/// A residual source with operations that the single kernel does not support: the sum of the first two depths.
struct sum_of_depths {
  static constexpr fathom::index rows_per_token = 1;
  static constexpr fathom::depth_set depths{0, 1};
  template <class S>
  struct parameters {};
  template <class F, class Path, class... P>
  static constexpr void visit(const F&, const Path&, P&...) {}
  template <class T>
  using tape = fathom::nothing;
  template <class T>
  using scratch = fathom::nothing;
  template <class On, class P, class Hidden>
  static void forward(const On& on, const P&, const fathom::extent&, const Hidden& hidden, fathom::output<On> memory,
                      const fathom::nothing&) {
    zero(on, memory);
    add(on, hidden.state(0), memory);
    add(on, hidden.state(1), memory);
  }
  template <class On, class P, class Hidden, class G>
  static void backward(const On& on, const P&, const fathom::extent&, const Hidden& hidden, fathom::output<On> dmemory,
                       const fathom::nothing&, G&, const fathom::nothing&) {
    add(on, dmemory, hidden.gradient(0));
    add(on, dmemory, hidden.gradient(1));
  }
  static constexpr double flops(fathom::index) { return 0; }
  static std::string describe() { return "a sum"; }
};
struct summing {
  static constexpr fathom::index vocab = 19, context = 12, width = 16;
  static constexpr bool tied = true;
  using norm = fathom::layers::layer_norm<width>;
  using attention = fathom::layers::sublayer<"ln_1", norm, "attn", fathom::self_attention<width, 2>>;
  using feed_forward = fathom::layers::sublayer<"ln_2", norm, "mlp", fathom::layers::mlp<width, 32>>;
  using embedding = fathom::layers::embedding<vocab, context, width, tied>;
  using body = fathom::layers::stack<fathom::layers::repeat<fathom::layers::block<attention, feed_forward>, 2>,
                             fathom::layers::repeat<fathom::layers::block<fathom::layers::read<"sum", width, sum_of_depths>, attention, feed_forward>, 1>>;
  using head = fathom::layers::output_head<vocab, width, tied>;
};
}  // namespace
TEST_CASE("a layer with other operations decodes by many kernels", "[cuda]") {
  using model = fathom::transformer<summing, backend::cuda<float>>;
  auto weights = fathom::make<model::parameters>();
  fathom::initialize<model>(*weights, 6);
  const auto ready = fathom::pack<float>(*weights);
  const auto tokens = some_tokens(12, summing::vocab);
  model::tape tape(1, 12);
  model::forward(*weights, {tokens, {}, 1, 12}, tape);
  const std::vector<float> full(tape.logits().begin(), tape.logits().end());
  model::cache cache(1);
  model::prefill(*ready, std::span(tokens).first(2), cache);
  for (std::size_t i = 2; i < 12; ++i) {
    const auto logits = model::decode(*ready, tokens[i], cache);
    const auto expected = std::span(full).subspan(i * static_cast<std::size_t>(summing::vocab), summing::vocab);
    CHECK(distance(std::vector<float>(logits.begin(), logits.end()), expected) < 1e-5);
  }
}

namespace {
/// Two blocks whose norms have their own epsilon, large enough to matter.
struct smoothed : summing {
  using norm = fathom::layers::layer_norm<width, std::ratio<1, 1000>>;
  using attention = fathom::layers::sublayer<"ln_1", norm, "attn", fathom::self_attention<width, 2>>;
  using feed_forward = fathom::layers::sublayer<"ln_2", norm, "mlp", fathom::layers::mlp<width, 32>>;
  using body = fathom::layers::stack<fathom::layers::repeat<fathom::layers::block<attention, feed_forward>, 2>>;
};
/// Two query heads share a head of keys and values, and see 5 positions.
struct grouped_in_window : fathom::layers::attention_options {
  static constexpr fathom::index kv_heads = 2, window = 5;
};
struct grouped : summing {
  using attention = fathom::layers::sublayer<"ln_1", norm, "attn",
                                             fathom::layers::attention<width, 4, grouped_in_window, fathom::layers::own_context>>;
  using body = fathom::layers::stack<fathom::layers::repeat<fathom::layers::block<attention, feed_forward>, 2>>;
};

/// Decodes with one kernel and with many, and compares with the reference backend on all tokens at once.
template <class Architecture>
void check_decoding_as_in_reference() {
  using model = fathom::transformer<Architecture, backend::cuda<float>>;
  using oracle = fathom::transformer<Architecture, backend::reference<double>>;
  auto weights = fathom::make<typename model::parameters>();
  auto elsewhere = fathom::make<typename oracle::parameters>();
  fathom::initialize<model>(*weights, 6);
  fathom::initialize<oracle>(*elsewhere, 6);
  fathom::test::disturb(*weights);
  fathom::test::disturb(*elsewhere);
  const auto tokens = some_tokens(12, Architecture::vocab);
  typename oracle::tape tape(1, 12);
  oracle::forward(*elsewhere, {tokens, {}, 1, 12}, tape);
  const auto ready = fathom::pack<float>(*weights);
  for (const bool one_kernel : {true, false}) {
    typename model::executor where;
    if (!one_kernel) where.one_kernel = 0;
    typename model::cache cache(1, Architecture::context, where);
    model::prefill(*ready, std::span(tokens).first(2), cache);
    for (std::size_t i = 2; i < 12; ++i) {
      const auto logits = model::decode(*ready, tokens[i], cache);
      std::vector<float> expected;
      for (std::size_t v = 0; v < Architecture::vocab; ++v) expected.push_back(static_cast<float>(tape.logits()[i * Architecture::vocab + v]));
      CHECK(distance(std::vector<float>(logits.begin(), logits.end()), expected) < 1e-5);
    }
  }
}
}  // namespace
namespace {
/// RMS norms of all kinds, and of heads.
using rms_normed = fathom::architecture<
    fathom::sizes<19, 12, 24>, fathom::embed<fathom::tokens, fathom::learned_positions>,
    fathom::body<fathom::repeat<2, fathom::block<fathom::pre<"attn", fathom::rms_norm<fathom::epsilon<1, 1000>>, fathom::attention<2>>,
                                                 fathom::pre<"heads", fathom::rms_norm<std::micro>, fathom::test::head_norms<3>>,
                                                 fathom::pre<"mlp", fathom::rms_norm<std::micro, 1>, fathom::mlp<40>>>>>,
    fathom::head<fathom::rms_norm<>, fathom::tied>>;
}  // namespace
namespace {
/// Scores that fall with distance, by ALiBi's slopes in a window and by learned ones; logits with a soft cap.
using sloped = fathom::architecture<
    fathom::sizes<19, 12, 24>, fathom::embed<fathom::tokens>,
    fathom::body<fathom::repeat<2, fathom::block<fathom::pre<"attn", fathom::rms_norm<>, fathom::attention<3, fathom::alibi, fathom::window<5>>>,
                                                 fathom::pre<"mlp", fathom::rms_norm<>, fathom::mlp<40>>>>,
                 fathom::block<fathom::pre<"attn", fathom::rms_norm<>, fathom::attention<4, fathom::kv_heads<2>, fathom::learned_slopes>>,
                               fathom::pre<"shortcut", fathom::layer_norm<>, fathom::look_back<3, fathom::initial::residual, fathom::learned_slopes>,
                                           fathom::features<fathom::depths<0, 1>, fathom::mlp_features<>>>,
                               fathom::pre<"mlp", fathom::rms_norm<>, fathom::mlp<40>>>>,
    fathom::head<fathom::rms_norm<>, fathom::tied, fathom::soft_cap<1>>>;
}  // namespace
namespace {
/// Shortcuts with nearly all options, and the control in a family with grouped queries.
constexpr config with_options{.vocab = 19,
                              .context = 12,
                              .width = 24,
                              .depth = 3,
                              .heads = 3,
                              .shortcut = {.depths = {0, 1},
                                           .hidden = 16,
                                           .blocks = 2,
                                           .source = fathom::shortcut_source::differences,
                                           .unit_features = true,
                                           .head_norms = true,
                                           .depth_bias = true,
                                           .gate = fathom::shortcut_gate::head_and_depth,
                                           .slopes = fathom::shortcut_slopes::learned,
                                           .rotary = 100,
                                           .exit = fathom::shortcut_exit::sink}};
constexpr config of_own_input{.vocab = 19,
                              .context = 12,
                              .width = 24,
                              .depth = 2,
                              .heads = 4,
                              .hidden = 40,
                              .shortcut = {.depths = {0, 1},
                                           .features = fathom::feature_map::linear,
                                           .source = fathom::shortcut_source::own_input,
                                           .depth_bias = true,
                                           .gate = fathom::shortcut_gate::head,
                                           .exit = fathom::shortcut_exit::sigmoid},
                              .family = fathom::family::llama,
                              .kv_heads = 2};
using conditioned = fathom::gpt2<with_options>;
using control = fathom::gpt2<of_own_input>;
/// Value embeddings, of fewer numbers than the width.
constexpr config of_tokens{.vocab = 19,
                           .context = 12,
                           .width = 24,
                           .depth = 2,
                           .heads = 4,
                           .hidden = 40,
                           .shortcut = {.depths = {0},
                                        .placement = fathom::placement::own_values,
                                        .blocks = fathom::all_blocks,
                                        .source = fathom::shortcut_source::tokens,
                                        .gate = fathom::shortcut_gate::head},
                           .family = fathom::family::llama,
                           .kv_heads = 2};
using value_embeddings = fathom::gpt2<of_tokens>;
}  // namespace
TEST_CASE("options of shortcuts decode on the GPU", "[cuda]") {
  check_decoding_as_in_reference<conditioned>();
  check_decoding_as_in_reference<control>();
  check_decoding_as_in_reference<value_embeddings>();
}

TEMPLATE_TEST_CASE("RMS norms, slopes and a soft cap decode on the GPU", "[cuda]", float, bf16) {
#if defined(FATHOM_CUDA_EMULATION)
  auto& processors = fathom::emulation::the_library().processors;
  const int before = std::exchange(processors, 5);  // blocks that wait for each other
#endif
  for (const bool one_kernel : {true, false}) {
    check_decoding_of<rms_normed, TestType>(one_kernel);
    check_decoding_of<sloped, TestType>(one_kernel);
  }
  if (std::is_same_v<TestType, float>) {
    check_decoding_as_in_reference<rms_normed>();
    check_decoding_as_in_reference<sloped>();
  }
#if defined(FATHOM_CUDA_EMULATION)
  processors = before;
#endif
}

TEMPLATE_TEST_CASE("RMS norms, slopes, a soft cap and options of shortcuts train on the GPU as in the reference backend", "[cuda]", rms_normed,
                   sloped, conditioned, control, value_embeddings) {
  const auto tokens = some_tokens(24, TestType::vocab);
  const auto inputs = std::span(tokens).first(22), targets = std::span(tokens).subspan(1, 22);
  const auto pass = [&]<class Backend>(Backend) {  // the loss, and the gradients
    using model = fathom::transformer<TestType, Backend>;
    auto weights = fathom::make<typename model::parameters>(), gradients = fathom::make<typename model::parameters>();
    fathom::initialize<model>(*weights, 6);
    fathom::test::disturb(*weights);
    typename model::tape tape(2, 11);
    model::forward_backward(*weights, {inputs, targets, 2, 11}, tape, *gradients);
    std::vector<float> all{static_cast<float>(tape.loss())};
    model::visit_tensors(
        [&](fathom::initial, const auto& g) {
          for (const auto x : g.span()) all.push_back(static_cast<float>(x));
        },
        *fathom::on_host(*gradients));
    return all;
  };
  const auto expected = pass(backend::reference<double>{}), found = pass(backend::cuda<float>{}), rounded = pass(backend::cuda<bf16>{});
  CHECK(std::abs(found[0] - expected[0]) < 1e-5f);
  CHECK(std::abs(rounded[0] - expected[0]) < 2e-2f);
  CHECK(distance(std::span(found).subspan(1), std::span(expected).subspan(1)) < 1e-5);
  CHECK(distance(std::span(rounded).subspan(1), std::span(expected).subspan(1)) < 5e-2);
  CHECK(same_bits(found, pass(backend::cuda<float>{})));
}

TEST_CASE("an epsilon of a norm's own", "[cuda]") { check_decoding_as_in_reference<smoothed>(); }
TEST_CASE("heads that share keys, and a window", "[cuda]") { check_decoding_as_in_reference<grouped>(); }

namespace {
/// Layers whose caches hold fewer positions than the context has, with one row for each position, and with three.
using in_windows = fathom::architecture<
    fathom::sizes<19, 470, 16>, fathom::embed<fathom::tokens, fathom::learned_positions>,
    fathom::body<fathom::block<fathom::pre<"attn", fathom::layer_norm<>, fathom::attention<2, fathom::kv_heads<1>, fathom::window<6>>>,
                               fathom::pre<"mlp", fathom::layer_norm<>, fathom::mlp<24>>>,
                 fathom::block<fathom::pre<"attn", fathom::layer_norm<>, fathom::look_back_jointly<2, false, fathom::window<9>>,
                                           fathom::features<fathom::depths<0, 1>, fathom::identity_features>>,
                               fathom::pre<"mlp", fathom::layer_norm<>, fathom::mlp<24>>>>,
    fathom::head<fathom::layer_norm<>, fathom::tied>>;
}  // namespace
TEMPLATE_TEST_CASE("caches that hold what windows need, on the GPU", "[cuda]", float, bf16) {
  using model = fathom::transformer<in_windows, backend::cuda<TestType>>;
  using oracle = fathom::transformer<in_windows, backend::reference<double>>;
  constexpr fathom::index vocab = model::vocab;
  CHECK(model::cache_bytes(1, 470) == model::cache_bytes(1, 400));
  auto weights = fathom::make<typename model::parameters>();
  auto elsewhere = fathom::make<typename oracle::parameters>();
  fathom::initialize<model>(*weights, 6);
  fathom::initialize<oracle>(*elsewhere, 6);
  fathom::test::disturb(*weights);
  fathom::test::disturb(*elsewhere);
  const auto ready = fathom::pack<float>(*weights);
  const auto tokens = some_tokens(470, vocab);
  typename oracle::tape tape(1, 470);
  oracle::forward(*elsewhere, {tokens, {}, 1, 470}, tape);
  const auto error_of = [&](std::span<const float> logits, std::size_t position) {
    std::vector<float> expected;
    for (std::size_t v = 0; v < vocab; ++v) expected.push_back(static_cast<float>(tape.logits()[position * vocab + v]));
    return distance(std::vector<float>(logits.begin(), logits.end()), expected);
  };
  const double tolerance = std::is_same_v<TestType, float> ? 1e-5 : 2e-2;
  const auto check = [&](auto& cache, bool one_kernel, double allowed) {
    INFO((one_kernel ? "one kernel" : "many kernels"));
    const auto is_right = [&](std::span<const float> logits, std::size_t position) { return error_of(logits, position) < allowed; };
    const auto read = [&](std::size_t first, std::size_t count) {
      CHECK(is_right(model::prefill(*ready, std::span(tokens).subspan(first, count), cache), first + count - 1));
    };
    const auto decode = [&](std::size_t first, std::size_t count) {
      for (std::size_t i = first; i < first + count; ++i) {
#if defined(FATHOM_CUDA_EMULATION)
        const std::size_t launches = fathom::emulation::the_library().launches;
#endif
        CHECK(is_right(model::decode(*ready, tokens[i], cache), i));
#if defined(FATHOM_CUDA_EMULATION)
        if (one_kernel) CHECK(fathom::emulation::the_library().launches == launches + 1);
#endif
      }
    };
    decode(0, 3);
    read(3, 125);
    decode(128, 12);  // positions move after 133 and after 136 tokens
    read(140, 50);
    decode(190, 12);
    cache.truncate(202 - 64);
    decode(138, 2);
    read(140, 130);
    decode(270, 2);
  };
  typename model::executor many;
  many.one_kernel = 0;
  typename model::cache by_one(1, 470), by_many(1, 470, many);
  check(by_one, true, tolerance);
  check(by_many, false, tolerance);
  // Keys and values rounded to bf16, which no single kernel takes.
  typename model::template cache_of<bf16> rounded(1, 470);
  check(rounded, false, 3e-2);

  typename model::cache cache(2, 470);
  model::prefill(*ready, std::span(tokens).first(129), cache, 0);
  model::prefill(*ready, std::span(tokens).first(300), cache, 1);
  model::prefill(*ready, std::span(tokens).subspan(300, 23), cache, 1);
  for (std::size_t i = 0; i < 10; ++i) {
    const token next[] = {tokens[129 + i], tokens[323 + i]};
    const auto logits = model::decode(*ready, next, cache);
    CHECK(error_of(logits.first(vocab), 129 + i) < tolerance);
    CHECK(error_of(logits.last(vocab), 323 + i) < tolerance);
  }
}

TEST_CASE("decoding far on is what it is with many kernels", "[cuda]") {
#if defined(FATHOM_CUDA_EMULATION)
  auto& processors = fathom::emulation::the_library().processors;
  const int before = std::exchange(processors, 5);
#endif
  using model = fathom::model<deep, backend::cuda<float>>;
  auto weights = fathom::make<model::parameters>();
  fathom::initialize<model>(*weights, 6);
  const auto ready = fathom::pack<bf16>(*weights);
  const auto tokens = some_tokens(300, deep.vocab);
  model::executor many;
  many.one_kernel = 0;
  model::cache here(1), there(1, deep.context, many);
  model::prefill(*ready, std::span(tokens).first(292), here);
  model::prefill(*ready, std::span(tokens).first(292), there);
  for (std::size_t i = 292; i < 300; ++i) {
    const auto logits = model::decode(*ready, tokens[i], here), expected = model::decode(*ready, tokens[i], there);
    CHECK(distance(std::vector<float>(logits.begin(), logits.end()), std::vector<float>(expected.begin(), expected.end())) < 1e-5);
  }
#if defined(FATHOM_CUDA_EMULATION)
  processors = before;
#endif
}

TEST_CASE("a generator on the GPU writes what one in the reference backend writes", "[cuda]") {
  auto weights = fathom::make<net::parameters>();
  auto elsewhere = fathom::make<twin::parameters>();
  fathom::initialize<net>(*weights, 6);
  fathom::initialize<twin>(*elsewhere, 6);
  const auto written = [&]<class Model>(Model, const auto& from) {
    std::vector<token> all;
    fathom::generator<Model> writer(from, {.temperature = 0.7f, .top_k = 9, .seed = 2});
    for (const std::size_t stop_after : {5u, 100u, 3u}) {
      const std::size_t end = all.size() + stop_after;
      writer.write(some_tokens(4, small.vocab), 30, [&](token t) {  // slides twice, where it does not stop
        all.push_back(t);
        return all.size() < end;
      });
    }
    return all;
  };
  CHECK(written(net{}, *weights) == written(twin{}, *elsewhere));
}

TEST_CASE("ids, callbacks and broken weights of a generator on the GPU", "[cuda]") {
  auto weights = fathom::make<net::parameters>();
  auto elsewhere = fathom::make<twin::parameters>();
  fathom::initialize<net>(*weights, 6);
  fathom::initialize<twin>(*elsewhere, 6);
  std::vector<std::size_t> sizes;
  const auto written = [&]<class Model>(Model, const auto& from, const fathom::generation& options) {
    sizes.clear();
    std::vector<token> all;
    fathom::generator<Model> writer(from, options);
    writer.write({1, 2, 3}, 25, [&](token t) { all.push_back(t); });  // slides twice
    return all;
  };
  const auto both = [&](const fathom::generation& options) {
    const auto all = written(net{}, *weights, options);
    const auto seen = sizes;
    CHECK(all == written(twin{}, *elsewhere, options));
    CHECK(sizes == seen);
    return all;
  };
  for (const token t : both({.temperature = 3, .seed = 2, .ids = 5})) CHECK(t < 5);
  // No token in sight is repeated.
  const auto change = [&](std::span<const token> text, std::span<float> logits) {
    CHECK(logits.size() == static_cast<std::size_t>(small.vocab));
    sizes.push_back(text.size());
    for (const token t : text) logits[static_cast<std::size_t>(t)] = -INFINITY;
    logits[7] += 1;
  };
  const auto unlike = both({.temperature = 0, .adjust = change});
  CHECK(sizes.size() == 25);
  for (std::size_t i = 1; i < unlike.size(); ++i) CHECK(unlike[i] != unlike[i - 1]);
  both({.temperature = 0.7f, .seed = 5, .ids = 20, .adjust = change});
  CHECK(fails_with([&] { written(net{}, *weights, {.adjust = [](auto, std::span<float> logits) { logits[4] = NAN; }}); },
                   "the logit of token 4 is nan"));
  CHECK(fails_with([&] { written(net{}, *weights, {.ids = 24}); }, "ids 24"));
  CHECK(fails_with([&] { written(net{}, *weights, {.temperature = INFINITY}); }, "temperature inf"));
  CHECK(fails_with([&] { written(net{}, *weights, {.threads = -1}); }, "threads = -1"));

  fathom::edit_on_host(*weights, [](auto& w) {
    const std::uint32_t bits = 0x7fc00001;
    std::memcpy(w.embed.wpe.data(), &bits, sizeof bits);
  });
  const auto refuses = [&]<class P>(P) {
    fathom::generator<net, P> writer(*weights);
    return fails_with([&] { writer.write({1, 2, 3}, 1, [](token) {}); }, "the logit of token 0 is infinite or not a number");
  };
  CHECK(refuses(float()));
  CHECK(refuses(bf16()));
  const auto tokens = some_tokens(9, small.vocab);
  net::tape tape(1, 8);
  net::forward(*weights, {std::span(tokens).first(8), std::span(tokens).last(8), 1, 8}, tape);
  CHECK(std::isnan(tape.loss()));
}

namespace {
/// A head of 512 rows at a time.
struct in_chunks : backend::cuda<float> {
  static constexpr fathom::index head_logits = 1;
};
}  // namespace
TEST_CASE("a batch whose logits are made in pieces", "[cuda]") {
  using model = fathom::model<small, in_chunks>;
  const auto tokens = some_tokens(12 * 44 + 1, small.vocab);  // 528 rows
  const fathom::batch b{std::span(tokens).first(528), std::span(tokens).last(528), 44, 12};
  auto weights = fathom::make<net::parameters>(), expected = fathom::make<net::parameters>();
  auto same = fathom::make<model::parameters>(), found = fathom::make<model::parameters>(),
       parts = fathom::make<model::parameters>();
  fathom::initialize<net>(*weights, 6);
  fathom::initialize<model>(*same, 6);
  net::tape whole(44, 12);
  model::tape tape(44, 12);
  net::forward_backward(*weights, b, whole, *expected);
  model::forward_backward(*same, b, tape, *found);
  CHECK(std::abs(tape.loss() / whole.loss() - 1) < 1e-6);
  CHECK(difference(values<model>(*found), values<net>(*expected)) < 1e-5);
  model::forward(*same, b, tape);
  model::backward(*same, b, tape, *parts);
  CHECK(same_bits(values<model>(*found), values<model>(*parts)));
  CHECK(tape.losses().size() == 528);
}

#if defined(FATHOM_CUDA_EMULATION)

TEST_CASE("steps and tokens are recorded, and then nothing is allocated", "[cuda]") {
  auto& library = fathom::emulation::the_library();
  const auto tokens = some_tokens(25, small.vocab);
  const fathom::batch b{std::span(tokens).first(24), std::span(tokens).last(24), 2, 12};
  auto weights = fathom::make<net::parameters>(), gradients = fathom::make<net::parameters>();
  fathom::initialize<net>(*weights, 6);
  net::tape tape(2, 12);
  fathom::adamw<net> optimizer;
  const auto step = [&] {
    net::forward_backward(*weights, b, tape, *gradients);
    return std::pair(tape.loss(), optimizer.step(*weights, *gradients));
  };
  step();
  step();
  const std::size_t allocations = library.allocations, launches = library.graph_launches, graphs = library.graphs;
  for (int i = 0; i < 3; ++i) step();
  CHECK(library.allocations == allocations);
  CHECK(library.graph_launches == launches + 6);  // the gradients, the step
  CHECK(library.graphs == graphs);

  const auto ready = fathom::pack<bf16>(*weights);
  for (const bool one_kernel : {true, false}) {
    net::executor where;
    if (!one_kernel) where.one_kernel = 0;
    net::cache cache(1, 12, where);
    net::prefill(*ready, std::span(tokens).first(3), cache);
    net::decode(*ready, tokens[3], cache);
    net::decode(*ready, tokens[4], cache);
    const std::size_t before = library.allocations, played = library.graph_launches, kernels = library.launches;
    for (std::size_t i = 5; i < 9; ++i) net::decode(*ready, tokens[i], cache);
    CHECK(library.allocations == before);
    CHECK(library.graph_launches == played + (one_kernel ? 0 : 4));
    CHECK(library.launches == kernels + (one_kernel ? 4 : 0));  // kernels in a graph do not count
  }
}

TEST_CASE("gradients that are not finite change nothing", "[cuda]") {
  auto weights = fathom::make<net::parameters>(), gradients = fathom::make<net::parameters>();
  fathom::initialize<net>(*weights, 6);
  const auto before = values<net>(*weights);
  const auto spoil = [&](float number) {
    fathom::edit_on_host(*gradients, [&](auto& g) { g.embed.wpe.values[3] = number; });
  };
  spoil(INFINITY);
  fathom::adamw<net> optimizer, expected;
  CHECK(fails_with([&] { optimizer.step(*weights, *gradients); }, "the norm of the gradients is inf at step 1"));
  CHECK(same_bits(before, values<net>(*weights)));
  CHECK(optimizer.steps() == 0);

  // Afterwards training continues as if that batch had not existed.
  auto other = fathom::copy(weights);
  auto other_gradients = fathom::make<net::parameters>();
  const auto tokens = some_tokens(9, small.vocab);
  const fathom::batch batch{std::span(tokens).first(8), std::span(tokens).last(8), 1, 8};
  net::tape tape(1, 8);
  for (int step = 0; step < 3; ++step) {
    net::forward_backward(*weights, batch, tape, *gradients);
    CHECK(optimizer.try_step(*weights, *gradients, 1e-2) > 0);
    net::forward_backward(*other, batch, tape, *other_gradients);
    expected.step(*other, *other_gradients, 1e-2);
    spoil(NAN);
    CHECK(std::isnan(optimizer.try_step(*weights, *gradients, 1e-2)));
    CHECK(optimizer.steps() == step + 1);
  }
  CHECK(same_bits(values<net>(*weights), values<net>(*other)));
}

TEST_CASE("one clear error where there is no GPU, or too old a one, or too small a one", "[cuda]") {
  auto& library = fathom::emulation::the_library();
  const auto fails = [](const std::string& message) {
    return fails_with([] { return fathom::make<net::parameters>(); }, message);
  };
  const std::string expected = "; expected a GPU of compute capability 8.0 (Ampere) or newer, and its driver";
  library.gpus = 0;
  CHECK(fails("cuda: no GPU: none is there" + expected));
  library.no_gpu = cudaErrorInsufficientDriver;
  CHECK(fails("cuda: no GPU: CUDA driver version is insufficient for CUDA runtime version" + expected));
  library.no_gpu = cudaSuccess;
  library.gpus = 1;
  library.major = 7;
  library.minor = 5;
  CHECK(fails("cuda: the GPU has compute capability 7.5" + expected));
  library.major = 9;
  library.minor = 0;
  const std::size_t room = library.room;
  library.room = 1 << 12;
  CHECK(fails("cuda: memory of " + std::to_string(sizeof(net::parameters)) + " bytes: out of memory"));
  library.room = room;
}

#endif
