// Attention on the cpu backend, against the reference backend in double, over many shapes; and the reference backend's
// grouped queries, windows and unordered memories, against their definition.
#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <limits>
#include <ostream>
#include <vector>

#include "backend_operands.hpp"

namespace fathom::test {

namespace {

struct attention_case {
  index sequences, queries, heads, head_width, rows_per_position;
  std::vector<index> starts;  // positions of the first queries; none: all 0, and memory of only the queries' positions
  index spare = 0;            // positions of memory beyond the last visible one
  index first = 0;            // sequences of memory before the first used one
  double size = 1;            // of queries and keys
  index kv_heads = 0, window = 0;
  bool sees_all = false;
  enum { none, alibi, learned } slopes = none;
  bool biased = false;

  [[nodiscard]] index positions() const {
    return (starts.empty() ? 0 : *std::max_element(starts.begin(), starts.end())) + queries + spare;
  }
  [[nodiscard]] attention_shape shape() const {
    return {sequences, queries, heads, head_width, rows_per_position, positions() * rows_per_position,
            starts.empty() ? nullptr : starts.data(), first, kv_heads, window, sees_all};
  }
  [[nodiscard]] index columns() const { return heads * head_width; }
  [[nodiscard]] index key_columns() const { return (kv_heads ? kv_heads : heads) * head_width; }
  [[nodiscard]] index query_rows() const { return sequences * queries; }
  [[nodiscard]] index memory_rows() const { return (first + sequences) * positions() * rows_per_position; }
};

std::ostream& operator<<(std::ostream& out, const attention_case& c) {
  out << c.sequences << " sequences of " << c.queries << " queries, " << c.heads << " heads of " << c.head_width << ", "
      << c.rows_per_position << " rows a position, first " << c.first << ", spare " << c.spare << ", starts";
  for (const index start : c.starts) out << " " << start;
  if (c.kv_heads) out << ", " << c.kv_heads << " heads of keys and values";
  if (c.window) out << ", window " << c.window;
  if (c.sees_all) out << ", sees all";
  if (c.slopes) out << (c.slopes == attention_case::alibi ? ", ALiBi" : ", learned slopes");
  if (c.biased) out << ", biases";
  return out;
}

/// Training: whole sequences from their beginning.
std::vector<attention_case> training_cases() {
  std::vector<attention_case> cases;
  for (const index width : {1, 2, 3, 5, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 47, 48, 63, 64, 65, 72, 80})
    cases.push_back({2, 19, 2, width, 1 + width % 4, {}});
  for (const index queries : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 64, 65, 100, 130})
    cases.push_back({1 + queries % 3, queries, 3, 10, 1 + queries % 4, {}});
  cases.push_back({1, 300, 1, 20, 3, {}});  // 900 rows of memory
  cases.push_back({1, 40, 1, 256, 2, {}});  // the widest heads
  cases.push_back({2, 70, 2, 33, 2, {}, 0, 0, 3});  // scores of some ten: a sharp softmax
  random numbers(9, 0);
  for (int i = 0; i < 25; ++i)
    cases.push_back({1 + numbers.below(3), 1 + numbers.below(70), 1 + numbers.below(4), 1 + numbers.below(80),
                     1 + numbers.below(4), {}, 0, 0, i % 3 ? 1.0 : 2.0});
  return cases;
}

/// Decoding: queries anywhere in a cache with spare room.
std::vector<attention_case> cached_cases() {
  std::vector<attention_case> cases;
  random numbers(10, 0);
  for (const index queries : {1, 2, 3, 4, 5, 16, 17, 33, 64})
    for (int i = 0; i < 6; ++i) {
      attention_case c{1 + numbers.below(3), queries, 1 + numbers.below(3), 1 + numbers.below(80), 1 + numbers.below(4), {}};
      for (index s = 0; s < c.sequences; ++s) c.starts.push_back(i == 5 ? 100 + numbers.below(200) : numbers.below(40));
      c.spare = numbers.below(3) * 5;
      c.first = numbers.below(3);
      c.size = i % 3 ? 1.0 : 2.0;
      cases.push_back(c);
    }
  return cases;
}

/// Grouped queries, windows, and unordered memories: whole sequences, and queries in a cache.
std::vector<attention_case> family_cases() {
  std::vector<attention_case> cases;
  random numbers(19, 0);
  const auto add = [&](index queries, index head_width, index rows_per_position, index kv_heads, index window, bool cached) {
    attention_case c{1 + numbers.below(2), queries, 4, head_width, rows_per_position, {}};
    c.kv_heads = kv_heads;
    c.window = window;
    for (index s = 0; s < c.sequences && cached; ++s) c.starts.push_back(numbers.below(window > 0 ? 2 * window + 3 : 40));
    c.spare = cached ? numbers.below(3) * 5 : 0;
    c.first = cached ? numbers.below(3) : 0;
    cases.push_back(c);
  };
  for (const index kv_heads : {1, 2, 4})
    for (const index window : {0, 1, 3, 17, 1000})
      for (const index rows_per_position : {1, 2, 3})
        for (const bool cached : {false, true})
          for (const index queries : {numbers.below(3) + 1, numbers.below(50) + 4})
            add(queries, 1 + numbers.below(40), rows_per_position, kv_heads, window, cached);
  // Blocks of keys begin and end within windows; many heads of one group; wide heads.
  for (const index window : {5, 60, 256, 290}) {
    add(300, 5, 1 + window % 2, 1 + window % 2, window, false);
    add(40, 24, 3, 2, window, true);
  }
  cases.push_back({1, 40, 12, 40, 1, {}, 0, 0, 1, 1, 11});
  cases.push_back({2, 70, 6, 33, 2, {}, 0, 0, 2, 2, 9});
  cases.push_back({1, 40, 3, 256, 2, {}, 0, 0, 1, 1, 7});
  cases.push_back({1, 1, 40, 64, 1, {290}, 0, 0, 1, 2, 0});  // more heads than are processed at a time
  cases.push_back({1, 2, 40, 3, 1, {290}, 0, 0, 1, 8, 270});
  // So many keys that ranks share them out, by themselves and next to sequences with few; more queries than have room for runs.
  cases.push_back({1, 1, 9, 64, 1, {1000}, 7, 0, 1, 3, 0});
  cases.push_back({3, 1, 5, 33, 2, {3, 700, 256}, 0, 1, 2, 1, 0});
  cases.push_back({20, 3, 4, 8, 1, std::vector<index>(20, 260), 1, 0, 1, 2, 0});
  cases.push_back({2, 1, 4, 16, 1, {900, 20}, 0, 0, 1, 2, 400});
  for (const index queries : {1, 3, 4, 19, 130})
    for (const index spare : {0, 1, 20})
      for (const index kv_heads : {0, 2})
        cases.push_back({2, queries, 4, 1 + numbers.below(40), 1 + numbers.below(3), {}, spare, 0, 1, kv_heads, 0, true});
  return cases;
}

/// Scores that fall with distance, have biases, or both: all of the above, for numbers of heads that are powers of two and for
/// others.
std::vector<attention_case> slope_cases() {
  std::vector<attention_case> cases;
  random numbers(23, 0);
  const auto add = [&](attention_case c) {
    for (const auto slopes : {attention_case::alibi, attention_case::learned}) {
      c.slopes = slopes;
      cases.push_back(c);
    }
    c.biased = true;
    if (cases.size() % 4 == 0) c.slopes = attention_case::none;
    cases.push_back(c);
  };
  for (const index queries : {1, 3, 4, 5, 17, 64, 130})
    for (const index heads : {1, 3, 6}) {
      attention_case c{1 + numbers.below(2), queries, heads, 1 + numbers.below(40), 1 + numbers.below(3), {}};
      add(c);
      c.kv_heads = heads == 6 ? 2 : 1;
      c.window = 1 + numbers.below(30);
      for (index s = 0; s < c.sequences; ++s) c.starts.push_back(numbers.below(100));
      c.spare = numbers.below(3) * 5;
      c.first = numbers.below(3);
      add(c);
      c.window = 0;
      add(c);
    }
  add({1, 300, 2, 5, 1, {}});  // several blocks of keys
  add({1, 300, 2, 5, 3, {}});
  add({1, 270, 4, 6, 2, {}, 0, 0, 1, 2, 130});
  add({1, 1, 40, 64, 1, {290}, 0, 0, 1, 2, 0});  // more heads than are processed at a time
  add({1, 2, 40, 3, 2, {290}, 0, 0, 1, 8, 270});
  return cases;
}

/// Operands of an attention. Memory that no query sees is NaN.
template <class T>
struct attention_operands {
  attention_case c;
  attention_shape s;
  framed<T> q, k, v;
  double sharpness;  // the largest sum of |q k| / sqrt(head_width), the scale of the scores' rounding errors
  double steepest = 0;  // the largest of what distance takes from a score
  std::vector<double> wide_slopes;  // [heads], if they are learned
  std::vector<T> narrow_slopes;
  std::vector<double> wide_biases;  // [rows_per_position, heads], if there are any
  std::vector<T> narrow_biases;

