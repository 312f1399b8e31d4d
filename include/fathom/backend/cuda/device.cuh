// Primitives of kernels that C++ and CUDA lack, each one or a few instructions (PTX ISA), and the launch.
//
// Kernels use PTX only through this header, beside CUDA's own primitives (threadIdx, __syncthreads, __shfl_xor_sync,
// ...), so that their source also compiles for the CPU: with FATHOM_CUDA_EMULATION, which tests/cuda_emulation.hpp
// defines, the same primitives run there, with checks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <tuple>
#include <type_traits>

#include "fathom/core/bf16.hpp"
#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"

#if defined(FATHOM_CUDA_EMULATION)
/// Unrolls the loop that follows, so that its arrays are in registers.
#define FATHOM_CUDA_UNROLL
/// Keeps the loop that follows rolled.
#define FATHOM_CUDA_ROLL
/// T name[count], shared by the threads of a block.
#define FATHOM_CUDA_SHARED(T, name, count) \
  T* const name = ::fathom::emulation::static_shared<T, static_cast<std::size_t>(count)>([] {})
/// A last parameter that tells the emulation the source line of a call.
#define FATHOM_CUDA_PLACE_ONLY ::fathom::emulation::place at = ::fathom::emulation::place::here()
#define FATHOM_CUDA_PLACE , FATHOM_CUDA_PLACE_ONLY
#elif defined(__CUDACC__)
#include <cuda_runtime.h>
#define FATHOM_CUDA_UNROLL _Pragma("unroll")
#define FATHOM_CUDA_ROLL _Pragma("unroll 1")
#define FATHOM_CUDA_SHARED(T, name, count) __shared__ T name[count]
#define FATHOM_CUDA_PLACE_ONLY
#define FATHOM_CUDA_PLACE
#else
#error "fathom: files that end in .cuh are compiled by nvcc"
#endif

namespace fathom::cuda {

// ---- Shared memory --------------------------------------------------------------------------------------------------

/// The dynamic shared memory, whose size the launch sets; aligned to 128 bytes.
__device__ __forceinline__ std::byte* dynamic_shared() {
#if defined(FATHOM_CUDA_EMULATION)
  return emulation::dynamic_shared();
#else
  extern __shared__ __align__(128) uint4 fathom_dynamic_shared[];
  return reinterpret_cast<std::byte*>(fathom_dynamic_shared);
#endif
}

#if !defined(FATHOM_CUDA_EMULATION)
/// A pointer to shared memory as PTX expects it.
__device__ __forceinline__ std::uint32_t shared_address(const void* p) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
}
#endif

/// Starts copying 16, 8 or 4 bytes from global to shared memory, bypassing registers (16: also the L1 cache); if not
/// `there`, writes zeros and does not read `from`. Both addresses are aligned to that size. This thread sees the bytes
/// after wait_copies; others, after a barrier behind that.
template <int Bytes = 16>
__device__ __forceinline__ void copy_async(void* to, const void* from, bool there FATHOM_CUDA_PLACE) {
  static_assert(Bytes == 16 || Bytes == 8 || Bytes == 4);
#if defined(FATHOM_CUDA_EMULATION)
  emulation::copy_async(to, from, Bytes, there ? Bytes : 0, at);
#else
  const auto source = __cvta_generic_to_global(from);
  if constexpr (Bytes == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(source), "r"(there ? 16 : 0)
                 : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(to)), "l"(source), "n"(Bytes),
                 "r"(there ? Bytes : 0)
                 : "memory");
#endif
}
/// Commits this thread's copies since the last commit as one group.
__device__ __forceinline__ void commit_copies() {
#if defined(FATHOM_CUDA_EMULATION)
  emulation::commit_copies();
#else
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
/// Waits for all but the latest N of this thread's groups.
template <int N>
__device__ __forceinline__ void wait_copies() {
#if defined(FATHOM_CUDA_EMULATION)
  emulation::wait_copies(N);
#else
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#endif
}

/// A barrier of `threads` threads of the block, a multiple of 32; ids 1 to 15 (__syncthreads has 0).
__device__ __forceinline__ void named_barrier(int id, int threads FATHOM_CUDA_PLACE) {
#if defined(FATHOM_CUDA_EMULATION)
  emulation::barrier(static_cast<unsigned>(id), static_cast<unsigned>(threads), false, at);
#else
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
#endif
}

/// Returns x, hidden from the compiler, which then recomputes values derived from it instead of keeping them.
__device__ __forceinline__ unsigned opaque(unsigned x) {
#if !defined(FATHOM_CUDA_EMULATION)
  asm volatile("" : "+r"(x));
#endif
  return x;
}

// ---- Waits between blocks -------------------------------------------------------------------------------------------

/// Increments *counter in global memory and returns its old value. What the block's threads wrote before their last
/// barrier is visible to any thread that sees the new value through arrive or wait_for_arrivals.
__device__ __forceinline__ unsigned arrive(unsigned* counter) {
#if defined(FATHOM_CUDA_EMULATION)
  return atomicAdd(counter, 1u);
#else
  unsigned before;
  asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], 1;" : "=r"(before) : "l"(__cvta_generic_to_global(counter)) : "memory");
  return before;
#endif
}
/// Waits until `count` blocks have arrived.
__device__ __forceinline__ void wait_for_arrivals(const unsigned* counter, unsigned count) {
#if defined(FATHOM_CUDA_EMULATION)
  while (*const_cast<const volatile unsigned*>(counter) < count) emulation::yield();
#else
  unsigned now;
  do
    asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(now) : "l"(__cvta_generic_to_global(counter)) : "memory");
  while (now < count);
  asm volatile("fence.acq_rel.gpu;" ::: "memory");
