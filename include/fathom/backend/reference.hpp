// The reference backend: every operation in plain loops, one thread, for any scalar (float, double,
// std::complex<double>). It defines each operation, and is the oracle that the fast backends are tested against.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>
#include <vector>

#include "fathom/backend/distance_slopes.hpp"
#include "fathom/backend/epilogue.hpp"
#include "fathom/backend/norm_scale.hpp"
#include "fathom/backend/operations.hpp"
#include "fathom/backend/rotation.hpp"
#include "fathom/core/bf16.hpp"
#include "fathom/core/error.hpp"
#include "fathom/core/grouped.hpp"
#include "fathom/core/int8.hpp"
#include "fathom/core/matrix.hpp"
#include "fathom/core/storage.hpp"
#include "fathom/core/types.hpp"

namespace fathom::reference {

/// The execution context: a single rank.
template <class T>
struct context {
  using scalar = T;
  [[nodiscard]] static constexpr int rank() { return 0; }
  [[nodiscard]] static constexpr int size() { return 1; }
  static void barrier() {}

  /// Calls f(0), ..., f(count - 1).
  template <class F>
  void tasks(index count, const F& f) const {
    for (index i = 0; i < count; ++i) f(i);
  }
};

template <class T>
[[nodiscard]] inline auto real(const T& x) {
  if constexpr (std::is_floating_point_v<T>)
    return x;
  else
    return x.real();
}

template <class T>
using in = matrix<const std::type_identity_t<T>>;
template <class T>
using out = matrix<std::type_identity_t<T>>;

/// y [M, N] = epilogue(x [M, K] w [K, N])
template <class T, class Epilogue>
void matmul(const context<T>&, in<T> x, in<T> w, out<T> y, const Epilogue& epilogue) {
  for (index i = 0; i < y.rows; ++i)
    for (index j = 0; j < y.columns; ++j) {
      T sum(0);
      for (index k = 0; k < x.columns; ++k) sum += x(i, k) * w(k, j);
      y(i, j) = epilogue(sum, i, j);
    }
}

/// y [M, N] = epilogue(x [M, K] w [N, K]^T)
template <class T, class Epilogue>
void matmul_nt(const context<T>&, in<T> x, in<T> w, out<T> y, const Epilogue& epilogue) {
  for (index i = 0; i < y.rows; ++i)
    for (index j = 0; j < y.columns; ++j) {
      T sum(0);
      for (index k = 0; k < x.columns; ++k) sum += x(i, k) * w(j, k);
      y(i, j) = epilogue(sum, i, j);
    }
}

/// g [K, N] += x [M, K]^T y [M, N]
template <class T>
void matmul_tn(const context<T>&, in<T> x, in<T> y, out<T> g) {
  for (index i = 0; i < g.rows; ++i)
    for (index j = 0; j < g.columns; ++j) {
      T sum(0);
      for (index k = 0; k < x.rows; ++k) sum += x(k, i) * y(k, j);
      g(i, j) += sum;
    }
}

// Overloads for weights given as tensors.
template <class T, class Epilogue>
void matmul(const context<T>& on, in<T> x, const auto& w, out<T> y, const Epilogue& epilogue)
  requires requires { w.view(); }
{
  matmul(on, x, in<T>(w.view()), y, epilogue);
}
template <class T, class Epilogue>
void matmul_nt(const context<T>& on, in<T> x, const auto& w, out<T> y, const Epilogue& epilogue)
  requires requires { w.view(); }
{
  matmul_nt(on, x, in<T>(w.view()), y, epilogue);
}

/// g [N] += sum over the rows of y [M, N]
template <class T>
void column_sums(const context<T>&, in<T> y, std::type_identity_t<T>* g) {
  for (index j = 0; j < y.columns; ++j) {
    T sum(0);
    for (index i = 0; i < y.rows; ++i) sum += y(i, j);
    g[j] += sum;
  }
}

/// y = x
template <class T>
void copy(const context<T>&, in<T> x, out<T> y) {
  for (index i = 0; i < y.rows; ++i)
    for (index j = 0; j < y.columns; ++j) y(i, j) = x(i, j);
}

/// y += x
template <class T>
void add(const context<T>&, in<T> x, out<T> y) {
  for (index i = 0; i < y.rows; ++i)
    for (index j = 0; j < y.columns; ++j) y(i, j) += x(i, j);
}

/// y = 0
template <class T>
void zero(const context<T>&, out<T> y) {
  for (index i = 0; i < y.rows; ++i)
    for (index j = 0; j < y.columns; ++j) y(i, j) = T(0);
}

/// (y...) = f(x...), element by element: f takes numbers<T, I> and returns numbers<T, O>. All matrices have the same
/// shape; a result may alias an operand.
template <class T, class F, std::size_t O, std::size_t I>
void elementwise(const context<T>&, const F& f, const std::array<matrix<T>, O>& y,
                 const std::array<matrix<const std::type_identity_t<T>>, I>& x) {
  for (index i = 0; i < y[0].rows; ++i)
    for (index j = 0; j < y[0].columns; ++j) {
      numbers<T, I> from;
      for (std::size_t n = 0; n < I; ++n) from[n] = x[n](i, j);
      const numbers<T, O> to = f(from);
      for (std::size_t n = 0; n < O; ++n) y[n](i, j) = to[n];
    }
}

/// y = z + w x, w [M, 1]; y may be z or x ("Sums over depths" in operations.hpp)
template <class T>
void add_scaled(const context<T>&, in<T> w, in<T> x, in<T> z, out<T> y) {
  for (index i = 0; i < y.rows; ++i)
    for (index j = 0; j < y.columns; ++j) y(i, j) = z(i, j) + w(i, 0) * x(i, j);
}

/// d [M, 1] = sum over the columns of x y
template <class T>
void row_dots(const context<T>&, in<T> x, in<T> y, out<T> d) {
  for (index i = 0; i < x.rows; ++i) {
    T sum(0);
    for (index j = 0; j < x.columns; ++j) sum += x(i, j) * y(i, j);
    d(i, 0) = sum;
  }
}

/// y = softmax of each column of x; y may be x
template <class T>
void softmax_forward(const context<T>&, in<T> x, out<T> y) {
  using std::exp;
  for (index j = 0; j < x.columns; ++j) {
    auto largest = real(x(0, j));
    for (index i = 1; i < x.rows; ++i) largest = std::max(largest, real(x(i, j)));
    T total(0);
    for (index i = 0; i < x.rows; ++i) total += y(i, j) = exp(x(i, j) - largest);
    for (index i = 0; i < x.rows; ++i) y(i, j) /= total;
  }
}
/// dx = y (dy - sum over the rows of y dy); dx may be dy
template <class T>
void softmax_backward(const context<T>&, in<T> y, in<T> dy, out<T> dx) {
  for (index j = 0; j < y.columns; ++j) {
    T sum(0);
    for (index i = 0; i < y.rows; ++i) sum += y(i, j) * dy(i, j);
    for (index i = 0; i < y.rows; ++i) dx(i, j) = y(i, j) * (dy(i, j) - sum);
  }
}

/// y = (x - mean) rstd gain + bias, row by row, rstd = 1 / sqrt(variance + eps); keeps mean [rows] and rstd [rows] for
/// backward (Ba, Kiros and Hinton, arXiv 1607.06450).
template <class T>
void layer_norm_forward(const context<T>&, in<T> x, const std::type_identity_t<T>* gain,
                        const std::type_identity_t<T>* bias, out<T> y, std::type_identity_t<T>* mean,
                        std::type_identity_t<T>* rstd, double eps = norm_epsilon) {
  const T n = static_cast<T>(static_cast<double>(x.columns));
  for (index i = 0; i < x.rows; ++i) {
    T sum(0), squares(0);
    for (index j = 0; j < x.columns; ++j) sum += x(i, j);
    mean[i] = sum / n;
    for (index j = 0; j < x.columns; ++j) squares += (x(i, j) - mean[i]) * (x(i, j) - mean[i]);
    rstd[i] = norm_scale(squares / n, static_cast<T>(eps));
    for (index j = 0; j < x.columns; ++j) y(i, j) = (x(i, j) - mean[i]) * rstd[i] * gain[j] + bias[j];
  }
}

/// dx += the gradient with respect to x; dgain [columns] and dbias [columns] += theirs. With n = (x - mean) rstd and
/// g = dy gain:  dx = rstd (g - mean(g) - n mean(g n)).
template <class T>
void layer_norm_backward(const context<T>&, in<T> x, const std::type_identity_t<T>* gain,
                         const std::type_identity_t<T>* mean, const std::type_identity_t<T>* rstd, in<T> dy, out<T> dx,
                         std::type_identity_t<T>* dgain, std::type_identity_t<T>* dbias) {
  const T count = static_cast<T>(static_cast<double>(x.columns));
  for (index i = 0; i < x.rows; ++i) {
    T mean_g(0), mean_gn(0);
    for (index j = 0; j < x.columns; ++j) {
      const T n = (x(i, j) - mean[i]) * rstd[i];
      mean_g += dy(i, j) * gain[j];
      mean_gn += dy(i, j) * gain[j] * n;
      dgain[j] += dy(i, j) * n;
      dbias[j] += dy(i, j);
    }
    mean_g /= count;
    mean_gn /= count;
    for (index j = 0; j < x.columns; ++j) {
      const T n = (x(i, j) - mean[i]) * rstd[i];
      dx(i, j) += rstd[i] * (dy(i, j) * gain[j] - mean_g - n * mean_gn);
    }
  }
}

/// y = x rstd (gain + offset), rstd = 1 / sqrt(mean(x^2) + eps), for each of the heads of a row; keeps rstd
/// [rows, heads] for backward (Zhang and Sennrich, arXiv 1910.07467; "RMS norm" in operations.hpp). y may be x.
template <class T>
void rms_norm_forward(const context<T>&, in<T> x, const std::type_identity_t<T>* gain, out<T> y,
                      std::type_identity_t<T>* rstd, double eps = norm_epsilon, double offset = 0, index heads = 1) {
  const index width = x.columns / heads;
  const T count = static_cast<T>(static_cast<double>(width));
  for (index i = 0; i < x.rows; ++i)
    for (index h = 0; h < heads; ++h) {
      const index c = h * width;
      T squares(0);
      for (index j = 0; j < width; ++j) squares += x(i, c + j) * x(i, c + j);
      const T r = norm_scale(squares / count, static_cast<T>(eps));
      for (index j = 0; j < width; ++j) y(i, c + j) = x(i, c + j) * r * (gain[j] + static_cast<T>(offset));
      rstd[i * heads + h] = r;
    }
}

/// dx += the gradient with respect to x, or without `adds` dx = it; dgain [width] += the gain's. With n = x rstd and
/// g = dy (gain + offset), for each head of a row:  dx = rstd (g - n mean(g n)). Without `adds`, dx may be dy.
template <class T>
void rms_norm_backward(const context<T>&, in<T> x, const std::type_identity_t<T>* gain,
                       const std::type_identity_t<T>* rstd, in<T> dy, out<T> dx, std::type_identity_t<T>* dgain,
                       double offset = 0, index heads = 1, bool adds = true) {
  const index width = x.columns / heads;
  const T count = static_cast<T>(static_cast<double>(width));
  for (index i = 0; i < x.rows; ++i)
    for (index h = 0; h < heads; ++h) {
      const index c = h * width;
      const T r = rstd[i * heads + h];
      T mean_gn(0);
      for (index j = 0; j < width; ++j) {
        const T n = x(i, c + j) * r;
        mean_gn += dy(i, c + j) * (gain[j] + static_cast<T>(offset)) * n;
        dgain[j] += dy(i, c + j) * n;
      }
      mean_gn /= count;
      for (index j = 0; j < width; ++j) {
        const T d = r * (dy(i, c + j) * (gain[j] + static_cast<T>(offset)) - x(i, c + j) * r * mean_gn);
        dx(i, c + j) = adds ? dx(i, c + j) + d : d;
      }
    }
}

/// y = x gain, head by head. x, y [rows, heads * width]; gain [rows, heads], all rows the same if its stride is 0. y may be x.
template <class T>
void scale_heads(const context<T>&, in<T> x, in<T> gain, out<T> y) {
  const index width = y.columns / gain.columns;
  for (index i = 0; i < y.rows; ++i)
    for (index j = 0; j < y.columns; ++j) y(i, j) = x(i, j) * gain(i, j / width);
}
/// dots [rows, heads] = the sum of x y over the columns of each head.
template <class T>
void dot_heads(const context<T>&, in<T> x, in<T> y, out<T> dots) {
  const index width = x.columns / dots.columns;
  for (index i = 0; i < x.rows; ++i)
    for (index h = 0; h < dots.columns; ++h) {
      T sum(0);
      for (index j = h * width; j < (h + 1) * width; ++j) sum += x(i, j) * y(i, j);
      dots(i, h) = sum;
    }
}

/// The distance in positions from query `t` of sequence `b` back to row `r` of its memory.
template <class T>
[[nodiscard]] T attention_distance(const attention_shape& s, index b, index t, index r) {
  return static_cast<T>(static_cast<double>(s.start(b) + t - r / s.rows_per_position));
}
/// The score of query `t` of sequence `b` and row `r` of its memory in head `h`.
template <class T>
[[nodiscard]] T attention_score(const attention_shape& s, const matrix<const T>& q, const matrix<const T>& k, index b, index t,
                                index r, index h, const distance_slopes<T>& slopes) {
  const index qi = b * s.queries + t, kr = s.memory_row(b) + r, c = h * s.head_width, kc = h / s.group_size() * s.head_width;
  T dot(0);
  for (index e = 0; e < s.head_width; ++e) dot += q(qi, c + e) * k(kr, kc + e);
  T score = dot / static_cast<T>(std::sqrt(static_cast<double>(s.head_width)));
  if (slopes.are_there) score -= slopes.of(h, s.heads) * attention_distance<T>(s, b, t, r);
  if (slopes.biases) score += slopes.bias(h, s.heads, r, s.rows_per_position);
  return score;
}

/// out = softmax(q k^T / sqrt(head_width) - slope distance + bias) v over the visible rows, per sequence and head; see
/// attention_shape and distance_slopes.hpp.
template <class T>
void attention_forward(const context<T>&, const attention_shape& s, in<T> q, in<T> k, in<T> v, out<T> o,
                       std::type_identity_t<T>* lse, const distance_slopes<std::type_identity_t<T>>& slopes = {}) {
  using std::exp, std::log;
  for (index b = 0; b < s.sequences; ++b)
    for (index h = 0; h < s.heads; ++h)
      for (index t = 0; t < s.queries; ++t) {
        const index i = b * s.queries + t, c = h * s.head_width, vc = h / s.group_size() * s.head_width;
        const index first = s.first_visible(b, t), last = s.visible(b, t);
        auto largest = -std::numeric_limits<decltype(real(T()))>::infinity();
        for (index r = first; r < last; ++r)
          largest = std::max(largest, real(attention_score<T>(s, q, k, b, t, r, h, slopes)));
        T total(0);
        for (index e = 0; e < s.head_width; ++e) o(i, c + e) = T(0);
        for (index r = first; r < last; ++r) {
          const T weight = exp(attention_score<T>(s, q, k, b, t, r, h, slopes) - largest);
          total += weight;
          for (index e = 0; e < s.head_width; ++e) o(i, c + e) += weight * v(s.memory_row(b) + r, vc + e);
        }
        for (index e = 0; e < s.head_width; ++e) o(i, c + e) /= total;
        if (lse) lse[i * s.heads + h] = largest + log(total);
      }
}

/// dq, dk, dv = the gradients, given dout. They are overwritten. `delta` [sequences * queries, heads] is scratch: it
/// receives the sum of dout * out over a head's columns. With slopes, `dslopes` [sequences * queries, heads], unless it is
/// null, receives each query's share of their gradient: the sum of dscore * -distance over its rows. `dbiases`
/// [rows of memory, heads], unless it is null, receives each row's share of the gradient of biases: the sum of dscore over the
/// queries that see it.
template <class T>
void attention_backward(const context<T>& on, const attention_shape& s, in<T> q, in<T> k, in<T> v, in<T> o,
                        const std::type_identity_t<T>* lse, in<T> dout, std::type_identity_t<T>* delta, out<T> dq,
                        out<T> dk, out<T> dv, const distance_slopes<std::type_identity_t<T>>& slopes = {},
                        std::type_identity_t<T>* dslopes = nullptr, std::type_identity_t<T>* dbiases = nullptr) {
  using std::exp;
  if (dbiases) std::fill_n(dbiases, k.rows * s.heads, T(0));
  zero(on, dq);
  zero(on, dk);
  zero(on, dv);
  const T scale = T(1) / static_cast<T>(std::sqrt(static_cast<double>(s.head_width)));
  for (index b = 0; b < s.sequences; ++b)
    for (index h = 0; h < s.heads; ++h)
      for (index t = 0; t < s.queries; ++t) {
        const index i = b * s.queries + t, c = h * s.head_width, kc = h / s.group_size() * s.head_width;
        T sum(0);
        for (index e = 0; e < s.head_width; ++e) sum += dout(i, c + e) * o(i, c + e);
        delta[i * s.heads + h] = sum;
        T dslope(0);
        for (index r = s.first_visible(b, t); r < s.visible(b, t); ++r) {
          const index row = s.memory_row(b) + r;
          const T weight = exp(attention_score<T>(s, q, k, b, t, r, h, slopes) - lse[i * s.heads + h]);
          T dweight(0);
          for (index e = 0; e < s.head_width; ++e) dweight += dout(i, c + e) * v(row, kc + e);
          const T dscore = weight * (dweight - sum) * scale;
          dslope -= weight * (dweight - sum) * attention_distance<T>(s, b, t, r);
          if (dbiases) dbiases[row * s.heads + h] += weight * (dweight - sum);
          for (index e = 0; e < s.head_width; ++e) {
            dq(i, c + e) += dscore * k(row, kc + e);
            dk(row, kc + e) += dscore * q(i, c + e);
            dv(row, kc + e) += weight * dout(i, c + e);
          }
        }
        if (dslopes) dslopes[i * s.heads + h] = dslope;
      }
}

/// weights [sequences * heads * queries, memory_rows]: the softmax itself, for inspection; 0 for rows not visible.
template <class T>
void attention_weights(const context<T>&, const attention_shape& s, in<T> q, in<T> k, const std::type_identity_t<T>* lse,
                       out<T> weights, const distance_slopes<std::type_identity_t<T>>& slopes = {}) {
  using std::exp;
  for (index b = 0; b < s.sequences; ++b)
    for (index h = 0; h < s.heads; ++h)
      for (index t = 0; t < s.queries; ++t) {
        const index i = b * s.queries + t, to = (b * s.heads + h) * s.queries + t;
        for (index r = 0; r < s.memory_rows; ++r)
          weights(to, r) = r >= s.first_visible(b, t) && r < s.visible(b, t)
                               ? exp(attention_score<T>(s, q, k, b, t, r, h, slopes) - lse[i * s.heads + h])
                               : T(0);
      }
}

/// Writes the rows of kv [sequences * tokens, columns] to their places in a cache's memory
/// [sequences * capacity * rows_per_position, columns]: the position at place p goes to row p * rows_per_position + slot.
template <class T>
void attention_append(const context<T>&, const extent& e, in<T> kv, out<T> memory, index rows_per_position, index slot) {
  for (index s = 0; s < e.sequences; ++s)
    for (index t = 0; t < e.tokens; ++t)
      for (index j = 0; j < kv.columns; ++j)
        memory(((e.first + s) * e.capacity + e.place(s) + t) * rows_per_position + slot, j) = kv(s * e.tokens + t, j);
}

/// The same to memory that stores them rounded.
template <class T, class P>
void attention_append(const context<T>&, const extent& e, in<T> kv, const stored_rows<P>& memory, index rows_per_position, index slot) {
  const auto number = [&](index i, index j) { return static_cast<float>(real(kv(i, j))); };
  for (index i = 0; i < e.rows(); ++i) {
    const index s = i / e.tokens, row = ((e.first + s) * e.capacity + e.place(s) + i % e.tokens) * rows_per_position + slot;
    if constexpr (std::is_same_v<P, std::int8_t>) {
      const index width = kv.columns / memory.scales.columns;
      for (index h = 0; h < memory.scales.columns; ++h) {
        float largest = 0;
        for (index j = h * width; j < (h + 1) * width; ++j) largest = std::max(largest, std::abs(number(i, j)));
        const float scale = memory.scales(row, h) = int8_scale(largest);
        for (index j = h * width; j < (h + 1) * width; ++j) memory.numbers(row, j) = to_int8(number(i, j), scale);
      }
    } else {
      for (index j = 0; j < kv.columns; ++j) memory.numbers(row, j) = P(number(i, j));
    }
  }
}

/// attention_forward with keys and values that are stored rounded.
template <class T, class P>
void attention_forward(const context<T>& on, const attention_shape& s, in<T> q, const stored_rows<P>& k, const stored_rows<P>& v,
                       out<T> o, std::type_identity_t<T>* lse, const distance_slopes<T>& slopes = {}) {
  const auto widened = [&](const stored_rows<P>& x) {
    std::vector<T> all(static_cast<std::size_t>(x.numbers.rows * x.numbers.columns));
    for (index i = 0; i < x.numbers.rows; ++i)
      for (index j = 0; j < x.numbers.columns; ++j) {
        T& number = all[static_cast<std::size_t>(i * x.numbers.columns + j)] = T(static_cast<float>(x.numbers(i, j)));
        if constexpr (std::is_same_v<P, std::int8_t>) number *= T(x.scales(i, j / s.head_width));
      }
    return all;
  };
  const auto keys = widened(k), values = widened(v);
  attention_forward(on, s, q, in<T>(keys.data(), k.numbers.rows, k.numbers.columns),
                    in<T>(values.data(), v.numbers.rows, v.numbers.columns), o, lse, slopes);
}

/// Moves the positions in a cache's memory to their places after this pass, if these differ; see held_positions.
template <class T, class N>
void attention_slide(const context<T>&, const extent& e, matrix<N> memory, index rows_per_position) {
  for (index s = 0; s < e.sequences; ++s) {
    if (e.slides(s) == 0) continue;
    const index by = e.slides(s) * rows_per_position, count = (e.place(s) + e.tokens) * rows_per_position - by;
    const matrix<N> rows = memory.rows_from((e.first + s) * e.capacity * rows_per_position, e.capacity * rows_per_position);
    for (index r = 0; r < count; ++r)
      for (index j = 0; j < rows.columns; ++j) rows(r, j) = rows(r + by, j);
  }
}

/// x [rows, width] = table[tokens]
template <class T>
void embedding_forward(const context<T>&, const extent&, std::span<const token> tokens, const auto& table, out<T> x) {
  for (index i = 0; i < x.rows; ++i)
    for (index j = 0; j < x.columns; ++j) x(i, j) = table.view()(tokens[static_cast<std::size_t>(i)], j);
}

/// dtable[tokens] += dx
template <class T>
void embedding_backward(const context<T>&, const extent&, std::span<const token> tokens, in<T> dx, auto& dtable) {
  for (index i = 0; i < dx.rows; ++i)
    for (index j = 0; j < dx.columns; ++j) dtable.view()(tokens[static_cast<std::size_t>(i)], j) += dx(i, j);
}

/// x [rows, width] += table[positions]
template <class T>
void positions_forward(const context<T>&, const extent& e, const auto& table, out<T> x) {
  for (index i = 0; i < x.rows; ++i)
    for (index j = 0; j < x.columns; ++j) x(i, j) += table.view()(e.start(i / e.tokens) + i % e.tokens, j);
}

/// Turns the pairs of each head of x by their positions (backend/rotation.hpp).
template <class T>
void rotate(const context<T>&, const extent& e, const rotation& r, out<T> x, index head_width, index rows_per_position, int sign) {
  for (index i = 0; i < x.rows; ++i) {
    const index row = i / rows_per_position, position = e.start(row / e.tokens) + row % e.tokens;
    for (index head = 0; head < x.columns; head += head_width)
      for (index pair = 0; pair < r.pairs; ++pair) {
        const double angle = r.angle(position, pair);
        const T c = static_cast<T>(std::cos(angle) * r.scale), s = static_cast<T>(sign * std::sin(angle) * r.scale);
        const T a = x(i, head + r.first(pair)), b = x(i, head + r.second(pair));
        x(i, head + r.first(pair)) = c * a - s * b;
        x(i, head + r.second(pair)) = s * a + c * b;
      }
  }
}

/// dtable[positions] += dx
template <class T>
void positions_backward(const context<T>&, const extent& e, in<T> dx, auto& dtable) {
  for (index i = 0; i < dx.rows; ++i)
    for (index j = 0; j < dx.columns; ++j) dtable.view()(e.start(i / e.tokens) + i % e.tokens, j) += dx(i, j);
}

/// losses [rows] = -log softmax(logits)[target] in nats, 0 where the target is -1; keeps lse [rows] for backward.
template <class T>
void cross_entropy_forward(const context<T>&, in<T> logits, std::span<const token> targets,
                           std::type_identity_t<T>* losses, std::type_identity_t<T>* lse) {
  using std::exp, std::log;
  for (index i = 0; i < logits.rows; ++i) {
    auto largest = real(logits(i, 0));
    for (index j = 1; j < logits.columns; ++j) largest = std::max(largest, real(logits(i, j)));
    T total(0);
    for (index j = 0; j < logits.columns; ++j) total += exp(logits(i, j) - largest);
    lse[i] = largest + log(total);
    const token target = targets[static_cast<std::size_t>(i)];
    losses[i] = target < 0 ? T(0) : lse[i] - logits(i, target);
  }
}

/// logits [rows, vocab] become their own gradient: scale (softmax(logits) - onehot(target)); 0 where the target is -1. If
/// a `cap` bounds them (epilogue::soft_cap), they become the gradient for what it bounded: that, times 1 - (logit / cap)^2.
template <class T>
void cross_entropy_backward(const context<T>&, out<T> logits, std::span<const token> targets,
                            const std::type_identity_t<T>* lse, std::type_identity_t<T> scale, double cap = 0) {
  using std::exp;
  for (index i = 0; i < logits.rows; ++i) {
    const token target = targets[static_cast<std::size_t>(i)];
    for (index j = 0; j < logits.columns; ++j) {
      const T logit = logits(i, j), of_cap = cap > 0 ? logit / static_cast<T>(cap) : T(0);
      logits(i, j) = target < 0 ? T(0) : scale * (exp(logit - lse[i]) - T(j == target ? 1.0 : 0.0));
      if (cap > 0) logits(i, j) *= T(1) - of_cap * of_cap;
    }
  }
}

/// f(x[i]...) for every i in [0, count); see backend/update.hpp.
template <class T, class F, class... X>
  requires(std::is_same_v<X, T> && ...)
void update(const context<T>&, const F& f, index count, X*... x) {
  for (index i = 0; i < count; ++i) f(x[i]...);
}

/// The sum of squares of `count` numbers.
template <class T>
[[nodiscard]] double sum_of_squares(const context<T>&, const std::type_identity_t<T>* g, index count) {
  double sum = 0;
  for (index i = 0; i < count; ++i) sum += static_cast<double>(real(g[i] * g[i]));
  return sum;
}

/// The groups of a matrix [in, out], or of its transpose, to be set one by one. A group is `group_size` numbers or fewer of a
/// column of the matrix.
template <class T, class P>
struct groups_view {
  using type = P;
  T* numbers;
  index in, row_stride, column_stride;