  attention_operands(const attention_case& given, random& numbers, std::size_t turn)
      : c(given),
        s(c.shape()),
        q(c.query_rows(), c.columns(), layouts[turn % 3]),
        k(c.memory_rows(), c.key_columns(), layouts[turn / 2 % 3]),
        v(c.memory_rows(), c.key_columns(), layouts[turn / 3 % 3]) {
    q.fill(numbers, c.size);
    for (index b = 0; b < s.sequences; ++b)
      for (index r = s.first_visible(b, 0); r < s.visible(b, s.queries - 1); ++r)
        for (index j = 0; j < c.key_columns(); ++j) {
          k.view()(s.memory_row(b) + r, j) = static_cast<T>(c.size * numbers.normal());
          v.view()(s.memory_row(b) + r, j) = static_cast<T>(numbers.normal());
        }
    sharpness = 0;
    const auto queries = q.view(), keys = k.view();
    for (index b = 0; b < s.sequences; ++b)
      for (index t = 0; t < s.queries; ++t)
        for (index h = 0; h < s.heads; ++h)
          for (index r = s.first_visible(b, t); r < s.visible(b, t); ++r) {
            const index key_head = h / (s.heads / (c.kv_heads ? c.kv_heads : c.heads));
            double sum = 0;
            for (index e = 0; e < s.head_width; ++e)
              sum += std::abs(static_cast<double>(queries(b * s.queries + t, h * s.head_width + e)) *
                              static_cast<double>(keys(s.memory_row(b) + r, key_head * s.head_width + e)));
            sharpness = std::max(sharpness, sum / std::sqrt(static_cast<double>(s.head_width)));
          }
    for (index h = 0; h < s.heads && c.slopes == attention_case::learned; ++h) {
      narrow_slopes.push_back(static_cast<T>(0.2 * numbers.normal()));
      wide_slopes.push_back(static_cast<double>(narrow_slopes.back()));
    }
    for (index i = 0; i < s.rows_per_position * s.heads && c.biased; ++i) {
      narrow_biases.push_back(static_cast<T>(numbers.normal()));
      wide_biases.push_back(static_cast<double>(narrow_biases.back()));
      sharpness = std::max(sharpness, std::abs(wide_biases.back()));
    }
    for (index h = 0; h < s.heads && c.slopes; ++h) steepest = std::max(steepest, farthest() * std::abs(slopes<double>().of(h, s.heads)));
  }
  /// The largest distance between a query and a key that it sees, in positions.
  [[nodiscard]] double farthest() const {
    index most = 0;
    for (index b = 0; b < s.sequences; ++b)
      most = std::max(most, (s.visible(b, s.queries - 1) - s.first_visible(b, s.queries - 1)) / s.rows_per_position);
    return static_cast<double>(most);
  }
  template <class U>
  [[nodiscard]] distance_slopes<U> slopes() const {
    const auto with = [&](const std::vector<U>& learned, const std::vector<U>& biases) {
      return distance_slopes<U>{c.slopes != attention_case::none, c.slopes == attention_case::learned ? learned.data() : nullptr,
                                c.biased ? biases.data() : nullptr};
    };
    if constexpr (std::is_same_v<U, T>)
      return with(narrow_slopes, narrow_biases);
    else
      return with(wide_slopes, wide_biases);
  }
  /// The relative error of one weight, exp(score - largest) or exp(score - lse): that of its score, absolute, and of an
  /// exponential of a number of at most twice its size.
  [[nodiscard]] double weight_error() const { return eps<T> * (static_cast<double>(s.head_width + 6) * sharpness + 6 * steepest + 8); }
  [[nodiscard]] double rows_seen() const {
    index most = 0;
    for (index b = 0; b < s.sequences; ++b) most = std::max(most, s.visible(b, s.queries - 1));
    return static_cast<double>(most);
  }
};

/// The largest magnitude, ignoring NaN.
template <class T>
double largest_seen(const framed<T>& m) {
  double most = 0;
  const auto v = m.view();
  for (index i = 0; i < v.rows; ++i)
    for (index j = 0; j < v.columns; ++j)
      if (!std::isnan(v(i, j))) most = std::max(most, std::abs(static_cast<double>(v(i, j))));
  return most;
}

template <class Backend>
void check_attention_forward(const attention_case& c, random& numbers, std::size_t turn) {
  using T = scalar_of<Backend>;
  INFO(c);
  const attention_operands<T> a(c, numbers, turn);
  framed<double> out(c.query_rows(), c.columns()), lse(c.query_rows(), c.heads);
  attention_forward(oracle, a.s, a.q.widened().view(), a.k.widened().view(), a.v.widened().view(), out.view(), lse.data(),
                    a.template slopes<double>());

  using results = std::vector<framed<T>>;
  const framed<T> poisoned(c.query_rows(), c.columns(), layouts[turn / 4 % 3]);
  const results found = on_any_number_of_threads<Backend>(
      results{poisoned, framed<T>(c.query_rows(), c.heads)}, [&](const auto& on, results& r) {
        attention_forward(on, a.s, a.q.view(), a.k.view(), a.v.view(), r[0].view(), r[1].data(), a.template slopes<T>());
      });
  const double largest = largest_seen(a.v), sum_error = (a.rows_seen() + 4) * eps<T>, weight_error = a.weight_error();
  // Weights are off by weight_error, their total by that and the error of a sum.
  check_close("out", found[0], out, [&](index, index) { return 2 * (weight_error + sum_error) * largest; });
  check_close("lse", found[1], lse,
              [&](index i, index h) { return weight_error + sum_error + 4 * eps<T> * std::abs(lse.view()(i, h)); });

  results alone{poisoned};
  typename Backend::executor{2}.run([&](const auto& on) {
    attention_forward(on, a.s, a.q.view(), a.k.view(), a.v.view(), alone[0].view(), nullptr, a.template slopes<T>());
  });
  CHECK(alone[0].same_bits(found[0]));  // without lse

  const framed<T> given = framed<T>(c.query_rows(), c.heads).map([](T) { return 0; });
  framed<T> lse_of_oracle = given;
  for (index i = 0; i < c.query_rows(); ++i)
    for (index h = 0; h < c.heads; ++h) lse_of_oracle.view()(i, h) = static_cast<T>(lse.view()(i, h));
  const index weight_rows = c.query_rows() * c.heads;
  const results weights = on_any_number_of_threads<Backend>(
      results{framed<T>(weight_rows, a.s.memory_rows, layouts[turn % 3])}, [&](const auto& on, results& r) {
        attention_weights(on, a.s, a.q.view(), a.k.view(), lse_of_oracle.data(), r[0].view(), a.template slopes<T>());
      });
  framed<double> expected(weight_rows, a.s.memory_rows);
  attention_weights(oracle, a.s, a.q.widened().view(), a.k.widened().view(), lse_of_oracle.widened().data(), expected.view(),
                    a.template slopes<double>());
  check_close("weights", weights[0], expected,
              [&](index i, index r) { return a.weight_error() * expected.view()(i, r) + std::numeric_limits<T>::min(); });
}

template <class Backend>
void check_attention_backward(const attention_case& c, random& numbers, std::size_t turn) {
  using T = scalar_of<Backend>;
  INFO(c);
  const attention_operands<T> a(c, numbers, turn);
  const framed<T> dout = framed<T>(c.query_rows(), c.columns(), layouts[turn / 5 % 3]).fill(numbers);
  // The oracle's forward pass, rounded to T, so that both backward passes start from the same numbers.
  framed<double> exact_out(c.query_rows(), c.columns()), exact_lse(c.query_rows(), c.heads);
  const framed<double> q = a.q.widened(), k = a.k.widened(), v = a.v.widened();
  attention_forward(oracle, a.s, q.view(), k.view(), v.view(), exact_out.view(), exact_lse.data(), a.template slopes<double>());
  framed<T> out(c.query_rows(), c.columns(), layouts[turn / 7 % 3]), lse(c.query_rows(), c.heads);
  for (index i = 0; i < c.query_rows(); ++i) {
    for (index j = 0; j < c.columns(); ++j) out.view()(i, j) = static_cast<T>(exact_out.view()(i, j));
    for (index h = 0; h < c.heads; ++h) lse.view()(i, h) = static_cast<T>(exact_lse.view()(i, h));
  }
  framed<double> dq(c.query_rows(), c.columns()), dk(c.memory_rows(), c.key_columns()), dv(c.memory_rows(), c.key_columns());
  framed<double> delta(c.query_rows(), c.heads), dslopes(c.query_rows(), c.heads), dbiases(c.memory_rows(), c.heads);
  attention_backward(oracle, a.s, q.view(), k.view(), v.view(), out.widened().view(), lse.widened().data(),
                     dout.widened().view(), delta.data(), dq.view(), dk.view(), dv.view(), a.template slopes<double>(),
                     c.slopes ? dslopes.data() : nullptr, c.biased ? dbiases.data() : nullptr);

  using results = std::array<framed<T>, 6>;
  const results found = on_any_number_of_threads<Backend>(
      results{framed<T>(c.query_rows(), c.columns(), layouts[turn / 2 % 3]),
              framed<T>(c.memory_rows(), c.key_columns(), layouts[turn / 3 % 3]),
              framed<T>(c.memory_rows(), c.key_columns(), layouts[turn / 4 % 3]), framed<T>(c.query_rows(), c.heads),
              framed<T>(c.query_rows(), c.heads), framed<T>(c.memory_rows(), c.heads)},
      [&](const auto& on, results& r) {
        attention_backward(on, a.s, a.q.view(), a.k.view(), a.v.view(), out.view(), lse.data(), dout.view(), r[3].data(),
                           r[0].view(), r[1].view(), r[2].view(), a.template slopes<T>(), c.slopes ? r[4].data() : nullptr,
                           c.biased ? r[5].data() : nullptr);
      });

  // A weight's gradient and delta are sums of head_width products, each at most d times the largest |dout| |v|: G. So the
  // gradient of a score is weight * scale * 2 G, and its error that, times those of the weight and of the sums. The
  // weights of a query add up to 1; those of a row of memory to at most the number of queries, of all heads that read it.
  const double d = static_cast<double>(c.head_width), scale = 1 / std::sqrt(d);
  const double queries = static_cast<double>(c.queries * (c.kv_heads ? c.heads / c.kv_heads : 1));
  const double largest_dout = dout.largest(), gradient = d * largest_dout * largest_seen(a.v);
  const double error = a.weight_error() + 2 * (d + 4) * eps<T>;
  const double sum_over_rows = (a.rows_seen() + 4) * eps<T>, sum_over_queries = (queries + 4) * eps<T>;
  const auto check = [](const char* what, const framed<T>& f, const framed<double>& expected, double bound) {
    check_close(what, f, expected, [&](index, index) { return bound; });
  };
  check("delta", found[3], delta, (d + 2) * eps<T> * gradient);
  check("dq", found[0], dq, scale * 2 * gradient * largest_seen(a.k) * (error + sum_over_rows));
  check("dk", found[1], dk, scale * 2 * gradient * a.q.largest() * queries * (error + sum_over_queries));
  check("dv", found[2], dv, largest_dout * queries * (a.weight_error() + sum_over_queries));
  if (c.slopes) check("dslopes", found[4], dslopes, 2 * gradient * a.farthest() * (error + sum_over_rows));
  if (c.biased) check("dbiases", found[5], dbiases, 2 * gradient * static_cast<double>(c.queries) * (error + sum_over_queries));
}

}  // namespace

