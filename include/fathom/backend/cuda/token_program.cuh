// A token as one kernel: what decoding one sequence does is noted down once, in steps; one launch then walks through them for
// every token, and its blocks wait for each other where a step needs what another has made. For models whose kernels would
// take longer to launch than to run.
//
// Noting the steps down also brings them together:
//   - a normalisation is no step of its own where products alone read it: each block normalises the row that it multiplies
//   - keys and values go to the cache from the product that makes them
//   - steps that need nothing of each other share a phase, as the features of several depths do; blocks wait between phases
//   - the weights of the next phase go into the second-level cache during this one
// What cannot be a step (operations that others have added, several sequences, weights that are not packed) makes the whole
// program impossible, and the token is a CUDA graph of kernels instead.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <span>
#include <type_traits>
#include <vector>

#include "fathom/backend/cuda/attention.cuh"
#include "fathom/backend/cuda/elementwise.cuh"
#include "fathom/backend/cuda/matmul.cuh"
#include "fathom/backend/cuda/packed.cuh"
#include "fathom/backend/cuda/runtime.cuh"
#include "fathom/core/arena.hpp"
#include "fathom/core/memory.hpp"

namespace fathom::cuda {

// ---- The kernel --------------------------------------------------------------------------------------------------------

namespace kernel {

inline constexpr int token_warps = 8;
inline constexpr int token_threads = 32 * token_warps;
inline constexpr int token_rows = 4;  // that a product has at most; longer ones are several steps

/// Numbers of float or of bf16.
struct numbers {
  const void* data;
  bool is_bf16;
  [[nodiscard]] __device__ __forceinline__ float at(index i) const {
    return is_bf16 ? to_float(static_cast<const bf16*>(data)[i]) : static_cast<const float*>(data)[i];
  }
};

struct token_step {
  enum class what : int { embed, normalize, multiply, attend, copy };
  what does;
  int phase;
  int first, units;  // a phase's units of work are numbered through; those of this step

  // embed:      y = table[token] + positions[position], if there are positions
  // normalize:  y = norm(x)
  // multiply:   y [rows, columns] = gelu(norm(x [rows, depth]) weights [columns, depth]^T + bias) + residual, with those
  //             of norm, gelu, bias and residual that there are
  // copy:       y = x, if there is y
  // and with memory, columns [memory_column, columns) of rows r < memory_rows of y also go to the cache, to row
  // position * rows_per_position + slot + r.
  int rows, columns, depth;
  const float* x;
  index x_stride;
  const float *gain, *shift;  // of the norm; or null
  float eps;                  // of the norm
  numbers weights, table, positions;
  int lanes;                         // of a warp that share a column
  bool is_aligned;                   // rows of weights begin at multiples of 16 bytes
  bool has_gelu;
  const float *bias, *residual;      // or null
  index residual_stride;
  float* y;
  index y_stride;
  float* memory;  // or null
  index memory_stride;
  int memory_column, memory_rows, rows_per_position, slot;
  const index* position;  // of the token
  const token* token_at;

