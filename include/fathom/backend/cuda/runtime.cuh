// A host thread's view of a GPU: memory, a stream, cuBLASLt, scratch, recordings; and the execution context.
//
// All work of a thread goes to one stream, in order, so operations need no further synchronisation, and each may
// overwrite the scratch memory of the last. The host waits only where it reads results.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#if !defined(FATHOM_CUDA_EMULATION)
#include <cublasLt.h>
#include <cuda_runtime.h>
#endif

#include "fathom/backend/cuda/device.cuh"
#include "fathom/core/error.hpp"
#include "fathom/core/matrix.hpp"
#include "fathom/core/memory.hpp"
#include "fathom/core/types.hpp"

namespace fathom::cuda {

inline void check_cublas(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS) fail("cuda: ", what, ": ", cublasLtGetStatusString(status));
}

/// Fails if there is no GPU that this library supports.
inline void require_gpu() {
  static constexpr const char* expected = "; expected a GPU of compute capability 8.0 (Ampere) or newer, and its driver";
  int count = 0, number = 0, major = 0, minor = 0;
  if (const cudaError_t status = cudaGetDeviceCount(&count); status != cudaSuccess || count == 0)
    fail("cuda: no GPU: ", status != cudaSuccess ? cudaGetErrorString(status) : "none is there", expected);
  check(cudaGetDevice(&number), "which GPU");
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, number), "which GPU");
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, number), "which GPU");
  if (major < 8) fail("cuda: the GPU has compute capability ", major, ".", minor, expected);
}

/// Pinned host memory: the GPU copies to and from it at full speed.
struct pinned_memory {
  [[nodiscard]] static void* allocate(std::size_t bytes) {
    void* block = nullptr;
    check(cudaMallocHost(&block, bytes), "pinned memory of ", bytes, " bytes");
    std::memset(block, 0, bytes);
    return block;
  }
  static void release(void* block) { static_cast<void>(cudaFreeHost(block)); }
};

/// GPU memory (core/memory.hpp). Copies wait for all earlier work of the GPU.
struct memory {
  using staging = pinned_memory;

  [[nodiscard]] static void* allocate(std::size_t bytes) {
    require_gpu();
    void* block = nullptr;
    check(cudaMalloc(&block, std::max<std::size_t>(bytes, 1)), "memory of ", bytes, " bytes");
    zero(block, bytes);
    return block;
  }
  static void release(void* block) { static_cast<void>(cudaFree(block)); }
  static void zero(void* block, std::size_t bytes) {
    settle("before zeroing", bytes);
    check(cudaMemset(block, 0, bytes), "zeroing ", bytes, " bytes");
    settle("zeroing", bytes);
  }
  static void copy(void* to, const void* from, std::size_t bytes) {
    settle("before a copy", bytes);
    check(cudaMemcpy(to, from, bytes, cudaMemcpyDefault), "a copy of ", bytes, " bytes");
    settle("a copy", bytes);  // cudaMemcpy may return before the last bytes arrive
  }

 private:
  /// These calls go to a stream that does not synchronise with the streams of this library.
  static void settle(const char* what, std::size_t bytes) {
    const std::lock_guard nobody_records(recording_now());
    check(cudaDeviceSynchronize(), what, " of ", bytes, " bytes");
  }

 public:
  /// Held while any thread captures: a wait for the whole device is not allowed then.
  [[nodiscard]] static std::recursive_mutex& recording_now() {
    static std::recursive_mutex one;
    return one;
  }
};

struct product_plan;  // matmul.cuh
using product_key = std::array<std::int64_t, 20>;