TEMPLATE_TEST_CASE("attention_forward and attention_weights", "[backend]", float, double) {
  random numbers(11, 0);
  std::size_t turn = 0;
  for (const attention_case& c : training_cases()) check_attention_forward<backend::cpu<TestType>>(c, numbers, ++turn);
}

TEMPLATE_TEST_CASE("attention_forward over a cache", "[backend]", float, double) {
  random numbers(12, 0);
  std::size_t turn = 0;
  for (const attention_case& c : cached_cases()) check_attention_forward<backend::cpu<TestType>>(c, numbers, ++turn);
}

TEMPLATE_TEST_CASE("attention_backward", "[backend]", float, double) {
  random numbers(13, 0);
  std::size_t turn = 0;
  for (const attention_case& c : training_cases()) check_attention_backward<backend::cpu<TestType>>(c, numbers, ++turn);
}

TEMPLATE_TEST_CASE("attention of grouped queries, in windows, and over all memory", "[backend]", float, double, bf16) {
  random numbers(20, 0);
  std::size_t turn = 0;
  for (const attention_case& c : family_cases()) {
    check_attention_forward<backend::cpu<TestType>>(c, numbers, ++turn);
    attention_case alone = c;
    alone.first = 0;
    check_attention_backward<backend::cpu<TestType>>(alone, numbers, turn);
  }
}