  // attend: unit u is split u % splits of head u / splits
  attention_size size;
  rows_of_heads<const float> q, k, v;
  rows_of_heads<float> out;
  int splits;
  float* parts;
  unsigned* arrived;  // [heads]
};

/// Of shared memory, before the rows.
__host__ __device__ constexpr std::size_t bytes_of_steps(int count) {
  return (static_cast<std::size_t>(count) * sizeof(token_step) + 15) / 16 * 16;
}

static_assert(sizeof(token_step) % 8 == 0);  // copied so

/// Blocks that have arrived at the barriers so far, and that have ended.
struct token_counters {
  unsigned arrived, elsewhere[31], ended;  // each in 128 bytes of its own
};

/// The mean and 1 / sqrt(variance + eps) of x [count], by a warp.
__device__ __forceinline__ void warp_moments(const float* x, int count, float eps, float& mean, float& rstd) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  float sum = 0, squares = 0;
  for (int j = lane; j < count; j += 32) sum += x[j];
  mean = warp_sum(sum) / static_cast<float>(count);
  for (int j = lane; j < count; j += 32) squares += (x[j] - mean) * (x[j] - mean);
  rstd = 1 / sqrtf(warp_sum(squares) / static_cast<float>(count) + eps);
}

/// rows [s.rows, s.depth] in shared memory = norm(x), of which x itself takes the room behind it
__device__ __forceinline__ void load_rows(const token_step& s, float* rows) {
  const int thread = static_cast<int>(threadIdx.x), count = s.rows * s.depth;
  float* const raw = s.gain ? rows + count : rows;
  __syncthreads();  // what was there may still be read
  for (int i = thread; i < count; i += token_threads) raw[i] = s.x[i / s.depth * s.x_stride + i % s.depth];
  __syncthreads();
  if (!s.gain) return;
  float mean = 0, rstd = 0;
  for (int r = 0; r < s.rows; ++r) {
    warp_moments(raw + r * s.depth, s.depth, s.eps, mean, rstd);
    for (int j = thread; j < s.depth; j += token_threads)
      rows[r * s.depth + j] = (raw[r * s.depth + j] - mean) * rstd * s.gain[j] + s.shift[j];
  }
  __syncthreads();
}

/// Stores an element of y, and where the cache has it too.
__device__ __forceinline__ void store(const token_step& s, int r, int n, float value) {
  if (s.y) s.y[r * s.y_stride + n] = value;
  if (r < s.memory_rows && n >= s.memory_column)
    s.memory[(*s.position * s.rows_per_position + s.slot + r) * s.memory_stride + n - s.memory_column] = value;
}

/// The columns of a product that a block makes at a time.
__host__ __device__ constexpr int columns_of_unit(int lanes) { return token_warps * (32 / lanes); }

/// What a thread reads of the weights at one go: 16 bytes each of `count` places in a column.
struct weights_ahead {
  static constexpr int count = 4;
  uint4 words[count];
};
template <class P>
__device__ __forceinline__ void load_ahead(const token_step& s, const P* column, int k, weights_ahead& to) {
  FATHOM_CUDA_UNROLL
  for (int a = 0; a < weights_ahead::count; ++a)
    if (const int at = k + a * s.lanes * sixteen_bytes<P>::count; at < s.depth)
      to.words[a] = *reinterpret_cast<const uint4*>(column + at);
}

/// A unit of a product; x [s.rows, s.depth] in shared memory, filled in by `load_x` while the first weights are on their way.
template <int Rows, class P, class F>
__device__ __forceinline__ void multiply_unit(const token_step& s, const float* x, int unit, const F& load_x) {
  constexpr int together = sixteen_bytes<P>::count;
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  const int part = lane % s.lanes, n = unit * columns_of_unit(s.lanes) + warp * (32 / s.lanes) + lane / s.lanes;
  const P* const column = static_cast<const P*>(s.weights.data) + static_cast<index>(n < s.columns ? n : 0) * s.depth;
  const int step = s.lanes * together;
  int k = part * together;
  weights_ahead ahead{};
  if (s.is_aligned) load_ahead(s, column, k, ahead);
  load_x();
  float sums[Rows] = {};
  if (s.is_aligned) {
    while (k < s.depth) {
      FATHOM_CUDA_UNROLL
      for (int a = 0; a < weights_ahead::count; ++a) {
        const int at = k + a * step;
        if (at >= s.depth) break;
        float w[together];
        sixteen_bytes<P>::widen(ahead.words[a], w);
        FATHOM_CUDA_UNROLL
        for (int r = 0; r < Rows; ++r) {
          if (r >= s.rows) break;
          FATHOM_CUDA_UNROLL
          for (int i = 0; i < together; i += 4) {
            const float4 u = *reinterpret_cast<const float4*>(x + r * s.depth + at + i);
            sums[r] += u.x * w[i] + u.y * w[i + 1] + u.z * w[i + 2] + u.w * w[i + 3];
          }
        }
      }
      k += weights_ahead::count * step;
      load_ahead(s, column, k, ahead);
    }
  } else {
    for (int i = part; i < s.depth; i += s.lanes) {
      const float w = to_float(column[i]);
      FATHOM_CUDA_UNROLL
      for (int r = 0; r < Rows; ++r) {
        if (r >= s.rows) break;
        sums[r] += x[r * s.depth + i] * w;
      }
    }
  }
  FATHOM_CUDA_UNROLL
  for (int r = 0; r < Rows; ++r) {
    if (r >= s.rows) break;
    for (int lanes = s.lanes / 2; lanes > 0; lanes /= 2) sums[r] += __shfl_xor_sync(whole_warp, sums[r], lanes);
    if (part == 0 && n < s.columns) {
      float v = sums[r];
      if (s.bias) v += s.bias[n];
      if (s.has_gelu) v = gelu_tanh::at<float>(v).value;
      if (s.residual) v += s.residual[r * s.residual_stride + n];
      store(s, r, n, v);
    }
  }
}

/// A unit of attention: what the last of a head's splits to arrive puts together.
template <int Width>
__device__ __forceinline__ void attend_unit(const token_step& s, int unit) {
  FATHOM_CUDA_SHARED(int, is_last, 1);
  const int head = unit / s.splits;
  __syncthreads();  // shared memory of the unit before
  attention::decode_split<Width, token_warps>(s.size, s.q, s.k, s.v, s.out, nullptr, s.parts, head, unit % s.splits, s.splits);
  if (s.splits == 1) return;
  __syncthreads();
  if (threadIdx.x == 0) *is_last = arrive(s.arrived + head) == static_cast<unsigned>(s.splits) - 1;
  __syncthreads();
  if (!*is_last) return;
  attention::combine_splits<Width>(s.size, s.splits, s.parts, s.out, nullptr, head);
  if (threadIdx.x == 0) s.arrived[head] = 0;  // for the next token
}

/// The first of a step's units that a block does; the others follow `blocks` later each.
__device__ __forceinline__ int first_unit(const token_step& s, int block, int blocks) {
  return (block + blocks - s.first % blocks) % blocks;
}

/// All steps, for one token. `counters` are 0, and are left so.   Cooperative; any number of blocks.
template <int Width>
__global__ void __launch_bounds__(token_threads, 1) run_steps(const token_step* all, int count, token_counters* counters) {
  auto* const steps = reinterpret_cast<token_step*>(dynamic_shared());
  auto* const rows = reinterpret_cast<float*>(dynamic_shared() + bytes_of_steps(count));
  const int blocks = static_cast<int>(gridDim.x), block = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x);
  {
    const auto* const from = reinterpret_cast<const std::uint64_t*>(all);
    auto* const to = reinterpret_cast<std::uint64_t*>(steps);
    for (int i = thread; i < count * static_cast<int>(sizeof(token_step) / 8); i += token_threads) to[i] = from[i];
  }
  __syncthreads();
  for (int begin = 0, end = 0; begin < count; begin = end) {
    const int phase = steps[begin].phase;
    while (end < count && steps[end].phase == phase) ++end;
    for (int i = end; i < count && steps[i].phase == steps[end].phase; ++i)
      if (const token_step& s = steps[i]; s.does == token_step::what::multiply) {
        const index unit_bytes = static_cast<index>(columns_of_unit(s.lanes)) * s.depth * (s.weights.is_bf16 ? 2 : 4);
        const index bytes = static_cast<index>(s.columns) * s.depth * (s.weights.is_bf16 ? 2 : 4);
        for (int unit = first_unit(s, block, blocks); unit < s.units; unit += blocks)
          for (index at = unit * unit_bytes + thread * 128; at < (unit + 1) * unit_bytes && at < bytes; at += token_threads * 128)
            prefetch(static_cast<const std::byte*>(s.weights.data) + at);
      }
    for (int i = begin; i < end; ++i) {
      const token_step& s = steps[i];
      bool is_loaded = false;
      const auto load_x = [&] {
        if (!is_loaded) load_rows(s, rows);
        is_loaded = true;
      };
      for (int unit = first_unit(s, block, blocks); unit < s.units; unit += blocks) {
        switch (s.does) {
          case token_step::what::embed:
            for (int j = thread; j < s.columns; j += token_threads) {
              const float row = s.table.at(static_cast<index>(*s.token_at) * s.columns + j);
              store(s, 0, j, s.positions.data ? row + s.positions.at(*s.position * s.columns + j) : row);
            }
            break;
          case token_step::what::normalize:
            load_rows(s, rows);
            for (int j = thread; j < s.columns; j += token_threads) store(s, 0, j, rows[j]);
            break;
          case token_step::what::multiply:
            if (s.weights.is_bf16)
              s.rows == 1 ? multiply_unit<1, bf16>(s, rows, unit, load_x) : multiply_unit<token_rows, bf16>(s, rows, unit, load_x);
            else
              s.rows == 1 ? multiply_unit<1, float>(s, rows, unit, load_x) : multiply_unit<token_rows, float>(s, rows, unit, load_x);
            break;
          case token_step::what::attend:
            attend_unit<Width>(s, unit);
            break;
          case token_step::what::copy:
            for (int j = thread; j < s.columns; j += token_threads)
              for (int r = 0; r < s.rows; ++r) store(s, r, j, s.x[r * s.x_stride + j]);
            break;
        }
      }
    }
    __syncthreads();
    if (end == count) break;
    if (thread == 0) {
      arrive(&counters->arrived);
      wait_for_arrivals(&counters->arrived, static_cast<unsigned>(blocks) * static_cast<unsigned>(phase + 1));
    }
    __syncthreads();
  }
  if (thread == 0 && arrive(&counters->ended) == static_cast<unsigned>(blocks) - 1) counters->arrived = counters->ended = 0;
}

}  // namespace kernel

