// A token as one kernel: the decoding of one sequence is noted down once, as steps. One launch per token then runs
// them; its blocks wait for each other where a step needs the result of another. For models whose kernels would take
// longer to launch than to run.
//
// Noting the steps down also fuses them:
//   - a normalisation that only products read is not a step: each block normalises the row that it multiplies
//   - keys and values are stored in the cache by the product that computes them
//   - independent steps share a phase, as the features of several depths do; blocks wait only between phases
//   - the weights of the next phase are prefetched into the L2 cache
// If anything cannot be a step (user-defined operations, several sequences, unpacked weights), there is no program, and
// the token is a CUDA graph of kernels instead.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>
#include <vector>

#include "fathom/backend/cuda/attention.cuh"
#include "fathom/backend/cuda/matmul.cuh"
#include "fathom/backend/cuda/runtime.cuh"
#include "fathom/backend/cuda/token_kernel.cuh"
#include "fathom/backend/cuda/token_step.cuh"
#include "fathom/backend/distance_slopes.hpp"
#include "fathom/core/arena.hpp"
#include "fathom/core/bf16.hpp"
#include "fathom/core/memory.hpp"

namespace fathom::cuda {

/// Steps in the order of execution, and the memory that they read and write.
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
  /// x += positions[position], fused into the step that made x.
  void add_position(const index* position, kernel::numbers positions, matrix_out x) {
    const bool is_read = std::any_of(norms_.begin(), norms_.end(), [&](const norm& n) { return n.x == x.data; });
    if (notes_.empty() || is_read) return give_up();
    step& s = notes_.back().s;
    if (s.does != step::what::embed || s.y != x.data || s.columns != x.columns || s.positions.data) return give_up();
    s.position = position;
    s.positions = positions;
  }
  /// What a norm does but for where: a layer norm has a shift, an RMS norm has none.
  struct norm_of {
    const float *gain, *shift;
    float eps, offset;  // offset is added to the gain of an RMS norm
  };
  /// y = norm(x), of each head of a row by itself. Of whole rows, it becomes a step if anything but a product reads it.
  /// y may be x.
  void normalize(matrix_in x, const norm_of& how, index heads, matrix_out y) {
    read(all_of(x));
    for (index r = 0; r < y.rows; ++r) {
      if (heads > 1) {
        note_norm(x.row(r), how, heads, y.row(r), y.columns);
        continue;
      }
      forget_norms(all_of(y.rows_from(r, 1)));
      norms_.push_back({x.row(r), how, y.row(r), static_cast<int>(y.columns), true});
    }
  }
  template <class P, class Rest>
  void multiply([[maybe_unused]] matrix_in x, [[maybe_unused]] const P* weights, [[maybe_unused]] matrix_out y,
                [[maybe_unused]] const detail::epilogue_parts<Rest>& e) {
    constexpr bool has_gelu = std::is_same_v<Rest, detail::bias_gelu>, has_cap = std::is_same_v<Rest, epilogue::soft_cap<float>>;
    if constexpr (!has_gelu && !has_cap && !std::is_same_v<Rest, epilogue::bias<float>> && !std::is_same_v<Rest, epilogue::none>)
      give_up();  // no step has such an epilogue
    else
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
        if constexpr (has_cap) s.cap = e.rest.cap;
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
          set_norm(s, n->how);
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
  /// Stores kv, one row, to row place * rows_per_position + slot of memory, where place is that of the position.
  void append(matrix_in kv, matrix_out memory, index memory_rows, const index* position, const held_positions& held,
              index rows_per_position, index slot) {
    if (kv.rows != 1) return give_up();
    const range written = appended({memory.data, memory.data + memory_rows * memory.stride});
    read(all_of(kv));
    // The product that made the row stores it in both places, unless a step in between conflicts.
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
        s.held = held;
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
    s.held = held;
    note(s, {all_of(kv)}, {written});
  }
  /// Moves positions in memory to their places after the token, if these differ.
  void slide(matrix_out memory, index memory_rows, const index* position, const held_positions& held, index rows_per_position) {
    step s = blank(step::what::slide, 1, memory.columns);
    s.units = (s.columns + kernel::token_threads - 1) / kernel::token_threads;
    s.memory = memory.data;
    s.memory_stride = memory.stride;
    s.rows_per_position = static_cast<int>(rows_per_position);
    s.position = position;
    s.held = held;
    const range all{memory.data, memory.data + memory_rows * memory.stride};
    note(s, {all}, {all});
  }
  void attend(const attention_shape& shape, matrix_in q, matrix_in k, matrix_in v, matrix_out out, const float* lse,
              const distance_slopes<float>& slopes) {
    if (shape.sequences != 1 || shape.queries != 1 || lse) return give_up();
    step s = blank(step::what::attend, 1, out.columns);
    s.size = attention::size_of("attention_forward", shape, slopes);
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

  /// Assigns every step its phase, and prepares the program for a GPU.
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
    // As many blocks as the largest phase has units of products. Attention could use more, but every block slows every
    // barrier.
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
          n.s.splits = std::clamp(std::min(static_cast<int>(blocks_) / heads, rows / 256), 1, 64);  // 256 rows or more
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
  /// The barriers of a token, plus one.
  [[nodiscard]] int phases() const { return notes_.empty() ? 0 : notes_.back().s.phase + 1; }

 private:
  static constexpr std::size_t most_shared = std::size_t{88} << 10;  // Ampere: 99 KB or more per block, static included

  struct range {
    const void *begin, *end;
    bool is_appended = false;  // one row of it; other appended rows are distinct
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
    /// Whether this conflicts with a step of these reads and writes, so that their order matters.
    [[nodiscard]] bool meets(const std::vector<range>& other_reads, const std::vector<range>& other_writes) const {
      const auto meet = [](const std::vector<range>& a, const std::vector<range>& b) {
        return std::any_of(a.begin(), a.end(), [&](const range& x) {
          return std::any_of(b.begin(), b.end(), [&](const range& y) { return x.meets(y); });
        });
      };
      return meet(writes, other_reads) || meet(writes, other_writes) || meet(reads, other_writes);
    }
  };
  /// A normalisation of one row that is not a step yet.
  struct norm {
    const float* x;
    norm_of how;
    float* y;
    int columns;
    bool x_is_there;  // it has not been overwritten
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
    // A step of several rows writes nothing between them.
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
  /// Turns the normalisations whose results are in a range into steps.
  void read(const range& r) {
    for (std::size_t i = 0; i < norms_.size();) {
      const norm n = norms_[i];
      if (!r.meets({n.y, n.y + n.columns})) {
        ++i;
        continue;
      }
      if (!n.x_is_there) return give_up();
      norms_.erase(norms_.begin() + static_cast<std::ptrdiff_t>(i));
      note_norm(n.x, n.how, 1, n.y, n.columns);
      i = 0;
    }
  }
  static void set_norm(step& s, const norm_of& how) {
    s.gain = how.gain;
    s.shift = how.shift;
    s.eps = how.eps;
    s.offset = how.offset;
  }
  /// Notes down the normalisation of one row.
  void note_norm(const float* x, const norm_of& how, index heads, float* y, index columns) {
    step s = blank(step::what::normalize, 1, columns);
    s.units = static_cast<int>(heads);
    s.depth = static_cast<int>(columns / heads);
    s.x = x;
    set_norm(s, how);
    s.y = y;
    most_numbers_ = std::max<index>(most_numbers_, 2 * s.depth);
    note(s, {{x, x + columns}}, {{y, y + columns}});
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

}  // namespace fathom::cuda
