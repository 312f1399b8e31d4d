// The language of architectures: parts, patterns, edits, descriptions; and that a config is shorthand for one of them.
#include <algorithm>
#include <cmath>
#include <complex>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <fathom/backend/cpu.hpp>
#include <fathom/backend/reference.hpp>
#include <fathom/core/memory.hpp>
#include <fathom/core/random.hpp>
#include <fathom/layer/linear.hpp>
#include <fathom/model/architecture.hpp>
#include <fathom/model/edit.hpp>
#include <fathom/model/initialize.hpp>
#include <fathom/model/model.hpp>
#include <fathom/model/summary.hpp>

#include "catch.hpp"
#include "some_weights.hpp"

namespace fathom::test {
namespace {

// ---- A custom part: an adapter, y = residual + GELU(x W_1 + b_1) W_2 + b_2 with a hidden width of Rank ------------------

template <index E, index Rank>
struct bottleneck_layer {
  static constexpr index width = E;
  using down = linear<E, Rank>;
  using up = linear<Rank, E, initial::zero>;

  template <class S>
  struct parameters {
    typename down::template parameters<S> first;
    typename up::template parameters<S> second;
  };
  template <class F, class Path, class... P>
  static constexpr void visit(const F& f, const Path& at, P&... p) {
    down::visit(f, at / "down", p.first...);
    up::visit(f, at / "up", p.second...);
  }
  template <class T>
  struct tape {
    matrix<T> before, hidden;  // [rows, Rank]
    constexpr tape(arena& a, const extent& e) : before(a.take<T>(e.rows(), Rank)), hidden(a.take<T>(e.rows(), Rank)) {}
  };
  template <class T>
  struct scratch {
    matrix<T> dhidden;  // [rows, Rank]
    constexpr scratch(arena& a, const extent& e) : dhidden(a.take<T>(e.rows(), Rank)) {}
  };
  template <class On, class P>
  static void forward(const On& on, const P& p, const extent&, input<On> x, input<On> residual, output<On> y,
                      const tape<scalar<On>>& t) {
    down::forward(on, p.first, x, t.before);
    gelu_forward(on, t.before, t.hidden);
    up::forward_add(on, p.second, t.hidden, residual, y);
  }
  template <class On, class P, class G>
  static void backward(const On& on, const P& p, const extent&, input<On> x, input<On> dy, output<On> dx, const tape<scalar<On>>& t,
                       G& g, const scratch<scalar<On>>& s) {
    up::backward_parameters(on, t.hidden, dy, g.second);
    up::backward_input(on, p.second, dy, s.dhidden);
    gelu_backward(on, t.before, s.dhidden, s.dhidden);
    down::backward_parameters(on, x, s.dhidden, g.first);
    down::backward_input(on, p.first, s.dhidden, dx);
  }
  static constexpr double flops(index tokens) { return down::flops(tokens) + up::flops(tokens); }
};
template <int Rank>
struct bottleneck {
  static constexpr auto options = fields(field<"rank">(Rank));
  template <class At>
  using bind = bottleneck_layer<At::width, Rank>;
};

using attn = pre<"attn", layer_norm<>, attention<2>>;
using feed = pre<"mlp", layer_norm<>, fathom::mlp<20>>;
using adapter = pre<"adapter", layer_norm<>, bottleneck<3>>;
using cross = pre<"shortcut", layer_norm<>, look_back<3>, features<depths<0, 2>, mlp_features<7>>>;

template <class... Items>
using of = architecture<sizes<19, 20, 12>, embed<tokens, learned_positions>, body<Items...>, head<layer_norm<>, tied>>;

using local = pre<"attn", layer_norm<epsilon<1, 1'000'000>>, attention<4, kv_heads<2>, window<3>, head_width<5>, no_bias>>;

/// Twice a pattern of two blocks, one with a window; then a single block; and the paper's shortcut before self-attention in the
/// last two.
using plain = of<repeat<2, block<local, feed>, block<attn, adapter, feed>>, block<attn, feed>>;
using net = edit<plain, last_blocks<2>, insert_before<"attn", cross>>;

template <class T>
std::vector<std::string> names_of() {
  std::vector<std::string> names;
  transformer<T, backend::reference<double>>::visit([&](std::string_view name, initial, const auto&) { names.emplace_back(name); },
                                                    tensors_of<T>);
  return names;
}

}  // namespace

TEST_CASE("a pattern of blocks may end anywhere", "[architecture]") {
  using A = block<pre<"attn", layer_norm<>, attention<1>>>;
  using B = block<pre<"attn", layer_norm<>, attention<2>>>;
  using C = block<pre<"attn", layer_norm<>, attention<3>>>;
  CHECK((std::is_same_v<cycle<6, A, B, C>, body<repeat<2, A, B, C>>>));
  CHECK((std::is_same_v<cycle<8, A, B, C>, body<repeat<2, A, B, C>, repeat<1, A, B>>>));
  CHECK((std::is_same_v<cycle<2, A, B, C>, body<repeat<1, A, B>>>));
  CHECK((std::is_same_v<cycle<5, A>, body<repeat<5, A>>>));
  CHECK((cycle<26, A, A, A, A, A, B>::depth == 26));
}

TEST_CASE("an edit changes the blocks that it names, and no others", "[architecture]") {
  using extra = pre<"extra", layer_norm<>, bottleneck<2>>;
  using A = block<attn, feed>;
  using B = block<attn, adapter, feed>;
  using A_extra = block<extra, attn, feed>;
  using B_extra = block<extra, attn, adapter, feed>;
  using insert = insert_before<"attn", extra>;
  // In a run of equal blocks,
  STATIC_REQUIRE(std::is_same_v<edit<of<repeat<6, A>>, last_block, insert>, of<repeat<5, A>, repeat<1, A_extra>>>);
  STATIC_REQUIRE(std::is_same_v<edit<of<repeat<6, A>>, first_blocks<2>, insert>, of<repeat<2, A_extra>, repeat<4, A>>>);
  STATIC_REQUIRE(std::is_same_v<edit<of<repeat<6, A>>, blocks<2, 3>, insert>, of<repeat<2, A>, repeat<2, A_extra>, repeat<2, A>>>);
  STATIC_REQUIRE(std::is_same_v<edit<of<repeat<6, A>>, blocks<3>, insert>, of<repeat<3, A>, repeat<1, A_extra>, repeat<2, A>>>);
  STATIC_REQUIRE(std::is_same_v<edit<of<repeat<6, A>>, every_block, insert>, of<repeat<6, A_extra>>>);
  // over the ends of runs,
  STATIC_REQUIRE(std::is_same_v<edit<of<repeat<2, A>, B, repeat<2, A>>, blocks<1, 3>, insert>,
                                of<repeat<1, A>, repeat<1, A_extra>, repeat<1, B_extra>, repeat<1, A_extra>, repeat<1, A>>>);
  // and in patterns, whole or cut.
  STATIC_REQUIRE(std::is_same_v<edit<of<repeat<3, A, B>>, every_block, insert>, of<repeat<3, A_extra, B_extra>>>);
  STATIC_REQUIRE(std::is_same_v<edit<of<repeat<3, A, B>>, last_blocks<3>, insert>,
                                of<repeat<1, A, B>, repeat<1, A>, repeat<1, B_extra>, repeat<1, A_extra, B_extra>>>);
  STATIC_REQUIRE(std::is_same_v<edit<of<repeat<3, A, B>>, blocks<2>, insert>, of<repeat<1, A, B>, repeat<1, A_extra>, repeat<1, B>, repeat<1, A, B>>>);

  // Each kind of edit, and several.
  STATIC_REQUIRE(std::is_same_v<edit<of<A>, last_block, insert_after<"attn", extra>>, of<repeat<1, block<attn, extra, feed>>>>);
  STATIC_REQUIRE(std::is_same_v<edit<of<A>, last_block, in_place_of<"attn", extra>>, of<repeat<1, block<extra, feed>>>>);
  STATIC_REQUIRE(std::is_same_v<edit<of<B>, last_block, in_place_of<"adapter">>, of<repeat<1, A>>>);
  STATIC_REQUIRE(std::is_same_v<edit<of<A>, last_block, insert_first<extra>, insert_last<adapter>>, of<repeat<1, block<extra, attn, feed, adapter>>>>);
}

TEST_CASE("a config is a way to write an architecture", "[architecture]") {
  constexpr config c{.vocab = 19, .context = 20, .width = 12, .depth = 3, .heads = 2, .hidden = 20};
  constexpr config after{
      .vocab = 19, .context = 20, .width = 12, .depth = 3, .heads = 2, .hidden = 20, .shortcut = {.depths = {0, 2}, .hidden = 7}};
  using by_hand = of<repeat<3, block<attn, feed>>>;
  using placed = edit<by_hand, last_block, insert_after<"attn", pre<"/shortcut", layer_norm<>, look_back<2>, features<depths<0, 2>, mlp_features<7>>>>>;
  CHECK(names_of<by_hand>() == names_of<gpt2<c>>());
  CHECK(names_of<placed>() == names_of<gpt2<after>>());

  using a = model<after, backend::reference<double>>;
  using b = transformer<placed, backend::reference<double>>;
  const auto weights = some_weights<a>();
  const auto same = some_weights<b>();
  const auto text = some_tokens(12, 4);
  a::tape tape_a(1, 12);
  b::tape tape_b(1, 12);
  a::forward(*weights, {text, {}, 1, 12}, tape_a);
  b::forward(*same, {text, {}, 1, 12}, tape_b);
  CHECK(std::ranges::equal(tape_a.logits(), tape_b.logits()));
}

TEST_CASE("blocks of patterns and edited blocks have names of their own", "[architecture]") {
  const auto names = names_of<net>();
  const auto has = [&](std::string_view name) { return std::ranges::count(names, name) == 1; };
  for (const char* name : {"h.0.ln_1.weight", "h.1.adapter.ln.bias", "h.1.adapter.down.weight", "h.3.adapter.up.bias", "h.4.mlp.c_fc.weight",
                           "h.3.shortcut.ln.weight", "h.3.shortcut.attn.c_q.weight", "h.3.shortcut.features.0.ln.weight",
                           "h.3.shortcut.features.2.c_fc.weight", "h.4.shortcut.attn.c_kv.bias", "h.4.shortcut.features.2.c_proj.weight"}) {
    INFO(name);
    CHECK(has(name));
  }
  for (const char* name : {"h.0.adapter.down.weight", "h.2.shortcut.ln.weight", "h.4.adapter.down.weight", "h.5.ln_1.weight"}) {
    INFO(name);
    CHECK(!has(name));
  }
  STATIC_REQUIRE(transformer<net>::depth == 5);
}

template <int N>
struct outer {
  template <class T>
  struct inner {
    static constexpr auto options = fields(field<"n">(N), field<"half">(0.5), field<"deep">(true), field<"none">(depth_set{}), field<"word">("a \"b\""));
  };
  struct plain_inner {
    static constexpr auto options = fields();
    static constexpr std::string_view name = "another name";
  };
};

TEST_CASE("a part is called what its type is called, or as it says", "[architecture]") {
  CHECK(description_of_part<outer<3>::inner<outer<4>::plain_inner>>() == R"({"part":"inner","n":3,"half":0.5,"deep":true,"none":[],"word":"a \"b\""})");
  CHECK(line_of_part<outer<3>::inner<int>>() == "inner (n 3, half 0.5, deep true, none [], word a \"b\")");
  CHECK(description_of_part<outer<3>::plain_inner>() == R"({"part":"another name"})");
  CHECK(description_of_part<named<"input_layernorm", layer_norm<>>>() == R"({"part":"layer_norm"})");
  CHECK(description_of_part<local>() == R"({"part":"pre","name":"attn","norm":{"part":"layer_norm","epsilon":1e-06},)"
                                        R"("layer":{"part":"attention","heads":4,"kv_heads":2,"window":3,"head_width":5,"bias":false}})");
}