// ---- Noting steps down -------------------------------------------------------------------------------------------------

/// Steps, in the order in which they are to be done, and which memory they read and write.
class token_program {
 public:
  using step = kernel::token_step;

  /// Whether everything that was noted down can be a step.
  [[nodiscard]] bool is_possible() const { return possible_; }
  void give_up() { possible_ = false; }
  /// Bytes of the weights that the steps read.
  [[nodiscard]] std::size_t weight_bytes() const { return weight_bytes_; }

  /// x = table[token]
  void embed(const token* at, kernel::numbers table, matrix_out x) {
    if (x.rows != 1) return give_up();
    step s = blank(step::what::embed, 1, x.columns);
    s.token_at = at;
    s.table = table;
    s.y = x.data;
    note(s, {}, {all_of(x)});
  }
  /// x += positions[position], which becomes part of the step that made x.
  void add_position(const index* position, kernel::numbers positions, matrix_out x) {
    const bool is_read = std::any_of(norms_.begin(), norms_.end(), [&](const norm& n) { return n.x == x.data; });
    if (notes_.empty() || is_read) return give_up();
    step& s = notes_.back().s;
    if (s.does != step::what::embed || s.y != x.data || s.columns != x.columns || s.positions.data) return give_up();
    s.position = position;
    s.positions = positions;
  }
  /// y = norm(x), which becomes a step when something else than a product reads it.
  void normalize(matrix_in x, const float* gain, const float* shift, float eps, matrix_out y) {
    read(all_of(x));
    for (index r = 0; r < y.rows; ++r) {
      forget_norms(all_of(y.rows_from(r, 1)));
      norms_.push_back({x.row(r), gain, shift, eps, y.row(r), static_cast<int>(y.columns), true});
    }
  }
  template <class P, class Rest>
  void multiply(matrix_in x, const P* weights, matrix_out y, const detail::epilogue_parts<Rest>& e) {
    constexpr bool has_gelu = std::is_same_v<Rest, detail::bias_gelu>;
    if constexpr (!has_gelu && !std::is_same_v<Rest, epilogue::bias<float>> && !std::is_same_v<Rest, epilogue::none>)
      return give_up();  // no step has such an epilogue
    for (index first = 0; first < y.rows; first += kernel::token_rows) {
      const index rows = std::min<index>(kernel::token_rows, y.rows - first);
      constexpr int together = kernel::sixteen_bytes<P>::count;
      step s = blank(step::what::multiply, rows, y.columns);
      s.depth = static_cast<int>(x.columns);
      s.x = x.row(first);
      s.x_stride = x.stride;
      s.weights = {weights, std::is_same_v<P, bf16>};
      s.is_aligned = s.depth % together == 0 && detail::alignment_of(weights) >= 16;
      s.lanes = s.is_aligned ? static_cast<int>(std::bit_ceil(static_cast<unsigned>(std::min(s.depth / together, 32)))) : 32;
      s.units = (s.columns + kernel::columns_of_unit(s.lanes) - 1) / kernel::columns_of_unit(s.lanes);
      s.bias = e.bias;
      s.has_gelu = has_gelu;
      if (e.residual.data) {
        s.residual = e.residual.row(first);
        s.residual_stride = e.residual.stride;
      }
      s.y = y.row(first);
      s.y_stride = y.stride;
      matrix_in from = x.rows_from(first, rows);
      if (s.residual) read(all_of(e.residual.rows_from(first, rows)));
      const norm* const n = rows == 1 ? norm_that_made(s.x, s.depth) : nullptr;
      if (n && n->x_is_there) {
        s.x = n->x;
        s.gain = n->gain;
        s.shift = n->shift;
        s.eps = n->eps;
        from = {n->x, 1, s.depth};
      } else {
        read(all_of(from));
      }
      most_numbers_ = std::max(most_numbers_, rows * s.depth * (s.gain ? 2 : 1));
      std::vector<range> reads{all_of(from)};
      if (s.residual) reads.push_back(all_of(e.residual.rows_from(first, rows)));
      weight_bytes_ += static_cast<std::size_t>(y.columns * x.columns) * sizeof(P);
      note(s, std::move(reads), {all_of(y.rows_from(first, rows))});
    }
  }
  /// Row r of kv to row position * rows_per_position + slot of memory.
  void append(matrix_in kv, matrix_out memory, index memory_rows, const index* position, index rows_per_position, index slot) {
    if (kv.rows != 1) return give_up();
    const range written = appended({memory.data, memory.data + memory_rows * memory.stride});
    read(all_of(kv));
    // The product that made the row stores it at both places, unless something came between.
    for (auto i = notes_.rbegin(); i != notes_.rend(); ++i) {
      step& s = i->s;
      if (std::any_of(i->writes.begin(), i->writes.end(), [&](const range& w) { return w.meets(all_of(kv)); })) {
        if (s.does != step::what::multiply) break;
        const index row = (kv.data - s.y) / std::max<index>(s.y_stride, 1), column = (kv.data - s.y) - row * s.y_stride;
        const int to = static_cast<int>(slot - row);
        if (row >= s.rows || column + kv.columns != s.columns) break;
        if (row != s.memory_rows) break;
        if (row > 0 && (s.memory != memory.data || s.memory_column != column || s.slot != to)) break;
        s.memory = memory.data;
        s.memory_stride = memory.stride;
        s.memory_column = static_cast<int>(column);
        s.rows_per_position = static_cast<int>(rows_per_position);
        s.slot = to;
        s.position = position;
        if (s.memory_rows++ == 0) i->writes.push_back(written);
        return;
      }
      if (i->meets({}, {written})) break;
    }
    step s = blank(step::what::copy, 1, kv.columns);
    s.x = kv.data;
    s.memory = memory.data;
    s.memory_stride = memory.stride;
    s.memory_rows = 1;
    s.rows_per_position = static_cast<int>(rows_per_position);
    s.slot = static_cast<int>(slot);
    s.position = position;
    note(s, {all_of(kv)}, {written});
  }
  void attend(const attention_shape& shape, matrix_in q, matrix_in k, matrix_in v, matrix_out out, const float* lse) {
    if (shape.sequences != 1 || shape.queries != 1 || lse) return give_up();
    step s = blank(step::what::attend, 1, out.columns);
    s.size = attention::size_of("attention_forward", shape);
    s.q = attention::heads_of(q, s.size);
    s.k = attention::heads_of(k, s.size);
    s.v = attention::heads_of(v, s.size);
    s.out = attention::heads_of(out, s.size);
    most_head_width_ = std::max(most_head_width_, s.size.head_width);
    const auto memory = [&](matrix_in m) { return all_of(m.rows_from(shape.memory_row(0), shape.memory_rows)); };
    read(all_of(q));
    note(s, {all_of(q), memory(k), memory(v)}, {all_of(out)});
  }
  void copy(matrix_in x, matrix_out y) {
    read(all_of(x));
    step s = blank(step::what::copy, y.rows, y.columns);
    s.x = x.data;
    s.x_stride = x.stride;
    s.y = y.data;
    s.y_stride = y.stride;
    note(s, {all_of(x)}, {all_of(y)});
  }

