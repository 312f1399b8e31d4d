// Samples a token on the GPU, as generate/sampler.hpp does on the host. The host then waits for 12 bytes instead of the
// logits of a vocabulary, and the next token can start before the host knows this one.
//
// Weights exp((logit - largest) / temperature) are integers here, in units of 2^-44: sums of them are exact in any
// order, so draws are reproducible. A token whose weight is below one unit is never drawn.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "fathom/backend/cuda/elementwise.cuh"
#include "fathom/backend/cuda/runtime.cuh"
#include "fathom/backend/sampling.hpp"
#include "fathom/core/error.hpp"
#include "fathom/core/memory.hpp"
#include "fathom/core/random.hpp"
#include "fathom/core/types.hpp"

namespace fathom::cuda {

/// The result of a draw.
struct drawn {
  enum : int { fine, not_finite, nothing_left };
  int state;
  token next;
  int at;  // the first logit that is not finite
};

namespace kernel {

inline constexpr int draw_threads = 1024;
using mass = unsigned long long;

/// The sum of x over the block's threads before this one; `total` is the sum over all threads.
__device__ __forceinline__ mass sum_before(mass x, mass& total) {
  FATHOM_CUDA_SHARED(mass, warps, draw_threads / 32);
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  mass sum = x;
  for (unsigned by = 1; by < 32; by *= 2) {
    const mass other = __shfl_up_sync(whole_warp, sum, by);
    if (lane >= by) sum += other;
  }
  __syncthreads();  // an earlier sum may still be read
  if (lane == 31) warps[warp] = sum;
  __syncthreads();
  mass before = 0;
  total = 0;
  for (unsigned w = 0; w < draw_threads / 32; ++w) {
    if (w < warp) before += warps[w];
    total += warps[w];
  }
  return before + sum - x;
}
/// The largest x of the block.
__device__ __forceinline__ mass largest_of(mass x) {
  FATHOM_CUDA_SHARED(mass, warps, draw_threads / 32);
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    const mass other = __shfl_xor_sync(whole_warp, x, lanes);
    if (other > x) x = other;
  }
  __syncthreads();
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = x;
  __syncthreads();
  for (unsigned w = 0; w < draw_threads / 32; ++w)
    if (warps[w] > x) x = warps[w];
  return x;
}

/// An integer in the order of the logits; the same for 0 and -0.
__device__ __forceinline__ unsigned key_of(float logit) {
  const unsigned bits = __float_as_uint(logit == 0 ? 0.0f : logit);
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}

/// A token's place in the order of likelihood (ties: the smaller token first): the `rank`-th token with this key.
struct place {
  unsigned key;
  int rank;
  mass through;  // the masses of all tokens up to it, including its own
};

/// Logits and their masses, searched by all threads of a block.
struct weighed {
  const float* logits;
  const mass* masses;
  int count;
  float largest;

