// Attention of the CUDA backend against the reference backend in double. Compiled by g++ or clang++, its kernels run on the CPU
// (cuda_emulation.hpp), in several orders of threads, which must give the same bits; by nvcc (gpu_attention.cu), on a GPU.
//
// Operands and results lie in blocks of memory that are otherwise NaN; memory that no query sees, and results before they are
// computed, are NaN too. With operands in bf16, tests round them first, so that the only differences are the kernels' roundings:
// weights and gradients of scores, by 2^-8 relative, as operands of the next product.
#if !defined(__CUDACC__)
#include "cuda_emulation.hpp"
#endif

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <ostream>
#include <type_traits>
#include <vector>

#include <fathom/backend/cuda/attention.cuh>
#include <fathom/backend/reference.hpp>
#include <fathom/core/random.hpp>

#include "catch.hpp"

namespace fathom::test {
namespace {

#if defined(FATHOM_CUDA_EMULATION)
using emulation::set_seed;
using emulation::poisoned;
using device_memory = emulation::memory_block;
inline void copy_bytes(void* to, const void* from, std::size_t bytes) { std::memcpy(to, from, bytes); }
#else
void set_seed(std::uint64_t) {}
struct release {
  void operator()(std::byte* memory) const { static_cast<void>(cudaFree(memory)); }
};
using device_memory = std::unique_ptr<std::byte, release>;
/// Memory of the GPU with all bits set.
device_memory poisoned(std::size_t bytes) {
  void* memory = nullptr;
  cuda::check(cudaMalloc(&memory, std::max<std::size_t>(bytes, 1)), "memory");
  cuda::check(cudaMemset(memory, 0xff, bytes), "memory");
  return device_memory(static_cast<std::byte*>(memory));
}
void copy_bytes(void* to, const void* from, std::size_t bytes) {
  cuda::check(cudaMemcpy(to, from, bytes, cudaMemcpyDefault), "a copy of ", bytes, " bytes");
}
#endif

/// An execution context: float or bf16 in memory; scratch memory of exactly the required size.
template <class Compute, class T>
struct test_context {
  using compute = Compute;
  using scalar = T;
  mutable std::vector<device_memory> blocks;

  [[nodiscard]] static cudaStream_t stream() { return nullptr; }
  [[nodiscard]] static int processors() { return 132; }
  void begin() const { blocks.clear(); }
  template <class U>
  [[nodiscard]] U* scratch(index count) const {
    blocks.push_back(poisoned(static_cast<std::size_t>(count) * sizeof(U)));
    return reinterpret_cast<U*>(blocks.back().get());
  }
};

/// All bits set: NaN, as float and as bf16.
template <class T>
T poison() {
  T x;
  std::memset(&x, 0xff, sizeof x);
  return x;
}
double number(float x) { return static_cast<double>(x); }
double number(bf16 x) { return static_cast<double>(static_cast<float>(x)); }

/// A matrix in a block of NaNs, on the host and on the GPU, with `offset` elements before it and between its rows.
template <class T>
class framed {
 public:
  framed(index rows, index columns, index offset)
      : rows_(rows),
        columns_(columns),
        offset_(offset),
        here_(static_cast<std::size_t>(offset + rows * (columns + offset)), poison<T>()),
        there_(poisoned(bytes())) {}
  framed(const framed& other) : framed(other.rows_, other.columns_, other.offset_) { here_ = other.here_; }

  [[nodiscard]] T& operator()(index i, index j) {
    return here_[static_cast<std::size_t>(offset_ + i * (columns_ + offset_) + j)];
  }
  [[nodiscard]] const T& operator()(index i, index j) const { return const_cast<framed&>(*this)(i, j); }
  /// Calls f(row, column, element) for each element.
  template <class F>
  void each(const F& f) {
    for (index i = 0; i < rows_; ++i)
      for (index j = 0; j < columns_; ++j) f(i, j, (*this)(i, j));
  }
  template <class F>
  void each(const F& f) const {
    const_cast<framed&>(*this).each([&](index i, index j, const T& x) { f(i, j, x); });
  }
  /// Copies the matrix to the GPU.
  [[nodiscard]] matrix<T> on_gpu() const {
    if (!here_.empty()) copy_bytes(there_.get(), here_.data(), bytes());
    return {reinterpret_cast<T*>(there_.get()) + offset_, rows_, columns_, columns_ + offset_};
  }
  /// Copies the matrix from the GPU.
  void fetch() { copy_bytes(here_.data(), there_.get(), bytes()); }

  /// Compact, in double.
  [[nodiscard]] framed<double> widened() const {
    framed<double> wide(rows_, columns_, 0);
    each([&](index i, index j, const T& x) { wide(i, j) = number(x); });
    return wide;
  }
  [[nodiscard]] framed from_row(index first, index count) const {
    framed some(count, columns_, 0);
    some.each([&](index i, index j, T& x) { x = (*this)(first + i, j); });
    return some;
  }
  [[nodiscard]] matrix<T> view() { return {here_.data() + offset_, rows_, columns_, columns_ + offset_}; }
  [[nodiscard]] bool same_bits(const framed& other) const {
    return here_.size() == other.here_.size() && (here_.empty() || std::memcmp(here_.data(), other.here_.data(), bytes()) == 0);
  }
  [[nodiscard]] bool frame_is_untouched() const {
    framed copy(*this);
    copy.each([](index, index, T& x) { x = poison<T>(); });
    return copy.same_bits(framed(rows_, columns_, offset_));
  }

 private:
  [[nodiscard]] std::size_t bytes() const { return here_.size() * sizeof(T); }
  index rows_, columns_, offset_;
  std::vector<T> here_;
  device_memory there_;
};
framed<double> zeros(index rows, index columns) {
  framed<double> m(rows, columns, 0);
  m.each([](index, index, double& x) { x = 0; });
  return m;
}

struct attention_case {
  index sequences, queries, heads, head_width, rows_per_position;
  std::vector<index> starts = {};  // none: all 0
  index more_rows = 0;             // rows of memory beyond those of any query
  index first = 0;                 // sequences of memory before these
  index kv_heads = 0;
  index window = 0;
  bool sees_all = false;
  enum { none, alibi, learned } slopes = none;
  bool biased = false;