  /// Gives every step its phase, and readies the program for a GPU.
  void finish(const gpu& on) {
    for (std::size_t i = 0; i < notes_.size(); ++i)
      for (std::size_t j = 0; j < i; ++j)
        if (notes_[i].meets(notes_[j].reads, notes_[j].writes))
          notes_[i].s.phase = std::max(notes_[i].s.phase, notes_[j].s.phase + 1);
    std::stable_sort(notes_.begin(), notes_.end(), [](const note_of& a, const note_of& b) { return a.s.phase < b.s.phase; });

    std::vector<step> steps;
    const auto each_phase = [&](const auto& f) {
      for (std::size_t i = 0, end = 0; i < notes_.size(); i = end) {
        while (end < notes_.size() && notes_[end].s.phase == notes_[i].s.phase) ++end;
        f(std::span(notes_).subspan(i, end - i));
      }
    };
    // As many blocks as the largest phase has units of products. What attention could use more does not count: every block makes
    // every barrier longer.
    int blocks = 1;
    each_phase([&](std::span<note_of> phase) {
      int units = 0;
      for (const note_of& n : phase) units += n.s.does == step::what::multiply ? n.s.units : 0;
      blocks = std::max(blocks, units);
    });
    blocks_ = static_cast<unsigned>(std::min(blocks, on.processors()));
    each_phase([&](std::span<note_of> phase) {
      int first = 0;
      for (note_of& n : phase) {
        if (n.s.does == step::what::attend) {
          const int heads = n.s.size.heads, rows = static_cast<int>(attention::most_seen(n.s.size));
          n.s.splits = std::clamp(std::min(static_cast<int>(blocks_) / heads, rows / 256), 1, 64);  // what a block reads at one go
          n.s.units = heads * n.s.splits;
        }
        n.s.first = first;
        first += n.s.units;
      }
    });
    // Steps, counters, parts: one block of memory.
    arena size;
    lay_out(size);
    memory_ = buffer_in<memory>(size.used());
    arena a(memory_.bytes().data());
    lay_out(a);
    for (const note_of& n : notes_) steps.push_back(n.s);
    memory::copy(steps_, steps.data(), steps.size() * sizeof(step));
    count_ = static_cast<int>(steps.size());
    shared_ = kernel::bytes_of_steps(count_) + static_cast<std::size_t>(most_numbers_) * sizeof(float);
    if (shared_ > most_shared) give_up();
  }
  void launch_on(const gpu& on) const {
    attention::with_decode_width(most_head_width_, [&](auto width) {
      launch("decode", {blocks_, kernel::token_threads, shared_, true, most_shared}, on.stream(), &kernel::run_steps<width()>, steps_, count_,
             counters_);
    });
  }
  /// Barriers of a token, and one.
  [[nodiscard]] int phases() const { return notes_.empty() ? 0 : notes_.back().s.phase + 1; }