  void put(index g, index j, const group<P>& from) const {
    for (index i = 0; i < group_size && g * group_size + i < in; ++i)
      numbers[(g * group_size + i) * row_stride + j * column_stride] = static_cast<T>(from.at(i));
  }
};

/// Weights in groups, as the numbers that they stand for: which of a model's tensors they are decides how they are rounded.
template <class T, class P>
struct grouped {
  template <index In, index Out>
  struct matrix : tensor<T, In, Out> {
    [[nodiscard]] groups_view<T, P> groups() { return {this->data(), In, Out, 1}; }
  };
  template <index N>
  using vector = tensor<T, N>;
  template <index Rows, index Width>
  struct table : tensor<T, Rows, Width> {};
  template <index Rows, index Width>
  struct head : tensor<T, Rows, Width> {
    [[nodiscard]] groups_view<T, head_type<P>> groups() { return {this->data(), Width, 1, Width}; }
  };
};

/// to = from, rounded.
template <class P, class T, index Rows, index Columns>
void round_groups(const tensor<T, Rows, Columns>& from, const groups_view<T, P>& to) {
  for (index j = 0; j < Rows * Columns / to.in; ++j)
    for (index g = 0; g * group_size < to.in; ++g) {
      const index first = g * group_size, count = std::min(group_size, to.in - first);
      float numbers[group_size];
      for (index i = 0; i < count; ++i)
        numbers[i] = static_cast<float>(from.data()[(first + i) * to.row_stride + j * to.column_stride]);
      to.put(g, j, round_group<P>(numbers, count));
    }
}
template <class P, class T, index In, index Out>
void pack_grouped(const tensor<T, In, Out>& from, typename grouped<T, P>::template matrix<In, Out>& to) {
  round_groups(from, to.groups());
}
template <class P, class T, index Rows, index Width>
void pack_grouped(const tensor<T, Rows, Width>& from, typename grouped<T, P>::template head<Rows, Width>& to) {
  round_groups(from, to.groups());
}
template <class P, class T, index Rows, index Width>
void pack_grouped(const tensor<T, Rows, Width>& from, typename grouped<T, P>::template table<Rows, Width>& to) {
  for (index i = 0; i < from.size; ++i) to.data()[i] = static_cast<T>(static_cast<float>(bf16(static_cast<float>(from.data()[i]))));
}
template <class P, class T, index N>
void pack_grouped(const tensor<T, N>& from, tensor<T, N>& to) {
  std::copy_n(from.data(), N, to.data());
}

}  // namespace fathom::reference