  /// The place of the token at `position`, if tokens are laid end to end in the order of likelihood, each as long as
  /// its mass, or 1 if `counted`. A radix select: one histogram of distances to the largest logit, then four of the
  /// digits of keys.
  [[nodiscard]] __device__ place find(mass position, bool counted) const {
    FATHOM_CUDA_SHARED(mass, lengths, draw_threads);
    FATHOM_CUDA_SHARED(mass, sums, draw_threads);
    FATHOM_CUDA_SHARED(mass, found, 4);  // the bin; the lengths and the masses before it; its length
    const int thread = static_cast<int>(threadIdx.x);
    const auto distance_of = [&](float logit) {
      return static_cast<int>(fminf((largest - logit) * 32, static_cast<float>(draw_threads - 1)));
    };
    mass before = 0;  // masses
    int distance = -1;
    unsigned key = 0;
    for (int digit = 4; digit >= 0; --digit) {  // 4: the distance
      __syncthreads();
      lengths[thread] = sums[thread] = 0;
      __syncthreads();
      for (int i = thread; i < count; i += draw_threads) {
        const unsigned k = key_of(logits[i]);
        const int bin = digit == 4 ? distance_of(logits[i]) : 255 - static_cast<int>(k >> (8 * digit) & 255);
        const bool is_here = digit == 4 || (distance_of(logits[i]) == distance &&
                                            (digit == 3 || k >> (8 * digit + 8) == key >> (8 * digit + 8)));
        if (is_here && masses[i] > 0) atomicAdd(sums + bin, masses[i]);
        if (is_here && counted) atomicAdd(lengths + bin, mass{1});
      }
      __syncthreads();
      const mass here = sums[thread], length = counted ? lengths[thread] : here;
      mass total = 0;
      const mass first = sum_before(length, total), masses_first = sum_before(here, total);
      if (first <= position && position < first + length) {
        found[0] = static_cast<mass>(thread);
        found[1] = first;
        found[2] = masses_first;
        found[3] = length;
      }
      __syncthreads();
      position -= found[1];
      before += found[2];
      if (digit == 4)
        distance = static_cast<int>(found[0]);
      else
        key |= static_cast<unsigned>(255 - found[0]) << (8 * digit);
    }
    // Tokens with the same key have the same mass.
    mass one = 0;
    for (int i = thread; i < count; i += draw_threads)
      if (key_of(logits[i]) == key) one = masses[i];
    one = largest_of(one);
    const mass rank = counted ? position : position / one;
    return {key, static_cast<int>(rank), before + (rank + 1) * one};
  }
  /// The token at a place.
  [[nodiscard]] __device__ int token_at(const place& p) const {
    return in_order([&](int i) -> mass { return key_of(logits[i]) == p.key; }, static_cast<mass>(p.rank));
  }
  /// The token at `position`, if tokens are laid end to end in their own order, each as long as its mass.
  [[nodiscard]] __device__ int token_at(mass position) const {
    return in_order([&](int i) { return masses[i]; }, position);
  }

 private:
  template <class F>
  [[nodiscard]] __device__ int in_order(const F& length, mass position) const {
    FATHOM_CUDA_SHARED(int, found, 1);
    const int each = (count + draw_threads - 1) / draw_threads, first = static_cast<int>(threadIdx.x) * each;
    const int end = first + each < count ? first + each : count;
    mass own = 0, total = 0;
    for (int i = first; i < end; ++i) own += length(i);
    mass at = sum_before(own, total);
    if (at <= position && position < at + own)
      for (int i = first; i < end; ++i) {
        at += length(i);
        if (position < at) {
          *found = i;
          break;
        }
      }
    __syncthreads();
    return *found;
  }
};

/// Writes the next token to `result`, in host memory, and to where decoding reads it, with the number of tokens before
/// it. masses [count]: scratch. `number`: uniform in [0, 1).   One block
template <class = void>
__global__ void __launch_bounds__(draw_threads, 1)
    draw(const float* logits, int count, double temperature, int top_k, double top_p, double number, mass* masses, drawn* result,
         token* next, index* length, index length_now) {
  const int thread = static_cast<int>(threadIdx.x);
  // To find the first of the largest logits, and the first that is not finite: earlier indices give larger numbers.
  const auto earlier = [](int i) { return static_cast<mass>(0xffffffffu - static_cast<unsigned>(i)); };
  mass bad = 0, most = 0;
  for (int i = thread; i < count; i += draw_threads) {
    const float l = logits[i];
    if (!(l < INFINITY)) bad = bad > earlier(i) ? bad : earlier(i);
    const mass candidate = static_cast<mass>(key_of(l)) << 32 | earlier(i);
    if (candidate > most) most = candidate;
  }
  bad = largest_of(bad);
  most = largest_of(most);
  int chosen = static_cast<int>(0xffffffffu - static_cast<unsigned>(most));
  const float largest = logits[chosen];
  const int state = bad > 0 ? drawn::not_finite : largest == -INFINITY ? drawn::nothing_left : drawn::fine;
  if (state == drawn::fine && temperature > 0) {
    mass own = 0, total = 0;
    for (int i = thread; i < count; i += draw_threads) {
      const double weight = exp((static_cast<double>(logits[i]) - static_cast<double>(largest)) / temperature);
      masses[i] = static_cast<mass>(weight * 0x1p44);
      own += masses[i];
    }
    static_cast<void>(sum_before(own, total));
    __syncthreads();  // all masses are written
    const weighed all{logits, masses, count, largest};
    const bool some = top_k > 0 && top_k < count;
    if (some) total = all.find(static_cast<mass>(top_k - 1), true).through;
    if (top_p < 1) {
      const auto goal = static_cast<mass>(ceil(top_p * static_cast<double>(total)));
      total = all.find(goal > total ? total - 1 : goal > 0 ? goal - 1 : 0, false).through;
    }
    mass at = static_cast<mass>(number * static_cast<double>(total));
    if (at >= total) at = total - 1;
    chosen = some || top_p < 1 ? all.token_at(all.find(at, false)) : all.token_at(at);
  }
  if (thread == 0) {
    const token found = state == drawn::fine ? chosen : 0;  // a valid token in any case
    *result = {state, found, bad > 0 ? static_cast<int>(0xffffffffu - static_cast<unsigned>(bad)) : 0};
    *next = found;
    *length = length_now;
  }
}

}  // namespace kernel