 private:
  static constexpr std::size_t most_shared = std::size_t{88} << 10;  // GPUs of Ampere have 99 KB for a block, with what is static

  struct range {
    const void *begin, *end;
    bool is_appended = false;  // a row of it; others' rows are others
    [[nodiscard]] bool meets(const range& other) const {
      return begin < other.end && other.begin < end && !(is_appended && other.is_appended);
    }
  };
  static range appended(range r) {
    r.is_appended = true;
    return r;
  }
  template <class T>
  static range all_of(const matrix<T>& m) {
    return {m.data, m.rows == 0 ? m.data : m.row(m.rows - 1) + m.columns};
  }
  struct note_of {
    step s;
    std::vector<range> reads, writes;
    /// Whether one with these reads and writes would find other numbers before this than after it.
    [[nodiscard]] bool meets(const std::vector<range>& other_reads, const std::vector<range>& other_writes) const {
      const auto meet = [](const std::vector<range>& a, const std::vector<range>& b) {
        return std::any_of(a.begin(), a.end(), [&](const range& x) {
          return std::any_of(b.begin(), b.end(), [&](const range& y) { return x.meets(y); });
        });
      };
      return meet(writes, other_reads) || meet(writes, other_writes) || meet(reads, other_writes);
    }
  };
  /// A normalisation that is no step yet, of one row.
  struct norm {
    const float *x, *gain, *shift;
    float eps;
    float* y;
    int columns;
    bool x_is_there;  // nothing has been written over it
  };

