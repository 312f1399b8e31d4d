// The parts of the CUDA runtime and cuBLASLt that the library calls, on the CPU, so that tests run all of its host code
// without a GPU, with the kernels in cuda_emulation.hpp. Include it before the .cuh files.
//
//   - Only kernels, copies and products can access the GPU's memory; any other access is a segmentation fault.
//     New memory is NaN (all bits set).
//   - A stream under capture runs nothing; launching the graph does.
//   - Products are plain loops, in the order of k, on unrounded operands, with sums in double.
#pragma once

#define FATHOM_CUDA_LIBRARY 1

#include "cuda_emulation.hpp"

#include <sys/mman.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <vector>

#include <fathom/core/bf16.hpp>

enum cudaError_t {
  cudaSuccess,
  cudaErrorInvalidValue,
  cudaErrorMemoryAllocation,
  cudaErrorNoDevice,
  cudaErrorInsufficientDriver,
  cudaErrorStreamCaptureUnsupported
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice, cudaMemcpyDefault };
enum cudaDeviceAttr {
  cudaDevAttrComputeCapabilityMajor,
  cudaDevAttrComputeCapabilityMinor,
  cudaDevAttrMultiProcessorCount,
  cudaDevAttrMaxSharedMemoryPerBlockOptin
};
struct CUevent_st {};
using cudaEvent_t = CUevent_st*;
inline constexpr unsigned cudaEventDisableTiming = 2;
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal };
inline constexpr unsigned cudaStreamNonBlocking = 1;

struct CUstream_st {};
struct CUgraph_st {
  std::vector<std::function<void()>> work;
};
struct CUgraphExec_st {
  std::vector<std::function<void()>> work;
};
using cudaGraph_t = CUgraph_st*;
using cudaGraphExec_t = CUgraphExec_st*;

namespace fathom::emulation {

/// Settings and counters for the tests.
struct library {
  int gpus = 1, major = 9, minor = 0, processors = 2;
  cudaError_t no_gpu = cudaSuccess;  // the result of counting GPUs
  bool fuses = true;                 // whether cuBLASLt has algorithms for epilogues
  std::size_t room = std::size_t{1} << 33;

  std::size_t allocations = 0, launches = 0, products = 0, graph_launches = 0, graphs = 0, alive = 0;

  cudaGraph_t captured = nullptr;
  std::byte* memory = nullptr;
  std::size_t used = 0;
  int open = 0;
  std::map<void*, std::size_t> blocks;
  std::multimap<std::size_t, void*> freed;  // by size; reused, to save memory

  library() {
    void* const all = mmap(nullptr, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all == MAP_FAILED) throw std::bad_alloc();
    memory = static_cast<std::byte*>(all);
    the_machine.launches = [this](std::function<void()> go) {
      ++launches;
      submit([this, go] { with_memory(go); });
    };
  }
  static constexpr std::size_t reserved = std::size_t{1} << 34;
  static constexpr std::size_t poisoned = std::size_t{1} << 20;  // of a block: poisoning all of the largest would be slow

  /// Calls f() with access to the GPU's memory.
  template <class F>
  void with_memory(const F& f) {
    struct access {
      library& of;
      explicit access(library& l) : of(l) {
        if (of.open++ == 0) mprotect(of.memory, of.used, PROT_READ | PROT_WRITE);
      }
      ~access() {
        if (--of.open == 0) mprotect(of.memory, of.used, PROT_NONE);
      }
    } here(*this);
    f();
  }
  /// Runs a stream's work: now, or, under capture, when the graph is launched.
  void submit(std::function<void()> work) {
    if (captured)
      captured->work.push_back(std::move(work));
    else
      work();
  }
  [[nodiscard]] bool owns(const void* p) const {
    return static_cast<const std::byte*>(p) >= memory && static_cast<const std::byte*>(p) < memory + reserved;
  }
};
inline library& the_library() {
  static library one;
  return one;
}

}  // namespace fathom::emulation

