// The CPU backend: Eigen, xsimd and OpenMP, with kernels of our own where it matters.
#pragma once

#include <cstdint>
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

/// Compute = float or double: everything in it. Compute = bf16: the operands of matrix products are rounded to bf16;
/// weights, activations and sums are float.
template <class Compute = float>
struct cpu {
  using scalar = std::conditional_t<std::is_same_v<Compute, bf16>, float, Compute>;
  using context = fathom::cpu::context<Compute, scalar>;

  /// How many threads to use; 0: as many as OpenMP would (OMP_NUM_THREADS, omp_set_num_threads). Results are bitwise the
  /// same for any number.
  struct executor {
    int threads = 0;

    /// Runs f(context) on each of them.
    template <class F>
    void run(const F& f) const {
      fathom::cpu::run<context>(threads, f);
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

}  // namespace fathom::backend