/// Samples tokens where the logits are, with the random numbers of a fathom::sampler with the same seed.
class drawing {
 public:
  drawing(index vocab, const sampling& options, std::shared_ptr<gpu> on = gpu::of_this_thread())
      : on_(std::move(on)),
        options_((check_sampling(vocab, options), options)),
        numbers_(options.seed, stream_of("sampler")),
        masses_(static_cast<std::size_t>(vocab) * sizeof(kernel::mass)),
        results_(sizeof(drawn) * slots) {
    if (vocab > index{1} << 19) fail("cuda: drawing from ", vocab, " tokens; at most ", index{1} << 19, " are supported");
    for (cudaEvent_t& e : done_) check(cudaEventCreateWithFlags(&e, cudaEventDisableTiming), "an event");
  }
  drawing(const drawing&) = delete;
  drawing& operator=(const drawing&) = delete;
  ~drawing() {
    static_cast<void>(cudaStreamSynchronize(on_->stream()));
    for (const cudaEvent_t e : done_) static_cast<void>(cudaEventDestroy(e));
  }

  /// Starts a draw from logits [vocab], which also writes the token to `next` and `length_now` to `length`. Up to two
  /// draws may be pending.
  template <class C>
  void operator()(const context<C>& on, std::span<const float> logits, token* next, index* length, index length_now) {
    if (begun_ - taken_ == slots) fail("cuda: ", slots, " tokens are drawn and not taken");
    if (options_.ids > 0) logits = logits.first(static_cast<std::size_t>(options_.ids));
    const std::size_t slot = begun_ % slots;
    auto* const result = reinterpret_cast<drawn*>(results_.bytes().data()) + slot;
    // A greedy sampler uses no random numbers.
    launch("draw", {1, kernel::draw_threads}, on.stream(), &kernel::draw<>, logits.data(), static_cast<int>(logits.size()),
           static_cast<double>(options_.temperature),
           static_cast<int>(std::min<index>(options_.top_k, static_cast<index>(logits.size()))),
           static_cast<double>(options_.top_p), options_.temperature > 0 ? numbers_.uniform() : 0.0,
           reinterpret_cast<kernel::mass*>(masses_.bytes().data()), result, next, length, length_now);
    check(cudaEventRecord(done_[slot], on.stream()), "an event");
    ++begun_;
  }
  /// Waits for the oldest pending draw. Fails as fathom::sampler does.
  [[nodiscard]] token take() {
    if (begun_ == taken_) fail("cuda: no token is drawn");
    const std::size_t slot = taken_++ % slots;
    check(cudaEventSynchronize(done_[slot]), "drawing a token");
    const drawn d = reinterpret_cast<const drawn*>(results_.bytes().data())[slot];
    if (d.state == drawn::not_finite)
      fail("sampler: the logit of token ", d.at, " is infinite or not a number; expected a finite number");
    if (d.state == drawn::nothing_left) fail("sampler: every logit is -inf; expected a finite one");
    return d.next;
  }
  /// Discards all pending draws, as if they had not been started.
  void drop() {
    if (options_.temperature > 0)
      numbers_ = random(options_.seed, stream_of("sampler"), numbers_.position() - (begun_ - taken_));
    taken_ = begun_;
  }

 private:
  static constexpr std::size_t slots = 2;
  std::shared_ptr<gpu> on_;
  sampling options_;
  random numbers_;
  buffer_in<memory> masses_;
  buffer_in<pinned_memory> results_;  // the GPU writes there
  std::array<cudaEvent_t, slots> done_{};
  std::size_t begun_ = 0, taken_ = 0;
};

}  // namespace fathom::cuda