TEST_CASE("a description says every part and its options", "[architecture]") {
  CHECK(of<repeat<2, block<attn, feed>, block<adapter>>>::description() ==
        R"({"vocab":19,"context":20,"width":12,"embed":{"part":"embed","parts":[{"part":"tokens"},{"part":"learned_positions"}]},)"
        R"("body":{"part":"body","runs":[{"part":"repeat","count":2,"blocks":[{"part":"block","stages":[)"
        R"({"part":"pre","name":"attn","norm":{"part":"layer_norm"},"layer":{"part":"attention","heads":2}},)"
        R"({"part":"pre","name":"mlp","norm":{"part":"layer_norm"},"layer":{"part":"mlp","hidden":20}}]},)"
        R"({"part":"block","stages":[{"part":"pre","name":"adapter","norm":{"part":"layer_norm"},"layer":{"part":"bottleneck","rank":3}}]}]}]},)"
        R"("head":{"part":"head","norm":{"part":"layer_norm"},"tied":true}})");
  CHECK(description_of_part<cross>() ==
        R"({"part":"pre","name":"shortcut","norm":{"part":"layer_norm"},"layer":{"part":"look_back","heads":3},)"
        R"("source":{"part":"features","depths":[0,2],"features":{"part":"mlp_features","hidden":7}}})");
}