  static step blank(step::what does, index rows, index columns) {
    step s;
    std::memset(static_cast<void*>(&s), 0, sizeof s);  // its padding too, since it is copied as bytes
    s.does = does;
    s.units = 1;
    s.rows = static_cast<int>(rows);
    s.columns = static_cast<int>(columns);
    s.lanes = 32;
    return s;
  }
  void note(const step& s, std::vector<range> reads, std::vector<range> writes) {
    // Of a step that writes several rows, only between them there may be something that it does not write.
    if (s.y)
      for (index r = 0; r < s.rows; ++r) forget_norms({s.y + r * s.y_stride, s.y + r * s.y_stride + s.columns});
    for (const range& w : writes) {
      if (!s.y) forget_norms(w);
      for (norm& n : norms_)
        if (w.meets({n.x, n.x + n.columns})) n.x_is_there = false;
    }
    notes_.push_back({s, std::move(reads), std::move(writes)});
  }
  const norm* norm_that_made(const float* y, int columns) const {
    for (const norm& n : norms_)
      if (n.y == y && n.columns == columns) return &n;
    return nullptr;
  }
  void forget_norms(const range& written) {
    std::erase_if(norms_, [&](const norm& n) { return written.meets({n.y, n.y + n.columns}); });
  }
  /// Normalisations in a range become steps.
  void read(const range& r) {
    for (std::size_t i = 0; i < norms_.size();) {
      const norm n = norms_[i];
      if (!r.meets({n.y, n.y + n.columns})) {
        ++i;
        continue;
      }
      if (!n.x_is_there) return give_up();
      norms_.erase(norms_.begin() + static_cast<std::ptrdiff_t>(i));
      step s = blank(step::what::normalize, 1, n.columns);
      s.depth = n.columns;
      s.x = n.x;
      s.gain = n.gain;
      s.shift = n.shift;
      s.eps = n.eps;
      s.y = n.y;
      most_numbers_ = std::max<index>(most_numbers_, 2 * n.columns);
      note(s, {{n.x, n.x + n.columns}}, {{n.y, n.y + n.columns}});
      i = 0;
    }
  }
  void lay_out(arena& a) {
    steps_ = a.take<step>(std::ssize(notes_));
    counters_ = a.take<kernel::token_counters>(1);
    for (note_of& n : notes_)
      if (n.s.does == step::what::attend && n.s.splits > 1) {
        n.s.arrived = a.take<unsigned>(n.s.size.heads);
        n.s.parts = a.take<float>(static_cast<index>(n.s.size.heads) * n.s.splits * (largest_width + 2));
      }
  }
  static constexpr int largest_width = 256;  // of attention's heads, rounded up

