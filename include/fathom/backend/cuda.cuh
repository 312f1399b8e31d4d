// The CUDA backend: one NVIDIA GPU, Ampere or newer, with matrix products by cuBLASLt and our own kernels for the rest.
// Compiled by nvcc; needs only the CUDA Toolkit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>

#include "fathom/backend/cuda/attention.cuh"
#include "fathom/backend/cuda/cross_entropy.cuh"
#include "fathom/backend/cuda/depth_sums.cuh"
#include "fathom/backend/cuda/elementwise.cuh"
#include "fathom/backend/cuda/embedding.cuh"
#include "fathom/backend/cuda/matmul.cuh"
#include "fathom/backend/cuda/packed.cuh"
#include "fathom/backend/cuda/rotation.cuh"
#include "fathom/backend/cuda/runtime.cuh"
#include "fathom/backend/cuda/sampling.cuh"
#include "fathom/backend/cuda/token_recording.cuh"
#include "fathom/backend/cuda/update.cuh"
#include "fathom/core/error.hpp"

namespace fathom::backend {

/// Compute = float: all arithmetic in float, without TF32. Compute = bf16: the operands of matrix products and of
/// attention are rounded to bf16; weights, activations and sums are float. Parameters, tapes and caches are in GPU
/// memory.
template <class Compute = float>
struct cuda {
  static_assert(std::is_same_v<Compute, float> || std::is_same_v<Compute, bf16>,
                "fathom::backend::cuda computes in float or in fathom::bf16");
  using scalar = float;
  using context = fathom::cuda::context<Compute>;
  using memory = fathom::cuda::memory;
  using recording = fathom::cuda::recording;
  using steps = fathom::cuda::block_steps;
  using drawing = fathom::cuda::drawing;  // sampling
  static constexpr index head_logits = index{1} << 28;  // at a time: 1 GiB

  /// The GPU and its stream: by default, the one that is current in this thread. `threads` is only there because other
  /// backends have it.
  struct executor {
    int threads = 0;
    std::shared_ptr<fathom::cuda::gpu> on = fathom::cuda::gpu::of_this_thread();

    /// A token is decoded by one kernel if the weights have at most this many bytes; about the size of the L2 cache.
    std::size_t one_kernel = std::size_t{48} << 20;

    using recording = fathom::cuda::recording;
    using token_recording = fathom::cuda::token_recording;
    /// Always 1. Fails on a negative number of threads.
    [[nodiscard]] int size() const { return check_threads(threads), 1; }
    template <class F>
    void run(const F& f) const {
      check_threads(threads);
      on->free_scratch();
      f(context(*on));
    }
    void upload(void* to, const void* from, std::size_t bytes) const { on->upload(to, from, bytes); }
  };

  /// Storage for decoding (backend/cuda/packed.cuh).
  template <class P>
  using packed = fathom::cuda::packed<P>;
  template <class P, class From, class To>
  static void pack_tensor(const From& from, To& to) {
    const executor here;
    here.run([&](const auto& on) { fathom::cuda::pack_tensor(on, from, to); });
    here.on->wait("pack");
  }
};

}  // namespace fathom::backend
