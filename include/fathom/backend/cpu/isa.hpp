// The instruction set that a translation unit is compiled for, as an identifier.
//
// The CPU backend is in an inline namespace of that name: vector widths and the order of sums depend on it, so units
// compiled for different processors must not share symbols. Such units can be linked into one program; their
// types are distinct, and mixing them up fails to link.
//
// If fathom::kernels holds kernels for several instruction sets, units that link it are in the namespace `dispatched`, and
// their calls go to the set that was chosen at start (kernels/dispatch.inl.hpp).
#pragma once

#define FATHOM_JOIN_TOKENS(a, b) a##b
#define FATHOM_JOIN(a, b) FATHOM_JOIN_TOKENS(a, b)

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__)
#define FATHOM_ISA_VECTORS avx512
#elif defined(__AVX512F__)
#define FATHOM_ISA_VECTORS avx512f
#elif defined(__AVX2__) && defined(__FMA__)
#define FATHOM_ISA_VECTORS avx2_fma
#elif defined(__AVX2__)
#define FATHOM_ISA_VECTORS avx2
#elif defined(__AVX__)
#define FATHOM_ISA_VECTORS avx
#elif defined(__SSE4_1__)
#define FATHOM_ISA_VECTORS sse4
#elif defined(__SSE2__)
#define FATHOM_ISA_VECTORS sse2
#elif defined(__aarch64__)
#define FATHOM_ISA_VECTORS neon64
#elif defined(__ARM_NEON)
#define FATHOM_ISA_VECTORS neon
#else
#define FATHOM_ISA_VECTORS generic
#endif

#if defined(__AVX512VNNI__) || defined(__AVXVNNI__)
#define FATHOM_ISA_BYTES _vnni
#else
#define FATHOM_ISA_BYTES
#endif

#if defined(__AVX512BF16__)
#define FATHOM_ISA_BF16 _bf16
#else
#define FATHOM_ISA_BF16
#endif

// clang 14 defines AMXTILE and AMXBF16.
#if (defined(__AMX_TILE__) || defined(__AMXTILE__)) && (defined(__AMX_BF16__) || defined(__AMXBF16__))
#define FATHOM_ISA_TILES _amx
#else
#define FATHOM_ISA_TILES
#endif

/// What this unit is compiled for: avx512_vnni_bf16, avx2_fma, sse2, ...
#define FATHOM_UNIT_ISA \
  FATHOM_JOIN(FATHOM_ISA_VECTORS, FATHOM_JOIN(FATHOM_ISA_BYTES, FATHOM_JOIN(FATHOM_ISA_BF16, FATHOM_ISA_TILES)))
/// The namespace.
#if defined(FATHOM_DISPATCHED)
#define FATHOM_ISA dispatched
#else
#define FATHOM_ISA FATHOM_UNIT_ISA
#endif
#define FATHOM_TEXT_OF_TOKEN(a) #a
#define FATHOM_TEXT_OF(a) FATHOM_TEXT_OF_TOKEN(a)

#if defined(FATHOM_KERNELS)
#include <type_traits>
namespace fathom::check {
template <class Library, class Unit>
inline constexpr bool kernels_are_compiled_for_the_same_processor = std::is_same_v<Library, Unit>;
static_assert(kernels_are_compiled_for_the_same_processor<struct FATHOM_KERNELS, struct FATHOM_UNIT_ISA>,
              "fathom: this unit is compiled for another instruction set than fathom::kernels: give both the same -march, or "
              "link fathom::fathom");
}  // namespace fathom::check
#endif

namespace fathom::cpu {
inline namespace FATHOM_ISA {

/// The instruction set of the kernels that run: "avx2_fma", ...
#if defined(FATHOM_DISPATCHED)
[[nodiscard]] const char* instruction_set();
#else
[[nodiscard]] constexpr const char* instruction_set() { return FATHOM_TEXT_OF(FATHOM_ISA); }
#endif

/// Bytes of a vector register.
#if defined(__AVX512F__)
inline constexpr int vector_bytes = 64;
#elif defined(__AVX__)
inline constexpr int vector_bytes = 32;
#else
inline constexpr int vector_bytes = 16;
#endif
/// Vector registers.
#if defined(__AVX512F__) || defined(__aarch64__)
inline constexpr int vector_registers = 32;
#else
inline constexpr int vector_registers = 16;
#endif

/// Whether the processor multiplies bf16 natively: the compute type bf16 then takes half the time of float. Otherwise
/// operands are rounded to bf16 and multiplied as floats, which is slower than float.
#if defined(__AVX512BF16__) && defined(__AVX512BW__)
inline constexpr bool has_bf16_products = true;
#else
inline constexpr bool has_bf16_products = false;
#endif
/// Whether it does so in AMX tiles: operands are then laid out for them.
#if (defined(__AMX_TILE__) || defined(__AMXTILE__)) && (defined(__AMX_BF16__) || defined(__AMXBF16__)) && \
    defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__linux__)
#define FATHOM_AMX 1
inline constexpr bool has_amx = true;
#else
inline constexpr bool has_amx = false;
#endif
inline constexpr int amx_words = 16;  // pairs along the depth that one instruction takes
/// Whether one instruction multiplies and adds four bytes.
#if (defined(__AVX512VNNI__) && defined(__AVX512F__)) || (defined(__AVXVNNI__) && !defined(__AVX512F__))
inline constexpr bool has_byte_products = true;
#else
inline constexpr bool has_byte_products = false;
#endif
/// Whether one does so with pairs of 16-bit integers, in vectors as wide as float vectors.
#if (defined(__AVX2__) && !defined(__AVX512F__)) || defined(__AVX512BW__)
inline constexpr bool has_pair_products = true;
#else
inline constexpr bool has_pair_products = false;
#endif

}  // namespace FATHOM_ISA
}  // namespace fathom::cpu
