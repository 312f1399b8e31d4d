// Tests of the kernels' emulation: right results in any order of threads, and detection of kernels' mistakes.
#include "cuda_emulation.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include <fathom/backend/cuda/device.cuh>
#include <fathom/core/random.hpp>

#include "catch.hpp"

namespace {

using fathom::bf16;
using fathom::index;
namespace cuda = fathom::cuda;
namespace emulation = fathom::emulation;

constexpr unsigned all = 0xffffffffu;
constexpr std::uint64_t seeds[] = {0, 1, 2, 3, 4, 5, 6, 7, 8};

/// The error of a launch; empty if it succeeds.
template <class F>
std::string failure(const F& f) {
  try {
    f();
    return {};
  } catch (const emulation::error& e) {
    return e.what();
  }
}
bool contains(const std::string& text, const char* piece) { return text.find(piece) != std::string::npos; }

/// sums [blocks] = the sum of each block's part of x [blocks, blockDim.x], through shuffles and shared memory
template <bool Barrier>
__global__ void sum_of_block(const float* x, float* sums) {
  FATHOM_CUDA_SHARED(float, parts, 32);
  float sum = x[blockIdx.x * blockDim.x + threadIdx.x];
  for (int bits = 16; bits > 0; bits /= 2) sum += __shfl_xor_sync(all, sum, bits);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = sum;
  if constexpr (Barrier) __syncthreads();
  if (threadIdx.x < 32) {
    sum = threadIdx.x < blockDim.x / 32 ? parts[threadIdx.x] : 0.0f;
    for (unsigned by = 16; by > 0; by /= 2) sum += __shfl_down_sync(all, sum, by);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
  }
}

std::vector<float> sums_of_blocks(void (*kernel)(const float*, float*), std::uint64_t seed) {
  std::vector<float> x(3 * 128), sums(3, -1);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i);
  emulation::set_seed(seed);
  cuda::launch("sums", {3, 128}, nullptr, kernel, x.data(), sums.data());
  return sums;
}