inline const char* cudaGetErrorString(cudaError_t status) {
  switch (status) {
    case cudaSuccess:
      return "no error";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorInsufficientDriver:
      return "CUDA driver version is insufficient for CUDA runtime version";
    default:
      return "an error";
  }
}
inline cudaError_t cudaGetDeviceCount(int* count) {
  *count = fathom::emulation::the_library().gpus;
  return fathom::emulation::the_library().no_gpu;
}
inline cudaError_t cudaGetDevice(int* number) {
  *number = 0;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  const auto& l = fathom::emulation::the_library();
  *value = attribute == cudaDevAttrComputeCapabilityMajor   ? l.major
           : attribute == cudaDevAttrComputeCapabilityMinor ? l.minor
           : attribute == cudaDevAttrMultiProcessorCount    ? l.processors
                                                            : 227 * 1024;
  return cudaSuccess;
}
inline cudaError_t cudaMalloc(void** block, std::size_t bytes) {
  auto& l = fathom::emulation::the_library();
  const std::size_t size = (bytes + 4095) / 4096 * 4096 + 4096;  // with an inaccessible page behind each block
  if (l.captured) return cudaErrorStreamCaptureUnsupported;
  const auto again = l.freed.find(size);
  if (l.alive + size > l.room || (again == l.freed.end() && l.used + size > l.reserved)) return cudaErrorMemoryAllocation;
  ++l.allocations;
  if (again != l.freed.end()) {
    *block = again->second;
    l.freed.erase(again);
  } else {
    *block = l.memory + l.used;
    l.used += size;
  }
  l.alive += size;
  l.blocks[*block] = size;
  l.with_memory([&] { std::memset(*block, 0xff, std::min(size, l.poisoned)); });
  return cudaSuccess;
}
inline cudaError_t cudaFree(void* block) {
  auto& l = fathom::emulation::the_library();
  if (!block) return cudaSuccess;
  const auto found = l.blocks.find(block);
  if (found == l.blocks.end()) return cudaErrorInvalidValue;
  l.with_memory([&] { std::memset(block, 0xff, std::min(found->second, l.poisoned)); });  // later reads get NaN
  l.alive -= found->second;
  l.freed.emplace(found->second, block);
  l.blocks.erase(found);
  return cudaSuccess;
}
inline cudaError_t cudaMallocHost(void** block, std::size_t bytes) {
  *block = std::aligned_alloc(64, (bytes + 63) / 64 * 64);
  return *block ? cudaSuccess : cudaErrorMemoryAllocation;
}
inline cudaError_t cudaFreeHost(void* block) {
  std::free(block);
  return cudaSuccess;
}
inline cudaError_t cudaMemset(void* block, int value, std::size_t bytes) {
  fathom::emulation::the_library().with_memory([&] { std::memset(block, value, bytes); });
  return cudaSuccess;
}
inline cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind) {
  fathom::emulation::the_library().with_memory([&] { std::memcpy(to, from, bytes); });
  return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t) {
  auto& l = fathom::emulation::the_library();
  if ((kind == cudaMemcpyHostToDevice && (!l.owns(to) || l.owns(from))) ||
      (kind == cudaMemcpyDeviceToHost && (l.owns(to) || !l.owns(from))))
    return cudaErrorInvalidValue;
  l.submit([=, &l] { l.with_memory([=] { std::memcpy(to, from, bytes); }); });
  return cudaSuccess;
}
inline cudaError_t cudaDeviceSynchronize() {
  return fathom::emulation::the_library().captured ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaDeviceSynchronize(); }
inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new CUstream_st;
  return cudaSuccess;
}
inline cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return cudaSuccess;
}
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new CUevent_st;
  return cudaSuccess;
}
inline cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
inline cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaDeviceSynchronize(); }
inline cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaDeviceSynchronize(); }
inline cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) {
  auto& l = fathom::emulation::the_library();
  if (l.captured) return cudaErrorStreamCaptureUnsupported;
  l.captured = new CUgraph_st;
  return cudaSuccess;
}
inline cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
  *graph = std::exchange(fathom::emulation::the_library().captured, nullptr);
  return cudaSuccess;
}
inline cudaError_t cudaGraphInstantiate(cudaGraphExec_t* work, cudaGraph_t graph, unsigned long long) {
  ++fathom::emulation::the_library().graphs;
  *work = new CUgraphExec_st{graph->work};
  return cudaSuccess;
}
inline cudaError_t cudaGraphGetNodes(cudaGraph_t graph, std::nullptr_t, std::size_t* count) {
  *count = graph->work.size();
  return cudaSuccess;
}
inline cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t work) {
  delete work;
  return cudaSuccess;
}
inline cudaError_t cudaGraphLaunch(cudaGraphExec_t work, cudaStream_t) {
  ++fathom::emulation::the_library().graph_launches;
  for (const auto& one : work->work) one();
  return cudaSuccess;
}

// ---- cuBLASLt --------------------------------------------------------------------------------------------------------

