// The part of fathom::kernels that the CPU backend needs: every operation on views of run-time sizes, for one scalar
// and one compute type. There is a source file per compute type, so that they compile in parallel.
#pragma once

#include <array>
#include <cstdint>

#include "fathom/backend/activation.hpp"
#include "fathom/backend/cpu.hpp"
#include "fathom/backend/cpu/attention.inl.hpp"
#include "fathom/backend/cpu/cross_entropy.inl.hpp"
#include "fathom/backend/cpu/depth_sums.inl.hpp"
#include "fathom/backend/cpu/elementwise.inl.hpp"
#include "fathom/backend/cpu/embedding.inl.hpp"
#include "fathom/backend/cpu/functors.inl.hpp"
#include "fathom/backend/cpu/grouped.inl.hpp"
#include "fathom/backend/cpu/grouped_matmul.inl.hpp"
#include "fathom/backend/cpu/matmul.inl.hpp"
#include "fathom/backend/cpu/packed.inl.hpp"
#include "fathom/backend/cpu/packed_matmul.inl.hpp"
#include "fathom/backend/cpu/rotation.inl.hpp"
#include "fathom/backend/depth_functors.hpp"
#include "fathom/train/adamw.hpp"
#include "fathom/train/lion.hpp"
#include "fathom/train/muon.hpp"
#include "fathom/train/sgd.hpp"

/// An explicit instantiation. The attribute tells what other units call from what the kernels call of their own, if this is
/// compiled with -fvisibility=hidden (cmake/fathom-dispatch.cmake).
#define FATHOM_ENTRY template __attribute__((visibility("default")))

/// For an activation A and a scalar T.
#define FATHOM_KERNELS_OF_ACTIVATION(T, A)                                                                                    \
  FATHOM_ENTRY void apply_epilogue<T, epilogue::activated<A, T>>(const void*, const T*, index, const matrix<T>&, index, index, index, \
                                                             index);                                                          \
  FATHOM_ENTRY void apply_epilogue<T, epilogue::activation_gradient<A, T>>(const void*, const T*, index, const matrix<T>&, index, \
                                                                       index, index, index);                                  \
  FATHOM_ENTRY void apply_epilogue<T, epilogue::gated<A, T>>(const void*, const T*, index, const matrix<T>&, index, index, index, \
                                                         index);                                                              \
  FATHOM_ENTRY void apply_epilogue<T, epilogue::gate_gradient<A, T>>(const void*, const T*, index, const matrix<T>&, index, index, \
                                                                 index, index);                                               \
  FATHOM_ENTRY void map_row(const activation_value<A>&, const std::array<matrix<T>, 1>&, const std::array<matrix<const T>, 1>&, index); \
  FATHOM_ENTRY void map_row(const activation_slope<A>&, const std::array<matrix<T>, 1>&, const std::array<matrix<const T>, 2>&, index); \
  FATHOM_ENTRY void map_row(const gate_value<A>&, const std::array<matrix<T>, 1>&, const std::array<matrix<const T>, 2>&, index); \
  FATHOM_ENTRY void map_row(const gate_slope<A>&, const std::array<matrix<T>, 2>&, const std::array<matrix<const T>, 3>&, index);