  [[nodiscard]] bool has_terms() const { return slopes != none || biased; }
  [[nodiscard]] attention_shape shape() const {
    const index start = starts.empty() ? 0 : *std::max_element(starts.begin(), starts.end());
    return {sequences, queries, heads, head_width, rows_per_position, (start + queries) * rows_per_position + more_rows,
            starts.empty() ? nullptr : starts.data(), first, kv_heads, window, sees_all};
  }
};
std::ostream& operator<<(std::ostream& out, const attention_case& c) {
  out << c.sequences << " sequences, " << c.queries << " queries, " << c.heads << " heads of " << c.head_width << ", "
      << c.rows_per_position << " rows a position, " << c.more_rows << " more, first " << c.first << ", starts";
  for (const index start : c.starts) out << " " << start;
  return out << ", heads of keys " << c.kv_heads << ", window " << c.window << (c.sees_all ? ", sees all" : "")
             << (c.slopes == attention_case::none ? "" : c.slopes == attention_case::alibi ? ", ALiBi" : ", learned slopes")
             << (c.biased ? ", biases" : "");
}

constexpr fathom::reference::context<double> oracle{};

/// The relative error of a product's operands in a kernel.
template <class Compute>
constexpr double operand_error = std::is_same_v<Compute, bf16> ? 1.1 * 0x1p-8 : 0;
/// The error of float, for sums of a few hundred numbers and exp, relative to the sum of magnitudes.
constexpr double float_error = 64 * 0x1p-23;
/// The relative error of a stored result.
template <class T>
constexpr double storage_error = std::is_same_v<T, bf16> ? 1.01 * 0x1p-8 : 0x1p-24;

/// Operands of an attention, and everything about it in double.
template <class Compute, class T>
struct operands {
  attention_case c;
  attention_shape s;
  framed<index> starts;
  index columns, key_columns, rows, memory;
  framed<T> q, k, v, dout;
  framed<double> out, lse;
  framed<float> slopes;  // if they are learned
  framed<double> wide_slopes;
  framed<float> biases;  // likewise
  framed<double> wide_biases;