TEMPLATE_TEST_CASE("attention whose scores fall with distance", "[backend]", float, double, bf16) {
  random numbers(24, 0);
  std::size_t turn = 0;
  for (const attention_case& c : slope_cases()) {
    check_attention_forward<backend::cpu<TestType>>(c, numbers, ++turn);
    attention_case alone = c;
    alone.first = 0;
    check_attention_backward<backend::cpu<TestType>>(alone, numbers, turn);
  }
}

// The slopes of the code of the paper (get_slopes in fairseq/models/transformer.py of ofirpress/attention_with_linear_biases).
TEST_CASE("ALiBi's slopes", "[backend]") {
  const auto check = [](const std::vector<double>& expected) {
    for (std::size_t h = 0; h < expected.size(); ++h) {
      CHECK(std::abs(alibi_slope<double>(static_cast<index>(h), std::ssize(expected)) / expected[h] - 1) <= 1e-14);
      CHECK(std::abs(alibi_slope<float>(static_cast<index>(h), std::ssize(expected)) / static_cast<float>(expected[h]) - 1) <= 3e-7f);
    }
  };
  const double root = std::sqrt(0.5);
  check({1.0 / 256});
  check({1.0 / 16, 1.0 / 256});
  check({1.0 / 16, 1.0 / 256, 1.0 / 4});
  check({1.0 / 2, 1.0 / 4, 1.0 / 8, 1.0 / 16, 1.0 / 32, 1.0 / 64, 1.0 / 128, 1.0 / 256});
  check({1.0 / 2, 1.0 / 4, 1.0 / 8, 1.0 / 16, 1.0 / 32, 1.0 / 64, 1.0 / 128, 1.0 / 256, root, root / 2, root / 4, root / 8});
}