/// The functors of the library, for a scalar T.
#define FATHOM_KERNELS_OF_FUNCTORS(T)                                                                                         \
  namespace fathom::cpu {                                                                                                     \
  inline namespace FATHOM_ISA {                                                                                               \
  namespace detail {                                                                                                          \
  FATHOM_KERNELS_OF_ACTIVATION(T, identity)                                                                                   \
  FATHOM_KERNELS_OF_ACTIVATION(T, gelu_tanh)                                                                                  \
  FATHOM_KERNELS_OF_ACTIVATION(T, gelu_erf)                                                                                   \
  FATHOM_KERNELS_OF_ACTIVATION(T, sigmoid)                                                                                    \
  FATHOM_KERNELS_OF_ACTIVATION(T, silu)                                                                                       \
  FATHOM_KERNELS_OF_ACTIVATION(T, tanh_activation)                                                                            \
  FATHOM_KERNELS_OF_ACTIVATION(T, relu)                                                                                       \
  FATHOM_KERNELS_OF_ACTIVATION(T, relu_squared)                                                                               \
  FATHOM_ENTRY void map_row(const times&, const std::array<matrix<T>, 1>&, const std::array<matrix<const T>, 1>&, index);   \
  FATHOM_ENTRY void map_row(const inverse_root_mean&, const std::array<matrix<T>, 1>&, const std::array<matrix<const T>, 1>&, index); \
  FATHOM_ENTRY void map_row(const small_tanh_slope&, const std::array<matrix<T>, 1>&, const std::array<matrix<const T>, 2>&, index); \
  FATHOM_ENTRY void map_row(const normed_score_slopes&, const std::array<matrix<T>, 2>&, const std::array<matrix<const T>, 3>&, index); \
  FATHOM_ENTRY void update_range(const gradient_step<adamw_rule::formula<T>, T>&, index, index, T*, T*, T*, T*);            \
  FATHOM_ENTRY void update_range(const gradient_step<sgd_rule::formula<T>, T>&, index, index, T*, T*, T*);                  \
  FATHOM_ENTRY void update_range(const gradient_step<lion_rule::formula<T>, T>&, index, index, T*, T*, T*);                 \
  FATHOM_ENTRY void update_range(const fathom::detail::muon_momentum<T>&, index, index, T*, T*);                            \
  FATHOM_ENTRY void update_range(const fathom::detail::combine_numbers<T>&, index, index, T*, T*);                          \
  FATHOM_ENTRY void update_range(const fathom::detail::scale_number<T>&, index, index, T*);                                 \
  }                                                                                                                           \
  }                                                                                                                           \
  }

/// For a scalar T, whatever the compute type.
#define FATHOM_KERNELS_OF_SCALAR(T)                                                                                         \
  namespace fathom::cpu {                                                                                                   \
  inline namespace FATHOM_ISA {                                                                                             \
  namespace detail {                                                                                                        \
  FATHOM_ENTRY void apply_epilogue<T, epilogue::none>(const void*, const T*, index, const matrix<T>&, index, index, index, index); \
  FATHOM_ENTRY void apply_epilogue<T, epilogue::add<T>>(const void*, const T*, index, const matrix<T>&, index, index, index, index); \
  FATHOM_ENTRY void apply_epilogue<T, epilogue::bias<T>>(const void*, const T*, index, const matrix<T>&, index, index, index, index); \
  FATHOM_ENTRY void apply_epilogue<T, epilogue::bias_add<T>>(const void*, const T*, index, const matrix<T>&, index, index, index, index); \
  FATHOM_ENTRY void apply_epilogue<T, epilogue::soft_cap<T>>(const void*, const T*, index, const matrix<T>&, index, index, index, index); \
  FATHOM_ENTRY void read_table_row<T, T>(const void*, index, index, T*, bool);                                              \
  FATHOM_ENTRY void read_packed_row<T, T>(const void*, index, index, T*, bool);                                             \
  FATHOM_ENTRY void pack_panels<T>(const T*, index, index, const packed_view<T, packing<T>::word>&);                        \
  }                                                                                                                         \
  }                                                                                                                         \
  }

/// For weights packed as P, whose scalar is T.
#define FATHOM_KERNELS_OF_PACKED(T, P)                                                                                      \
  namespace fathom::cpu {                                                                                                   \
  inline namespace FATHOM_ISA {                                                                                             \
  namespace detail {                                                                                                        \
  FATHOM_ENTRY void read_packed_row<T, P>(const void*, index, index, T*, bool);                                             \
  FATHOM_ENTRY void pack_panels<P>(const T*, index, index, const packed_view<P, packing<P>::word>&);                        \
  }                                                                                                                         \
  }                                                                                                                         \
  }