enum cublasStatus_t { CUBLAS_STATUS_SUCCESS, CUBLAS_STATUS_NOT_SUPPORTED, CUBLAS_STATUS_INVALID_VALUE };
enum cudaDataType_t { CUDA_R_32F, CUDA_R_16BF };
enum cublasComputeType_t { CUBLAS_COMPUTE_32F };
enum cublasOperation_t { CUBLAS_OP_N, CUBLAS_OP_T };
enum cublasLtEpilogue_t {
  CUBLASLT_EPILOGUE_DEFAULT = 1,
  CUBLASLT_EPILOGUE_BIAS = 4,
  CUBLASLT_EPILOGUE_GELU_BIAS = 36,
  CUBLASLT_EPILOGUE_GELU_AUX_BIAS = 164,
  CUBLASLT_EPILOGUE_DGELU = 192
};
enum cublasLtMatmulDescAttributes_t {
  CUBLASLT_MATMUL_DESC_TRANSA,
  CUBLASLT_MATMUL_DESC_TRANSB,
  CUBLASLT_MATMUL_DESC_EPILOGUE,
  CUBLASLT_MATMUL_DESC_BIAS_POINTER,
  CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER,
  CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD
};
enum cublasLtMatmulPreferenceAttributes_t {
  CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES
};
struct fathom_blas_handle {};
struct fathom_blas_operation {
  cublasOperation_t a = CUBLAS_OP_N, b = CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const float* bias = nullptr;
  float* before = nullptr;
  std::int64_t before_stride = 0;
};
struct fathom_blas_layout {
  cudaDataType_t type;
  std::int64_t rows, columns, stride;
};
struct fathom_blas_preference {
  std::uint32_t alignment[4] = {256, 256, 256, 256};
};
using cublasLtHandle_t = fathom_blas_handle*;
using cublasLtMatmulDesc_t = fathom_blas_operation*;
using cublasLtMatrixLayout_t = fathom_blas_layout*;
using cublasLtMatmulPreference_t = fathom_blas_preference*;
struct cublasLtMatmulAlgo_t {
  std::uint32_t alignment[4];  // of A, B, C, D, for which it was chosen
};
struct cublasLtMatmulHeuristicResult_t {
  cublasLtMatmulAlgo_t algo;
  std::size_t workspaceSize;
  cublasStatus_t state;
};

