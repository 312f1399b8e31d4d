// The options that the paper's shortcut has not: more blocks that look back, other sources, conditioning, gates and exits. They have
// the gradients of what they compute, on every backend; decode as they read; begin as the plain model where they say so; and are
// told apart in files. Biases of scores: backend_attention.cpp; on a GPU: cuda_attention.cpp, cuda_model.cpp.
#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <fathom/backend/cpu.hpp>
#include <fathom/backend/reference.hpp>
#include <fathom/core/memory.hpp>
#include <fathom/core/random.hpp>
#include <fathom/io/config.hpp>
#include <fathom/io/weights.hpp>
#include <fathom/model/attention_map.hpp>
#include <fathom/model/initialize.hpp>
#include <fathom/model/model.hpp>
#include <fathom/model/summary.hpp>
#include <fathom/model/train_only.hpp>

#include "catch.hpp"
#include "fails_with.hpp"
#include "some_weights.hpp"
#include "temporary_folder.hpp"

namespace fathom::test {
namespace {

using complex = std::complex<double>;

constexpr config with(shortcut s, config body = {.vocab = 7, .context = 12, .width = 8, .depth = 4, .heads = 2, .hidden = 10}) {
  body.shortcut = s;
  return body;
}
constexpr config llama{.vocab = 7, .context = 12, .width = 8, .depth = 3, .heads = 4, .hidden = 5, .family = family::llama, .kv_heads = 2};

/// Nearly all at once: the last two blocks, of which the first does not reach depth 3.
struct conditioned {
  static constexpr config c = with({.depths = {0, 1, 3},
                                    .hidden = 3,
                                    .blocks = 2,
                                    .source = shortcut_source::differences,
                                    .unit_features = true,
                                    .head_norms = true,
                                    .depth_bias = true,
                                    .gate = shortcut_gate::head_and_depth,
                                    .slopes = shortcut_slopes::learned,
                                    .rotary = 100,
                                    .exit = shortcut_exit::sink});
};
/// The control in every block of a family with grouped queries.
struct of_own_input {
  static constexpr config c = with({.depths = {0, 1},
                                    .features = feature_map::linear,
                                    .blocks = all_blocks,
                                    .source = shortcut_source::own_input,
                                    .depth_bias = true,
                                    .gate = shortcut_gate::head,
                                    .slopes = shortcut_slopes::alibi,
                                    .exit = shortcut_exit::sigmoid},
                                   llama);
};
struct joint {
  static constexpr config c = with({.depths = {0, 2},
                                    .features = feature_map::identity,
                                    .placement = placement::joint,
                                    .blocks = 2,
                                    .unit_features = true,
                                    .head_norms = true,
                                    .depth_bias = true,
                                    .gate = shortcut_gate::head_and_depth,
                                    .exit = shortcut_exit::sink});
};

/// Features added to values, and the values of the first block, in all others: a value residual.
struct in_values {
  static constexpr config c = with({.depths = {0, 2},
                                    .hidden = 3,
                                    .placement = placement::own_values,
                                    .blocks = 2,
                                    .unit_features = true,
                                    .gate = shortcut_gate::head_and_depth});
};
struct value_residual {
  static constexpr config c = with({.depths = {1},
                                    .placement = placement::own_values,
                                    .blocks = 2,
                                    .source = shortcut_source::values,
                                    .gate = shortcut_gate::head},
                                   llama);
};
/// Value embeddings in the last two blocks.
struct token_values {
  static constexpr config c = with({.depths = {0},
                                    .placement = placement::own_values,
                                    .blocks = 2,
                                    .source = shortcut_source::tokens,
                                    .gate = shortcut_gate::head},
                                   llama);
};
struct before {
  static constexpr config c = with({.depths = {1}, .features = feature_map::linear, .placement = placement::before_self_attention, .blocks = 2});
};

constexpr token inputs[] = {3, 1, 4, 1, 5, 6, 2, 6, 5, 3};
constexpr token targets[] = {1, 4, -1, 5, 6, 2, -1, -1, 3, 0};
const batch examples{inputs, targets, 2, 5};

template <class T, class U>
double difference(const T& found, const U& expected) {
  REQUIRE(std::size(found) == std::size(expected));
  double largest = 1e-3, off = 0;
  for (std::size_t i = 0; i < std::size(found); ++i) {
    largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
    if (const double d = std::abs(static_cast<double>(found[i]) - static_cast<double>(expected[i])); !(d <= off)) off = d;
  }
  return off / largest;
}
/// The gradients of all parameters, by name.
template <class Model>
std::vector<std::pair<std::string, std::vector<double>>> gradients_of() {
  const auto weights = some_weights<Model>();
  auto gradients = make<typename Model::parameters>();
  typename Model::tape tape(2, 6);
  Model::forward_backward(*weights, examples, tape, *gradients);
  std::vector<std::pair<std::string, std::vector<double>>> all;
  Model::visit([&](std::string_view name, initial, const auto& t) { all.emplace_back(name, std::vector<double>(t.span().begin(), t.span().end())); },
               *gradients);
  return all;
}
/// The names of a model's tensors that contain `piece`.
template <class Model>
std::vector<std::string> names_with(std::string_view piece) {
  std::vector<std::string> names;
  const auto weights = make<typename Model::parameters>();
  Model::visit(
      [&](std::string_view name, initial, const auto&) {
        if (name.find(piece) != name.npos) names.emplace_back(name);
      },
      *weights);
  return names;
}

}  // namespace

TEMPLATE_TEST_CASE("options of shortcuts have the gradients of the complex step", "[shortcut]", conditioned, of_own_input, joint, in_values,
                   value_residual, token_values, before) {
  using net = model<TestType::c, backend::reference<complex>>;
  const auto weights = some_weights<net>();
  const auto found = gradients_of<model<TestType::c, backend::reference<double>>>();
  typename net::tape tape(2, 6);
  constexpr double h = 1e-20;
  const auto derivative = [&] {
    net::forward(*weights, examples, tape);
    return tape.loss().imag() / h;
  };
  // The shortcuts' own numbers one at a time, and those of a block that is looked back at.
  std::size_t n = 0;
  net::visit(
      [&](std::string_view name, initial, auto& tensor) {
        const std::vector<double>& gradient = found[n++].second;
        if (name.find("shortcut") == name.npos && !name.starts_with("h.0.mlp.c_proj") && !name.starts_with("h.3.attn") &&
            !name.ends_with("gate") && !name.starts_with("h.0.attn.c_attn"))
          return;
        std::vector<double> expected;
        for (complex& w : tensor.span()) {
          w += complex(0, h);
          expected.push_back(derivative());
          w = w.real();
        }
        INFO(name);
        CHECK(difference(gradient, expected) <= 1e-10);
      },
      *weights);
  // And all numbers at once, along a random direction.
  random numbers(6, 0);
  double expected = 0, size = 0;
  n = 0;
  net::visit(
      [&](std::string_view, initial, auto& tensor) {
        const std::vector<double>& gradient = found[n++].second;
        for (std::size_t i = 0; i < gradient.size(); ++i) {
          const double direction = numbers.normal();
          tensor.span()[i] += complex(0, h * direction);
          expected += direction * gradient[i];
          size += std::abs(direction * gradient[i]);
        }
      },
      *weights);
  CHECK(std::abs(derivative() - expected) <= 1e-12 * size);

  // The cpu backend has the same.
  const auto check = [&](const auto& others, double tolerance) {
    REQUIRE(others.size() == found.size());
    for (std::size_t i = 0; i < found.size(); ++i) {
      INFO(found[i].first);
      CHECK(difference(others[i].second, found[i].second) <= tolerance);
    }
  };
  check(gradients_of<model<TestType::c, backend::cpu<double>>>(), 1e-10);
  check(gradients_of<model<TestType::c>>(), 2e-3);
}

namespace {
constexpr config pair(family f, residual_form form, shortcut s) {
  config c{.vocab = 7, .context = 12, .width = 8, .depth = 4, .heads = 2, .hidden = 5, .shortcut = s, .family = f, .residual = {.form = form}};
  c.shortcut.depths = s.source == shortcut_source::values ? depth_set{1, 2} : s.source == shortcut_source::tokens ? depth_set{0} : depth_set{0, 2};
  c.shortcut.hidden = 3;
  if (f != family::gpt2 && f != family::gpt_neox) c.kv_heads = 1;
  if (f == family::gemma3) c.window = 3, c.window_pattern = 2;
  if (form == residual_form::embedding_scalars) c.residual.backout = 2;
  return c;
}
using at = placement;
using of = shortcut_source;
using gate = shortcut_gate;
using out = shortcut_exit;
using slopes = shortcut_slopes;
using map = feature_map;
using form = residual_form;
/// Every pair of a placement, a source, a gate, an exit and a number of blocks that can be combined, with a family, residual
/// connections and the other options in turn.
constexpr config pairs[] = {
    pair(family::gpt2, form::mudd, {.features = map::linear, .placement = at::replace_self_attention, .blocks = 2, .head_norms = true, .depth_bias = true, .gate = gate::head, .slopes = slopes::alibi}),
    pair(family::qwen3, form::embedding_scalars, {.features = map::identity, .placement = at::own_values, .source = of::differences, .unit_features = true, .exit = out::sink}),
    pair(family::gpt2, form::plain, {.placement = at::before_self_attention, .blocks = 3, .source = of::own_input, .gate = gate::head_and_depth, .slopes = slopes::learned, .rotary = 100, .exit = out::sigmoid}),
    pair(family::llama, form::dense_former, {.features = map::identity, .placement = at::joint, .blocks = 2, .source = of::differences, .unit_features = true, .head_norms = true, .depth_bias = true, .gate = gate::head_and_depth, .slopes = slopes::learned, .exit = out::sigmoid}),
    pair(family::gpt_neox, form::dense_former, {.blocks = 3, .source = of::own_input, .unit_features = true, .head_norms = true, .depth_bias = true}),
    pair(family::olmo2, form::plain, {.placement = at::own_values, .blocks = 3, .source = of::values, .gate = gate::head, .slopes = slopes::alibi, .exit = out::sink}),
    pair(family::gemma3, form::embedding_scalars, {.features = map::linear, .gate = gate::head_and_depth, .exit = out::sigmoid}),
    pair(family::gpt2, form::embedding_scalars, {.features = map::linear, .placement = at::before_self_attention, .blocks = 2, .unit_features = true, .head_norms = true, .depth_bias = true, .slopes = slopes::alibi, .rotary = 100, .exit = out::sink}),
    pair(family::gpt2, form::mudd, {.features = map::identity, .placement = at::joint, .source = of::own_input, .unit_features = true, .head_norms = true, .gate = gate::head, .rotary = 100}),
    pair(family::gpt_neox, form::dense_former, {.placement = at::own_values, .blocks = 2, .source = of::values, .gate = gate::head_and_depth, .slopes = slopes::learned}),
    pair(family::gemma3, form::plain, {.placement = at::before_self_attention, .source = of::differences, .unit_features = true, .head_norms = true, .depth_bias = true, .gate = gate::head, .slopes = slopes::learned}),
    pair(family::olmo2, form::mudd, {.features = map::linear, .placement = at::replace_self_attention, .blocks = 3, .source = of::differences, .slopes = slopes::learned, .exit = out::sigmoid}),
    pair(family::llama, form::embedding_scalars, {.placement = at::replace_self_attention, .source = of::own_input, .depth_bias = true, .gate = gate::head_and_depth, .slopes = slopes::alibi, .exit = out::sink}),
    pair(family::qwen3, form::dense_former, {.features = map::linear, .placement = at::joint, .blocks = 3, .head_norms = true, .depth_bias = true, .slopes = slopes::alibi, .exit = out::sink}),
    pair(family::llama, form::plain, {.features = map::linear, .blocks = 2, .source = of::own_input, .gate = gate::head, .exit = out::sigmoid}),
    pair(family::gpt2, form::dense_former, {.placement = at::own_values, .blocks = 3, .source = of::values, .head_norms = true, .rotary = 100, .exit = out::sigmoid}),
    pair(family::olmo2, form::mudd, {.blocks = 2, .source = of::differences, .depth_bias = true, .gate = gate::head_and_depth, .slopes = slopes::alibi, .exit = out::sink}),
    pair(family::gpt_neox, form::embedding_scalars, {.features = map::linear, .placement = at::own_values, .gate = gate::head, .slopes = slopes::learned, .exit = out::sink}),
    pair(family::qwen3, form::mudd, {.placement = at::own_values, .blocks = 2, .source = of::own_input, .gate = gate::head_and_depth, .slopes = slopes::learned, .exit = out::sigmoid}),
    pair(family::gemma3, form::mudd, {.placement = at::own_values, .source = of::tokens, .head_norms = true, .slopes = slopes::learned, .exit = out::sigmoid}),
    pair(family::gpt2, form::embedding_scalars, {.placement = at::own_values, .blocks = all_blocks, .source = of::tokens, .gate = gate::head_and_depth, .exit = out::sink}),
};

/// The gradient of every tensor, along a random direction of length 1, is a difference of losses.
template <std::size_t I>
void check_gradients() {
  using net = model<pairs[I], backend::cpu<double>>;
  const auto weights = some_weights<net>();
  auto gradients = make<typename net::parameters>();
  typename net::tape tape(2, 6);
  net::forward_backward(*weights, examples, tape, *gradients);
  double largest = 0;
  net::visit_tensors([&](initial, const auto& g) { for (const double x : g.span()) largest = std::max(largest, std::abs(x)); }, *gradients);
  random numbers(7, 0);
  net::visit(
      [&](std::string_view name, initial, auto& tensor, const auto& g) {
        const std::vector<double> kept(tensor.span().begin(), tensor.span().end());
        std::vector<double> direction(kept.size());
        double squares = 0, found = 0;
        for (double& d : direction) d = numbers.normal(), squares += d * d;
        for (double& d : direction) d /= std::sqrt(squares);
        for (std::size_t i = 0; i < kept.size(); ++i) found += direction[i] * g.span()[i];
        const auto loss_at = [&](double step) {
          for (std::size_t i = 0; i < kept.size(); ++i) tensor.span()[i] = kept[i] + step * direction[i];
          net::forward(*weights, examples, tape);
          return tape.loss();
        };
        constexpr double h = 2e-4;  // the error is of the order of h^4, and of 1e-16 / h
        const double expected = (8 * (loss_at(h) - loss_at(-h)) - (loss_at(2 * h) - loss_at(-2 * h))) / (12 * h);
        std::ranges::copy(kept, tensor.span().begin());
        INFO("pairs[" << I << "], " << name << ": " << found << " in place of " << expected);
        CHECK(std::abs(found - expected) <= 1e-7 * (1 + largest));
      },
      *weights, *gradients);
  CHECK(largest > 0.01);
}
}  // namespace

TEST_CASE("options of shortcuts have the right gradients in every pair", "[shortcut]") {
  [&]<std::size_t... I>(std::index_sequence<I...>) { (check_gradients<I>(), ...); }(std::make_index_sequence<std::size(pairs)>());
}

TEMPLATE_TEST_CASE("options of shortcuts decode as they read", "[shortcut]", conditioned, of_own_input, joint, in_values, value_residual,
                   token_values, before) {
  using m = model<TestType::c>;
  const auto weights = some_weights<m>();
  const auto ready = pack<float>(*weights);
  const auto text = some_tokens(12, 3, 7);
  typename m::tape tape(1);
  m::forward(*weights, {text, {}, 1, 12}, tape);
  const auto expected = tape.logits();
  for (const std::size_t prompt : {1u, 6u}) {
    typename m::cache cache(1);
    std::span<const float> logits = m::prefill(*ready, std::span(text).first(prompt), cache);
    for (std::size_t i = prompt;; ++i) {
      INFO("position " << i - 1);
      CHECK(difference(logits, expected.subspan((i - 1) * 7, 7)) <= 1e-4);
      if (i == 12) break;
      logits = m::decode(*ready, text[i], cache);
    }
  }
}

namespace {
struct gated_features {
  static constexpr config c = with({.depths = {0, 2}, .blocks = 2, .unit_features = true, .head_norms = true, .gate = shortcut_gate::head});
};
struct gated_tokens {
  static constexpr config c = with({.depths = {0}, .placement = placement::own_values, .blocks = 3, .source = shortcut_source::tokens, .gate = shortcut_gate::head});
};
}  // namespace

TEMPLATE_TEST_CASE("a gate from zero begins as the plain model, and learns", "[shortcut]", gated_features, gated_tokens) {
  using net = model<TestType::c>;
  using plain = model<with({})>;
  auto weights = make<typename net::parameters>();
  auto plain_weights = make<plain::parameters>();
  initialize<net>(*weights, 4);
  initialize<plain>(*plain_weights, 4);
  typename net::tape tape(2, 5);
  plain::tape plain_tape(2, 5);
  net::forward(*weights, examples, tape);
  plain::forward(*plain_weights, examples, plain_tape);
  CHECK(tape.loss() == plain_tape.loss());
  auto gradients = make<typename net::parameters>();
  net::forward_backward(*weights, examples, tape, *gradients);
  int gates = 0;
  net::visit(
      [&](std::string_view name, initial, const auto& t) {
        if (!name.ends_with(".gate")) return;
        CHECK(std::ranges::any_of(t.span(), [](float g) { return g != 0; }));
        ++gates;
      },
      *gradients);
  CHECK(gates == TestType::c.shortcut.blocks);
  // Features and values of unit scale.
  net::visit(
      [](std::string_view name, initial, const auto& t) {
        if (!name.ends_with("shortcut.attn.c_kv.weight")) return;
        double squares = 0;
        for (const float w : t.span()) squares += static_cast<double>(w) * static_cast<double>(w);
        CHECK(std::abs(squares / static_cast<double>(t.size) * 8 - 1) < 0.4);
      },
      *weights);
}

TEST_CASE("the control that reads its own input is what reads that depth, and costs what the depths cost", "[shortcut]") {
  constexpr shortcut last{.depths = {3}, .depth_bias = true};
  constexpr shortcut own = [](shortcut s) { return s.source = shortcut_source::own_input, s; }(last);
  const auto logits = []<class Net>(std::type_identity<Net>) {
    const auto weights = some_weights<Net>();
    typename Net::tape tape(2, 5);
    Net::forward(*weights, {inputs, {}, 2, 5}, tape);
    return std::vector<float>(tape.logits().begin(), tape.logits().end());
  };
  CHECK(logits(std::type_identity<model<with(own)>>()) == logits(std::type_identity<model<with(last)>>()));

  using depths = model<with({.depths = {0, 1, 2}, .blocks = 2})>;
  using control = model<with({.depths = {0, 1, 2}, .blocks = 2, .source = shortcut_source::own_input})>;
  CHECK(depths::parameter_count == control::parameter_count);
  CHECK(depths::body::flops(12) == control::body::flops(12));
  CHECK(names_with<depths>("") == names_with<control>(""));
  CHECK(logits(std::type_identity<depths>()) != logits(std::type_identity<control>()));
}

TEST_CASE("options of shortcuts say what they are, in names, summaries and files", "[shortcut]") {
  using net = model<conditioned::c>;
  CHECK(names_with<net>("shortcut.attn.gate") == std::vector<std::string>{"h.2.shortcut.attn.gate", "h.3.shortcut.attn.gate"});
  CHECK(names_with<net>("ln_post") ==
        std::vector<std::string>{"h.2.shortcut.features.0.ln_post.weight", "h.2.shortcut.features.1.ln_post.weight",
                                 "h.3.shortcut.features.0.ln_post.weight", "h.3.shortcut.features.1.ln_post.weight",
                                 "h.3.shortcut.features.3.ln_post.weight"});
  CHECK(names_with<model<in_values::c>>("h.3.attn.c_v") == std::vector<std::string>{"h.3.attn.c_v.weight", "h.3.attn.c_v.bias"});
  CHECK(names_with<model<value_residual::c>>("gate") ==
        std::vector<std::string>{"h.0.mlp.gate_proj.weight", "h.1.attn.gate", "h.1.mlp.gate_proj.weight", "h.2.attn.gate", "h.2.mlp.gate_proj.weight"});
  using embedded = model<token_values::c>;
  CHECK(names_with<embedded>("token") == std::vector<std::string>{"h.1.shortcut.features.token.weight", "h.2.shortcut.features.token.weight"});
  CHECK(summary<embedded>().find("values of 7 tokens") != std::string::npos);
  CHECK(names_with<model<with({.depths = {1}, .depth_bias = true})>>("depth_bias") == std::vector<std::string>{"shortcut.attn.depth_bias"});
  const std::string text = summary<net>();
  CHECK(text.find("features of differences of depths {0,1,3}") != text.npos);
  CHECK(text.find("norms of each head, temperatures, biases of depths, gates of heads and depths, sinks") != text.npos);

  // As C++. What is the paper's shortcut is written as ever.
  CHECK(io::to_json(with({.depths = {1}})).find(R"("shortcut":{"depths":[1],"features":"mlp","hidden":8,"placement":"after_self_attention"})") !=
        std::string::npos);
  CHECK(io::to_cpp(joint::c).find(".blocks = 2, .unit_features = true, .head_norms = true, .depth_bias = true, "
                                  ".gate = fathom::shortcut_gate::head_and_depth, .exit = fathom::shortcut_exit::sink}") != std::string::npos);

  // A file of another option is refused, even if it has the same tensors.
  const temporary_folder folder;
  const auto file = folder.path() / "net";
  using falling = model<with({.depths = {0, 1}, .source = shortcut_source::own_input, .slopes = shortcut_slopes::alibi})>;
  const auto weights = some_weights<falling>();
  save(file, *weights);
  auto loaded = make<falling::parameters>();
  load(file, *loaded);
  falling::visit([](std::string_view, initial, const auto& a, const auto& b) { CHECK(std::ranges::equal(a.span(), b.span())); }, *weights, *loaded);
  auto other = make<model<with({.depths = {0, 1}})>::parameters>();
  CHECK(fails_with([&] { return load(file, *other), 0; }, "config shortcut.source: expected nothing, found \"own_input\"",
                   "config shortcut.slopes: expected nothing, found \"alibi\""));
  save(file, *other);
  CHECK(fails_with([&] { return load(file, *loaded), 0; }, "config shortcut.source: expected \"own_input\", found nothing"));

  // Tables of value embeddings, in float and rounded as other tables; and a plain file, to which they add nothing at first.
  using tables = model<gated_tokens::c>;
  using plain = model<with({})>;
  const auto full = some_weights<tables>();
  auto read = make<tables::parameters>();
  const auto largest_error = [&] {
    double off = 0;
    tables::visit(
        [&](std::string_view name, initial, const auto& a, const auto& b) {
          if (name.find("token.weight") == name.npos) return;
          for (std::size_t i = 0; i < a.span().size(); ++i) off = std::max(off, static_cast<double>(std::abs(a.span()[i] - b.span()[i])));
        },
        *full, *read);
    return off;
  };
  save(file, *full);
  load(file, *read);
  CHECK(largest_error() == 0);
  save<std::int8_t>(file, *full);
  load(file, *read);
  CHECK(largest_error() > 0);
  CHECK(largest_error() < 1e-2);
  const auto base = some_weights<plain>();
  save(file, *base);
  initialize<tables>(*read, 3);
  load(file, *read, {.missing = missing::keep});
  tables::tape tape(2, 5);
  plain::tape plain_tape(2, 5);
  tables::forward(*read, examples, tape);
  plain::forward(*base, examples, plain_tape);
  CHECK(tape.loss() == plain_tape.loss());
}

TEST_CASE("every option of a shortcut is read as it is written", "[shortcut]") {
  const auto check = [](const config& c) {
    const std::string text = io::to_json(c);
    INFO(text);
    const auto read = io::read_config(text);
    CHECK(read.problem.view() == "");
    CHECK(normalized(read.value) == normalized(c));
    CHECK(io::differences(c, text) == "");
    CHECK(io::problems_of(c) == "");
  };
  for (const config& c : {conditioned::c, of_own_input::c, joint::c, in_values::c, value_residual::c, token_values::c, before::c}) check(c);
  for (const config& c : pairs) check(c);

  // Each by itself, with each of its values: none is like another one, in JSON and in C++.
  std::vector<config> all{with({.depths = {1}})};
  const auto add = [&](auto member, auto... values) {
    (all.push_back([&] {
      config c = with({.depths = {1}});
      c.shortcut.*member = values;
      return c;
    }()),
     ...);
  };
  add(&shortcut::features, feature_map::identity, feature_map::linear);
  add(&shortcut::hidden, 3);
  add(&shortcut::placement, placement::replace_self_attention, placement::joint, placement::before_self_attention, placement::own_values);
  add(&shortcut::blocks, 2, 3);
  add(&shortcut::source, shortcut_source::differences, shortcut_source::own_input);
  add(&shortcut::unit_features, true);
  add(&shortcut::head_norms, true);
  add(&shortcut::depth_bias, true);
  add(&shortcut::gate, shortcut_gate::head, shortcut_gate::head_and_depth);
  add(&shortcut::slopes, shortcut_slopes::alibi, shortcut_slopes::learned);
  add(&shortcut::rotary, 100);
  add(&shortcut::exit, shortcut_exit::sink, shortcut_exit::sigmoid);
  all.push_back(with({.depths = {1}, .placement = placement::own_values, .source = shortcut_source::values}));
  all.push_back(with({.depths = {0}, .placement = placement::own_values, .source = shortcut_source::tokens}));
  for (std::size_t i = 0; i < all.size(); ++i) {
    check(all[i]);
    for (std::size_t j = 0; j < i; ++j) {
      INFO(io::to_json(all[i]) << " and " << io::to_json(all[j]));
      CHECK(io::differences(all[i], io::to_json(all[j])) != "");
      CHECK(io::differences(all[j], io::to_json(all[i])) != "");
      CHECK(io::to_cpp(all[i]) != io::to_cpp(all[j]));
    }
  }
}

namespace {
constexpr config of_family(family f, placement where) {
  config c{.vocab = 7, .context = 12, .width = 16, .depth = 4, .heads = 4, .hidden = 5, .family = f, .kv_heads = f == family::gpt_neox ? 4 : 2, .window = 5,
           .window_pattern = 2};
  c.shortcut = {.depths = {0, 2},
                .hidden = 3,
                .placement = where,
                .blocks = f == family::gemma3 && (where == placement::joint || where == placement::own_values) ? 1 : 2,
                .unit_features = true,
                .head_norms = f != family::olmo2,
                .gate = shortcut_gate::head};
  return c;
}
/// A new model of this kind reads some tokens. Its gates, norms and temperatures, block by block, are these.
template <family F, placement Where>
void check_family(const std::vector<std::string>& gates, const std::vector<std::string>& norms, const std::vector<std::string>& temperatures) {
  using net = model<of_family(F, Where)>;
  auto weights = make<typename net::parameters>();
  initialize<net>(*weights, 3);
  typename net::tape tape(2, 5);
  net::forward(*weights, examples, tape);
  CHECK(std::abs(tape.loss() - std::log(7.0)) < 0.5);
  CHECK(names_with<net>("attn.gate") == gates);
  CHECK(names_with<net>("q_norm") == norms);
  CHECK(names_with<net>("temperature") == temperatures);
}
}  // namespace

TEST_CASE("options of shortcuts combine with families", "[shortcut]") {
  using names = std::vector<std::string>;
  const auto in_blocks = [](std::initializer_list<int> blocks, std::string_view name) {
    names all;
    for (const int b : blocks) all.push_back(join("h.", b, ".", name));
    return all;
  };
  check_family<family::qwen3, placement::after_self_attention>(
      in_blocks({2, 3}, "shortcut.attn.gate"),
      {"h.0.attn.q_norm.weight", "h.1.attn.q_norm.weight", "h.2.attn.q_norm.weight", "h.2.shortcut.attn.q_norm.weight", "h.3.attn.q_norm.weight",
       "h.3.shortcut.attn.q_norm.weight"},
      in_blocks({2, 3}, "shortcut.attn.temperature"));
  // Norms that are there already serve: with them, head_norms adds temperatures.
  check_family<family::qwen3, placement::joint>(in_blocks({2, 3}, "attn.gate"), in_blocks({0, 1, 2, 3}, "attn.q_norm.weight"),
                                                in_blocks({2, 3}, "attn.temperature"));
  check_family<family::gemma3, placement::own_values>(in_blocks({3}, "attn.gate"), in_blocks({0, 1, 2, 3}, "attn.q_norm.weight"),
                                                      in_blocks({3}, "attn.temperature"));
  check_family<family::gemma3, placement::replace_self_attention>(
      in_blocks({2, 3}, "shortcut.attn.gate"),
      {"h.0.attn.q_norm.weight", "h.1.attn.q_norm.weight", "h.2.shortcut.attn.q_norm.weight", "h.3.shortcut.attn.q_norm.weight"},
      in_blocks({2, 3}, "shortcut.attn.temperature"));
  check_family<family::olmo2, placement::own_values>(in_blocks({2, 3}, "attn.gate"), in_blocks({0, 1, 2, 3}, "attn.q_norm.weight"), {});
  check_family<family::gpt_neox, placement::joint>(in_blocks({2, 3}, "attn.gate"), in_blocks({2, 3}, "attn.q_norm.weight"),
                                                   in_blocks({2, 3}, "attn.temperature"));
  check_family<family::gpt_neox, placement::before_self_attention>(in_blocks({2, 3}, "shortcut.attn.gate"),
                                                                   in_blocks({2, 3}, "shortcut.attn.q_norm.weight"),
                                                                   in_blocks({2, 3}, "shortcut.attn.temperature"));
}

TEST_CASE("value embeddings are rows of a table, times a gate, added to the values of attention", "[shortcut]") {
  // Values that are the same number for all positions and have no projection: what attention gives is that number.
  using net = model<with({.depths = {0}, .placement = placement::own_values, .source = shortcut_source::tokens, .gate = shortcut_gate::head},
                         {.vocab = 7, .context = 12, .width = 8, .depth = 1, .heads = 2, .hidden = 10, .tied = false}),
                    backend::cpu<double>>;
  const auto weights = some_weights<net>();
  // In the one block: q, k, v = x W + b; with W_v = 0 and W_k = W_q = 0, head h gives the mean of b_v + gate_h table[token] so far.
  net::visit(
      [](std::string_view name, initial, auto& t) {
        if (name == "h.0.attn.c_attn.weight" || name == "h.0.mlp.c_proj.weight" || name == "h.0.mlp.c_proj.bias" || name == "wte.weight" ||
            name == "wpe.weight" || name == "h.0.attn.c_proj.bias")
          std::ranges::fill(t.span(), 0.0);
        if (name == "h.0.attn.c_attn.bias") std::ranges::fill(t.span().first(16), 0.0);
        if (name == "h.0.attn.c_proj.weight" || name == "lm_head.weight")  // the identity
          for (index i = 0; i < t.size; ++i) t.span()[static_cast<std::size_t>(i)] = i / 8 == i % 8 ? 1 : 0;
        if (name == "ln_f.weight") std::ranges::fill(t.span(), 1.0);
        if (name == "ln_f.bias") std::ranges::fill(t.span(), 0.0);
      },
      *weights);
  const auto numbers_of = [&](std::string_view wanted) {
    std::vector<double> numbers;
    net::visit([&](std::string_view name, initial, const auto& t) { if (name == wanted) numbers.assign(t.span().begin(), t.span().end()); }, *weights);
    return numbers;
  };
  const auto table = numbers_of("shortcut.features.token.weight"), gates = numbers_of("h.0.attn.gate"), bias = numbers_of("h.0.attn.c_attn.bias");
  REQUIRE(table.size() == 7 * 8);
  REQUIRE(gates.size() == 2);
  const std::vector<token> text{3, 1, 6, 1};
  net::tape tape(1, 4);
  net::forward(*weights, {text, {}, 1, 4}, tape);
  for (std::size_t position = 0; position < 4; ++position) {
    std::vector<double> x(8);
    for (std::size_t j = 0; j < 8; ++j)
      for (std::size_t k = 0; k <= position; ++k)
        x[j] += (bias[16 + j] + gates[j / 4] * table[static_cast<std::size_t>(text[k]) * 8 + j]) / static_cast<double>(position + 1);
    double mean = 0, variance = 0;
    for (const double v : x) mean += v / 8;
    for (const double v : x) variance += (v - mean) * (v - mean) / 8;
    for (std::size_t v = 0; v < 7; ++v)
      CHECK(std::abs(tape.logits()[position * 7 + v] - (x[v] - mean) / std::sqrt(variance + 1e-5)) < 1e-12);
  }
}

TEST_CASE("a part of a model with value embeddings has the gradients of the whole", "[shortcut]") {
  using net = model<token_values::c>;
  const auto weights = some_weights<net>();
  typename net::tape whole_tape(2, 5);
  auto whole = make<net::parameters>();
  net::forward_backward(*weights, examples, whole_tape, *whole);
  const auto check = [&]<class Part>(std::type_identity<Part>) {
    typename Part::tape tape(2, 5);
    auto part = make<typename Part::trained>(), expected = make<typename Part::trained>();
    Part::take(*whole, *expected);
    Part::forward_backward(*weights, examples, tape, *part);
    CHECK(std::ranges::equal(part->numbers, expected->numbers));
    CHECK(std::ranges::any_of(part->numbers, [](float x) { return x != 0; }));
  };
  check(std::type_identity<train_only<net, "*.token.weight">>());
  check(std::type_identity<train_only<net, "h.2.attn.gate">>());
}

TEST_CASE("attention maps of shortcuts in several blocks name their depths", "[shortcut]") {
  using net = model<of_own_input::c>;
  const auto map = attention_map<net>(*some_weights<net>(), some_tokens(9, 5, 7));
  CHECK(map.sources == std::vector<std::string>{"own input for depth 0", "own input for depth 1"});
  CHECK(map.share(0) + map.share(1) == Approx(1));
  using conditioned_net = model<conditioned::c>;
  CHECK(attention_map<conditioned_net>(*some_weights<conditioned_net>(), some_tokens(9, 5, 7)).sources ==
        std::vector<std::string>{"depth 0", "depth 1 - depth 0", "depth 3 - depth 1"});
  using joint_net = model<joint::c>;
  CHECK(attention_map<joint_net>(*some_weights<joint_net>(), some_tokens(9, 5, 7)).sources ==
        std::vector<std::string>{"context", "depth 0", "depth 2"});
  // Depths that are added are not attended to.
  using added = model<in_values::c>;
  CHECK(fails_with([] { return attention_map<added>(*some_weights<added>(), some_tokens(9, 5, 7)); }, "no attention of this model is over depths"));
}

}  // namespace fathom::test