/// For weights in groups P.
#define FATHOM_KERNELS_OF_GROUPED(P)                                                                                        \
  namespace fathom::cpu {                                                                                                   \
  inline namespace FATHOM_ISA {                                                                                             \
  namespace detail {                                                                                                        \
  FATHOM_ENTRY void read_packed_row<float, P>(const void*, index, index, float*, bool);                                     \
  FATHOM_ENTRY void pack_groups(const float*, index, index, const packed_view<P, std::uint8_t>&);                           \
  }                                                                                                                         \
  }                                                                                                                         \
  }

/// For the compute type C, whose scalar is T.
#define FATHOM_KERNELS_OF(C, T)                                                                                             \
  namespace fathom::cpu {                                                                                                   \
  inline namespace FATHOM_ISA {                                                                                             \
  FATHOM_ENTRY void copy(const context<C, T>&, matrix<const T>, matrix<T>);                                                 \
  FATHOM_ENTRY void add(const context<C, T>&, matrix<const T>, matrix<T>);                                                  \
  FATHOM_ENTRY void zero(const context<C, T>&, matrix<T>);                                                                  \
  FATHOM_ENTRY void column_sums(const context<C, T>&, matrix<const T>, T*);                                                 \
  FATHOM_ENTRY void add_scaled(const context<C, T>&, matrix<const T>, matrix<const T>, matrix<const T>, matrix<T>);         \
  FATHOM_ENTRY void row_dots(const context<C, T>&, matrix<const T>, matrix<const T>, matrix<T>);                            \
  FATHOM_ENTRY void softmax_forward(const context<C, T>&, matrix<const T>, matrix<T>);                                      \
  FATHOM_ENTRY void softmax_backward(const context<C, T>&, matrix<const T>, matrix<const T>, matrix<T>);                    \
  FATHOM_ENTRY void layer_norm_forward(const context<C, T>&, matrix<const T>, const T*, const T*, matrix<T>, T*, T*, double); \
  FATHOM_ENTRY void layer_norm_backward(const context<C, T>&, matrix<const T>, const T*, const T*, const T*, matrix<const T>, \
                                    matrix<T>, T*, T*);                                                                     \
  FATHOM_ENTRY void rms_norm_forward(const context<C, T>&, matrix<const T>, const T*, matrix<T>, T*, double, double, index); \
  FATHOM_ENTRY void rms_norm_backward(const context<C, T>&, matrix<const T>, const T*, const T*, matrix<const T>,           \
                                  matrix<T>, T*, double, index, bool);                                                      \
  FATHOM_ENTRY double sum_of_squares(const context<C, T>&, const T*, index);                                                \
  FATHOM_ENTRY void attention_forward(const context<C, T>&, const attention_shape&, matrix<const T>, matrix<const T>,       \
                                  matrix<const T>, matrix<T>, T*, const distance_slopes<T>&);                               \
  FATHOM_ENTRY void attention_backward(const context<C, T>&, const attention_shape&, matrix<const T>, matrix<const T>,      \
                                   matrix<const T>, matrix<const T>, const T*, matrix<const T>, T*, matrix<T>, matrix<T>,   \
                                   matrix<T>, const distance_slopes<T>&, T*, T*);                                           \
  FATHOM_ENTRY void scale_heads(const context<C, T>&, matrix<const T>, matrix<const T>, matrix<T>);                         \
  FATHOM_ENTRY void dot_heads(const context<C, T>&, matrix<const T>, matrix<const T>, matrix<T>);                           \
  FATHOM_ENTRY void attention_weights(const context<C, T>&, const attention_shape&, matrix<const T>, matrix<const T>, const T*, \
                                  matrix<T>, const distance_slopes<T>&);                                                    \
  FATHOM_ENTRY void attention_append(const context<C, T>&, const extent&, matrix<const T>, matrix<T>, index, index);        \
  FATHOM_ENTRY void attention_slide(const context<C, T>&, const extent&, matrix<T>, index);                                 \
  FATHOM_ENTRY void rotate(const context<C, T>&, const extent&, const rotation&, matrix<T>, index, index, int);             \
  FATHOM_ENTRY void cross_entropy_forward(const context<C, T>&, matrix<const T>, std::span<const token>, T*, T*);           \
  FATHOM_ENTRY void cross_entropy_backward(const context<C, T>&, matrix<T>, std::span<const token>, const T*, T, double);   \
  namespace detail {                                                                                                        \
  FATHOM_ENTRY void product_nn(const context<C, T>&, const matrix<const T>&, const matrix<const T>&, const matrix<T>&,      \
                           const any_epilogue<T>&);                                                                         \
  FATHOM_ENTRY void product_nt(const context<C, T>&, const matrix<const T>&, const matrix<const T>&, const matrix<T>&,      \
                           const any_epilogue<T>&);                                                                         \
  FATHOM_ENTRY void product_tn(const context<C, T>&, const matrix<const T>&, const matrix<const T>&, const matrix<T>&);     \
  FATHOM_ENTRY void packed_product(const context<C, T>&, const matrix<const T>&, const packed_view<T>&, const matrix<T>&,   \
                               const any_epilogue<T>&);                                                                     \
  FATHOM_ENTRY void embed_tokens(const context<C, T>&, std::span<const token>, const row_reader<T>&, const matrix<T>&);     \
  FATHOM_ENTRY void add_to_tokens(const context<C, T>&, std::span<const token>, const matrix<const T>&, const matrix<T>&);  \
  FATHOM_ENTRY void embed_positions(const context<C, T>&, const extent&, const row_reader<T>&, const matrix<T>&);           \
  FATHOM_ENTRY void add_to_positions(const context<C, T>&, const extent&, const matrix<const T>&, const matrix<T>&);        \
  }                                                                                                                         \
  }                                                                                                                         \
  }

