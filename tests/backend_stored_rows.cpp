// Attention over keys and values that a cache stores rounded: what is stored, and that attention is what it is over the
// rounded numbers, in double.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include <fathom/backend/cpu.hpp>
#include <fathom/backend/reference.hpp>
#include <fathom/core/random.hpp>

#include "backend_operands.hpp"
#include "catch.hpp"

namespace fathom::test {
namespace {

/// Memory for rounded rows of keys, or of keys and values; rows are wider than their numbers, as in a cache.
template <class P>
struct stored {
  std::vector<P, aligned<P>> numbers;
  std::vector<float> scales;
  index rows, heads, width;

  stored(index rows_, index heads_, index width_)
      : numbers(static_cast<std::size_t>(rows_ * (heads_ * width_ + 3)), P(std::is_same_v<P, bf16> ? 1e30f : 77)),
        scales(static_cast<std::size_t>(rows_ * heads_), std::numeric_limits<float>::quiet_NaN()), rows(rows_), heads(heads_), width(width_) {}
  stored_rows<P> view() {
    const matrix<P> all(numbers.data(), rows, heads * width, heads * width + 3);
    if constexpr (std::is_same_v<P, std::int8_t>)
      return {all, {scales.data(), rows, heads}};
    else
      return {all};
  }
  /// The numbers that it stands for; NaN where there are none.
  framed<double> widened() {
    framed<double> wide(rows, heads * width);
    for (index i = 0; i < rows; ++i)
      for (index j = 0; j < heads * width; ++j) {
        const auto s = view();
        wide.view()(i, j) = static_cast<double>(static_cast<float>(s.numbers(i, j)));
        if (std::is_same_v<P, std::int8_t>) wide.view()(i, j) *= static_cast<double>(scales[static_cast<std::size_t>(i * heads + j / width)]);
      }
    return wide;
  }
  bool operator==(const stored& other) const {
    return std::memcmp(numbers.data(), other.numbers.data(), numbers.size() * sizeof(P)) == 0 &&
           std::memcmp(scales.data(), other.scales.data(), scales.size() * sizeof(float)) == 0;
  }
};

template <class Compute, class P>
struct kind {
  using backend = fathom::backend::cpu<Compute>;
  using number = P;
};

}  // namespace

TEMPLATE_TEST_CASE("what is appended is rounded to the nearest", "[backend]", bf16, std::int8_t) {
  using P = TestType;
  random numbers(21, 0);
  for (int turn = 0; turn < 12; ++turn) {
    const index heads = 1 + numbers.below(4), width = 1 + numbers.below(40), tokens = 1 + numbers.below(9), depths = 1 + numbers.below(3);
    const index start = numbers.below(5), slot = numbers.below(depths);
    const extent e{1, tokens, &start, start + tokens + 2, 1};
    framed<float> kv = framed<float>(tokens, heads * width, layouts[turn % 3]).fill(numbers, turn % 4 == 3 ? 1e-3 : 10);
    if (turn == 5) kv.map([](float) { return 0.f; });
    const stored<P> fresh(2 * e.capacity * depths, heads, width);
    stored<P> expected = fresh;
    const fathom::reference::context<float> plain;
    attention_append(plain, e, kv.view(), expected.view(), depths, slot);
    for (const int threads : {1, 3}) {
      stored<P> found = fresh;
      backend::cpu<float>::executor{threads}.run([&](const auto& on) { attention_append(on, e, kv.view(), found.view(), depths, slot); });
      CHECK(found == expected);
    }
    const auto wide = expected.widened();
    for (index t = 0; t < tokens; ++t)
      for (index h = 0; h < heads; ++h) {
        double largest = 0;
        for (index j = h * width; j < (h + 1) * width; ++j) largest = std::max(largest, std::abs(static_cast<double>(kv.view()(t, j))));
        for (index j = h * width; j < (h + 1) * width; ++j) {
          const double x = static_cast<double>(kv.view()(t, j)), rounded = wide.view()((e.capacity + start + t) * depths + slot, j);
          CHECK(std::abs(rounded - x) <= (std::is_same_v<P, bf16> ? 0x1p-8 * std::abs(x) : 0.5001 * largest / 127));
        }
      }
  }
}

TEMPLATE_TEST_CASE("attention over rounded keys and values", "[backend]", (kind<float, bf16>), (kind<float, std::int8_t>),
                   (kind<bf16, bf16>), (kind<bf16, std::int8_t>)) {
  using P = typename TestType::number;
  random numbers(22, 0);
  int turn = 0;
  const auto check = [&](index queries, index group, index key_heads, index width, index depths, std::vector<index> starts, index window) {
    const index sequences = std::ssize(starts), heads = group * key_heads;
    const index rows = (*std::max_element(starts.begin(), starts.end()) + queries + 2) * depths;
    const attention_shape s{sequences, queries, heads, width, depths, rows, starts.data(), 1, key_heads, window};
    INFO(sequences << " sequences, " << queries << " queries, " << heads << " heads of " << width << " over " << key_heads << ", " << depths
                   << " rows a position, window " << window << ", first start " << starts[0]);
    const framed<float> q = framed<float>(sequences * queries, heads * width, layouts[++turn % 3]).fill(numbers, 1.5);
    stored<P> k((1 + sequences) * rows, key_heads, width), v = k;
    for (index b = 0; b < sequences; ++b) {  // only what is seen is written
      const index seen = starts[static_cast<std::size_t>(b)] + queries, zero = 0;
      for (index n = 0; n < depths; ++n)
        for (auto* const x : {&k, &v}) {
          const framed<float> kv = framed<float>(seen, key_heads * width).fill(numbers);
          attention_append(fathom::reference::context<float>(), {1, seen, &zero, rows / depths, 1 + b}, kv.view(), x->view(), depths, n);
        }
    }
    framed<double> expected(sequences * queries, heads * width), lse(sequences * queries, heads);
    attention_forward(oracle, s, q.widened().view(), k.widened().view(), v.widened().view(), expected.view(), lse.data());
    // The reference backend itself.
    framed<double> of_reference(sequences * queries, heads * width);
    attention_forward(oracle, s, q.widened().view(), k.view(), v.view(), of_reference.view(), nullptr);
    CHECK(of_reference.same_bits(expected));

    using results = std::array<framed<float>, 2>;
    const results fresh{framed<float>(sequences * queries, heads * width), framed<float>(sequences * queries, heads)};
    const results found = on_any_number_of_threads<typename TestType::backend>(fresh, [&](const auto& on, results& r) {
      attention_forward(on, s, q.view(), k.view(), v.view(), r[0].view(), r[1].data());
    });
    // Scores of a few units, off by some eps each, in the exponent.
    const double out_bound = 2e-5 * expected.largest(), lse_bound = 2e-5 * (1 + lse.largest());
    check_close("out", found[0], expected, [&](index, index) { return out_bound; });
    check_close("lse", found[1], lse, [&](index, index) { return lse_bound; });
  };
  for (const index queries : {1, 2, 3, 5, 70}) {
    check(queries, 1, 1, 1, 1, {0}, 0);
    check(queries, 3, 3, 64, 1, {70, 0}, 0);
    check(queries, 2, 1, 33, 2, {5, 90}, 0);
    check(queries, 1, 2, 16, 3, {40, 130}, 20);
    check(queries, 4, 2, 7, 1, {300}, 65);
  }
  check(1, 9, 1, 128, 1, {2000}, 0);  // long enough to be prefetched
  check(300, 3, 1, 64, 1, {30}, 0);
}

}  // namespace fathom::test