// By its definition: the score of the query at position p and a key of position j, less slope (p - j), and with the bias of the
// key's row among those of its position.
TEST_CASE("what distance takes from a score, and biases add to it", "[backend]") {
  random numbers(25, 0);
  std::size_t turn = 0;
  for (const attention_case& c : slope_cases()) {
    if (c.queries > 64) continue;
    INFO(c);
    const attention_operands<double> a(c, numbers, ++turn);
    framed<double> out(c.query_rows(), c.columns()), lse(c.query_rows(), c.heads), w(c.query_rows() * c.heads, a.s.memory_rows);
    attention_forward(oracle, a.s, a.q.view(), a.k.view(), a.v.view(), out.view(), lse.data(), a.slopes<double>());
    attention_weights(oracle, a.s, a.q.view(), a.k.view(), lse.data(), w.view(), a.slopes<double>());
    double worst = 0;
    const auto is_off_by = [&](double d) { if (!(std::abs(d) <= worst)) worst = std::abs(d); };  // NaN is the worst
    for (index b = 0; b < c.sequences; ++b)
      for (index h = 0; h < c.heads; ++h)
        for (index t = 0; t < c.queries; ++t) {
          const index p = (c.starts.empty() ? 0 : c.starts[static_cast<std::size_t>(b)]) + t, i = b * c.queries + t;
          const double slope = c.slopes == attention_case::learned ? a.wide_slopes[static_cast<std::size_t>(h)]
                               : c.slopes                          ? alibi_slope<double>(h, c.heads)
                                                                   : 0;
          std::vector<double> weights(static_cast<std::size_t>(a.s.memory_rows)), mean(static_cast<std::size_t>(c.head_width));
          double total = 0;
          for (index j = c.window ? std::max<index>(0, p - c.window + 1) : 0; j <= p; ++j)
            for (index n = 0; n < c.rows_per_position; ++n) {
              const index r = j * c.rows_per_position + n, row = (c.first + b) * a.s.memory_rows + r;
              const index at = h / (c.heads / (c.kv_heads ? c.kv_heads : c.heads)) * c.head_width;
              double dot = 0;
              for (index e = 0; e < c.head_width; ++e) dot += a.q.view()(i, h * c.head_width + e) * a.k.view()(row, at + e);
              const double bias = c.biased ? a.wide_biases[static_cast<std::size_t>(n * c.heads + h)] : 0;
              const double weight = std::exp(dot / std::sqrt(static_cast<double>(c.head_width)) - slope * static_cast<double>(p - j) + bias);
              total += weights[static_cast<std::size_t>(r)] = weight;
              for (index e = 0; e < c.head_width; ++e) mean[static_cast<std::size_t>(e)] += weight * a.v.view()(row, at + e);
            }
          for (index r = 0; r < a.s.memory_rows; ++r)
            is_off_by(w.view()((b * c.heads + h) * c.queries + t, r) - weights[static_cast<std::size_t>(r)] / total);
          for (index e = 0; e < c.head_width; ++e)
            is_off_by(out.view()(i, h * c.head_width + e) - mean[static_cast<std::size_t>(e)] / total);
          is_off_by(lse.view()(i, h) - std::log(total));
        }
    CHECK(worst <= 1e-11);
  }
}