/// The GPU that is current in the thread that makes this.
class gpu {
 public:
  gpu() {
    require_gpu();
    check(cudaGetDevice(&number_), "which GPU");
    check(cudaDeviceGetAttribute(&processors_, cudaDevAttrMultiProcessorCount, number_), "multiprocessors");
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "a stream");
    for (upload_slot& slot : uploads_) check(cudaEventCreateWithFlags(&slot.done, cudaEventDisableTiming), "an event");
    check_cublas(cublasLtCreate(&blas_), "cuBLASLt");
    check(cudaMalloc(&workspace_, workspace_bytes), "workspace of ", workspace_bytes, " bytes");
  }
  gpu(const gpu&) = delete;
  gpu& operator=(const gpu&) = delete;
  ~gpu() {
    plans.clear();
    static_cast<void>(cudaStreamSynchronize(stream_));
    for (const upload_slot& slot : uploads_) static_cast<void>(cudaEventDestroy(slot.done));
    for (void* const block : scratch_) static_cast<void>(cudaFree(block));
    static_cast<void>(cudaFree(workspace_));
    static_cast<void>(cublasLtDestroy(blas_));
    static_cast<void>(cudaStreamDestroy(stream_));
  }
  /// The gpu that all objects of a thread share by default.
  [[nodiscard]] static std::shared_ptr<gpu> of_this_thread() {
    static thread_local std::shared_ptr<gpu> known;
    int number = 0;
    if (known) check(cudaGetDevice(&number), "which GPU");
    if (!known || known->number_ != number) known = std::make_shared<gpu>();
    return known;
  }

  [[nodiscard]] cudaStream_t stream() const { return stream_; }
  [[nodiscard]] cublasLtHandle_t blas() const { return blas_; }
  [[nodiscard]] int processors() const { return processors_; }
  static constexpr std::size_t workspace_bytes = std::size_t{32} << 20;  // recommended by cuBLAS for Hopper
  [[nodiscard]] void* workspace() const { return workspace_; }

  void wait(const char* what) const { check(cudaStreamSynchronize(stream_), what); }
  /// Copies from host memory, which may change as soon as this returns. Alternates between two pinned buffers, so it
  /// waits only for the upload before the last.
  void upload(void* to, const void* from, std::size_t bytes) const {
    if (bytes == 0) return;
    upload_slot& slot = uploads_[next_upload_++ % uploads_.size()];
    check(cudaEventSynchronize(slot.done), "an upload");
    if (slot.memory.bytes().size() < bytes) slot.memory = buffer_in<pinned_memory>(bytes);
    std::memcpy(slot.memory.bytes().data(), from, bytes);
    check(cudaMemcpyAsync(to, slot.memory.bytes().data(), bytes, cudaMemcpyHostToDevice, stream()), "upload of ", bytes, " bytes");
    check(cudaEventRecord(slot.done, stream()), "an upload");
  }
  /// Copies to host memory, and waits.
  void download(void* to, const void* from, std::size_t bytes) const {
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream()), "download of ", bytes, " bytes");
    wait("download");
  }

  // ---- Scratch: memory for one operation ----------------------------------------------------------------------------

  /// bf16 copies of the last products' operands, or of the last operation's result: the next product often reuses one.
  struct copy_of {
    const void* data;
    index rows, columns, stride;
    void* copy;
    bool operator==(const copy_of& other) const {
      return data == other.data && rows == other.rows && columns == other.columns && stride == other.stride;
    }
  };
  /// Begins an operation: frees all scratch memory. A product instead keeps the copies that earlier ones have made.
  void free_scratch() {
    copies.clear();
    used_ = kept_ = 0;
  }
  void free_scratch_but_copies() { used_ = kept_; }
  void keep_copy(const copy_of& c) {
    copies.push_back(c);
    kept_ = used_;
  }
  /// Memory until the next operation begins. It grows on demand, so repeated work stops allocating; old blocks are
  /// kept, because recordings may refer to them.
  template <class T>
  [[nodiscard]] T* scratch(index count) {
    const std::size_t bytes = (static_cast<std::size_t>(count) * sizeof(T) + 255) / 256 * 256;
    if (used_ + bytes > size_) {
      if (recording_) fail("cuda: scratch memory of ", bytes, " bytes more, while work is recorded");
      // What the operation took earlier stays in the old block; its room is reserved here, where it will be next time.
      const std::size_t size = std::max({used_ + bytes, 2 * size_, std::size_t{1} << 16});
      void* block = nullptr;
      check(cudaMalloc(&block, size), "scratch memory of ", size, " bytes");
      scratch_.push_back(block);
      size_ = size;
    }
    T* const from = reinterpret_cast<T*>(static_cast<std::byte*>(scratch_.back()) + used_);
    used_ += bytes;
    return from;
  }

  std::vector<copy_of> copies;
  std::map<product_key, std::shared_ptr<product_plan>> plans;  // matmul.cuh

  /// Records the work that f() submits to the stream, without running it.
  template <class F>
  [[nodiscard]] cudaGraphExec_t record(const F& f) {
    const cudaGraph_t graph = capture(f);
    cudaGraphExec_t work = nullptr;
    const cudaError_t status = cudaGraphInstantiate(&work, graph, 0);
    static_cast<void>(cudaGraphDestroy(graph));
    check(status, "a recording");
    return work;
  }
  /// Whether f() submits nothing to the stream; nothing runs in either case.
  template <class F>
  [[nodiscard]] bool tells_nothing(const F& f) {
    std::size_t count = 0;
    const cudaGraph_t graph = capture(f);
    const cudaError_t status = cudaGraphGetNodes(graph, nullptr, &count);
    static_cast<void>(cudaGraphDestroy(graph));
    check(status, "a recording");
    return count == 0;
  }

 private:
  template <class F>
  [[nodiscard]] cudaGraph_t capture(const F& f) {
    const std::lock_guard others_wait(memory::recording_now());
    check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "beginning to record");
    recording_ = true;
    cudaGraph_t graph = nullptr;
    try {
      f();
    } catch (...) {
      recording_ = false;
      static_cast<void>(cudaStreamEndCapture(stream_, &graph));
      if (graph) static_cast<void>(cudaGraphDestroy(graph));
      throw;
    }
    recording_ = false;
    check(cudaStreamEndCapture(stream_, &graph), "recording");
    return graph;
  }

  int number_ = 0, processors_ = 0;
  cudaStream_t stream_ = nullptr;
  cublasLtHandle_t blas_ = nullptr;
  void* workspace_ = nullptr;
  std::vector<void*> scratch_;  // the last is in use
  std::size_t size_ = 0, used_ = 0, kept_ = 0;
  bool recording_ = false;

  struct upload_slot {
    buffer_in<pinned_memory> memory;
    cudaEvent_t done = nullptr;
  };
  mutable std::array<upload_slot, 2> uploads_;
  mutable std::size_t next_upload_ = 0;
};

