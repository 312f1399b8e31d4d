// Operations on rows and columns: copies, sums, activations, layer normalisation. Written with Eigen's arrays, which it
// vectorises.
#pragma once

#include <algorithm>
#include <cmath>

#include "fathom/backend/cpu/simd.hpp"  // before Eigen: see there

#include <Eigen/Core>

#include "fathom/backend/cpu/team.hpp"
#include "fathom/backend/epilogue.hpp"
#include "fathom/backend/operations.hpp"
#include "fathom/core/matrix.hpp"

namespace fathom::cpu {

/// `count` numbers as an Eigen array.
template <class T>
[[nodiscard]] inline auto array(T* data, index count) {
  using numbers = Eigen::Array<std::remove_const_t<T>, Eigen::Dynamic, 1>;
  return Eigen::Map<std::conditional_t<std::is_const_v<T>, const numbers, numbers>>(data, count);
}

namespace detail {
inline constexpr index rows_per_task = 32;

/// Calls f(i) for every row, shared among the ranks.
template <class On, class F>
void for_rows(const On& on, index rows, const F& f) {
  on.tasks((rows + rows_per_task - 1) / rows_per_task, [&](index task) {
    const index last = std::min(rows, (task + 1) * rows_per_task);
    for (index i = task * rows_per_task; i < last; ++i) f(i);
  });
}

/// Calls f(first, count) for pieces of [0, columns), shared among the ranks: for sums over rows.
template <class On, class F>
void for_columns(const On& on, index columns, const F& f) {
  constexpr index piece = 64;
  on.tasks((columns + piece - 1) / piece,
           [&](index task) { f(task * piece, std::min(piece, columns - task * piece)); });
}
}  // namespace detail

/// y = x
template <class C, class T>
void copy(const context<C, T>& on, matrix<const std::type_identity_t<T>> x, matrix<std::type_identity_t<T>> y) {
  detail::for_rows(on, y.rows, [&](index i) { std::copy_n(x.row(i), y.columns, y.row(i)); });
}
/// y += x
template <class C, class T>
void add(const context<C, T>& on, matrix<const std::type_identity_t<T>> x, matrix<std::type_identity_t<T>> y) {
  detail::for_rows(on, y.rows, [&](index i) { array(y.row(i), y.columns) += array(x.row(i), y.columns); });
}
/// y = 0
template <class C, class T>
void zero(const context<C, T>& on, matrix<std::type_identity_t<T>> y) {
  detail::for_rows(on, y.rows, [&](index i) { std::fill_n(y.row(i), y.columns, T(0)); });
}

/// g [N] += sum over the rows of y [M, N]
template <class C, class T>
void column_sums(const context<C, T>& on, matrix<const std::type_identity_t<T>> y, std::type_identity_t<T>* g) {
  detail::for_columns(on, y.columns, [&](index first, index count) {
    T sums[64] = {};
    for (index i = 0; i < y.rows; ++i) array(sums, count) += array(y.row(i) + first, count);
    array(g + first, count) += array(sums, count);
  });
}

/// y = GELU(x)
template <class C, class T>
void gelu_forward(const context<C, T>& on, matrix<const std::type_identity_t<T>> x, matrix<std::type_identity_t<T>> y) {
  detail::for_rows(on, y.rows, [&](index i) {
    index j = 0;
    for (; j + lanes<T> <= y.columns; j += lanes<T>)
      gelu<vec<T>>(vec<T>::load_unaligned(x.row(i) + j)).value.store_unaligned(y.row(i) + j);
    for (; j < y.columns; ++j) y(i, j) = gelu<T>(x(i, j)).value;
  });
}
/// dx = dy GELU'(x)
template <class C, class T>
void gelu_backward(const context<C, T>& on, matrix<const std::type_identity_t<T>> x,
                   matrix<const std::type_identity_t<T>> dy, matrix<std::type_identity_t<T>> dx) {
  detail::for_rows(on, dx.rows, [&](index i) {
    index j = 0;
    for (; j + lanes<T> <= dx.columns; j += lanes<T>) {
      const auto d = vec<T>::load_unaligned(dy.row(i) + j);
      (d * gelu<vec<T>>(vec<T>::load_unaligned(x.row(i) + j)).derivative).store_unaligned(dx.row(i) + j);
    }
    for (; j < dx.columns; ++j) dx(i, j) = dy(i, j) * gelu<T>(x(i, j)).derivative;
  });
}

inline constexpr double layer_norm_eps = 1e-5;

/// y = (x - mean) rstd gain + bias, row by row; keeps mean [rows] and rstd [rows]
template <class C, class T>
void layer_norm_forward(const context<C, T>& on, matrix<const std::type_identity_t<T>> x,
                        const std::type_identity_t<T>* gain, const std::type_identity_t<T>* bias,
                        matrix<std::type_identity_t<T>> y, std::type_identity_t<T>* mean, std::type_identity_t<T>* rstd) {
  const index n = x.columns;
  const auto scale = array(gain, n), shift = array(bias, n);
  detail::for_rows(on, x.rows, [&](index i) {
    const auto row = array(x.row(i), n);
    const T m = row.sum() / static_cast<T>(n);
    const T r = T(1) / std::sqrt((row - m).square().sum() / static_cast<T>(n) + static_cast<T>(layer_norm_eps));
    array(y.row(i), n) = (row - m) * r * scale + shift;
    mean[i] = m;
    rstd[i] = r;
  });
}

/// dx += the gradient with respect to x; dgain and dbias [columns] are added to as well (backend/reference.hpp)
template <class C, class T>
void layer_norm_backward(const context<C, T>& on, matrix<const std::type_identity_t<T>> x,
                         const std::type_identity_t<T>* gain, const std::type_identity_t<T>* mean,
                         const std::type_identity_t<T>* rstd, matrix<const std::type_identity_t<T>> dy,
                         matrix<std::type_identity_t<T>> dx, std::type_identity_t<T>* dgain,
                         std::type_identity_t<T>* dbias) {
  const index n = x.columns;
  const auto scale = array(gain, n);
  detail::for_rows(on, x.rows, [&](index i) {
    const auto row = array(x.row(i), n), d = array(dy.row(i), n);
    const T m = mean[i], r = rstd[i];
    const T mean_g = (d * scale).sum() / static_cast<T>(n);
    const T mean_gn = (d * scale * (row - m)).sum() * r / static_cast<T>(n);
    array(dx.row(i), n) += r * (d * scale - mean_g - (row - m) * (r * mean_gn));
  });
  // The parameters' gradients are sums over rows: each task takes some columns through all of them.
  detail::for_columns(on, n, [&](index first, index count) {
    T gains[64] = {}, biases[64] = {};
    for (index i = 0; i < x.rows; ++i) {
      const auto d = array(dy.row(i) + first, count);
      array(gains, count) += d * (array(x.row(i) + first, count) - mean[i]) * rstd[i];
      array(biases, count) += d;
    }
    array(dgain + first, count) += array(gains, count);
    array(dbias + first, count) += array(biases, count);
  });
}

/// One AdamW step on `count` numbers; see adamw_settings. Zeroes the gradients.
template <class C, class T>
void adamw_update(const context<C, T>& on, std::type_identity_t<T>* w, std::type_identity_t<T>* g,
                  std::type_identity_t<T>* m, std::type_identity_t<T>* v, index count, const adamw_settings& s) {
  constexpr index piece = 1 << 12;
  const T beta1 = static_cast<T>(s.beta1), beta2 = static_cast<T>(s.beta2), eps = static_cast<T>(s.eps);
  const T keep = static_cast<T>(1 - s.rate * s.decay), scale = static_cast<T>(s.gradient_scale);
  const T step = static_cast<T>(s.rate / s.correction1), root = static_cast<T>(1 / std::sqrt(s.correction2));
  on.tasks((count + piece - 1) / piece, [&](index task) {
    const index first = task * piece, n = std::min(piece, count - first);
    index i = first;
    const auto update = [&]<class V>(V) {
      using std::sqrt;
      const V gradient = epilogue::load<V>(g + i) * V(scale);
      const V m1 = V(beta1) * epilogue::load<V>(m + i) + V(1 - beta1) * gradient;
      const V v1 = V(beta2) * epilogue::load<V>(v + i) + V(1 - beta2) * gradient * gradient;
      epilogue::store(m + i, m1);
      epilogue::store(v + i, v1);
      epilogue::store(w + i, V(V(keep) * epilogue::load<V>(w + i) - V(step) * m1 / (sqrt(v1) * V(root) + V(eps))));
      epilogue::store(g + i, V(T(0)));
    };
    for (; i + lanes<T> <= first + n; i += lanes<T>) update(vec<T>());
    for (; i < first + n; ++i) update(T());
  });
}

/// The sum of the squares of `count` numbers: 64 pieces, each summed up by itself.
template <class C, class T>
[[nodiscard]] double sum_of_squares(const context<C, T>& on, const std::type_identity_t<T>* g, index count) {
  constexpr index pieces = 64;
  return on.sum(pieces, [&](index i) {
    const index first = count * i / pieces, last = count * (i + 1) / pieces;
    double sum = 0;  // of sums of a few thousand: float would lose digits over a long piece
    for (index at = first; at < last; at += 4096)
      sum += static_cast<double>(array(g + at, std::min<index>(4096, last - at)).square().sum());
    return sum;
  });
}

}  // namespace fathom::cpu