/// d [16, 8] = a [16, 16] b [16, 8], both row-major in global memory; or b transposed there, [8, 16]
template <bool TransposedInMemory>
__global__ void multiply(const bf16* a, const bf16* b, float* d) {
  auto* const left = reinterpret_cast<bf16*>(cuda::dynamic_shared());
  bf16* const right = left + 256;
  const auto lane = static_cast<int>(threadIdx.x);
  cuda::copy_async(left + 8 * lane, a + 8 * lane, true);
  cuda::copy_async(right + 8 * (lane % 16), b + 8 * (lane % 16), true);
  cuda::commit_copies();
  cuda::wait_copies<0>();
  __syncthreads();
  std::uint32_t x[4], y[4];
  cuda::load_matrices(x, left + lane % 16 * 16 + lane / 16 * 8);
  if constexpr (TransposedInMemory)
    cuda::load_matrices(y, right + lane % 8 * 16 + lane / 8 % 2 * 8);
  else
    cuda::load_matrices<true>(y, right + lane % 16 * 8);
  float sum[4] = {};
  cuda::mma(sum, x, y[0], y[1]);
  for (int i = 0; i < 4; ++i) d[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = sum[i];
}

__global__ void matrices_as_loaded(bool transposed, std::uint32_t* to) {
  auto* const numbers = reinterpret_cast<std::uint16_t*>(cuda::dynamic_shared());
  for (unsigned i = threadIdx.x; i < 256; i += 32) numbers[i] = static_cast<std::uint16_t>(i);
  __syncwarp();
  std::uint32_t r[4];
  if (transposed)
    cuda::load_matrices<true>(r, numbers + 8 * threadIdx.x);
  else
    cuda::load_matrices(r, numbers + 8 * threadIdx.x);
  for (unsigned i = 0; i < 4; ++i) to[threadIdx.x * 4 + i] = r[i];
}

/// y [64] = x [64] through shared memory, with one mistake.
enum class mistake { none, no_wait, no_barrier, overwritten, no_commit, not_aligned, outside };
template <mistake Made>
__global__ void copy_through_shared(const float* x, float* y) {
  auto* const there = reinterpret_cast<float*>(cuda::dynamic_shared());
  const unsigned i = threadIdx.x;
  if (i < 16)
    cuda::copy_async(there + 4 * i + (Made == mistake::not_aligned) + (Made == mistake::outside ? 16 : 0), x + 4 * i, true);
  if constexpr (Made != mistake::no_commit) cuda::commit_copies();
  if constexpr (Made != mistake::no_wait) cuda::wait_copies<0>();
  if constexpr (Made != mistake::no_barrier) __syncthreads();
  y[i] = there[63 - i];
  if constexpr (Made == mistake::overwritten) {  // some threads have not read yet
    if (i < 16) cuda::copy_async(there + 4 * i, x, true);
    cuda::commit_copies();
  }
  cuda::wait_copies<0>();
}

template <mistake Made>
std::vector<float> copied(std::uint64_t seed) {
  alignas(16) float x[64];
  for (int i = 0; i < 64; ++i) x[i] = static_cast<float>(i);
  std::vector<float> y(64, -1);
  emulation::set_seed(seed);
  cuda::launch("copies", {1, 64, 256}, nullptr, &copy_through_shared<Made>, static_cast<const float*>(x), y.data());
  return y;
}

/// Whether the result is right with every seed.
template <mistake Made>
bool copies_right() {
  bool right = true;
  for (const std::uint64_t seed : seeds) {
    const auto y = copied<Made>(seed);
    for (std::size_t i = 0; i < y.size(); ++i) right = right && y[i] == static_cast<float>(63 - i);
  }
  return right;
}

enum class divergence { half_a_block, two_lines, ended, half_a_warp, two_instructions, lane_not_there };
template <divergence How>
__global__ void divergent() {
  const unsigned i = threadIdx.x;
  if constexpr (How == divergence::half_a_block) {
    if (i < 32) __syncthreads();
    __syncwarp();
    if (i >= 32) cuda::named_barrier(1, 64);
  }
  if constexpr (How == divergence::two_lines) {
    if (i < 32)
      __syncthreads();
    else
      __syncthreads();
  }
  if constexpr (How == divergence::ended)
    if (i != 5) __syncthreads();
  if constexpr (How == divergence::half_a_warp)
    if (i % 2) __shfl_sync(all, 1, 0);
  if constexpr (How == divergence::two_instructions) {
    if (i % 2)
      __shfl_sync(all, 1, 0);
    else
      __syncwarp();
  }
  if constexpr (How == divergence::lane_not_there)
    if (i < 8) __shfl_sync(0xffu, 1, 9);
}
template <divergence How>
std::string divergence_found() {
  return failure([] { cuda::launch("divergent", {1, 64}, nullptr, &divergent<How>); });
}

/// Blocks wait for each other `rounds` times; sees [rounds, blocks]: the number of arrivals seen.
__global__ void meet_across_blocks(unsigned* arrived, unsigned rounds, unsigned* sees) {
  for (unsigned round = 1; round <= rounds; ++round) {
    __syncthreads();
    if (threadIdx.x == 0) {
      atomicAdd(arrived, 1);
      while (atomicAdd(arrived, 0) < round * gridDim.x) __nanosleep(20);
      sees[(round - 1) * gridDim.x + blockIdx.x] = *arrived;
    }
    __syncthreads();
  }
}

__global__ void places(int* to) {
  to[threadIdx.x] = static_cast<int>(threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * blockIdx.z));
  const int sum = __reduce_add_sync(all, 1) + __popc(__ballot_sync(all, threadIdx.x % 2));
  if (threadIdx.x == 0 && threadIdx.y == 0) to[32] = sum;
}

}  // namespace

TEST_CASE("sums of blocks do not depend on the order of threads", "[cuda]") {
  for (const std::uint64_t seed : seeds)
    CHECK(sums_of_blocks(&sum_of_block<true>, seed) == std::vector<float>{8128, 24512, 40896});
  std::size_t wrong = 0;
  for (const std::uint64_t seed : seeds)
    wrong += sums_of_blocks(&sum_of_block<false>, seed) != std::vector<float>{8128, 24512, 40896};
  CHECK(wrong > 0);  // the missing barrier shows
  int to[33];
  cuda::launch("places", {{1, 1, 1}, {32, 2, 1}}, nullptr, &places, to);
  CHECK(to[31] == 63);
  CHECK(to[32] == 48);
}