namespace fathom::backend {

/// Plain loops over any scalar: complete, slow, and the oracle for the other backends.
template <class T>
struct reference {
  using scalar = T;
  using context = fathom::reference::context<T>;

  /// Runs f(context) as a single rank, whatever `threads` says.
  struct executor {
    int threads = 1;

    /// Always 1. Fails on a negative number of threads.
    [[nodiscard]] int size() const { return check_threads(threads), 1; }
    template <class F>
    void run(const F& f) const {
      check_threads(threads);
      f(context{});
    }
  };

  /// Weights are stored as they are; P = bf16 rounds matrices and tables to bf16, and P in groups (core/grouped.hpp) rounds
  /// as its types say: matrices [in, out] to P, with groups along columns, a head to head_type<P>, with groups along rows,
  /// tables to bf16.
  template <class P>
  struct packed : std::conditional_t<grouped_type<P> && std::is_floating_point_v<T>, fathom::reference::grouped<T, P>, plain<T>> {};
  template <class P, class From, class To>
  static void pack_tensor(const From& from, To& to) {
    if constexpr (grouped_type<P> && std::is_floating_point_v<T>) return fathom::reference::pack_grouped<P>(from, to);
    for (index i = 0; i < From::size; ++i) {
      if constexpr (std::is_same_v<P, bf16> && std::is_floating_point_v<T>)
        to.data()[i] = From::rank == 2 ? static_cast<T>(static_cast<float>(bf16(static_cast<float>(from.data()[i])))) : from.data()[i];
      else
        to.data()[i] = from.data()[i];
    }
  }
  /// The groups of such a tensor, where P is a type of groups: put(g, j, group<P>).
  template <class To>
  static auto groups_of(To& to) -> decltype(to.groups()) {
    return to.groups();
  }
};

}  // namespace fathom::backend
