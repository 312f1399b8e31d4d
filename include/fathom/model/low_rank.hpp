// LoRA: low-rank additions to linear maps (Hu et al., arXiv 2106.09685).
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "fathom/backend/epilogue.hpp"
#include "fathom/core/crc32.hpp"
#include "fathom/core/low_rank.hpp"
#include "fathom/core/matrix.hpp"
#include "fathom/core/random.hpp"
#include "fathom/core/tensor_view.hpp"
#include "fathom/model/train_only.hpp"

namespace fathom {

/// The rows that are multiplied with A or B at a time.
inline constexpr index rows_of_products = 512;

/// Where the gradient of a matrix W + scale A B goes: to A and B. That of the product is never formed.
template <class T, index In, index Out>
struct low_rank_gradient {
  static constexpr index rank = 2;
  static constexpr index size = In * Out;
  static constexpr std::array<index, 2> shape{In, Out};

  matrix<const T> a, b;  // [In, r], [r, Out]; without data: frozen
  matrix<T> da, db;      // their gradients
  T scale{};
  T* spare = nullptr;    // [2, rows_of_products, r]
};

/// With y = x (W + scale A B):   dA += scale x^T (dy B^T),   dB += scale (x A)^T dy
template <class On, class X, class Y, class T, index In, index Out>
void add_weight_gradient(const On& on, const X& x, const Y& dy, low_rank_gradient<T, In, Out>& g) {
  if (!g.a.data) return;
  const index r = g.a.columns;
  for (index first = 0; first < x.rows; first += rows_of_products) {
    const index rows = std::min(rows_of_products, x.rows - first);
    const matrix<const T> some_x = x.rows_from(first, rows), some_dy = dy.rows_from(first, rows);
    const matrix<T> dinner(g.spare, rows, r), inner(g.spare + rows_of_products * r, rows, r);
    matmul_nt(on, some_dy, g.b, dinner, epilogue::none{});
    multiply(on, static_cast<double>(g.scale), dinner);
    matmul_tn(on, some_x, dinner, g.da);
    matmul(on, some_x, g.a, inner, epilogue::none{});
    multiply(on, static_cast<double>(g.scale), inner);
    matmul_tn(on, inner, some_dy, g.db);
  }
}

/// The storage of such gradients; all that is no matrix is frozen.
template <class T>
struct low_rank_views : views<T> {
  template <index In, index Out>
  using matrix = low_rank_gradient<T, In, Out>;
};

namespace check {
template <int rank>
inline constexpr bool low_rank_rank_is_positive = rank > 0;
}

/// A model whose matrices W [in, out] are frozen, and get trained additions: W + Alpha / Rank A B, with A [in, Rank] and
/// B [Rank, out]. Those whose names match a pattern, or all matrices of the blocks if there is none; embedding, head, norms and
/// biases are frozen.
///
///   using adapter = fathom::low_rank<net, 8, 16>;
///   fathom::trainer<adapter> trainer({.steps = 300, .decay = 0});
///
/// A is normal(0, 1 / sqrt(in)) at first, and B is 0, so the model is then the base (section 4.1). The weights always hold the
/// sum, in place: a forward pass costs what the base's does, and all else takes the weights as they are. After each step,
/// the difference of the products is added; so rounding moves the sum by some 1e-7 of it. A run that is resumed adds the
/// products of the checkpoint to the base at once, and so goes on with sums that differ by as much: A and B of the checkpoint
/// are exact, but the steps that follow are only close to those of a run that was not interrupted. Exact ones would need a copy
/// of the base's matrices in memory, or the sums in the checkpoint.
///
/// If other weights are loaded into a trainer's after a run, they are a new base: A and B begin anew with the next run, and
/// save_adapter refuses the old ones. load_adapter of such an adapter sets A, B and the sums. Tensors are
/// `h.{i}.attn.c_attn.weight.lora_a` and so on. c_attn is one matrix of queries, keys and values, and so has one A.
template <class Net, int Rank, int Alpha, fixed_string... Patterns>
struct low_rank : detail::partly_trained<low_rank<Net, Rank, Alpha, Patterns...>, Net> {
  static_assert(check::low_rank_rank_is_positive<Rank>, "fathom::low_rank: the rank must be positive");
  using typename Net::architecture;
  using typename Net::scalar;

  static constexpr int rank = Rank;
  static constexpr double scale = static_cast<double>(Alpha) / Rank;

  /// Whether a tensor has an addition.
  [[nodiscard]] static constexpr bool has_addition(std::string_view name, role as) {
    return as == role::matrix && (sizeof...(Patterns) == 0 || detail::any_pattern<Patterns...>::matches(name));
  }

 private:
  [[nodiscard]] static constexpr index aligned(index size) { return detail::aligned_size<scalar>(size); }
  struct sizes {
    index numbers = 0, ignored = 0;  // of A and B; of the place for gradients of all that is no matrix
  };
  static constexpr sizes of = [] {
    sizes s;
    visit_layout<architecture>(
        [&](const path& name, initial, const auto& tensor) {
          if (has_addition(name, tensor.role))
            s.numbers += aligned(tensor.shape[0] * Rank) + aligned(Rank * tensor.shape[tensor.rank - 1]);
        },
        path{}, tensors_of<architecture>);
    s.ignored = detail::ignored_numbers<architecture>([](std::string_view, role as) { return as != role::matrix; });
    return s;
  }();
  static_assert(check::every_pattern_matches_a_tensor<of.numbers == 0>,
                "fathom::low_rank: the patterns match no matrix of the model");

