// The context whose operations become steps of a token program (token_program.cuh).
#pragma once

#include <span>
#include <type_traits>

#include "fathom/backend/cuda/matmul.cuh"
#include "fathom/backend/cuda/packed.cuh"
#include "fathom/backend/cuda/runtime.cuh"
#include "fathom/backend/cuda/token_program.cuh"
#include "fathom/backend/distance_slopes.hpp"
#include "fathom/backend/operations.hpp"
#include "fathom/core/bf16.hpp"
#include "fathom/core/types.hpp"

namespace fathom::cuda {

/// A context that notes operations down. Operations without an overload here, as any layer may have, go to the stream.
template <class Compute>
class token_notes : public context<Compute> {
 public:
  static constexpr bool notes_down = true;

  token_notes(const context<Compute>& on, token_program& to) : context<Compute>(on), to_(&to) {}
  [[nodiscard]] token_program& to() const { return *to_; }

 private:
  token_program* to_;
};

namespace detail {
template <class Table>
kernel::numbers numbers_of(const Table& table) {
  return {table.data(), std::is_same_v<typename Table::value_type, bf16>};
}
}  // namespace detail
template <class C, class Table>
void embedding_forward(const token_notes<C>& on, const extent&, std::span<const token> tokens, const Table& table,
                       matrix_out x) {
  on.to().embed(tokens.data(), detail::numbers_of(table), x);
}
template <class C, class Table>
void positions_forward(const token_notes<C>& on, const extent& e, const Table& table, matrix_out x) {
  if (!e.starts || e.sequences != 1) return on.to().give_up();
  on.to().add_position(e.starts, detail::numbers_of(table), x);
}
template <class C>
void layer_norm_forward(const token_notes<C>& on, matrix_in x, const float* gain, const float* bias, matrix_out y, float*, float*,
                        double eps = norm_epsilon) {
  on.to().normalize(x, {gain, bias, static_cast<float>(eps), 0}, 1, y);
}
template <class C>
void rms_norm_forward(const token_notes<C>& on, matrix_in x, const float* gain, matrix_out y, float*,
                      double eps = norm_epsilon, double offset = 0, index heads = 1) {
  on.to().normalize(x, {gain, nullptr, static_cast<float>(eps), static_cast<float>(offset)}, heads, y);
}
template <class C, class P, index... Extents, class Epilogue>
void matmul_nt(const token_notes<C>& on, matrix_in x, const tensor<P, Extents...>& w, matrix_out y, const Epilogue& epilogue) {
  on.to().multiply(x, w.data(), y, detail::parts_of(epilogue));
}
template <class C, class P, index In, index Out, class Epilogue>
void matmul(const token_notes<C>& on, matrix_in x, const packed_matrix<P, In, Out>& w, matrix_out y, const Epilogue& epilogue) {
  on.to().multiply(x, w.transposed.data(), y, detail::parts_of(epilogue));
}
template <class C>
void attention_append(const token_notes<C>& on, const extent& e, matrix_in kv, matrix_out memory, index rows_per_position,
                      index slot) {
  if (!e.starts || e.sequences != 1) return on.to().give_up();
  const index rows = e.capacity * rows_per_position;
  on.to().append(kv, memory.rows_from(e.first * rows, rows), rows, e.starts, e.held, rows_per_position, slot);
}
template <class C>
void attention_slide(const token_notes<C>& on, const extent& e, matrix_out memory, index rows_per_position) {
  if (!e.starts || e.sequences != 1) return on.to().give_up();
  const index rows = e.capacity * rows_per_position;
  on.to().slide(memory.rows_from(e.first * rows, rows), rows, e.starts, e.held, rows_per_position);
}
template <class C>
void attention_forward(const token_notes<C>& on, const attention_shape& shape, matrix_in q, matrix_in k, matrix_in v,
                       matrix_out out, float* lse, const distance_slopes<float>& slopes = {}) {
  on.to().attend(shape, q, k, v, out, lse, slopes);
}
// Steps have keys and values in float only.
template <class C>
void attention_append(const token_notes<C>& on, const extent&, matrix_in, const stored_rows<bf16>&, index, index) {
  on.to().give_up();
}
template <class C>
void attention_slide(const token_notes<C>& on, const extent&, matrix<bf16>, index) {
  on.to().give_up();
}
template <class C>
void attention_forward(const token_notes<C>& on, const attention_shape&, matrix_in, const stored_rows<bf16>&, const stored_rows<bf16>&,
                       matrix_out, float*, const distance_slopes<float>& = {}) {
  on.to().give_up();
}
template <class C>
void copy(const token_notes<C>& on, matrix_in x, matrix_out y) {
  on.to().copy(x, y);
}

}  // namespace fathom::cuda