  operands(const attention_case& given, index offset, random& numbers)
      : c(given),
        s(c.shape()),
        starts(1, std::ssize(c.starts), 0),
        columns(s.heads * s.head_width),
        key_columns(s.key_heads() * s.head_width),
        rows(s.sequences * s.queries),
        memory((s.first + s.sequences) * s.memory_rows),
        q(rows, columns, offset),
        k(memory, key_columns, offset),
        v(memory, key_columns, offset),
        dout(rows, columns, offset),
        out(rows, columns, 0),
        lse(rows, s.heads, 0),
        slopes(1, s.heads, 0),
        wide_slopes(1, s.heads, 0),
        biases(s.rows_per_position, s.heads, 0),
        wide_biases(s.rows_per_position, s.heads, 0) {
    if (c.biased) biases.each([&](index n, index h, float& x) { wide_biases(n, h) = x = static_cast<float>(numbers.normal()); });
    slopes.each([&](index, index h, float& x) { wide_slopes(0, h) = x = static_cast<float>(0.05 * numbers.normal()); });
    if (!c.starts.empty()) s.starts = c.starts.data();
    starts.each([&](index, index i, index& x) { x = c.starts[static_cast<std::size_t>(i)]; });
    const auto fill = [&](framed<T>& m, double scale) {
      m.each([&](index, index, T& x) {
        const float value = static_cast<float>(scale * numbers.normal());
        x = T(std::is_same_v<Compute, bf16> ? static_cast<float>(bf16(value)) : value);
      });
    };
    fill(q, 1.5);
    fill(k, 1);
    fill(v, 1);
    fill(dout, 1);
    for (index r = 0; r < memory; ++r)
      if (!seen_by_any(r))
        for (index j = 0; j < key_columns; ++j) k(r, j) = v(r, j) = poison<T>();
    attention_forward(oracle, s, q.widened().view(), k.widened().view(), v.widened().view(), out.view(), lse.view().data, exact_slopes());
  }
  [[nodiscard]] distance_slopes<double> exact_slopes() const {
    auto& a = const_cast<operands&>(*this);
    return {c.slopes != attention_case::none, c.slopes == attention_case::learned ? a.wide_slopes.view().data : nullptr,
            c.biased ? a.wide_biases.view().data : nullptr};
  }
  /// Calls f(slopes) if there are any, else f().
  template <class F>
  void with_slopes(const F& f) const {
    if (!c.has_terms()) return f();
    if constexpr (std::is_same_v<T, float>)
      f(distance_slopes<float>{c.slopes != attention_case::none, c.slopes == attention_case::learned ? slopes.on_gpu().data : nullptr,
                               c.biased ? biases.on_gpu().data : nullptr});
  }
  [[nodiscard]] attention_shape shape_on_gpu() const {
    attention_shape there = s;
    if (s.starts) there.starts = starts.on_gpu().data;
    return there;
  }
  /// Whether any query sees row r of memory.
  [[nodiscard]] bool seen_by_any(index r) const {
    const index sequence = r / s.memory_rows - s.first;
    return sequence >= 0 && r % s.memory_rows >= s.first_visible(sequence, 0) &&
           r % s.memory_rows < s.visible(sequence, s.queries - 1);
  }
  /// The column of keys and values that belongs to column e of head h.
  [[nodiscard]] index key_column(index h, index e) const { return e + (h / s.group_size() - h) * s.head_width; }
  /// The distance in positions from a query's row back to a row of memory.
  [[nodiscard]] double distance(index query, index row) const {
    return static_cast<double>(s.start(query / s.queries) + query % s.queries - row % s.memory_rows / s.rows_per_position);
  }
  /// Calls f(query row, memory row, head, weight) for all rows that a query sees.
  template <class F>
  void pairs(const F& f) const {
    for (index b = 0; b < s.sequences; ++b)
      for (index h = 0; h < s.heads; ++h)
        for (index t = 0; t < s.queries; ++t)
          for (index r = s.first_visible(b, t); r < s.visible(b, t); ++r) {
            const index i = b * s.queries + t, at = s.memory_row(b) + r;
            double score = 0;
            for (index e = h * s.head_width; e < (h + 1) * s.head_width; ++e)
              score += number(q(i, e)) * number(k(at, key_column(h, e)));
            score /= std::sqrt(static_cast<double>(s.head_width));
            if (c.slopes != attention_case::none) score -= exact_slopes().of(h, s.heads) * distance(i, at);
            if (c.biased) score += exact_slopes().bias(h, s.heads, r, s.rows_per_position);
            f(i, at, h, std::exp(score - lse(i, h)));
          }
  }
};

template <class T>
void check_close(const char* what, const framed<T>& found, const framed<double>& expected, const framed<double>& allowed) {
  double worst = 0;
  index row = 0, column = 0;
  found.each([&](index i, index j, T x) {
    const double difference = std::abs(number(x) - expected(i, j));
    const double ratio = difference == 0 ? 0 : difference / (allowed(i, j) + storage_error<T> * std::abs(expected(i, j)));
    if (!(ratio <= worst)) {  // written so that NaN is the worst
      worst = std::isnan(ratio) ? std::numeric_limits<double>::infinity() : ratio;
      row = i;
      column = j;
    }
  });
  INFO(what << " (" << row << ", " << column << "): found " << number(found(row, column)) << ", expected "
            << expected(row, column) << ", allowed difference " << allowed(row, column));
  CHECK(worst <= 1);
}
/// Runs an operation on fresh results in two orders of threads, which must agree.
template <class Results, class Run>
Results in_any_order(const Results& fresh, std::uint64_t turn, const Run& run) {
  Results first = fresh, other = fresh;
  set_seed(0);
  run(first);
  for (auto& result : first) result.fetch();
  set_seed(1 + turn);
  run(other);
  for (auto& result : other) result.fetch();
  for (std::size_t i = 0; i < first.size(); ++i) {
    CHECK(first[i].frame_is_untouched());
    CHECK(first[i].same_bits(other[i]));
  }
  set_seed(0);
  return first;
}

template <class Compute, class T>
void check_forward(const attention_case& c, index offset, random& numbers, std::uint64_t turn) {
  INFO(c << ", offset " << offset);
  const test_context<Compute, T> on;
  const operands<Compute, T> a(c, offset, numbers);
  const std::vector<framed<T>> fresh{framed<T>(a.rows, a.columns, offset)};
  framed<float> lse(a.rows, a.s.heads, 0);
  const auto results = in_any_order(fresh, turn, [&](auto& r) {
    lse.each([](index, index, float& x) { x = poison<float>(); });
    a.with_slopes([&](const auto&... slopes) {
      cuda::attention_forward(on, a.shape_on_gpu(), a.q.on_gpu(), a.k.on_gpu(), a.v.on_gpu(), r[0].on_gpu(), lse.on_gpu().data, slopes...);
    });
    lse.fetch();
  });
  framed<T> without = fresh[0];
  set_seed(turn + 100);
  a.with_slopes([&](const auto&... slopes) {
    cuda::attention_forward(on, a.shape_on_gpu(), a.q.on_gpu(), a.k.on_gpu(), a.v.on_gpu(), without.on_gpu(), nullptr, slopes...);
  });
  without.fetch();
  CHECK(results[0].same_bits(without));

  framed<double> allowed = zeros(a.rows, a.columns), lse_allowed = zeros(a.rows, a.s.heads);
  a.pairs([&](index i, index r, index h, double weight) {
    for (index e = h * a.s.head_width; e < (h + 1) * a.s.head_width; ++e)
      allowed(i, e) += weight * std::abs(number(a.v(r, a.key_column(h, e)))) * (operand_error<Compute> + float_error);
  });
  lse_allowed.each([&](index i, index h, double& x) { x = float_error * (1 + std::abs(a.lse(i, h))); });
  check_close("out", results[0], a.out, allowed);
  check_close("lse", lse, a.lse, lse_allowed);
}

template <class Compute, class T>
void check_backward(const attention_case& c, index offset, random& numbers, std::uint64_t turn) {
  INFO(c << ", offset " << offset);
  const test_context<Compute, T> on;
  const operands<Compute, T> a(c, offset, numbers);
  // The results of forward, as stored.
  framed<T> out(a.rows, a.columns, offset);
  framed<float> lse(a.rows, a.s.heads, 0);
  out.each([&](index i, index j, T& x) { x = T(static_cast<float>(a.out(i, j))); });
  lse.each([&](index i, index h, float& x) { x = static_cast<float>(a.lse(i, h)); });

  const framed<T> of_queries(a.rows, a.columns, offset), of_memory(a.memory, a.key_columns, offset);
  framed<float> delta(a.rows, a.s.heads, 0), dslopes(a.rows, a.s.heads, 0), dslopes_before(a.rows, a.s.heads, 0);
  framed<float> dbiases(a.memory, a.s.heads, 0), dbiases_before(a.memory, a.s.heads, 0);
  const auto found = in_any_order(std::vector<framed<T>>{of_queries, of_memory, of_memory}, turn, [&](auto& r) {
    delta.each([](index, index, float& x) { x = poison<float>(); });
    a.with_slopes([&](const auto&... slopes) {
      const auto run = [&](auto*... to) {
        cuda::attention_backward(on, a.shape_on_gpu(), a.q.on_gpu(), a.k.on_gpu(), a.v.on_gpu(), out.on_gpu(), lse.on_gpu().data,
                                 a.dout.on_gpu(), delta.on_gpu().data, r[0].on_gpu(), r[1].on_gpu(), r[2].on_gpu(), slopes..., to...);
      };
      if constexpr (sizeof...(slopes) > 0) {
        dslopes_before.each([&](index i, index h, float& x) { x = dslopes(i, h); });
        dbiases_before.each([&](index i, index h, float& x) { x = dbiases(i, h); });
        run(dslopes.on_gpu().data, c.biased ? dbiases.on_gpu().data : nullptr);
        dslopes.fetch();
        if (c.biased) dbiases.fetch();
      } else {
        run();
      }
    });
  });
  if (c.has_terms()) CHECK(dslopes.same_bits(dslopes_before));  // of the other order of threads
  if (c.biased) CHECK(dbiases.same_bits(dbiases_before));

  framed<double> dq = zeros(a.rows, a.columns), dk = zeros(a.memory, a.key_columns), dv = dk;
  framed<double> delta_expected = zeros(a.rows, a.s.heads), dslopes_expected = delta_expected, dslopes_allowed = delta_expected;
  framed<double> dbiases_expected = zeros(a.memory, a.s.heads), dbiases_allowed = dbiases_expected;
  attention_backward(oracle, a.s, a.q.widened().view(), a.k.widened().view(), a.v.widened().view(), out.widened().view(),
                     lse.widened().view().data, a.dout.widened().view(), delta_expected.view().data, dq.view(), dk.view(),
                     dv.view(), a.exact_slopes(), dslopes_expected.view().data, dbiases_expected.view().data);
  framed<double> dq_allowed = zeros(a.rows, a.columns), dk_allowed = zeros(a.memory, a.key_columns), dv_allowed = dk_allowed;
  const double scale = 1 / std::sqrt(static_cast<double>(a.s.head_width));
  a.pairs([&](index i, index r, index h, double weight) {
    double dweight = 0, magnitude = 0, delta_magnitude = 0;
    for (index e = h * a.s.head_width; e < (h + 1) * a.s.head_width; ++e) {
      const double d = number(a.dout(i, e));
      dweight += d * number(a.v(r, a.key_column(h, e)));
      magnitude += std::abs(d * number(a.v(r, a.key_column(h, e))));
      delta_magnitude += std::abs(d * number(out(i, e)));
    }
    const double dscore = scale * weight * (std::abs(dweight - delta_expected(i, h)) * operand_error<Compute> +
                                            (magnitude + delta_magnitude) * float_error);
    dslopes_allowed(i, h) += dscore / scale * a.distance(i, r);
    dbiases_allowed(r, h) += dscore / scale;
    for (index e = h * a.s.head_width; e < (h + 1) * a.s.head_width; ++e) {
      const index ke = a.key_column(h, e);
      dq_allowed(i, e) += dscore * std::abs(number(a.k(r, ke)));
      dk_allowed(r, ke) += dscore * std::abs(number(a.q(i, e)));
      dv_allowed(r, ke) += weight * std::abs(number(a.dout(i, e))) * (operand_error<Compute> + float_error);
    }
  });
  check_close("dq", found[0], dq, dq_allowed);
  if (c.has_terms()) check_close("dslopes", dslopes, dslopes_expected, dslopes_allowed);
  // Other sequences' rows of memory are unchanged.
  const index first = a.s.memory_row(0), count = a.s.sequences * a.s.memory_rows;
  check_close("dk", found[1].from_row(first, count), dk.from_row(first, count), dk_allowed.from_row(first, count));
  check_close("dv", found[2].from_row(first, count), dv.from_row(first, count), dv_allowed.from_row(first, count));
  if (c.biased)
    check_close("dbiases", dbiases.from_row(first, count), dbiases_expected.from_row(first, count), dbiases_allowed.from_row(first, count));
  CHECK(found[1].from_row(0, first).same_bits(of_memory.from_row(0, first)));
  CHECK(found[2].from_row(0, first).same_bits(of_memory.from_row(0, first)));
}

/// Forward and backward, in memory aligned for tensor cores (offset 0 or 8) and in unaligned memory (3).
template <class Compute, class T>
void check_all(const std::vector<attention_case>& cases, std::uint64_t stream) {
  random numbers(5, stream);
  std::uint64_t turn = 0;
  for (const attention_case& c : cases) {
    const index offset = std::array<index, 3>{8, 0, 3}[turn++ % 3];
    check_forward<Compute, T>(c, offset, numbers, turn);
    check_backward<Compute, T>(c, offset, numbers, turn);
  }
}

/// Training, and prompts after earlier tokens: sizes around those of tiles (64 and 128 rows), heads of all widths.
std::vector<attention_case> cases_of(std::vector<index> widths) {
  std::vector<attention_case> cases;
  std::size_t turn = 0;
  const auto width = [&] { return widths[turn++ % widths.size()]; };
  for (const index queries : {5, 16, 31, 63, 64, 65, 127, 128, 129}) {
    cases.push_back({1, queries, 1 + queries % 2, width(), 1});
    cases.push_back({1 + queries % 2, queries, 1, width(), 2 + queries % 3});
  }
  cases.push_back({2, 150, 2, width(), 3});
  cases.push_back({2, 7, 2, width(), 1, {61, 3}});
  cases.push_back({2, 37, 1, width(), 1, {17, 33}});  // 16 queries see one key of the next 16
  cases.push_back({3, 20, 1, width(), 3, {0, 40, 21}, 10, 1});
  cases.push_back({2, 66, 1, width(), 2, {130, 62}, 65, 2});
  return cases;
}

/// Query heads that share heads of keys and values, windows (smaller and larger than tiles, one position, more than all), and
/// unordered memories, with every number of rows per position.
std::vector<attention_case> general_cases_of(std::vector<index> widths) {
  std::vector<attention_case> cases;
  std::size_t turn = 0;
  const auto add = [&](index sequences, index queries, index heads, index rows_per_position, index kv_heads, index window,
                       bool sees_all = false, std::vector<index> starts = {}, index more_rows = 0, index first = 0) {
    cases.push_back({sequences, queries, heads, widths[turn++ % widths.size()], rows_per_position, std::move(starts), more_rows,
                     first, kv_heads, window, sees_all});
  };
  for (const index kv_heads : {1, 2, 4}) add(2, 6 + 30 * kv_heads, 4, 1 + kv_heads % 3, kv_heads, 0);
  for (const index window : {1, 2, 3, 500})  // in the second, query 64 is the last to see row 63
    for (const index depths : {1, 2, 3}) add(1, 70, 2, depths, depths == 2 ? 1 : 0, window);
  add(1, 200, 1, 1, 0, 5);    // most tiles are out of sight, for most queries
  add(1, 200, 2, 1, 1, 100);  // tiles with queries that see nothing of them, some of it, and all
  add(2, 37, 2, 3, 1, 30);
  add(2, 20, 4, 1, 2, 3, false, {80, 3}, 5, 1);  // memory before the window of all
  add(2, 20, 2, 2, 1, 70, false, {90, 0}, 67, 1);
  add(2, 40, 2, 3, 1, 1, false, {7, 64});
  add(1, 70, 2, 1, 0, 0, true);
  add(2, 12, 4, 2, 2, 0, true, {}, 65, 1);
  add(2, 65, 2, 1, 1, 0, true, {5, 40}, 3);
  return cases;
}

/// The same, and training, with scores that fall with distance, have biases, or both.
std::vector<attention_case> sloped_cases_of(std::vector<index> widths) {
  std::vector<attention_case> cases;
  int turn = 0;
  const auto add = [&](const std::vector<attention_case>& all) {
    for (attention_case c : all)
      if (!c.sees_all && ++turn % 2 == 0) {
        c.slopes = turn % 4 ? attention_case::alibi : attention_case::learned;
        c.biased = turn % 3 == 0;
        if (turn % 12 == 0) c.slopes = attention_case::none;
        cases.push_back(c);
      }
  };
  add(cases_of(widths));
  add(general_cases_of(widths));
  cases.push_back({2, 1, 3, widths[0], 1, {200, 30}, 0, 1});  // decoding
  cases.back().slopes = attention_case::alibi;
  cases.push_back({1, 3, 6, widths[0], 2, {270}, 7, 0, 2, 130});
  cases.back().slopes = attention_case::learned;
  cases.back().biased = true;
  return cases;
}

}  // namespace

TEST_CASE("attention of the cuda backend, scores that fall with distance", "[cuda]") {
  check_all<float, float>(sloped_cases_of({64, 32, 16, 50}), 18);
  check_all<float, float>({{1, 40, 4, 128, 1, {}, 0, 0, 2, 7, false, attention_case::learned},
                           {1, 21, 2, 200, 2, {}, 0, 0, 1, 0, false, attention_case::alibi, true}}, 19);
  check_all<bf16, float>({{2, 70, 2, 64, 2, {}, 0, 0, 0, 0, false, attention_case::learned},
                          {1, 33, 4, 24, 1, {40}, 5, 0, 2, 9, false, attention_case::alibi}}, 20);
  random numbers(21, 0);
  for (const auto slopes : {attention_case::alibi, attention_case::learned})
    for (const index window : {0, 7}) {
      const operands<float, float> a({2, 9, 6, 16, 2, {0, 40}, 5, 1, 2, window, false, slopes, window > 0}, 3, numbers);
      framed<float> lse(a.rows, a.s.heads, 0);
      lse.each([&](index i, index h, float& x) { x = static_cast<float>(a.lse(i, h)); });
      const index rows = a.rows * a.s.heads;
      const auto found = in_any_order(std::vector<framed<float>>{framed<float>(rows, a.s.memory_rows, 3)}, 1, [&](auto& r) {
        a.with_slopes([&](const auto&... given) {
          cuda::attention_weights(test_context<float, float>(), a.shape_on_gpu(), a.q.on_gpu(), a.k.on_gpu(), lse.on_gpu().data,
                                  r[0].on_gpu(), given...);
        });
      });
      framed<double> expected = zeros(rows, a.s.memory_rows), allowed = zeros(rows, a.s.memory_rows);
      attention_weights(oracle, a.s, a.q.widened().view(), a.k.widened().view(), lse.widened().view().data, expected.view(),
                        a.exact_slopes());
      allowed.each([&](index i, index j, double& x) { x = 8 * float_error * expected(i, j); });
      check_close("weights", found[0], expected, allowed);
    }
}
TEST_CASE("attention of the cuda backend, general shapes in float", "[cuda]") {
  check_all<float, float>(general_cases_of({16, 50, 64}), 11);
  check_all<float, float>({{1, 40, 4, 128, 1, {}, 0, 0, 2, 7}, {1, 21, 2, 200, 2, {}, 0, 0, 1, 5}}, 12);
}
TEST_CASE("attention of the cuda backend, general shapes with bf16 operands", "[cuda]") {
  check_all<bf16, float>(general_cases_of({64, 32, 24}), 13);
  check_all<bf16, float>({{1, 70, 4, 128, 1, {}, 0, 0, 2, 33}, {1, 21, 2, 200, 2, {}, 0, 0, 1, 5}}, 14);
}
TEST_CASE("attention of the cuda backend, general shapes in bf16", "[cuda]") {
  check_all<bf16, bf16>(general_cases_of({16, 64}), 15);
  check_all<bf16, bf16>({{1, 130, 2, 128, 1, {}, 0, 0, 1, 40}}, 16);
}

TEST_CASE("attention of the cuda backend, float", "[cuda]") {
  check_all<float, float>(cases_of({64, 32, 8, 50, 64, 16}), 1);
  check_all<float, float>({{1, 70, 1, 128, 1}, {1, 20, 1, 100, 3}, {1, 20, 1, 200, 2}, {2, 33, 1, 256, 1}}, 2);
}

TEST_CASE("attention of the cuda backend, bf16 operands", "[cuda]") {
  check_all<bf16, float>(cases_of({64, 32, 16}), 3);
  check_all<bf16, float>({{1, 70, 1, 128, 1},
                          {2, 30, 1, 100, 3},
                          {1, 20, 2, 8, 2},
                          {1, 65, 2, 24, 3},
                          {1, 40, 1, 63, 4},
                          {1, 10, 1, 200, 2}},
                         4);
}

TEST_CASE("attention of the cuda backend, bf16 operands in bf16", "[cuda]") {
  check_all<bf16, bf16>(cases_of({64}), 5);
  check_all<bf16, bf16>(
      {{1, 130, 2, 16, 3}, {2, 65, 3, 32, 1}, {1, 129, 1, 128, 2}, {1, 40, 2, 8, 4}, {1, 66, 1, 48, 1, {}, 70}}, 6);
}

TEMPLATE_TEST_CASE("attention of few queries over a long memory of the cuda backend", "[cuda]", float, bf16) {
  random numbers(7, 7);
  std::uint64_t turn = 0;
  for (const index width : {8, 16, 31, 32, 64, 128, 200})
    for (const index depths : {1, 3}) {
      const index offset = std::array<index, 3>{8, 0, 3}[++turn % 3];
      check_forward<float, TestType>({1, 1, 2, width, depths, {}, 3}, offset, numbers, turn);
      const index queries = 1 + static_cast<index>(turn % 4);
      check_forward<float, TestType>({3, queries, 1, width, depths, {0, 430, 57}, 200, 1}, offset, numbers, turn);
    }
}
TEMPLATE_TEST_CASE("attention of few queries of the cuda backend, general shapes", "[cuda]", float, bf16) {
  random numbers(7, 17);
  std::uint64_t turn = 0;
  for (const index kv_heads : {1, 2, 4})
    for (const index window : {0, 1, 3, 1000}) {
      const index offset = std::array<index, 3>{8, 0, 3}[++turn % 3], width = std::array<index, 4>{64, 16, 31, 128}[turn % 4];
      const index queries = 1 + static_cast<index>(turn % 4), depths = 1 + static_cast<index>(turn % 3);
      check_forward<float, TestType>({1, 1, 4, width, depths, {300}, 3, 0, kv_heads, window}, offset, numbers, turn);
      check_forward<float, TestType>({3, queries, 4, width, depths, {0, 230, 57}, 200, 1, kv_heads, window}, offset, numbers, turn);
    }
  check_forward<float, TestType>({2, 2, 4, 32, 2, {0, 90}, 300, 1, 2, 0, true}, 0, numbers, 1);
  check_forward<float, TestType>({1, 1, 2, 64, 1, {}, 400, 0, 1, 0, true}, 8, numbers, 2);
}
TEST_CASE("the other type of operands leaves decoding alone", "[cuda]") {
  random numbers(7, 8);
  check_forward<bf16, float>({2, 1, 2, 64, 3, {20, 300}, 0, 1}, 0, numbers, 1);
}

/// Operands are exact in bf16, so that keys and values stored in it change nothing.
TEMPLATE_TEST_CASE("attention over keys and values stored in bf16", "[cuda]", float, bf16) {
  random numbers(7, 19);
  std::uint64_t turn = 0;
  for (const attention_case& c :
       {attention_case{1, 1, 2, 64, 1, {300}, 3}, attention_case{2, 3, 4, 31, 2, {0, 90}, 5, 1, 2}, attention_case{1, 4, 3, 128, 1, {70}, 0, 1, 1, 20},
        attention_case{2, 1, 2, 16, 3, {57, 8}}, attention_case{1, 70, 4, 32, 1, {40}, 7, 1, 2}, attention_case{2, 9, 2, 50, 2, {0, 33}, 5, 1, 1, 6},
        attention_case{1, 20, 3, 64, 1}}) {
    const index offset = std::array<index, 3>{8, 0, 3}[++turn % 3];
    INFO(c << ", offset " << offset);
    const test_context<TestType, float> on;
    const operands<bf16, float> a(c, offset, numbers);
    framed<bf16> k(a.memory, a.key_columns, offset), v(a.memory, a.key_columns, offset);
    k.each([&](index i, index j, bf16& x) { x = bf16(a.k(i, j)); });
    v.each([&](index i, index j, bf16& x) { x = bf16(a.v(i, j)); });
    const auto found = in_any_order(std::vector<framed<float>>{framed<float>(a.rows, a.columns, offset)}, turn, [&](auto& r) {
      cuda::attention_forward(on, a.shape_on_gpu(), a.q.on_gpu(), fathom::stored_rows<bf16>{k.on_gpu()},
                              fathom::stored_rows<bf16>{v.on_gpu()}, r[0].on_gpu(), nullptr);
    });
    framed<double> allowed = zeros(a.rows, a.columns);
    a.pairs([&](index i, index r, index h, double weight) {
      for (index e = h * a.s.head_width; e < (h + 1) * a.s.head_width; ++e)
        allowed(i, e) += weight * std::abs(number(a.v(r, a.key_column(h, e)))) * (operand_error<TestType> + float_error);
    });
    check_close("out", found[0], a.out, allowed);
  }
}

TEMPLATE_TEST_CASE("attention_weights of the cuda backend", "[cuda]", float, bf16) {
  using T = TestType;
  random numbers(9, 9);
  for (const attention_case& c :
       {attention_case{2, 9, 3, 16, 3, {0, 4}, 5}, attention_case{1, 20, 1, 50, 1},
        attention_case{2, 9, 4, 16, 2, {0, 4}, 5, 1, 2, 3}, attention_case{1, 9, 4, 8, 1, {}, 5, 0, 1, 0, true}}) {
    const operands<T, T> a(c, 3, numbers);
    framed<float> lse(a.rows, a.s.heads, 0);
    lse.each([&](index i, index h, float& x) { x = static_cast<float>(a.lse(i, h)); });
    const index rows = a.rows * a.s.heads;
    const auto found = in_any_order(std::vector<framed<T>>{framed<T>(rows, a.s.memory_rows, 3)}, 1, [&](auto& r) {
      cuda::attention_weights(test_context<T, T>(), a.shape_on_gpu(), a.q.on_gpu(), a.k.on_gpu(), lse.on_gpu().data,
                              r[0].on_gpu());
    });
    framed<double> expected = zeros(rows, a.s.memory_rows), allowed = zeros(rows, a.s.memory_rows);
    attention_weights(oracle, a.s, a.q.widened().view(), a.k.widened().view(), lse.widened().view().data, expected.view());
    allowed.each([&](index i, index j, double& x) { x = 8 * float_error * expected(i, j); });
    check_close("weights", found[0], expected, allowed);
  }
}

TEMPLATE_TEST_CASE("attention_append of the cuda backend", "[cuda]", float, bf16) {
  using T = TestType;
  random numbers(10, 10);
  framed<index> starts(1, 2, 0);
  starts(0, 0) = 4;
  starts(0, 1) = 0;
  for (const bool starting : {false, true}) {
    const extent e{2, 3, starting ? starts.on_gpu().data : nullptr, 9, 1};
    framed<T> kv(e.rows(), 300, 3);
    kv.each([&](index, index, T& x) { x = T(static_cast<float>(numbers.normal())); });
    const framed<T> memory(3 * e.capacity * 3, 300, 3);
    const auto found = in_any_order(std::vector<framed<T>>{memory}, 1, [&](auto& r) {
      cuda::attention_append(test_context<T, T>(), e, kv.on_gpu(), r[0].on_gpu(), 3, 2);
    });
    framed<T> expected = memory;
    for (index s = 0; s < 2; ++s)
      for (index t = 0; t < 3; ++t)
        for (index j = 0; j < 300; ++j)
          expected(((1 + s) * 9 + (starting ? starts(0, s) : 0) + t) * 3 + 2, j) = kv(s * 3 + t, j);
    CHECK(found[0].same_bits(expected));
  }
}

TEMPLATE_TEST_CASE("attention_append and attention_slide of the cuda backend, in part of the positions", "[cuda]", float, bf16) {
  using T = TestType;
  random numbers(10, 11);
  for (const index tokens : {1, 3, 130}) {
    // Of three sequences, one holds all; one moves, depending on the tokens; one was longer, and stays.
    const std::array<index, 3> start{4, 127 + 70 - tokens / 2, 200}, length{0, 0, 230};
    framed<index> starts(1, 3, 0), reached(1, 3, 0);
    for (index s = 0; s < 3; ++s) starts(0, s) = start[static_cast<std::size_t>(s)], reached(0, s) = length[static_cast<std::size_t>(s)];
    const extent e{3, tokens, starts.on_gpu().data, 400, 1, {70, reached.on_gpu().data}};
    const extent here{3, tokens, start.data(), 400, 1, {70, length.data()}};
    framed<T> kv(e.rows(), 300, 3), memory(4 * 400 * 2, 300, 3);
    for (auto* const m : {&kv, &memory}) m->each([&](index, index, T& x) { x = T(static_cast<float>(numbers.normal())); });
    const auto found = in_any_order(std::vector<framed<T>>{memory}, 1, [&](auto& r) {
      const matrix<T> there = r[0].on_gpu();  // once, because it copies
      cuda::attention_append(test_context<T, T>(), e, kv.on_gpu(), there, 2, 1);
      cuda::attention_slide(test_context<T, T>(), e, there, 2);
    });
    framed<T> expected = memory;
    const fathom::reference::context<T> plain;
    attention_append(plain, here, kv.view(), expected.view(), 2, 1);
    attention_slide(plain, here, expected.view(), 2);
    CHECK(found[0].same_bits(expected));
  }
}

/// Shared heads of keys and values, windows, and unordered memories. (Tests of other shapes are above.)
TEMPLATE_TEST_CASE("attention with shared heads, in windows, and over all of a memory", "[cuda]", float, bf16) {
  using Compute = TestType;
  struct general_case {
    index queries, heads, kv_heads, head_width, rows_per_position, window;
    bool sees_all = false;
    std::vector<index> starts = {0, 0};
  };
  const general_case cases[] = {
      {9, 4, 1, 8, 1, 0},   {9, 4, 2, 20, 1, 0},         {6, 3, 3, 16, 2, 3},         {17, 4, 2, 8, 1, 1},
      {7, 4, 2, 64, 3, 4},  {5, 2, 1, 130, 1, 100},      {6, 4, 4, 8, 2, 0, true},    {5, 4, 1, 12, 1, 0, true},
      {1, 4, 2, 8, 2, 3, false, {5, 2}}, {1, 4, 1, 32, 1, 0, false, {7, 0}}, {3, 6, 2, 8, 1, 2, false, {4, 1}}, {8, 2, 1, 8, 1, 5, false, {3, 9}}};
  random numbers(12, 3);
  std::uint64_t turn = 0;
  for (const general_case& c : cases) {
    INFO(c.queries << " queries, " << c.heads << " heads over " << c.kv_heads << " of " << c.head_width << ", " << c.rows_per_position
                   << " rows a position, window " << c.window << (c.sees_all ? ", sees all" : ""));
    const index last = std::max(c.starts[0], c.starts[1]), sequences = 2, first = 1;
    framed<index> starts(1, 2, 0);
    starts(0, 0) = c.starts[0];
    starts(0, 1) = c.starts[1];
    attention_shape s{.sequences = sequences, .queries = c.queries, .heads = c.heads, .head_width = c.head_width,
                      .rows_per_position = c.rows_per_position, .memory_rows = (last + c.queries) * c.rows_per_position + (c.sees_all ? 0 : 2),
                      .starts = c.starts.data(), .first = first, .kv_heads = c.kv_heads, .window = c.window, .sees_all = c.sees_all};
    attention_shape there = s;
    there.starts = starts.on_gpu().data;
    const index rows = sequences * c.queries, memory = (first + sequences) * s.memory_rows;
    framed<float> q(rows, c.heads * c.head_width, 3), k(memory, c.kv_heads * c.head_width, 5), v = k, dout = q;
    const auto fill = [&](framed<float>& m) {
      m.each([&](index, index, float& x) {
        const float value = static_cast<float>(numbers.normal());
        x = std::is_same_v<Compute, bf16> ? static_cast<float>(bf16(value)) : value;
      });
    };
    fill(q), fill(k), fill(v), fill(dout);
    for (index r = 0; r < memory; ++r) {  // what no query sees
      bool is_seen = false;
      if (const index b = r / s.memory_rows - first; b >= 0)
        for (index t = 0; t < c.queries; ++t)
          is_seen |= r % s.memory_rows >= s.first_visible(b, t) && r % s.memory_rows < s.visible(b, t);
      if (!is_seen)
        for (index j = 0; j < c.kv_heads * c.head_width; ++j) k(r, j) = v(r, j) = poison<float>();
    }
    framed<double> out = zeros(rows, c.heads * c.head_width), lse = zeros(rows, c.heads), delta = lse, dq = out,
                   dk = zeros(memory, c.kv_heads * c.head_width), dv = dk, weights = zeros(sequences * c.heads * c.queries, s.memory_rows);
    attention_forward(oracle, s, q.widened().view(), k.widened().view(), v.widened().view(), out.view(), lse.view().data);
    attention_weights(oracle, s, q.widened().view(), k.widened().view(), lse.view().data, weights.view());
    attention_backward(oracle, s, q.widened().view(), k.widened().view(), v.widened().view(), out.view(), lse.view().data,
                       dout.widened().view(), delta.view().data, dq.view(), dk.view(), dv.view());

    const test_context<Compute, float> on;
    framed<float> lse_found(rows, c.heads, 0), delta_found(rows, c.heads, 0);
    const auto forward = in_any_order(std::vector<framed<float>>{framed<float>(rows, c.heads * c.head_width, 2)}, ++turn, [&](auto& r) {
      cuda::attention_forward(on, there, q.on_gpu(), k.on_gpu(), v.on_gpu(), r[0].on_gpu(), lse_found.on_gpu().data);
      lse_found.fetch();
    });
    const auto allowed = [](const framed<double>& like) {
      framed<double> same = like;
      same.each([](index, index, double& x) { x = (std::is_same_v<Compute, bf16> ? 3e-2 : 1e-4) * (1 + std::abs(x)); });
      return same;
    };
    check_close("out", forward[0], out, allowed(out));
    check_close("lse", lse_found, lse, allowed(lse));
    const auto of_weights = in_any_order(std::vector<framed<float>>{framed<float>(sequences * c.heads * c.queries, s.memory_rows, 0)}, turn,
                                         [&](auto& r) {
      cuda::attention_weights(on, there, q.on_gpu(), k.on_gpu(), lse_found.on_gpu().data, r[0].on_gpu());
    });
    check_close("weights", of_weights[0], weights, allowed(weights));
    const framed<float> of_queries(rows, c.heads * c.head_width, 1), of_memory(memory, c.kv_heads * c.head_width, 4);
    const auto found = in_any_order(std::vector<framed<float>>{of_queries, of_memory, of_memory}, turn, [&](auto& r) {
      delta_found.each([](index, index, float& x) { x = poison<float>(); });
      cuda::attention_backward(on, there, q.on_gpu(), k.on_gpu(), v.on_gpu(), forward[0].on_gpu(), lse_found.on_gpu().data, dout.on_gpu(),
                               delta_found.on_gpu().data, r[0].on_gpu(), r[1].on_gpu(), r[2].on_gpu());
    });
    check_close("dq", found[0], dq, allowed(dq));
    // Gradients of the sequences before these are not written.
    const index before = first * s.memory_rows;
    check_close("dk", found[1].from_row(before, memory - before), dk.from_row(before, memory - before), allowed(dk.from_row(before, memory - before)));
    check_close("dv", found[2].from_row(before, memory - before), dv.from_row(before, memory - before), allowed(dv.from_row(before, memory - before)));
  }
}

TEST_CASE("attention of the cuda backend says what it has no kernel for", "[cuda]") {
  const auto failure = [](auto context, index head_width) -> std::string {
    using T = typename decltype(context)::scalar;
    const framed<T> x(8, head_width, 0);
    const attention_shape s{1, 8, 1, head_width, 1, 8};
    try {
      cuda::attention_forward(context, s, x.on_gpu(), x.on_gpu(), x.on_gpu(), x.on_gpu(), nullptr);
    } catch (const error& e) {
      return e.what();
    }
    return {};
  };
  CHECK(failure(test_context<float, float>(), 257) == "cuda: attention_forward: heads of 257 columns; at most 256 are supported");
  CHECK(failure(test_context<bf16, bf16>(), 129) ==
        "cuda: attention_forward: heads of 129 columns in bf16; at most 128 are supported");
}

TEST_CASE("attention of the cuda backend says which shapes cannot be", "[cuda]") {
  const auto failure = [](attention_shape s) -> std::string {
    const framed<float> x(8, 4 * 8, 0);
    try {
      cuda::attention_forward(test_context<float, float>(), s, x.on_gpu(), x.on_gpu(), x.on_gpu(), x.on_gpu(), nullptr);
    } catch (const error& e) {
      return e.what();
    }
    return {};
  };
  const auto shape = [](index kv_heads, index window, bool sees_all) {
    return attention_shape{1, 8, 4, 8, 1, 8, nullptr, 0, kv_heads, window, sees_all};
  };
  CHECK(failure(shape(3, 0, false)) == "cuda: attention_forward: 4 heads over 3 of keys and values; expected a divisor");
  CHECK(failure(shape(0, -1, false)) == "cuda: attention_forward: a window of -1 positions; expected 0, for none, or more");
  CHECK(failure(shape(0, 2, true)) ==
        "cuda: attention_forward: a window of 2 positions in a memory that is seen whole; expected 0, for none");
}

}  // namespace fathom::test