 public:
  static constexpr lowest_stage lowest = std::max(
      lowest_stage{0, 0}, lowest_stage_with<architecture>([](std::string_view name) { return has_addition(name, role::matrix); }));

  /// A and B of all matrices that have them, or their gradients or moments.
  struct trained {
    using model = low_rank;
    alignas(alignment) scalar numbers[static_cast<std::size_t>(std::max<index>(of.numbers, 1))];
  };
  /// The weights, with A and B that are in their sums.
  struct parameters : Net::parameters {
    trained additions;
    std::uint32_t sums = 0;  // CRC-32 of the matrices with additions, as note_additions saw them; 0: not known
  };

  [[nodiscard]] static tensor_table trained_table() {
    tensor_table table;
    std::size_t offset = 0;
    for (const tensor_row& row : table_of<Net>()) {
      if (!has_addition(row.name, row.role)) continue;
      const auto add = [&](const char* suffix, std::vector<index> shape) {
        const index size = shape[0] * shape[1];
        table.push_back({row.name + suffix, initial::zero, role::matrix, std::move(shape), size, offset});
        offset += static_cast<std::size_t>(aligned(size)) * sizeof(scalar);
      };
      add(".lora_a", {row.shape[0], Rank});
      add(".lora_b", {Rank, row.shape[1]});
    }
    return table;
  }

  static void initialize_trained(parameters& to, std::uint64_t seed) {
    each_addition([&](const path& name, auto& w, matrix<scalar> a, matrix<scalar> b) {
      random numbers(seed, stream_of(name / "lora_a"));
      const double deviation = 1 / std::sqrt(static_cast<double>(w.shape[0]));
      for (index i = 0; i < a.rows * a.columns; ++i) a.data[i] = static_cast<scalar>(deviation * numbers.normal());
      std::fill_n(b.data, b.rows * b.columns, scalar(0));
    }, to.additions, static_cast<typename Net::parameters&>(to));
    to.sums = 0;
  }
  static void take(const parameters& from, trained& to) {
    std::copy(std::begin(from.additions.numbers), std::end(from.additions.numbers), to.numbers);
  }
  static void put(const trained& from, parameters& to) {
    const scalar* next = from.numbers;
    each_addition([&](const path&, auto& w, matrix<scalar> a, matrix<scalar> b) {
      const matrix<const scalar> new_a(next, a.rows, a.columns), new_b(next + aligned(a.rows * a.columns), b.rows, b.columns);
      add_low_rank<scalar>(w.view(), scale, new_a, new_b, a, b);
      next += aligned(a.rows * a.columns) + aligned(b.rows * b.columns);
    }, to.additions, static_cast<typename Net::parameters&>(to));
    std::copy(std::begin(from.numbers), std::end(from.numbers), to.additions.numbers);
    to.sums = 0;
  }
  /// Notes that the weights hold the sums, as they are now.
  static void note_additions(parameters& p) { p.sums = crc32_of_sums(p); }
  /// Whether the weights are those that note_additions saw, if that is known.
  [[nodiscard]] static bool holds_additions(const parameters& p) { return p.sums == 0 || p.sums == crc32_of_sums(p); }

  using gradients = fathom::layout<architecture, low_rank_views<scalar>>;
  static constexpr index spare = aligned(of.ignored) + 2 * rows_of_products * Rank;
  static void place(const parameters& p, trained& g, scalar* spare_numbers, gradients& to) {
    scalar* const room = spare_numbers + aligned(of.ignored);
    detail::ignore_all<architecture>(to, spare_numbers);
    const scalar* next = p.additions.numbers;
    each_addition([&](const path&, auto& tensor, matrix<scalar> da, matrix<scalar> db) {
      tensor.a = {next, da.rows, da.columns};
      tensor.b = {next + aligned(da.rows * da.columns), db.rows, db.columns};
      tensor.da = da;
      tensor.db = db;
      tensor.scale = static_cast<scalar>(scale);
      tensor.spare = room;
      next += aligned(da.rows * da.columns) + aligned(db.rows * db.columns);
    }, g, to);
  }

 private:
  [[nodiscard]] static std::uint32_t crc32_of_sums(const parameters& p) {
    std::vector<std::uint32_t> all;
    Net::visit(
        [&](const path& name, initial, const auto& tensor, const auto& as) {
          if (has_addition(name, as.role)) all.push_back(crc32(std::as_bytes(tensor.span())));
        },
        static_cast<const typename Net::parameters&>(p), Net::tensors);
    return std::max<std::uint32_t>(1, crc32(std::as_bytes(std::span(all))));
  }
  /// Calls f(name, tensor, A, B) for each matrix of a layout that has an addition, with A and B in `all`.
  template <class F, class Layout>
  static void each_addition(const F& f, trained& all, Layout& layout) {
    scalar* next = all.numbers;
    Net::visit(
        [&](const path& name, initial, auto& tensor, const auto& as) {
          if constexpr (std::remove_cvref_t<decltype(as)>::role == role::matrix) {
            if (!has_addition(name, as.role)) return;
            const matrix<scalar> a(next, as.shape[0], Rank), b(next + aligned(as.shape[0] * Rank), Rank, as.shape[1]);
            f(name, tensor, a, b);
            next = b.data + aligned(Rank * as.shape[1]);
          }
        },
        layout, Net::tensors);
  }
};

}  // namespace fathom