TEST_CASE("matrix instructions multiply as plain loops do", "[cuda]") {
  fathom::random numbers(1, 1);
  alignas(16) bf16 a[256], b[128], bt[128];
  for (bf16& x : a) x = bf16(static_cast<float>(numbers.normal()));
  for (int k = 0; k < 16; ++k)
    for (int j = 0; j < 8; ++j) bt[j * 16 + k] = b[k * 8 + j] = bf16(static_cast<float>(numbers.normal()));
  float d[128], dt[128];
  for (const std::uint64_t seed : seeds) {
    emulation::set_seed(seed);
    cuda::launch("multiply", {1, 32, 768}, nullptr, &multiply<false>, &a[0], &b[0], d);
    cuda::launch("multiply", {1, 32, 768}, nullptr, &multiply<true>, &a[0], &bt[0], dt);
    double worst = 0;
    for (int i = 0; i < 16; ++i)
      for (int j = 0; j < 8; ++j) {
        const auto number = [](auto x) { return static_cast<double>(static_cast<float>(x)); };
        double sum = 0;
        for (int k = 0; k < 16; ++k) sum += number(a[i * 16 + k]) * number(b[k * 8 + j]);
        worst = std::max({worst, std::abs(sum - number(d[i * 8 + j])), std::abs(sum - number(dt[i * 8 + j]))});
      }
    CHECK(worst < 1e-5);
  }
}

TEST_CASE("matrices are loaded as PTX says", "[cuda]") {
  // Number 8 l + e of the 256 is element e of row l % 8 of matrix l / 8.
  std::uint32_t straight[128], across[128];
  cuda::launch("load", {1, 32, 512}, nullptr, &matrices_as_loaded, false, straight);
  cuda::launch("load", {1, 32, 512}, nullptr, &matrices_as_loaded, true, across);
  CHECK(straight[0] == (0u | 1u << 16));
  CHECK(straight[4 * 1 + 0] == (2u | 3u << 16));             // lane 1: row 0, elements 2 and 3
  CHECK(straight[4 * 4 + 0] == (8u | 9u << 16));             // lane 4: row 1
  CHECK(straight[4 * 31 + 3] == (254u | 255u << 16));        // matrix 3, row 7, elements 6 and 7
  CHECK(across[0] == (0u | 8u << 16));                       // column 0, rows 0 and 1
  CHECK(across[4 * 1 + 1] == ((64u + 16) | (64u + 24) << 16));  // matrix 1, column 0, rows 2 and 3
  CHECK(across[4 * 4 + 0] == (1u | 9u << 16));               // column 1
  CHECK(across[4 * 31 + 3] == ((192u + 55) | (192u + 63) << 16));
}

TEST_CASE("asynchronous copies that are not waited for show", "[cuda]") {
  CHECK(copies_right<mistake::none>());
  CHECK(!copies_right<mistake::no_wait>());
  CHECK(!copies_right<mistake::no_barrier>());
  CHECK(!copies_right<mistake::overwritten>());
  CHECK(contains(failure([] { copied<mistake::no_commit>(0); }), "not waited for"));
  CHECK(contains(failure([] { copied<mistake::not_aligned>(0); }), "no multiple of 16"));
  CHECK(contains(failure([] { copied<mistake::outside>(0); }), "not in shared memory"));
}

TEST_CASE("threads that do not meet are found", "[cuda]") {
  for (const std::uint64_t seed : seeds) {
    emulation::set_seed(seed);
    CHECK(contains(divergence_found<divergence::half_a_block>(), "deadlock"));
    CHECK(contains(divergence_found<divergence::two_lines>(), "different lines"));
    const std::string ended = divergence_found<divergence::ended>();
    CHECK(contains(ended, "end"));
    CHECK(contains(ended, "divergent: block 0,0,0, thread "));
    CHECK(contains(ended, "cuda_emulation.cpp:"));
    CHECK(!divergence_found<divergence::half_a_warp>().empty());
    CHECK(contains(divergence_found<divergence::two_instructions>(), "while other threads of the warp are at"));
    CHECK(contains(divergence_found<divergence::lane_not_there>(), "takes no part"));
  }
  CHECK(contains(failure([] { cuda::launch("large", {1, 1025}, nullptr, &divergent<divergence::ended>); }), "1 to 1024"));
}

TEST_CASE("blocks of a cooperative launch can wait for each other", "[cuda]") {
  for (const std::uint64_t seed : seeds) {
    emulation::set_seed(seed);
    unsigned arrived = 0, sees[12];
    cuda::launch("meet", {4, 64, 0, true}, nullptr, &meet_across_blocks, &arrived, 3u, static_cast<unsigned*>(sees));
    for (unsigned i = 0; i < 12; ++i) CHECK(sees[i] >= (i / 4 + 1) * 4);
  }
}
