// The CPU backend: our own kernels on xsimd and OpenMP.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "fathom/backend/cpu/attention.hpp"
#include "fathom/backend/cpu/cross_entropy.hpp"
#include "fathom/backend/cpu/depth_sums.hpp"
#include "fathom/backend/cpu/elementwise.hpp"
#include "fathom/backend/cpu/embedding.hpp"
#include "fathom/backend/cpu/matmul.hpp"
#include "fathom/backend/cpu/packed.hpp"
#include "fathom/backend/cpu/packed_matmul.hpp"
#include "fathom/backend/cpu/rotation.hpp"
#include "fathom/backend/cpu/team.hpp"

namespace fathom::backend {
inline namespace FATHOM_ISA {

/// Compute = float or double: all arithmetic in that type. Compute = bf16: the operands of matrix products are rounded
/// to bf16; weights, activations and sums are float.
template <class Compute = float>
struct cpu {
  using scalar = std::conditional_t<std::is_same_v<Compute, bf16>, float, Compute>;
  using context = fathom::cpu::context<Compute, scalar>;

  /// Workspace bytes per thread, for training and for decoding. Tapes and caches provide them; operations run without a
  /// workspace use up to as much of the thread's stack.
  static constexpr std::size_t workspace_bytes = fathom::cpu::workspace_bytes<scalar>;
  static constexpr std::size_t decoding_workspace_bytes = fathom::cpu::decoding_workspace_bytes<scalar>;

  /// The number of threads; 0: OpenMP's default (OMP_NUM_THREADS, omp_set_num_threads). Results are bitwise the same
  /// for any number.
  struct executor {
    int threads = 0;
    fathom::cpu::workspaces memory{};

    /// The resolved number of threads. Fails on a negative number.
    [[nodiscard]] int size() const { return fathom::cpu::team_size(threads); }
    /// The same threads, with workspaces of `each` bytes in `block`; threads beyond its end get none.
    [[nodiscard]] executor working_in(std::span<std::byte> block, std::size_t each) const { return {threads, {block, each}}; }
    /// Runs f(context) on each thread.
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
  /// The version of how packed weights lie, which their files name (io/packed_file.hpp).
  static constexpr int packed_layout = packed_layout_version;
  /// The groups of such a tensor, where P is a type of groups: put(g, j, group<P>).
  template <class To>
  static auto groups_of(To& to) -> decltype(fathom::cpu::groups_of(to)) {
    return fathom::cpu::groups_of(to);
  }
};

}  // namespace FATHOM_ISA
}  // namespace fathom::backend