/// For the compute type C, whose scalar is float, and keys and values that a cache stores as P.
#define FATHOM_KERNELS_WITH_STORED(C, P)                                                                                    \
  namespace fathom::cpu {                                                                                                   \
  inline namespace FATHOM_ISA {                                                                                             \
  FATHOM_ENTRY void attention_forward(const context<C, float>&, const attention_shape&, matrix<const float>,                \
                                  const stored_rows<P>&, const stored_rows<P>&, matrix<float>, float*, const distance_slopes<float>&);                   \
  FATHOM_ENTRY void attention_append(const context<C, float>&, const extent&, matrix<const float>, const stored_rows<P>&, index, \
                                 index);                                                                                    \
  FATHOM_ENTRY void attention_slide(const context<C, float>&, const extent&, matrix<P>, index);                             \
  }                                                                                                                         \
  }

/// For the compute type C, whose scalar is T, and weights packed as P.
#define FATHOM_KERNELS_WITH_PACKED(C, T, P)                                                                                 \
  namespace fathom::cpu {                                                                                                   \
  inline namespace FATHOM_ISA {                                                                                             \
  namespace detail {                                                                                                        \
  FATHOM_ENTRY void packed_product(const context<C, T>&, const matrix<const T>&, const packed_view<P>&, const matrix<T>&,   \
                               const any_epilogue<T>&);                                                                     \
  }                                                                                                                         \
  }                                                                                                                         \
  }

/// For the compute type C, whose scalar is float, and weights in groups P.
#define FATHOM_KERNELS_WITH_GROUPED(C, P)                                                                                   \
  namespace fathom::cpu {                                                                                                   \
  inline namespace FATHOM_ISA {                                                                                             \
  namespace detail {                                                                                                        \
  FATHOM_ENTRY void grouped_product(const context<C, float>&, const matrix<const float>&, const packed_view<P>&,            \
                                const matrix<float>&, const any_epilogue<float>&);                                          \
  }                                                                                                                         \
  }                                                                                                                         \
  }