TEST_CASE("gradients of an edited pattern agree with the complex step", "[architecture]") {
  using complex = std::complex<double>;
  using oracle = transformer<net, backend::reference<double>>;
  using fast = transformer<net, backend::cpu<double>>;
  using complex_net = transformer<net, backend::reference<complex>>;
  const auto inputs = some_tokens(8, 1), targets = some_tokens(8, 2);
  const auto gradients_of = [&]<class Model>(std::type_identity<Model>) {
    const auto weights = some_weights<Model>();
    auto gradients = make<typename Model::parameters>();
    typename Model::tape tape(2, 4);
    Model::forward_backward(*weights, {inputs, targets, 2, 4}, tape, *gradients);
    std::vector<double> all;
    Model::visit_tensors([&](initial, const auto& g) { all.insert(all.end(), g.span().begin(), g.span().end()); }, *gradients);
    return all;
  };
  const auto found = gradients_of(std::type_identity<oracle>{}), fast_found = gradients_of(std::type_identity<fast>{});

  const auto weights = some_weights<complex_net>();
  complex_net::tape tape(2, 4);
  constexpr double h = 1e-20;
  std::vector<double> expected;
  complex_net::visit_tensors(
      [&](initial, auto& tensor) {
        for (complex& w : tensor.span()) {
          w += complex(0, h);
          complex_net::forward(*weights, {inputs, targets, 2, 4}, tape);
          expected.push_back(tape.loss().imag() / h);
          w = w.real();
        }
      },
      *weights);
  REQUIRE(found.size() == expected.size());
  double largest = 0, difference = 0, fast_difference = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    largest = std::max(largest, std::abs(expected[i]));
    difference = std::max(difference, std::abs(found[i] - expected[i]));
    fast_difference = std::max(fast_difference, std::abs(fast_found[i] - expected[i]));
  }
  CHECK(largest > 0.01);
  CHECK(difference <= 1e-12 * largest);
  CHECK(fast_difference <= 1e-12 * largest);
}