/// Repeated work: run directly at first, recorded as a CUDA graph the second time, and replayed from then on. `key`
/// identifies everything that the work depends on, except the contents of memory; a new key starts over
/// (backend/backend.hpp).
class recording {
 public:
  template <class Executor, class F>
  void run(const Executor& where, std::initializer_list<std::uint64_t> key, const F& f) {
    if (where.on == on_ && std::equal(key.begin(), key.end(), key_.begin(), key_.end())) {
      if (!work_) work_.reset(on_->record([&] { where.run(f); }));
      check(cudaGraphLaunch(work_.get(), on_->stream()), "playing back recorded work");
    } else {
      work_.reset();
      on_ = where.on;
      key_ = key;
      where.run(f);
    }
  }

 private:
  struct destroy {
    void operator()(cudaGraphExec_t work) const { static_cast<void>(cudaGraphExecDestroy(work)); }
  };
  std::shared_ptr<gpu> on_;
  std::vector<std::uint64_t> key_;
  std::unique_ptr<std::remove_pointer_t<cudaGraphExec_t>, destroy> work_;
};

/// The execution context: a GPU's stream. Compute is the type of the operands of matrix products, float or bf16; sums,
/// weights and activations are float.
template <class Compute>
class context {
 public:
  using scalar = float;
  using compute = Compute;
  static constexpr index largest_head_width = 256;  // of attention

  explicit context(gpu& on) : gpu_(&on) {}
  [[nodiscard]] static constexpr int rank() { return 0; }
  [[nodiscard]] static constexpr int size() { return 1; }
  static void barrier() {}

  [[nodiscard]] gpu& on() const { return *gpu_; }
  [[nodiscard]] cudaStream_t stream() const { return gpu_->stream(); }
  [[nodiscard]] int processors() const { return gpu_->processors(); }
  /// Memory until the next operation begins.
  template <class T>
  [[nodiscard]] T* scratch(index count) const {
    return gpu_->scratch<T>(count);
  }
  /// Starts every operation but products and column_sums, which keep copies.
  void begin() const { gpu_->free_scratch(); }

 private:
  gpu* gpu_;
};

using matrix_in = matrix<const float>;
using matrix_out = matrix<float>;

}  // namespace fathom::cuda