inline const char* cublasLtGetStatusString(cublasStatus_t status) {
  return status == CUBLAS_STATUS_SUCCESS ? "success" : status == CUBLAS_STATUS_NOT_SUPPORTED ? "not supported" : "invalid value";
}
inline cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = new fathom_blas_handle;
  return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* d, cublasComputeType_t, cudaDataType_t) {
  *d = new fathom_blas_operation;
  return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d) {
  delete d;
  return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t attribute,
                                                     const void* value, std::size_t bytes) {
  const auto set = [&](auto& to) {
    if (bytes != sizeof to) return CUBLAS_STATUS_INVALID_VALUE;
    std::memcpy(&to, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
  };
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return set(d->a);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return set(d->b);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return set(d->epilogue);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return set(d->bias);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER:
      return set(d->before);
    default:
      return set(d->before_stride);
  }
}
inline cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* l, cudaDataType_t type, std::uint64_t rows,
                                                 std::uint64_t columns, std::int64_t stride) {
  *l = new fathom_blas_layout{type, static_cast<std::int64_t>(rows), static_cast<std::int64_t>(columns), stride};
  return stride < (*l)->rows ? CUBLAS_STATUS_INVALID_VALUE : CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l) {
  delete l;
  return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* p) {
  *p = new fathom_blas_preference;
  return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p) {
  delete p;
  return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                                           cublasLtMatmulPreferenceAttributes_t attribute, const void* value,
                                                           std::size_t bytes) {
  if (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES)
    return bytes == sizeof(std::uint64_t) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
  if (bytes != sizeof(std::uint32_t)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&p->alignment[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}
/// Whether the column-major shapes A [m, k], B [k, n] and D [m, n] match.
inline bool fathom_blas_fits(const fathom_blas_operation& o, const fathom_blas_layout& a, const fathom_blas_layout& b,
                             const fathom_blas_layout& c, const fathom_blas_layout& d) {
  const std::int64_t m = o.a == CUBLAS_OP_N ? a.rows : a.columns, k = o.a == CUBLAS_OP_N ? a.columns : a.rows;
  const std::int64_t n = o.b == CUBLAS_OP_N ? b.columns : b.rows, depth = o.b == CUBLAS_OP_N ? b.rows : b.columns;
  return k == depth && d.rows == m && d.columns == n && c.rows == m && c.columns == n && a.type == b.type &&
         c.type == CUDA_R_32F && d.type == CUDA_R_32F;
}
inline cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t o, cublasLtMatrixLayout_t a,
                                                     cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                                     cublasLtMatmulPreference_t p, int, cublasLtMatmulHeuristicResult_t* result,
                                                     int* found) {
  *found = 0;
  if (!fathom_blas_fits(*o, *a, *b, *c, *d)) return CUBLAS_STATUS_INVALID_VALUE;
  const bool with_bias = (o->epilogue & CUBLASLT_EPILOGUE_BIAS) != 0;
  const bool with_before = o->epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS || o->epilogue == CUBLASLT_EPILOGUE_DGELU;
  if (with_bias != (o->bias != nullptr) || with_before != (o->before != nullptr)) return CUBLAS_STATUS_INVALID_VALUE;
  if (with_before && (o->before_stride % 8 != 0 || o->before_stride < d->rows)) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (o->epilogue != CUBLASLT_EPILOGUE_DEFAULT && !fathom::emulation::the_library().fuses) return CUBLAS_STATUS_NOT_SUPPORTED;
  *found = 1;
  std::memcpy(result->algo.alignment, p->alignment, sizeof p->alignment);
  result->workspaceSize = 0;
  result->state = CUBLAS_STATUS_SUCCESS;
  return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t operation, const void* alpha, const void* a,
                                     cublasLtMatrixLayout_t a_layout, const void* b, cublasLtMatrixLayout_t b_layout,
                                     const void* beta, const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                                     cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algorithm, void*, std::size_t,
                                     cudaStream_t) {
  auto& l = fathom::emulation::the_library();
  const fathom_blas_operation o = *operation;
  const fathom_blas_layout la = *a_layout, lb = *b_layout, lc = *c_layout, ld = *d_layout;
  if (!fathom_blas_fits(o, la, lb, lc, ld)) return CUBLAS_STATUS_INVALID_VALUE;
  const void* const operands[] = {a, b, c, d};
  for (int i = 0; i < 4; ++i)
    if (!l.owns(operands[i]) || reinterpret_cast<std::uintptr_t>(operands[i]) % algorithm->alignment[i] != 0)
      return CUBLAS_STATUS_INVALID_VALUE;
  const float scale = *static_cast<const float*>(alpha), weight = *static_cast<const float*>(beta);
  ++l.products;
  const auto work = [=] {
    const auto number = [](const void* p, const fathom_blas_layout& layout, cublasOperation_t how, std::int64_t i,
                           std::int64_t j) {
      const std::int64_t at = how == CUBLAS_OP_N ? i + j * layout.stride : j + i * layout.stride;
      return layout.type == CUDA_R_32F ? static_cast<const float*>(p)[at]
                                       : static_cast<float>(static_cast<const fathom::bf16*>(p)[at]);
    };
    const std::int64_t depth = o.a == CUBLAS_OP_N ? la.columns : la.rows;
    for (std::int64_t j = 0; j < ld.columns; ++j)
      for (std::int64_t i = 0; i < ld.rows; ++i) {
        double sum = 0;
        for (std::int64_t k = 0; k < depth; ++k)
          sum += static_cast<double>(number(a, la, o.a, i, k)) * static_cast<double>(number(b, lb, o.b, k, j));
        double v = static_cast<double>(scale) * sum;
        if (weight != 0) v += static_cast<double>(weight * static_cast<const float*>(c)[i + j * lc.stride]);
        if (o.epilogue & CUBLASLT_EPILOGUE_BIAS) v += static_cast<double>(o.bias[i]);
        const auto gelu = [](double x) { return 0.5 * x * (1 + std::tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x))); };
        if (o.epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS) o.before[i + j * o.before_stride] = static_cast<float>(v);
        if (o.epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS || o.epilogue == CUBLASLT_EPILOGUE_GELU_BIAS) v = gelu(v);
        if (o.epilogue == CUBLASLT_EPILOGUE_DGELU) {
          const double x = static_cast<double>(o.before[i + j * o.before_stride]);
          const double t = std::tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x));
          v *= 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * 0.79788456080286535588 * (1 + 3 * 0.044715 * x * x);
        }
        static_cast<float*>(d)[i + j * ld.stride] = static_cast<float>(v);
      }
  };
  l.submit([work, &l] { l.with_memory(work); });
  return CUBLAS_STATUS_SUCCESS;
}