// On the reference backend, grouped queries, windows and unordered memories must match attention with each query
// alone, a memory of only the rows that it sees, and a separate head of keys and values for each of its heads.
TEST_CASE("what a query sees", "[backend]") {
  random numbers(21, 0);
  std::size_t turn = 0;
  for (const attention_case& c : family_cases()) {
    INFO(c);
    const attention_operands<double> a(c, numbers, ++turn);
    framed<double> out(c.query_rows(), c.columns()), lse(c.query_rows(), c.heads);
    attention_forward(oracle, a.s, a.q.view(), a.k.view(), a.v.view(), out.view(), lse.data());
    framed<double> weights(c.query_rows() * c.heads, a.s.memory_rows);
    attention_weights(oracle, a.s, a.q.view(), a.k.view(), lse.data(), weights.view());
    double worst = 0;
    bool weights_are_right = true;
    for (index b = 0; b < c.sequences; ++b)
      for (index t = 0; t < c.queries; ++t) {
        const index position = (c.starts.empty() ? 0 : c.starts[static_cast<std::size_t>(b)]) + t, i = b * c.queries + t;
        std::vector<index> seen;
        for (index p = 0; p < c.positions(); ++p)
          if (c.sees_all || (p <= position && (c.window == 0 || p > position - c.window)))
            for (index n = 0; n < c.rows_per_position; ++n) seen.push_back(p * c.rows_per_position + n);
        const index rows = std::ssize(seen), group = c.kv_heads ? c.heads / c.kv_heads : 1;
        framed<double> keys(rows, c.columns()), values(rows, c.columns());
        for (index r = 0; r < rows; ++r)
          for (index j = 0; j < c.columns(); ++j) {
            const index row = (c.first + b) * c.positions() * c.rows_per_position + seen[static_cast<std::size_t>(r)];
            const index column = j / c.head_width / group * c.head_width + j % c.head_width;
            keys.view()(r, j) = a.k.view()(row, column);
            values.view()(r, j) = a.v.view()(row, column);
          }
        framed<double> alone(1, c.columns()), alone_lse(1, c.heads);
        attention_forward(oracle, {1, 1, c.heads, c.head_width, rows, rows}, a.q.view().rows_from(i, 1), keys.view(),
                          values.view(), alone.view(), alone_lse.data());
        for (index j = 0; j < c.columns(); ++j)
          if (const double d = std::abs(alone.view()(0, j) - out.view()(i, j)); !(d <= worst)) worst = d;
        for (index h = 0; h < c.heads; ++h) {
          if (const double d = std::abs(alone_lse.view()(0, h) - lse.view()(i, h)); !(d <= worst)) worst = d;
          double total = 0;
          for (index r = 0; r < a.s.memory_rows; ++r) {
            const double weight = weights.view()((b * c.heads + h) * c.queries + t, r);
            const bool is_seen = std::find(seen.begin(), seen.end(), r) != seen.end();
            if (is_seen ? !(weight > 0) : weight != 0) weights_are_right = false;
            total += weight;
          }
          if (!(std::abs(total - 1) <= 1e-12)) weights_are_right = false;
        }
      }
    CHECK(worst <= 1e-12);
    CHECK(weights_are_right);
  }
}

