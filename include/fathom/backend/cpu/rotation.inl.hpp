// Rotary positions: the definition for rotation.hpp.
#pragma once

#include <type_traits>

#include "fathom/backend/cpu/map.hpp"
#include "fathom/backend/cpu/rotation.hpp"
#include "fathom/backend/cpu/simd.hpp"

namespace fathom::cpu {
inline namespace FATHOM_ISA {

namespace detail {
/// The cosines and sines of the pairs' angles at a position, times the rotation's scale.
template <class T>
struct turns {
  static constexpr index room = rotation::most_pairs;
  static_assert(room % lanes<T> == 0);
  alignas(vector_bytes) T cosine[room];
  alignas(vector_bytes) T sine[room];

  turns(const rotation& r, index position, int sign) {
    alignas(vector_bytes) T angle[room];
    const index padded = (r.pairs + lanes<T> - 1) / lanes<T> * lanes<T>;
    for (index i = 0; i < padded; ++i) angle[i] = static_cast<T>(r.angle(position, i));
    const vec<T> scale(static_cast<T>(r.scale)), signed_scale(static_cast<T>(sign) * static_cast<T>(r.scale));
    for (index i = 0; i < padded; i += lanes<T>) {
      const auto [s, c] = sincos(vec<T>::load_aligned(angle + i));
      (c * scale).store_aligned(cosine + i);
      (s * signed_scale).store_aligned(sine + i);
    }
  }
};
}  // namespace detail

template <class C, class T>
void rotate(const context<C, T>& on, const extent& e, const rotation& r, matrix<std::type_identity_t<T>> x, index head_width,
            index rows_per_position, int sign) {
  detail::for_rows(on, e.rows(), [&](index i) {
    const detail::turns<T> turn(r, e.start(i / e.tokens) + i % e.tokens, sign);
    for (index n = i * rows_per_position; n < (i + 1) * rows_per_position; ++n)
      for (T *head = x.row(n), *const end = head + x.columns; head < end; head += head_width) {
        if (r.are_adjacent) {
          for (index j = 0; j < r.pairs; ++j) {
            const T a = head[2 * j], b = head[2 * j + 1];
            head[2 * j] = turn.cosine[j] * a - turn.sine[j] * b;
            head[2 * j + 1] = turn.sine[j] * a + turn.cosine[j] * b;
          }
        } else {
          detail::for_lanes<T>(r.pairs, [&]<class V>(V, index j) __attribute__((always_inline)) {
            const V c = epilogue::load<V>(turn.cosine + j), s = epilogue::load<V>(turn.sine + j);
            const V a = epilogue::load<V>(head + j), b = epilogue::load<V>(head + r.pairs + j);
            epilogue::store(head + j, V(c * a - s * b));
            epilogue::store(head + r.pairs + j, V(s * a + c * b));
          });
        }
      }
  });
}

}  // namespace FATHOM_ISA
}  // namespace fathom::cpu
