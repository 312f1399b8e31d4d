// A program with its own architecture and optimiser: trained, saved, loaded, distinguished by its description,
// resumed and decoded, on the reference and the cpu backend. It includes only a user's headers.
#include <algorithm>
#include <array>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

#include <fathom/fathom.hpp>
#include <fathom/functors.hpp>

#include "catch.hpp"
#include "fails_with.hpp"
#include "temporary_folder.hpp"

namespace program {

using namespace fathom;

// ---- A part: y = residual + x W, W [E, E] of rank Rank ---------------------------------------------------------------------

template <fathom::index E, fathom::index Rank>
struct low_rank_layer {
  static constexpr fathom::index width = E;
  using down = linear<E, Rank, initial::normal, false>;
  using up = linear<Rank, E, initial::residual, false>;

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
    matrix<T> z;  // [rows, Rank]
    constexpr tape(arena& a, const extent& e) : z(a.take<T>(e.rows(), Rank)) {}
  };
  template <class T>
  using scratch = tape<T>;

  template <class On, class P>
  static void forward(const On& on, const P& p, const extent&, input<On> x, input<On> residual, output<On> y, const tape<scalar<On>>& t) {
    down::forward(on, p.first, x, t.z);
    up::forward_add(on, p.second, t.z, residual, y);
  }
  template <class On, class P, class G>
  static void backward(const On& on, const P& p, const extent&, input<On> x, input<On> dy, output<On> dx, const tape<scalar<On>>& t,
                       G& g, const scratch<scalar<On>>& s) {
    up::backward_parameters(on, t.z, dy, g.second);
    up::backward_input(on, p.second, dy, s.z);
    down::backward_parameters(on, x, s.z, g.first);
    down::backward_input(on, p.first, s.z, dx);
  }
  static constexpr double flops(fathom::index tokens) { return down::flops(tokens) + up::flops(tokens); }
};
template <int Rank>
struct low_rank {
  static constexpr auto options = fields(field<"rank">(Rank));
  template <class At>
  using bind = low_rank_layer<At::width, Rank>;
};

// ---- An architecture: windows of two sizes in turn, and the shortcut before self-attention in the last two blocks -------------

using near = pre<"attn", layer_norm<>, attention<4, kv_heads<2>, window<3>>>;
using far = pre<"attn", layer_norm<>, attention<4, kv_heads<2>, window<9>>>;
using whole = pre<"attn", layer_norm<>, attention<4>>;
using feed = pre<"mlp", layer_norm<>, fathom::gated_mlp<24>>;
template <int Rank>
using adapted = edit<architecture<sizes<11, 24, 16>, embed<tokens, learned_positions>,
                                  body<repeat<2, block<near, feed>, block<far, feed>>, block<whole, feed>>, head<layer_norm<>, untied>>,
                     every_block, insert_after<"mlp", pre<"adapter", layer_norm<>, low_rank<Rank>>>>;
template <int Rank>
using mine = edit<adapted<Rank>, last_blocks<2>,
                  insert_before<"attn", pre<"shortcut", layer_norm<>, look_back<2>, features<depths<0, 3>, mlp_features<8>>>>>;

// ---- An optimiser: the sign of a momentum -----------------------------------------------------------------------------------

struct sign_options {
  float rate = 1e-3f, clip = 1.0f, decay = 0.01f, beta = 0.9f;
};
struct sign_rule {
  using options = sign_options;
  static constexpr std::string_view name = "sign";
  static constexpr std::array<std::string_view, 1> states{"sign.momentum"};
  template <class F>
  static void visit(const F& f, const options& o) {
    f("rate", o.rate), f("clip", o.clip), f("decay", o.decay), f("beta", o.beta);
  }
  static bool is_valid(const options& o) { return o.beta < 1; }
  static constexpr std::string_view expected = "beta below 1";
  template <class T>
  struct formula {
    T rate, keep, beta;
    template <class V>
    FATHOM_ANYWHERE void operator()(V& w, const V& g, V& momentum) const {
      momentum = V(beta) * momentum + V(T(1) - beta) * g;
      w = V(keep) * w - V(rate) * sign_of(momentum);
    }
  };
  template <class T>
  static formula<T> formula_of(const options& o, const step_settings& s) {
    return {static_cast<T>(s.rate), static_cast<T>(1 - s.rate * s.decay), static_cast<T>(o.beta)};
  }
};
template <class Model>
using signs = optimizer_of<Model, sign_rule>;