// The gradients of the reference backend, by complex step (layer_gradients.cpp).
TEST_CASE("gradients of attention agree with the complex step", "[backend]") {
  using complex = std::complex<double>;
  constexpr fathom::reference::context<complex> on;
  random numbers(22, 0);
  const auto check = [&](const attention_case& c) {
    INFO(c);
    attention_operands<double> a(c, numbers, 0);
    framed<double> out(c.query_rows(), c.columns()), lse(c.query_rows(), c.heads), delta(c.query_rows(), c.heads);
    const framed<double> dout = framed<double>(c.query_rows(), c.columns()).fill(numbers);
    std::array<framed<double>, 5> gradients{
        framed<double>(c.query_rows(), c.columns()), framed<double>(c.memory_rows(), c.key_columns()),
        framed<double>(c.memory_rows(), c.key_columns()), framed<double>(1, c.heads), framed<double>(c.rows_per_position, c.heads)};
    framed<double> dslopes(c.query_rows(), c.heads), dbiases(c.memory_rows(), c.heads);
    attention_forward(oracle, a.s, a.q.view(), a.k.view(), a.v.view(), out.view(), lse.data(), a.slopes<double>());
    attention_backward(oracle, a.s, a.q.view(), a.k.view(), a.v.view(), out.view(), lse.data(), dout.view(), delta.data(),
                       gradients[0].view(), gradients[1].view(), gradients[2].view(), a.slopes<double>(), dslopes.data(), dbiases.data());
    for (index h = 0; h < c.heads; ++h) {
      gradients[3].view()(0, h) = 0;
      for (index i = 0; i < c.query_rows(); ++i) gradients[3].view()(0, h) += dslopes.view()(i, h);
      for (index n = 0; n < c.rows_per_position; ++n) {
        gradients[4].view()(n, h) = 0;
        for (index i = n; i < c.memory_rows(); i += c.rows_per_position) gradients[4].view()(n, h) += dbiases.view()(i, h);
      }
    }

    std::array<std::vector<complex>, 5> operands;
    const auto numbers_of = [](std::vector<complex>& v, index columns) {
      return matrix<complex>(v.data(), std::ssize(v) / columns, columns);
    };
    std::size_t n = 0;
    for (const framed<double>* from : {&a.q, &a.k, &a.v}) {
      const auto m = from->view();
      for (index i = 0; i < m.rows; ++i)
        for (index j = 0; j < m.columns; ++j) operands[n].push_back(m(i, j));
      ++n;
    }
    operands[3].assign(a.wide_slopes.begin(), a.wide_slopes.end());
    operands[4].assign(a.wide_biases.begin(), a.wide_biases.end());
    const distance_slopes<complex> slopes{c.slopes != attention_case::none, operands[3].empty() ? nullptr : operands[3].data(),
                                          operands[4].empty() ? nullptr : operands[4].data()};
    std::vector<complex> result(static_cast<std::size_t>(c.query_rows() * c.columns()));
    constexpr double h = 1e-20;
    double worst = 0;
    for (n = 0; n < 5; ++n)
      for (std::size_t i = 0; i < operands[n].size(); ++i) {
        complex& x = operands[n][i];
        const double found = gradients[n].view()(static_cast<index>(i) / gradients[n].view().columns,
                                                 static_cast<index>(i) % gradients[n].view().columns);
        if (std::isnan(x.real())) {  // no query sees it
          if (found != 0) worst = 1;
          continue;
        }
        const complex before = x;
        x += complex(0, h);
        attention_forward(on, a.s, numbers_of(operands[0], c.columns()), numbers_of(operands[1], c.key_columns()),
                          numbers_of(operands[2], c.key_columns()), numbers_of(result, c.columns()), nullptr, slopes);
        x = before;
        double expected = 0;
        for (index r = 0; r < c.query_rows(); ++r)
          for (index j = 0; j < c.columns(); ++j)
            expected += dout.view()(r, j) * result[static_cast<std::size_t>(r * c.columns() + j)].imag() / h;
        if (const double d = std::abs(found - expected); !(d <= worst)) worst = d;
      }
    CHECK(worst <= 1e-12);
  };
  for (const index kv_heads : {0, 1, 2})
    for (const index window : {0, 1, 3, 9}) {
      check({2, 5, 4, 3, 1 + window % 3, {}, 0, 0, 1, kv_heads, window});
      check({2, 3, 4, 2, 2, {4, 1}, 1, 1, 1, kv_heads, window});
    }
  check({2, 4, 4, 3, 2, {}, 1, 0, 1, 2, 0, true});
  for (const auto slopes : {attention_case::alibi, attention_case::learned})
    for (const index window : {0, 3}) {
      check({2, 5, 3, 3, 1 + window % 2, {}, 0, 0, 1, 0, window, false, slopes});
      check({2, 3, 4, 2, 2, {4, 1}, 1, 1, 1, 2, window, false, slopes});
    }
  check({2, 5, 3, 3, 2, {}, 0, 0, 1, 0, 0, false, attention_case::none, true});
  check({2, 3, 4, 2, 3, {4, 1}, 1, 1, 1, 2, 3, false, attention_case::learned, true});
}

