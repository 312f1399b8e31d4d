// Attention layers: their options, in terms of attention without them, and that decoding agrees with training.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <tuple>
#include <vector>

#include <fathom/backend/cpu.hpp>
#include <fathom/backend/reference.hpp>
#include <fathom/core/arena.hpp>
#include <fathom/core/memory.hpp>
#include <fathom/core/random.hpp>
#include <fathom/layer/joint_attention.hpp>
#include <fathom/layer/self_attention.hpp>
#include <fathom/layer/shortcut_attention.hpp>

#include "catch.hpp"

namespace fathom::test {
namespace {


template <index KeyHeads, index HeadWidth, index Window, bool Bias = true>
struct options : layers::attention_options {
  static constexpr index kv_heads = KeyHeads, head_width = HeadWidth, window = Window;
  static constexpr bool bias = Bias;
};

template <layers::slopes_of_heads Slopes, index KeyHeads, index Window>
struct sloped : options<KeyHeads, 0, Window> {
  static constexpr auto slopes = Slopes;
};

/// A layer with weights and working memory, for up to `tokens` tokens of one sequence.
template <class Layer, class Backend>
struct bench {
  using T = typename Backend::scalar;
  static constexpr index E = Layer::width, D = Layer::source_rows;
  owned<typename Layer::template parameters<plain<T>>> weights = make<typename Layer::template parameters<plain<T>>>();

  explicit bench(std::uint64_t seed) {
    random numbers(seed, 0);
    Layer::visit([&](const auto&, initial, auto& w) { for (T& x : w.span()) x = static_cast<T>(0.4 * numbers.normal()); },
                 no_path{}, *weights);
  }
  /// y [tokens, E] of x [tokens, E] and memory [tokens * D, E]
  [[nodiscard]] std::vector<T> forward(const std::vector<T>& x, const std::vector<T>& memory) const {
    const extent e{1, std::ssize(x) / E};
    buffer block(bytes_of<typename Layer::template tape<T>>(e));
    arena a(block.bytes().data());
    const typename Layer::template tape<T> tape(a, e);
    std::vector<T> y(x.size());
    const matrix<const T> in(x.data(), e.tokens, E);
    typename Backend::executor{2}.run([&](const auto& on) {
      if constexpr (D > 0)
        Layer::forward(on, *weights, e, in, {memory.data(), e.tokens * D, E}, in, {y.data(), e.tokens, E}, tape);
      else
        Layer::forward(on, *weights, e, in, in, {y.data(), e.tokens, E}, tape);
    });
    return y;
  }
  /// The same, piece by piece, with a cache that has spare room.
  [[nodiscard]] std::vector<T> extend(const std::vector<T>& x, const std::vector<T>& memory,
                                      const std::vector<index>& pieces) const {
    using cache_type = typename Layer::template cache<T>;
    const index tokens = std::ssize(x) / E, capacity = tokens + 3;
    buffer block(bytes_of<typename Layer::template tape<T>>(extent{1, tokens}) + bytes_of<cache_type>(index{2}, capacity));
    arena a(block.bytes().data());
    const cache_type cache(a, 2, capacity);
    for (index i = 0; i < cache.kv.rows; ++i)
      std::fill_n(cache.kv.row(i), cache.kv.columns, std::numeric_limits<T>::quiet_NaN());
    std::vector<T> y(x.size());
    index done = 0;
    for (const index count : pieces) {
      const extent e{1, count, &done, capacity, 1};  // the second sequence of the cache
      arena rest = a;
      const typename Layer::template tape<T> tape(rest, e);
      const matrix<const T> in(x.data() + done * E, count, E);
      const matrix<T> out(y.data() + done * E, count, E);
      typename Backend::executor{2}.run([&](const auto& on) {
        if constexpr (D > 0)
          Layer::extend(on, *weights, e, in, {memory.data() + done * D * E, count * D, E}, in, out, tape, cache);
        else
          Layer::extend(on, *weights, e, in, in, out, tape, cache);
      });
      done += count;
    }
    REQUIRE(done == tokens);
    return y;
  }
};

template <class T>
std::vector<T> some(index count, std::uint64_t seed) {
  random numbers(seed, 0);
  std::vector<T> v(static_cast<std::size_t>(count));
  for (T& x : v) x = static_cast<T>(numbers.normal());
  return v;
}
template <class T>
double difference(const std::vector<T>& a, const std::vector<T>& b) {
  REQUIRE(a.size() == b.size());
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (const double d = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])); !(d <= most)) most = d;
  return most;
}

template <class Layer, class Backend>
void check_extend(double tolerance) {
  using T = typename Backend::scalar;
  constexpr index tokens = 23;
  const bench<Layer, Backend> layer(3);
  const auto x = some<T>(tokens * Layer::width, 4), memory = some<T>(tokens * Layer::source_rows * Layer::width, 5);
  const auto whole = layer.forward(x, memory);
  CHECK(difference(layer.extend(x, memory, {9, 1, 1, 2, 10}), whole) <= tolerance);
}

using backends = std::tuple<backend::reference<double>, backend::cpu<double>, backend::cpu<float>>;

}  // namespace