TEST_CASE("backward goes no further down than it must", "[architecture]") {
  using m = transformer<net, backend::cpu<float>>;
  const auto of_names = [](std::string_view part) {
    return lowest_stage_with<net>([=](std::string_view name) { return name.find(part) != name.npos; });
  };
  CHECK(of_names("adapter") == lowest_stage{1, 1});
  CHECK(of_names("shortcut") == lowest_stage{3, 0});
  CHECK(of_names("h.4.mlp") == lowest_stage{4, 2});
  CHECK(of_names("wpe") == lowest_stage{-1, 0});
  CHECK(of_names("ln_f") == lowest_stage{5, 0});

  const auto weights = some_weights<m>();
  const auto inputs = some_tokens(8, 1), targets = some_tokens(8, 2);
  m::tape tape(2, 4);
  auto all = make<m::parameters>();
  m::forward_backward(*weights, {inputs, targets, 2, 4}, tape, *all);
  // In block 1, attention is stage 0 and the adapter stage 1.
  auto some = make<m::parameters>();
  m::forward_backward(*weights, {inputs, targets, 2, 4}, tape, *some, 1, lowest_stage{1, 1});
  int left_out = 0;
  m::visit(
      [&](std::string_view name, initial, const auto& part, const auto& whole) {
        const bool is_below = name.starts_with("h.0.") || name.starts_with("h.1.ln_1.") || name.starts_with("h.1.attn.") || name == "wpe.weight";
        INFO(name);
        if (name == "wte.weight") return;  // only the head's part of its gradient
        left_out += is_below;
        if (is_below)
          CHECK(std::ranges::all_of(part.span(), [](float x) { return x == 0; }));
        else
          CHECK(std::ranges::equal(part.span(), whole.span()));
      },
      *some, *all);
  CHECK(left_out == 10 + 6 + 1);  // block 0 has no biases in its attention
}

TEMPLATE_TEST_CASE("an edited pattern decodes as it reads", "[architecture]", backend::reference<double>, backend::cpu<float>) {
  using m = transformer<net, TestType>;
  const auto weights = some_weights<m>();
  const auto ready = pack<typename m::scalar>(*weights);
  const auto text = some_tokens(20, 3);
  typename m::tape tape(1);
  m::forward(*weights, {text, {}, 1, 20}, tape);
  const auto expected = tape.logits();
  typename m::cache cache(1);
  std::span<const typename m::scalar> logits = m::prefill(*ready, std::span(text).first(3), cache);
  for (std::size_t i = 3;; ++i) {
    double difference = 0;
    for (std::size_t v = 0; v < 19; ++v) difference = std::max(difference, std::abs(static_cast<double>(logits[v] - expected[(i - 1) * 19 + v])));
    INFO("position " << i - 1);
    CHECK(difference <= (std::is_same_v<typename m::scalar, double> ? 1e-12 : 1e-4));
    if (i == 20) break;
    logits = m::decode(*ready, text[i], cache);
  }
}

TEST_CASE("the summary shows every stage of every block", "[architecture]") {
  const std::string text = summary<transformer<net>>();
  INFO(text);
  for (const char* line : {"h.1.adapter ", "bottleneck (rank 3)", "h.3.shortcut.features ", "h.4.shortcut.attn "})
    CHECK(text.find(line) != std::string::npos);
  CHECK(text.find("h.2.shortcut") == std::string::npos);
}

}  // namespace fathom::test