  bool possible_ = true;
  std::vector<note_of> notes_;
  std::vector<norm> norms_;
  std::size_t weight_bytes_ = 0, shared_ = 0;
  index most_numbers_ = 0;
  int most_head_width_ = 1, count_ = 0;
  unsigned blocks_ = 1;
  buffer_in<memory> memory_;
  step* steps_ = nullptr;
  kernel::token_counters* counters_ = nullptr;
};

/// A context that notes operations down. Operations that it does not know, as any layer may have, it tells the stream, like
/// every context.
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
  on.to().normalize(x, gain, bias, static_cast<float>(eps), y);
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
  on.to().append(kv, memory.rows_from(e.first * rows, rows), rows, e.starts, rows_per_position, slot);
}
template <class C>
void attention_forward(const token_notes<C>& on, const attention_shape& shape, matrix_in q, matrix_in k, matrix_in v,
                       matrix_out out, float* lse) {
  on.to().attend(shape, q, k, v, out, lse);
}
template <class C>
void copy(const token_notes<C>& on, matrix_in x, matrix_out y) {
  on.to().copy(x, y);
}

// ---- Tokens, again and again -------------------------------------------------------------------------------------------

/// What is repeated for every token (backend/recording.hpp): as one kernel where that is possible and the weights are few, else
/// as a CUDA graph.
class token_recording {
 public:
  template <class Executor, class F>
  void run(const Executor& where, std::initializer_list<std::uint64_t> key, const F& f) {
    if (!(where.on == on_ && std::equal(key.begin(), key.end(), key_.begin(), key_.end()))) {
      auto program = std::make_unique<token_program>();
      const auto note = [&] { where.run([&](const auto& on) { f(token_notes(on, *program)); }); };
      bool is_all = false;  // what tells the stream something is not noted down
      try {
        is_all = where.on->tells_nothing(note);
      } catch (const error&) {  // it also needed memory; what else is wrong, the graph will say
      }
      if (!is_all || program->weight_bytes() > where.one_kernel) program->give_up();
      if (program->is_possible()) program->finish(*where.on);
      program_ = program->is_possible() ? std::move(program) : nullptr;
      on_ = where.on;
      key_ = key;
    }
    if (program_)
      program_->launch_on(*where.on);
    else
      graph_.run(where, key, f);
  }
  /// The program, or null where there is none.
  [[nodiscard]] const token_program* program() const { return program_.get(); }

 private:
  std::shared_ptr<gpu> on_;
  std::vector<std::uint64_t> key_;
  std::unique_ptr<token_program> program_;
  recording graph_;
};

}  // namespace fathom::cuda