#endif
}
/// Prefetches the 128 bytes around an address in global memory into the L2 cache.
__device__ __forceinline__ void prefetch([[maybe_unused]] const void* from) {
#if !defined(FATHOM_CUDA_EMULATION)
  asm volatile("prefetch.global.L2 [%0];" ::"l"(__cvta_generic_to_global(from)));
#endif
}

// ---- Numbers --------------------------------------------------------------------------------------------------------

/// Two numbers rounded to bf16 (to nearest, ties to even) in one word, the first in its lower half.
__device__ __forceinline__ std::uint32_t pack_bf16(float low, float high) {
#if defined(FATHOM_CUDA_EMULATION)
  return static_cast<std::uint32_t>(bf16(low).bits) | static_cast<std::uint32_t>(bf16(high).bits) << 16;
#else
  std::uint32_t word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
#endif
}
__device__ __forceinline__ float low_bf16(std::uint32_t word) { return __uint_as_float(word << 16); }
__device__ __forceinline__ float high_bf16(std::uint32_t word) { return __uint_as_float(word & 0xffff0000u); }

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bf16 x) { return __uint_as_float(static_cast<std::uint32_t>(x.bits) << 16); }

/// x as a T: float or bf16.
template <class T>
__device__ __forceinline__ T from_float(float x) {
  if constexpr (std::is_same_v<T, bf16>) {
    bf16 y;
    y.bits = static_cast<std::uint16_t>(pack_bf16(x, 0.0f));
    return y;
  } else {
    return x;
  }
}

/// 2^x, with relative error 2^-22; 0 for -infinity.
__device__ __forceinline__ float exp2_fast(float x) {
#if defined(FATHOM_CUDA_EMULATION)
  return std::exp2(x);
#else
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}

// ---- Matrix instructions (sm_80 and newer) --------------------------------------------------------------------------

/// d [16, 8] += a [16, 16] b [16, 8], a and b bf16, by a warp. With group = lane / 4, member = lane % 4, a lane holds
///   a[0], a[1]: columns 2 member, + 1 of rows group, group + 8;   a[2], a[3]: the same rows, columns 2 member + 8, + 9
///   b0, b1:     rows 2 member, + 1; 2 member + 8, + 9;  column group
///   d[0], d[1]: columns 2 member, + 1 of row group;               d[2], d[3]: of row group + 8
__device__ __forceinline__ void mma(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                    std::uint32_t b1 FATHOM_CUDA_PLACE) {
#if defined(FATHOM_CUDA_EMULATION)
  emulation::mma(d, a, {b0, b1}, at);
#else
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

/// Loads four 8 x 8 matrices of bf16: lane l passes the shared address of row l % 8 of matrix l / 8, aligned to 16
/// bytes, and receives in r[i] the elements 2 (l % 4), + 1 of row l / 4 of matrix i; if Transposed, of column l / 4.
template <bool Transposed = false>
__device__ __forceinline__ void load_matrices(std::uint32_t (&r)[4], const void* row FATHOM_CUDA_PLACE) {
#if defined(FATHOM_CUDA_EMULATION)
  emulation::load_matrices(r, row, Transposed, at);
#else
  if constexpr (Transposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
#endif
}

// ---- Launch ---------------------------------------------------------------------------------------------------------

struct launch_shape {
  dim3 grid, block;
  std::size_t shared = 0;    // bytes of dynamic shared memory
  bool cooperative = false;  // all blocks are resident, so that they can wait for each other
  std::size_t most_shared = 0;  // the upper bound of `shared`, if it differs between launches of a kernel
};

#if !defined(FATHOM_CUDA_EMULATION) || defined(FATHOM_CUDA_LIBRARY)  // tests/cuda_library.hpp
/// Raises an error that names the operation, unless the call succeeded.
template <class... Pieces>
void check(cudaError_t status, const Pieces&... what) {
  if (status != cudaSuccess) fail("cuda: ", what..., ": ", cudaGetErrorString(status));
}
#endif

/// Launches kernel(arguments...) on the stream; errors name `operation`. Every kernel is a template, if only of
/// <class = void>: others would be defined in each translation unit and fail to link, as nvcc has no inline kernels.
template <class... P, class... A>
void launch(const char* operation, const launch_shape& s, [[maybe_unused]] cudaStream_t stream, void (*kernel)(P...),
            A&&... arguments) {
#if defined(FATHOM_CUDA_EMULATION)
  emulation::launch(operation, s.grid, s.block, s.shared, s.cooperative, kernel, arguments...);
#else
  const auto checked = [&](cudaError_t status) {
    if (status != cudaSuccess)
      check(status, operation, ": ", s.grid.x, " x ", s.grid.y, " x ", s.grid.z, " blocks of ",
            s.block.x * s.block.y * s.block.z, " threads with ", s.shared, " bytes of shared memory");
  };
  const void* const function = reinterpret_cast<const void*>(kernel);
  // More than 48 KB, static shared memory included, must be requested. The request is an attribute of the kernel, which
  // several host threads may launch, so it must be the same every time.
  if (const std::size_t most = s.most_shared ? s.most_shared : s.shared; most > 32 * 1024)
    checked(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(most)));
  std::tuple<std::remove_cv_t<P>...> values(static_cast<P>(arguments)...);
  std::apply(
      [&](auto&... value) {
        void* pointers[] = {&value..., nullptr};
        checked(s.cooperative ? cudaLaunchCooperativeKernel(function, s.grid, s.block, pointers, s.shared, stream)
                              : cudaLaunchKernel(function, s.grid, s.block, pointers, s.shared, stream));
      },
      values);
#endif
}

}  // namespace fathom::cuda
