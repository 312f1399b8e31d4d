// Operations on rows and columns: definitions for elementwise.hpp.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <type_traits>

#include "fathom/backend/cpu/elementwise.hpp"
#include "fathom/backend/cpu/map.hpp"
#include "fathom/backend/cpu/simd.hpp"
#include "fathom/backend/epilogue.hpp"
#include "fathom/backend/norm_scale.hpp"
#include "fathom/backend/operations.hpp"
#include "fathom/core/matrix.hpp"

namespace fathom::cpu {
inline namespace FATHOM_ISA {

namespace detail {
inline constexpr index most_columns = 256;  // of a task that sums over rows

/// Calls f(first, count) for pieces of [0, columns), shared among the ranks: for sums over rows. Long pieces read
/// memory best, but every rank should have one; a column's sum does not depend on its piece. Pieces are multiples of
/// `unit`.
template <class On, class F>
void for_columns(const On& on, index columns, const F& f, index unit = 64) {
  const index piece = std::clamp<index>(columns / (4 * on.size()), unit, most_columns) / unit * unit;
  on.tasks((columns + piece - 1) / piece, [&](index task) { f(task * piece, std::min(piece, columns - task * piece)); });
}

/// y [n] += x [n]
template <class T>
inline void add_row(const T* x, T* y, index n) {
  for_lanes<T>(n, [=]<class V>(V, index j) __attribute__((always_inline)) {
    epilogue::store(y + j, V(epilogue::load<V>(y + j) + epilogue::load<V>(x + j)));
  });
}

/// The N sums over j in [0, n) of the arrays of N numbers that f(V(), j) returns; four independent chains each.
template <class T, std::size_t N, class F>
[[gnu::always_inline]] inline std::array<T, N> sums_of(index n, const F& f) {
  constexpr index W = lanes<T>;
  vec<T> sums[4][N];
  unroll<4 * N>([&](auto i) __attribute__((always_inline)) { sums[i / N][i % N] = vec<T>(T(0)); });
  const auto add_to = [&](vec<T>* to, index j) __attribute__((always_inline)) {
    const std::array<vec<T>, N> terms = f(vec<T>(), j);
    unroll<N>([&](auto i) __attribute__((always_inline)) { to[i] += terms[i]; });
  };
  index j = 0;
  for (; j + 4 * W <= n; j += 4 * W)
    unroll<4>([&](auto u) __attribute__((always_inline)) { add_to(sums[u], j + static_cast<index>(u) * W); });
  for (; j + W <= n; j += W) add_to(sums[0], j);
  std::array<T, N> totals;
  for (std::size_t i = 0; i < N; ++i) totals[i] = horizontal_sum((sums[0][i] + sums[1][i]) + (sums[2][i] + sums[3][i]));
  for (; j < n; ++j) {
    const std::array<T, N> terms = f(T(), j);
    for (std::size_t i = 0; i < N; ++i) totals[i] += terms[i];
  }
  return totals;
}

/// to[n][first + c] += the sum over i in [0, rows) of f(V(), i, first + c)[n], f returning an array of N V, for columns
/// c in [0, count), count <= most_columns. Reads four rows at a time.
template <class T, std::size_t N, class F>
[[gnu::always_inline]] inline void add_column_sums(index rows, index first, index count, const std::array<T*, N>& to,
                                                   const F& f) {
  alignas(alignment) T sums[N][most_columns] = {};
  const auto add_rows = [&](index i, auto together) __attribute__((always_inline)) {
    for_lanes<T>(count, [&]<class V>(V, index c) __attribute__((always_inline)) {
      V parts[N];
      unroll<N>([&](auto n) __attribute__((always_inline)) { parts[n] = epilogue::load<V>(sums[n] + c); });
      unroll<together()>([&](auto r) __attribute__((always_inline)) {
        const std::array<V, N> terms = f(V(), i + static_cast<index>(r), first + c);
        unroll<N>([&](auto n) __attribute__((always_inline)) { parts[n] += terms[n]; });
      });
      unroll<N>([&](auto n) __attribute__((always_inline)) { epilogue::store(sums[n] + c, parts[n]); });
    });
  };
  index i = 0;
  for (; i + 4 <= rows; i += 4) add_rows(i, std::integral_constant<std::size_t, 4>());
  for (; i < rows; ++i) add_rows(i, std::integral_constant<std::size_t, 1>());
  for (std::size_t n = 0; n < N; ++n)
    for (index c = 0; c < count; ++c) to[n][first + c] += sums[n][c];
}
}  // namespace detail

template <class C, class T>
void copy(const context<C, T>& on, matrix<const std::type_identity_t<T>> x, matrix<std::type_identity_t<T>> y) {
  detail::for_rows(on, y.rows, [&](index i) { std::copy_n(x.row(i), y.columns, y.row(i)); });
}
template <class C, class T>
void add(const context<C, T>& on, matrix<const std::type_identity_t<T>> x, matrix<std::type_identity_t<T>> y) {
  detail::for_rows(on, y.rows, [&](index i) { detail::add_row<T>(x.row(i), y.row(i), y.columns); });
}
template <class C, class T>
void zero(const context<C, T>& on, matrix<std::type_identity_t<T>> y) {
  detail::for_rows(on, y.rows, [&](index i) { std::fill_n(y.row(i), y.columns, T(0)); });
}

template <class C, class T>
void column_sums(const context<C, T>& on, matrix<const std::type_identity_t<T>> y, std::type_identity_t<T>* g) {
  detail::for_columns(on, y.columns, [&](index first, index count) {
    const matrix<const T> from = y;
    detail::add_column_sums<T, 1>(y.rows, first, count, {g}, [=]<class V>(V, index i, index j) __attribute__((always_inline)) {
      return std::array{epilogue::load<V>(from.row(i) + j)};
    });
  });
}

template <class C, class T>
void layer_norm_forward(const context<C, T>& on, matrix<const std::type_identity_t<T>> x,
                        const std::type_identity_t<T>* gain, const std::type_identity_t<T>* bias,
                        matrix<std::type_identity_t<T>> y, std::type_identity_t<T>* mean, std::type_identity_t<T>* rstd,
                        double eps) {
  const index n = x.columns;
  detail::for_rows(on, x.rows, [&](index i) {
    const T *const row = x.row(i), *const scale = gain, *const shift = bias;
    T* const to = y.row(i);
    const T m = detail::sums_of<T, 1>(n, [=]<class V>(V, index j) __attribute__((always_inline)) {
      return std::array{epilogue::load<V>(row + j)};
    })[0] / static_cast<T>(n);
    const T variance = detail::sums_of<T, 1>(n, [=]<class V>(V, index j) __attribute__((always_inline)) {
      const V centred = epilogue::load<V>(row + j) - V(m);
      return std::array{V(centred * centred)};
    })[0] / static_cast<T>(n);
    const T r = norm_scale(variance, static_cast<T>(eps));
    detail::for_lanes<T>(n, [=]<class V>(V, index j) __attribute__((always_inline)) {
      const V normed = (epilogue::load<V>(row + j) - V(m)) * V(r);
      epilogue::store(to + j, V(normed * epilogue::load<V>(scale + j) + epilogue::load<V>(shift + j)));
    });
    mean[i] = m;
    rstd[i] = r;
  });
}

template <class C, class T>
void layer_norm_backward(const context<C, T>& on, matrix<const std::type_identity_t<T>> x,
                         const std::type_identity_t<T>* gain, const std::type_identity_t<T>* mean,
                         const std::type_identity_t<T>* rstd, matrix<const std::type_identity_t<T>> dy,
                         matrix<std::type_identity_t<T>> dx, std::type_identity_t<T>* dgain,
                         std::type_identity_t<T>* dbias) {
  const index n = x.columns;
  // with g = dy gain and normed = (x - mean) rstd: dx += rstd (g - mean of g - normed (mean of g normed))
  detail::for_rows(on, x.rows, [&](index i) {
    const T *const row = x.row(i), *const d = dy.row(i), *const scale = gain;
    T* const to = dx.row(i);
    const T m = mean[i], r = rstd[i];
    const auto [sum_g, sum_gn] = detail::sums_of<T, 2>(n, [=]<class V>(V, index j) __attribute__((always_inline)) {
      const V g = epilogue::load<V>(d + j) * epilogue::load<V>(scale + j);
      return std::array{g, V(g * (epilogue::load<V>(row + j) - V(m)))};
    });
    const T mean_g = sum_g / static_cast<T>(n), factor = sum_gn * r * r / static_cast<T>(n);
    detail::for_lanes<T>(n, [=]<class V>(V, index j) __attribute__((always_inline)) {
      const V g = epilogue::load<V>(d + j) * epilogue::load<V>(scale + j);
      const V centred = epilogue::load<V>(row + j) - V(m);
      epilogue::store(to + j, V(epilogue::load<V>(to + j) + V(r) * (g - V(mean_g) - centred * V(factor))));
    });
  });
  // The parameters' gradients are sums over rows: each task sums some columns over all rows.
  detail::for_columns(on, n, [&](index first, index count) {
    const matrix<const T> rows = x, drows = dy;
    const T *const m = mean, *const r = rstd;
    detail::add_column_sums<T, 2>(x.rows, first, count, {dgain, dbias},
                                  [=]<class V>(V, index i, index j) __attribute__((always_inline)) {
      const V d = epilogue::load<V>(drows.row(i) + j);
      return std::array{V(d * (epilogue::load<V>(rows.row(i) + j) - V(m[i])) * V(r[i])), d};
    });
  });
}

template <class C, class T>
void rms_norm_forward(const context<C, T>& on, matrix<const std::type_identity_t<T>> x,
                      const std::type_identity_t<T>* gain, matrix<std::type_identity_t<T>> y,
                      std::type_identity_t<T>* rstd, double eps, double offset, index heads) {
  const index n = x.columns / heads;
  const T above = static_cast<T>(offset);
  detail::for_rows(on, x.rows, [&](index i) {
    for (index h = 0; h < heads; ++h) {
      const T *const row = x.row(i) + h * n, *const scale = gain;
      T* const to = y.row(i) + h * n;
      const T squares = detail::sums_of<T, 1>(n, [=]<class V>(V, index j) __attribute__((always_inline)) {
        const V number = epilogue::load<V>(row + j);
        return std::array{V(number * number)};
      })[0];
      const T r = norm_scale(squares / static_cast<T>(n), static_cast<T>(eps));
      detail::for_lanes<T>(
          n, [=]<class V>(V, index j) __attribute__((always_inline)) {
            epilogue::store(to + j, V(epilogue::load<V>(row + j) * V(r) * (epilogue::load<V>(scale + j) + V(above))));
          });
      rstd[i * heads + h] = r;
    }
  });
}

template <class C, class T>
void rms_norm_backward(const context<C, T>& on, matrix<const std::type_identity_t<T>> x,
                       const std::type_identity_t<T>* gain, const std::type_identity_t<T>* rstd,
                       matrix<const std::type_identity_t<T>> dy, matrix<std::type_identity_t<T>> dx,
                       std::type_identity_t<T>* dgain, double offset, index heads, bool adds) {
  const index n = x.columns / heads;
  const T above = static_cast<T>(offset);
  // The gain's gradient comes first: dx may be dy. Each task sums some columns over all rows, head after head. Heads
  // are narrow: of their columns, a task has no more than a cache line of floats, so that there are tasks for several
  // ranks.
  detail::for_columns(
      on, n,
      [&](index first, index count) {
        for (index h = 0; h < heads; ++h) {
          const matrix<const T> rows = x.columns_from(h * n, n), drows = dy.columns_from(h * n, n);
          const T* const r = rstd + h;
          detail::add_column_sums<T, 1>(
              x.rows, first, count, {dgain}, [=]<class V>(V, index i, index j) __attribute__((always_inline)) {
                return std::array{
                    V(epilogue::load<V>(drows.row(i) + j) * epilogue::load<V>(rows.row(i) + j) * V(r[i * heads]))};
              });
        }
      },
      heads > 1 ? 16 : 64);
  // with g = dy (gain + offset) and normed = x rstd: dx += rstd (g - normed (mean of g normed))
  detail::for_rows(on, x.rows, [&](index i) {
    for (index h = 0; h < heads; ++h) {
      const T *const row = x.row(i) + h * n, *const d = dy.row(i) + h * n, *const scale = gain;
      T* const to = dx.row(i) + h * n;
      const T r = rstd[i * heads + h];
      const T sum_gx = detail::sums_of<T, 1>(
          n, [=]<class V>(V, index j) __attribute__((always_inline)) {
            const V g = epilogue::load<V>(d + j) * (epilogue::load<V>(scale + j) + V(above));
            return std::array{V(g * epilogue::load<V>(row + j))};
          })[0];
      const T factor = sum_gx * r * r / static_cast<T>(n);
      const auto gradient = [=]<class V>(V, index j) __attribute__((always_inline)) {
        const V g = epilogue::load<V>(d + j) * (epilogue::load<V>(scale + j) + V(above));
        return V(V(r) * (g - epilogue::load<V>(row + j) * V(factor)));
      };
      if (adds)
        detail::for_lanes<T>(
            n, [=]<class V>(V v, index j) __attribute__((always_inline)) {
              epilogue::store(to + j, V(epilogue::load<V>(to + j) + gradient(v, j)));
            });
      else
        detail::for_lanes<T>(
            n, [=]<class V>(V v, index j) __attribute__((always_inline)) { epilogue::store(to + j, gradient(v, j)); });
    }
  });
}

template <class C, class T>
void scale_heads(const context<C, T>& on, matrix<const std::type_identity_t<T>> x, matrix<const std::type_identity_t<T>> gain,
                 matrix<std::type_identity_t<T>> y) {
  const index width = y.columns / gain.columns;
  detail::for_rows(on, y.rows, [&](index i) {
    for (index h = 0; h < gain.columns; ++h) {
      const T* const from = x.row(i) + h * width;
      T* const to = y.row(i) + h * width;
      const T factor = gain(i, h);
      detail::for_lanes<T>(width, [=]<class V>(V, index j) __attribute__((always_inline)) {
        epilogue::store(to + j, V(epilogue::load<V>(from + j) * V(factor)));
      });
    }
  });
}
template <class C, class T>
void dot_heads(const context<C, T>& on, matrix<const std::type_identity_t<T>> x, matrix<const std::type_identity_t<T>> y,
               matrix<std::type_identity_t<T>> dots) {
  const index width = x.columns / dots.columns;
  detail::for_rows(on, x.rows, [&](index i) {
    for (index h = 0; h < dots.columns; ++h) {
      const T *const a = x.row(i) + h * width, *const b = y.row(i) + h * width;
      dots(i, h) = detail::sums_of<T, 1>(width, [=]<class V>(V, index j) __attribute__((always_inline)) {
        return std::array{V(epilogue::load<V>(a + j) * epilogue::load<V>(b + j))};
      })[0];
    }
  });
}

template <class C, class T>
double sum_of_squares(const context<C, T>& on, const std::type_identity_t<T>* g, index count) {
  constexpr index pieces = 64;
  return on.sum(pieces, [&](index i) {
    const index first = count * i / pieces, last = count * (i + 1) / pieces;
    double sum = 0;  // adds chunks of 4096: float would lose precision over a long piece
    for (index at = first; at < last; at += 4096) {
      const T* const from = g + at;
      sum += static_cast<double>(detail::sums_of<T, 1>(std::min<index>(4096, last - at), [=]<class V>(V, index j) __attribute__((always_inline)) {
        const V number = epilogue::load<V>(from + j);
        return std::array{V(number * number)};
      })[0]);
    }
    return sum;
  });
}

}  // namespace FATHOM_ISA
}  // namespace fathom::cpu