std::vector<token> text() {
  std::vector<token> tokens{1};
  while (tokens.size() < 800) tokens.push_back(static_cast<token>((tokens.back() * 3 + static_cast<token>(tokens.size() % 5)) % 11));
  return tokens;
}
template <class Model>
bool same(const typename Model::parameters& a, const typename Model::parameters& b) {
  bool all = true;
  Model::visit_tensors([&](initial, const auto& x, const auto& y) { all &= std::ranges::equal(x.span(), y.span()); }, a, b);
  return all;
}

}  // namespace program

TEMPLATE_TEST_CASE("a program's own architecture and optimiser", "[program]", fathom::backend::reference<float>, fathom::backend::cpu<float>) {
  using namespace program;
  using net = transformer<mine<3>, TestType>;
  using other = transformer<mine<2>, TestType>;
  using plain = model<config{.vocab = 11, .context = 24, .width = 16, .depth = 5, .heads = 4}, TestType>;
  const temporary_folder folder;
  const auto data = text();

  // An uninterrupted run and a resumed run give the same bits.
  const auto run = [&](const std::filesystem::path& checkpoint, fathom::index until, bool resume) {
    trainer<net, signs> t({.batch = 2, .tokens = 20, .steps = 12, .optimizer = {.rate = 3e-3f},
                           .groups = {{.match = glob("h.0.*"), .frozen = true}}, .seed = 3, .checkpoint = checkpoint, .checkpoint_every = 1,
                           .resume = resume, .progress = false, .observer = [&](const progress& p) { return p.step < until; }});
    const auto result = t.fit(data);
    return std::pair(copy(t.weights()), result);
  };
  const auto [weights, result] = run(folder.path() / "whole.safetensors", 100, false);
  CHECK(result.steps == 12);
  static_cast<void>(run(folder.path() / "parts.safetensors", 5, false));
  const auto [resumed, rest] = run(folder.path() / "parts.safetensors", 100, true);
  CHECK(same<net>(*weights, *resumed));
  CHECK(rest.training_nll < 2.4);  // log(11)

  // Saved and loaded; the checkpoint, too.
  const auto path = folder.path() / "weights.safetensors";
  save(path, weights);
  auto loaded = make<typename net::parameters>();
  load(path, loaded);
  CHECK(same<net>(*weights, *loaded));
  load(folder.path() / "whole.safetensors", loaded);
  CHECK(same<net>(*weights, *loaded));
  CHECK(io::safetensors_file(path).metadata().at("fathom.config") == mine<3>::description());

  // With another rank it is refused, because of its description.
  auto wrong = make<typename other::parameters>();
  CHECK(fails_with([&] { load(path, wrong); }, "weights.safetensors: does not fit the model:", "rank"));
  const auto any = load_any<plain, other, net>(path);
  REQUIRE(any.index() == 2);
  CHECK(same<net>(*weights, *std::get<2>(any)));
  CHECK(fails_with([&] { static_cast<void>(load_any<plain, other>(path)); }, "is of none of the 2 models"));

  // Decoding agrees with a forward pass, and generation works.
  typename net::tape tape(1, 24);
  net::forward(*weights, {std::span(data).first(24), {}, 1, 24}, tape);
  const std::vector<float> expected(tape.logits().begin(), tape.logits().end());
  const auto ready = pack<float>(weights);
  typename net::cache cache(1);
  auto logits = net::prefill(*ready, std::span(data).first(4), cache);
  for (std::size_t i = 4; i < 24; ++i) {
    double difference = 0;
    for (std::size_t v = 0; v < 11; ++v) difference = std::max(difference, std::abs(static_cast<double>(logits[v] - expected[(i - 1) * 11 + v])));
    INFO("position " << i - 1);
    CHECK(difference < 1e-5);
    logits = net::decode(*ready, data[i], cache);
  }
  generator<net> writer(weights, {.temperature = 0});
  std::vector<token> written;
  writer.write(std::span(data).first(3), 30, [&](token t) { written.push_back(t); });
  CHECK(written.size() == 30);
  CHECK(summary<net>().find("low_rank (rank 3)") != std::string::npos);
}