TEMPLATE_TEST_CASE("attention_append", "[backend]", float, double) {
  using T = TestType;
  random numbers(14, 0);
  for (std::size_t turn = 0; turn < 30; ++turn) {
    const index sequences = 1 + numbers.below(3), tokens = 1 + numbers.below(40), first = numbers.below(2);
    const index rows_per_position = 1 + numbers.below(4), slot = numbers.below(rows_per_position), columns = 1 + numbers.below(70);
    std::vector<index> starts;
    for (index s = 0; s < sequences; ++s) starts.push_back(numbers.below(20));
    const index capacity = 20 + tokens + numbers.below(5);
    const extent e{sequences, tokens, starts.data(), capacity, first};
    INFO(sequences << " sequences of " << tokens << " tokens, " << rows_per_position << " rows a position, slot " << slot);

    const framed<T> kv = framed<T>(sequences * tokens, columns, layouts[turn % 3]).fill(numbers);
    using results = std::array<framed<T>, 1>;
    const results fresh{framed<T>((first + sequences + 1) * capacity * rows_per_position, columns, layouts[turn / 3 % 3])};
    const results found = on_any_number_of_threads<backend::cpu<T>>(fresh, [&](const auto& on, results& r) {
      attention_append(on, e, kv.view(), r[0].view(), rows_per_position, slot);
    });
    // The same with the oracle in T: rows that belong to other positions and slots keep their bits.
    results expected = fresh;
    const fathom::reference::context<T> plain;
    attention_append(plain, e, kv.view(), expected[0].view(), rows_per_position, slot);
    CHECK(found[0].same_bits(expected[0]));
  }
}

TEMPLATE_TEST_CASE("attention_append and attention_slide in part of the positions", "[backend]", float, double) {
  using T = TestType;
  random numbers(15, 0);
  for (std::size_t turn = 0; turn < 30; ++turn) {
    const index sequences = 1 + numbers.below(3), tokens = 1 + numbers.below(turn % 2 ? 3 : 150), first = numbers.below(2);
    const index rows_per_position = 1 + numbers.below(3), columns = 1 + numbers.below(150), at_least = 1 + numbers.below(80);
    std::vector<index> starts, reached;
    for (index s = 0; s < sequences; ++s) {
      starts.push_back(numbers.below(2) ? at_least + 64 * numbers.below(4) - numbers.below(tokens + 1) : numbers.below(300));
      starts.back() = std::max<index>(starts.back(), 0);
      reached.push_back(numbers.below(3) ? 0 : starts.back() + numbers.below(std::min<index>(64, at_least)));
    }
    const extent e{sequences, tokens, starts.data(), at_least + 64 + 63 + tokens, first, {at_least, reached.data()}};
    INFO(sequences << " sequences of " << tokens << " tokens, " << rows_per_position << " rows a position, " << at_least << " held at least");

    const framed<T> kv = framed<T>(sequences * tokens, columns, layouts[turn % 3]).fill(numbers);
    using results = std::array<framed<T>, 1>;
    const results fresh{framed<T>((first + sequences + 1) * e.capacity * rows_per_position, columns, layouts[turn / 3 % 3]).fill(numbers)};
    const results found = on_any_number_of_threads<backend::cpu<T>>(fresh, [&](const auto& on, results& r) {
      attention_append(on, e, kv.view(), r[0].view(), rows_per_position, 0);
      attention_slide(on, e, r[0].view(), rows_per_position);
    });
    results expected = fresh;
    const fathom::reference::context<T> plain;
    attention_append(plain, e, kv.view(), expected[0].view(), rows_per_position, 0);
    attention_slide(plain, e, expected[0].view(), rows_per_position);
    CHECK(found[0].same_bits(expected[0]));
    // What is held is at its place; the tokens read now are among it.
    const matrix<const T> moved = expected[0].view();
    for (index s = 0; s < sequences; ++s) {
      const index length = starts[static_cast<std::size_t>(s)] + tokens, begin = e.held.first(s, length);
      for (index p = std::max(begin, length - tokens); p < length; ++p)
        for (index j = 0; j < columns; ++j)
          CHECK(moved(((first + s) * e.capacity + p - begin) * rows_per_position, j) == kv.view()(s * tokens + p - (length - tokens), j));
    }
  }
}

}  // namespace fathom::test