TEMPLATE_LIST_TEST_CASE("attention over a cache is what it is over the whole", "[layer]", backends) {
  const double tolerance = sizeof(typename TestType::scalar) == 4 ? 1e-4 : 1e-12;
  check_extend<self_attention<12, 3>, TestType>(tolerance);
  check_extend<shortcut_attention<12, 3, 2>, TestType>(tolerance);
  check_extend<joint_attention<12, 3, 2>, TestType>(tolerance);
  check_extend<layers::attention<12, 4, options<2, 5, 4>, layers::own_context>, TestType>(tolerance);
  check_extend<layers::attention<12, 4, options<1, 0, 1>, layers::rows_of_source<3>>, TestType>(tolerance);
  check_extend<layers::attention<12, 4, options<2, 0, 6, false>, layers::own_context, layers::rows_of_source<2>>, TestType>(tolerance);
  using layers::slopes_of_heads;
  check_extend<layers::attention<12, 3, sloped<slopes_of_heads::alibi, 0, 0>, layers::own_context>, TestType>(tolerance);
  check_extend<layers::attention<12, 4, sloped<slopes_of_heads::learned, 2, 6>, layers::own_context>, TestType>(tolerance);
  check_extend<layers::attention<12, 3, sloped<slopes_of_heads::learned, 1, 0>, layers::rows_of_source<3>>, TestType>(tolerance);
  check_extend<layers::attention<12, 6, sloped<slopes_of_heads::alibi, 2, 9>, layers::own_context, layers::rows_of_source<2>>, TestType>(tolerance);
}

// A query with a window equals the last query of a sequence of only those positions.
TEMPLATE_LIST_TEST_CASE("a window is a shorter sequence", "[layer]", backends) {
  using T = typename TestType::scalar;
  constexpr index tokens = 14, window = 5, E = 12, D = 2;
  const bench<layers::attention<E, 3, options<0, 0, window>, layers::own_context, layers::rows_of_source<D>>, TestType> in_window(6);
  const bench<joint_attention<E, 3, D>, TestType> whole(6);
  const auto x = some<T>(tokens * E, 7), memory = some<T>(tokens * D * E, 8);
  const auto y = in_window.forward(x, memory);
  /// Of `each` numbers for every position, those of positions [first, last).
  const auto part = [](const std::vector<T>& v, index first, index last, index each) {
    return std::vector<T>(v.begin() + first * each, v.begin() + last * each);
  };
  for (index t = 0; t < tokens; ++t) {
    const index first = std::max<index>(0, t + 1 - window), count = t + 1 - first;
    const auto alone = whole.forward(part(x, first, t + 1, E), part(memory, first, t + 1, D * E));
    CHECK(difference(part(alone, count - 1, count, E), part(y, t, t + 1, E)) <= (sizeof(T) == 4 ? 1e-4 : 1e-12));
  }
}

// Query heads that share keys and values equal heads with identical keys and values.
TEMPLATE_LIST_TEST_CASE("grouped queries are heads with equal keys and values", "[layer]", backends) {
  using T = typename TestType::scalar;
  constexpr index E = 12, H = 4, G = 2, d = 3;
  const bench<layers::attention<E, H, options<G, 0, 0>, layers::own_context>, TestType> grouped(9);
  const bench<self_attention<E, H>, TestType> each(10);
  const auto widen = [&](const T* from, T* to) {  // a row of c_attn, [(H + 2 G) d], to [3 H d]
    std::copy_n(from, H * d, to);
    for (index kv = 0; kv < 2; ++kv)
      for (index h = 0; h < H; ++h) std::copy_n(from + (H + kv * G + h / (H / G)) * d, d, to + (H + kv * H + h) * d);
  };
  const auto& from = *grouped.weights;
  auto& to = *each.weights;
  for (index i = 0; i < E; ++i) widen(from.c_attn.weight.data() + i * (H + 2 * G) * d, to.c_attn.weight.data() + i * 3 * E);
  widen(from.c_attn.bias.data(), to.c_attn.bias.data());
  std::copy_n(from.c_proj.weight.data(), E * E, to.c_proj.weight.data());
  std::copy_n(from.c_proj.bias.data(), E, to.c_proj.bias.data());
  const auto x = some<T>(11 * E, 11);
  CHECK(difference(grouped.forward(x, {}), each.forward(x, {})) <= (sizeof(T) == 4 ? 1e-5 : 1e-13));
}

TEST_CASE("an attention's costs are those of its options", "[layer]") {
  using small = layers::attention<64, 8, options<2, 16, 4, false>, layers::own_context>;
  STATIC_REQUIRE(parameter_count_of<small>() == 64 * (8 + 2 * 2) * 16 + 8 * 16 * 64);
  // 10 queries in a window of 4 see 1 + 2 + 3 + 7 * 4 = 34 positions: a product for each score, and one for each value.
  STATIC_REQUIRE(small::flops(10) == 2.0 * 10 * 64 * 12 * 16 + 4.0 * 34 * 128 + 2.0 * 10 * 128 * 64);
  STATIC_REQUIRE(small::flops(3) == 2.0 * 3 * 64 * 12 * 16 + 4.0 * 6 * 128 + 2.0 * 3 * 128 * 64);
  CHECK(bytes_of<small::cache<float>>(index{1}, index{10}) == 10 * (2 * 2 * 16 + 16) * sizeof(float));
  CHECK(small::describe() == "causal self-attention, 8 heads of 16, 2 of keys and values, a window of 4");
}

}  // namespace fathom::test
