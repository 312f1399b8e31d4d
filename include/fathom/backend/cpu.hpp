// The CPU backend: kernels of our own over xsimd and OpenMP.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "fathom/backend/cpu/attention.hpp"
#include "fathom/backend/cpu/cross_entropy.hpp"
#include "fathom/backend/cpu/elementwise.hpp"
#include "fathom/backend/cpu/embedding.hpp"
#include "fathom/backend/cpu/matmul.hpp"
#include "fathom/backend/cpu/packed.hpp"
#include "fathom/backend/cpu/packed_matmul.hpp"
#include "fathom/backend/cpu/team.hpp"

namespace fathom::backend {
inline namespace FATHOM_ISA {

/// Compute = float or double: everything in it. Compute = bf16: the operands of matrix products are rounded to bf16;
/// weights, activations and sums are float.
template <class Compute = float>
struct cpu {
  using scalar = std::conditional_t<std::is_same_v<Compute, bf16>, float, Compute>;
  using context = fathom::cpu::context<Compute, scalar>;

  /// Bytes that a thread works in, while training and while decoding. Tapes and caches bring them along; operations that are
  /// run without them take as much of the thread's stack.
  static constexpr std::size_t workspace_bytes = fathom::cpu::workspace_bytes<scalar>;
  static constexpr std::size_t decoding_workspace_bytes = fathom::cpu::decoding_workspace_bytes<scalar>;

  /// How many threads to use; 0: as many as OpenMP would (OMP_NUM_THREADS, omp_set_num_threads). Results are bitwise the
  /// same for any number.
  struct executor {
    int threads = 0;
    fathom::cpu::workspaces memory{};

    /// How many threads these are. Fails on a negative number.
    [[nodiscard]] int size() const { return fathom::cpu::team_size(threads); }
    /// The same threads, each of which works in its part of a block: `each` bytes, as far as it goes.
    [[nodiscard]] executor working_in(std::span<std::byte> block, std::size_t each) const { return {threads, {block, each}}; }
    /// Runs f(context) on each of them.
    template <class F>
    void run(const F& f) const {
      fathom::cpu::run<context>(threads, memory, f);
    }
  };

  /// Storage for decoding (backend/cpu/packed.hpp).
  template <class P>
  using packed = fathom::cpu::packed<scalar, P>;
  template <class P, class From, class To>
  static void pack_tensor(const From& from, To& to) {
    fathom::cpu::pack_tensor(from, to);
  }
};

}  // namespace FATHOM_ISA
}  // namespace fathom::backend
