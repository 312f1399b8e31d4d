// The core: random numbers, 16-bit floats, int8, names, memory and views.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <fathom/core/arena.hpp>
#include <fathom/core/bf16.hpp>
#include <fathom/core/error.hpp>
#include <fathom/core/int8.hpp>
#include <fathom/core/matrix.hpp>
#include <fathom/core/memory.hpp>
#include <fathom/core/name.hpp>
#include <fathom/core/random.hpp>
#include <fathom/core/storage.hpp>
#include <fathom/core/tensor.hpp>
#include <fathom/core/types.hpp>

#include "catch.hpp"
#include "fails_with.hpp"

namespace {

using fathom::arena;
using fathom::bf16;
using fathom::f16;
using fathom::matrix;
using fathom::path;

/// The value of a binary floating-point number, computed from its three fields,
/// without any conversion by the machine or the library.
double value_of(std::uint32_t sign, std::uint32_t exponent, std::uint32_t fraction, int exponent_bits, int fraction_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const std::uint32_t all_ones = (1u << exponent_bits) - 1;
  double magnitude = 0;
  if (exponent == all_ones)
    magnitude = fraction ? std::numeric_limits<double>::quiet_NaN() : std::numeric_limits<double>::infinity();
  else if (exponent == 0)
    magnitude = std::ldexp(static_cast<double>(fraction), 1 - bias - fraction_bits);
  else
    magnitude = std::ldexp(static_cast<double>((1u << fraction_bits) + fraction), static_cast<int>(exponent) - bias - fraction_bits);
  return sign ? -magnitude : magnitude;
}
double value_of_bf16(std::uint32_t bits) { return value_of(bits >> 15, (bits >> 7) & 0xffu, bits & 0x7fu, 8, 7); }
double value_of_f16(std::uint32_t bits) { return value_of(bits >> 15, (bits >> 10) & 0x1fu, bits & 0x3ffu, 5, 10); }

/// Equal as numbers, including the sign of zero; NaN equals NaN.
bool same(double a, double b) {
  return std::isnan(a) ? std::isnan(b) : a == b && std::signbit(a) == std::signbit(b);
}

bf16 bf16_of_bits(std::uint32_t bits) {
  bf16 value;
  value.bits = static_cast<std::uint16_t>(bits);
  return value;
}

}  // namespace

// ---- Random numbers --------------------------------------------------------------------------------------------------

TEST_CASE("philox gives the known answers of Random123", "[core][random]") {
  // The lines "philox4x32 10" of tests/kat_vectors, github.com/DEShawResearch/random123: counter, key, result.
  using words = std::array<std::uint32_t, 4>;
  STATIC_REQUIRE(fathom::philox({0, 0, 0, 0}, {0, 0}) == words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  STATIC_REQUIRE(fathom::philox({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}) ==
                 words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  STATIC_REQUIRE(fathom::philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
                 words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("stream_of is FNV-1a", "[core][random]") {
  // Values of Noll's reference implementation.
  STATIC_REQUIRE(fathom::stream_of("") == 0xcbf29ce484222325u);
  STATIC_REQUIRE(fathom::stream_of("a") == 0xaf63dc4c8601ec8cu);
  STATIC_REQUIRE(fathom::stream_of("foobar") == 0x85944171f73967e8u);
}

TEST_CASE("random numbers depend on seed, stream and position alone", "[core][random]") {
  // position and stream are the counter's halves, and seed is the key; words 0 and 1 of the result, low word first.
  const std::uint64_t seed = 0x299f31d0a4093822u, stream = 0x0370734413198a2eu, position = 0x85a308d3243f6a88u;
  CHECK(fathom::random(seed, stream, position).bits() == 0x94fdccebd16cfe09u);

  std::vector<std::uint64_t> drawn;
  fathom::random numbers(7, 3);
  for (int i = 0; i < 100; ++i) drawn.push_back(numbers.bits());
  CHECK(numbers.position() == 100);
  fathom::random later(7, 3, 60);
  for (std::size_t i = 60; i < 100; ++i) CHECK(later.bits() == drawn[i]);
  CHECK(fathom::random(8, 3).bits() != drawn[0]);
  CHECK(fathom::random(7, 4).bits() != drawn[0]);

  // A normal number takes two numbers from the stream, and none are kept for the next.
  fathom::random normals(7, 3);
  static_cast<void>(normals.normal());
  CHECK(normals.position() == 2);
  CHECK(normals.normal() == fathom::random(7, 3, 2).normal());
}

TEST_CASE("uniform, below and normal have their distributions", "[core][random]") {
  constexpr int count = 200'000;
  fathom::random numbers(1, 2);
  double smallest = 1, largest = 0;
  for (int i = 0; i < count; ++i) {
    const double u = numbers.uniform();
    smallest = std::min(smallest, u);
    largest = std::max(largest, u);
  }
  CHECK(smallest >= 0);
  CHECK(largest < 1);
  CHECK(smallest < 20.0 / count);
  CHECK(largest > 1 - 20.0 / count);

  std::array<int, 7> histogram{};
  for (int i = 0; i < count; ++i) {
    const fathom::index n = numbers.below(7);
    REQUIRE(n >= 0);
    REQUIRE(n < 7);
    ++histogram[static_cast<std::size_t>(n)];
  }
  for (const int n : histogram) CHECK(std::abs(n - count / 7.0) < 5 * std::sqrt(count / 7.0));

  // The first four moments of normal(0, 1) are 0, 1, 0, 3; five standard errors each.
  double sums[5] = {};
  for (int i = 0; i < count; ++i) {
    const double x = numbers.normal();
    REQUIRE(std::isfinite(x));
    double power = 1;
    for (double& sum : sums) sum += std::exchange(power, power * x);
  }
  const double error = 5 / std::sqrt(static_cast<double>(count));
  CHECK(std::abs(sums[1] / count) < error);
  CHECK(std::abs(sums[2] / count - 1) < error * std::sqrt(2.0));
  CHECK(std::abs(sums[3] / count) < error * std::sqrt(15.0));
  CHECK(std::abs(sums[4] / count - 3) < error * std::sqrt(96.0));
}

// ---- 16-bit floats ---------------------------------------------------------------------------------------------------

TEST_CASE("every bf16 converts to its float and back", "[core][bf16]") {
  int wrong = 0;
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const double expected = value_of_bf16(bits);
    const float found = static_cast<float>(bf16_of_bits(bits));
    wrong += !same(static_cast<double>(found), expected);
    wrong += std::isnan(expected) ? !std::isnan(static_cast<float>(bf16(found))) : bf16(found).bits != bits;
  }
  CHECK(wrong == 0);
}

TEST_CASE("float rounds to the nearest bf16, ties to even", "[core][bf16]") {
  // Between two neighbouring bf16 numbers lie 65535 floats. Of each gap, try its ends, the middle and its
  // neighbours, and two more. All in double, where every step is exact.
  int wrong = 0;
  for (std::uint32_t lower = 0; lower < 0x10000; ++lower) {
    if (std::isnan(value_of_bf16(lower))) continue;
    const bool to_infinity = (lower & 0x7fffu) == 0x7f7fu, is_infinity = (lower & 0x7fffu) == 0x7f80u;
    for (const std::uint32_t rest : {0u, 1u, 0x1234u, 0x7fffu, 0x8000u, 0x8001u, 0xabcdu, 0xffffu}) {
      if (is_infinity && rest) continue;  // a NaN
      const float x = std::bit_cast<float>(lower << 16 | rest);
      const double below = value_of_bf16(lower);
      // Beyond the largest number, rounding continues as if the next were 2^128; that becomes infinity.
      const double above = to_infinity ? std::copysign(0x1p128, below) : value_of_bf16(lower + 1);
      std::uint32_t expected = lower;
      if (!is_infinity) {
        const double to_below = std::abs(static_cast<double>(x) - below), to_above = std::abs(above - static_cast<double>(x));
        if (to_above < to_below || (to_above == to_below && lower % 2 == 1)) expected = lower + 1;
      }
      wrong += bf16(x).bits != expected;
    }
  }
  CHECK(wrong == 0);
  STATIC_REQUIRE(bf16(1.0f).bits == 0x3f80);
}

TEST_CASE("NaN stays NaN in bf16", "[core][bf16]") {
  // Rounding the first of these up would carry into exponent and sign; truncating the second would give infinity.
  for (const std::uint32_t bits : {0x7fffffffu, 0x7f800001u, 0xffffffffu, 0xff800001u, 0x7fc00000u, 0x7f80ffffu}) {
    const auto rounded = bf16(std::bit_cast<float>(bits));
    CHECK(std::isnan(static_cast<float>(rounded)));
    CHECK((rounded.bits >> 15) == (bits >> 31));
  }
}

TEST_CASE("every f16 converts to its float", "[core][f16]") {
  int wrong = 0;
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    f16 half{};
    half.bits = static_cast<std::uint16_t>(bits);
    wrong += !same(static_cast<double>(static_cast<float>(half)), value_of_f16(bits));
  }
  CHECK(wrong == 0);
}

// ---- int8 ------------------------------------------------------------------------------------------------------------

TEST_CASE("int8 rounds to the nearest step, halves away from zero", "[core][int8]") {
  CHECK(fathom::int8_scale(127) == 1);
  CHECK(fathom::int8_scale(1) == static_cast<float>(1.0 / 127));
  const auto rounded = [](float value, float scale) { return static_cast<int>(fathom::to_int8(value, scale)); };
  CHECK(rounded(2.5f, 1) == 3);
  CHECK(rounded(-2.5f, 1) == -3);
  CHECK(rounded(std::nextafter(2.5f, 0.0f), 1) == 2);
  CHECK(rounded(-0.49f, 1) == 0);
  CHECK(rounded(5.0f, 2) == 3);
  CHECK(rounded(1000, 1) == 127);
  CHECK(rounded(-1000, 1) == -127);
  // Numbers that are too small for a scale are 0.
  const float smallest = std::numeric_limits<float>::min();
  CHECK(fathom::int8_scale(0) == 0);
  CHECK(fathom::int8_scale(126 * smallest) == 0);
  CHECK(fathom::int8_scale(127 * smallest) == smallest);
  CHECK(rounded(126 * smallest, 0) == 0);
}

TEST_CASE("what int8 can hold is rounded to itself", "[core][int8]") {
  // All fractions of a largest number, and then all magnitudes.
  fathom::random numbers(5, fathom::stream_of("int8"));
  int wrong = 0;
  const auto check = [&](std::uint32_t bits) {
    const float largest = std::bit_cast<float>(bits), scale = fathom::int8_scale(largest);
    wrong += fathom::to_int8(largest, scale) != (scale > 0 ? 127 : 0);
    wrong += fathom::int8_scale(127 * scale) != scale;
    const auto stored = static_cast<std::int8_t>(numbers.below(255) - 127);
    wrong += fathom::to_int8(scale * static_cast<float>(stored), scale) != (scale > 0 ? stored : 0);
  };
  for (std::uint32_t fraction = 0; fraction < 1u << 23; ++fraction) check(0x3f800000u | fraction);
  for (std::uint32_t exponent = 0; exponent < 255; ++exponent)
    for (int i = 0; i < 5000; ++i) check(exponent << 23 | static_cast<std::uint32_t>(numbers.below(1 << 23)));
  CHECK(wrong == 0);
}

// ---- Names and errors ------------------------------------------------------------------------------------------------

TEST_CASE("a path builds the names of tensors", "[core][path]") {
  STATIC_REQUIRE((path{} / "h" / 3 / "attn" / "c_attn" / "weight").view() == "h.3.attn.c_attn.weight");
  STATIC_REQUIRE((path{} / "h" / 0 / "ln_1").view() == "h.0.ln_1");
  STATIC_REQUIRE((path{} / "h" / 1234567890123 / "x").view() == "h.1234567890123.x");
  STATIC_REQUIRE((path{} / "h" / 3 / "/shortcut.attn" / "c_q").view() == "shortcut.attn.c_q");
  STATIC_REQUIRE((path{} / "h" / 3 / "").view() == "h.3");
  STATIC_REQUIRE(path{}.view().empty());

  const path shared = path{} / "h";
  CHECK((shared / 1).view() == "h.1");
  CHECK((shared / 2).view() == "h.2");  // extending a path does not change it

  const std::string longest(118, 'x');
  CHECK((path{} / longest / "y").view() == longest + ".y");
  CHECK(fails_with([&] { return path{} / longest / "yz"; }, "120", longest, "yz"));
}

TEST_CASE("join and fail put strings and numbers together", "[core][error]") {
  CHECK(fathom::join("a ", std::string("b"), ' ', 3, " ", -4ll, " ", 0.5, " ", 1e-8f, " ", std::string_view("c")) ==
        "a b 3 -4 0.5 1e-08 c");
  CHECK(fails_with([]() -> int { fathom::fail("tensor ", 3, " of ", 2.5); }, "tensor 3 of 2.5"));
}

// ---- Memory ----------------------------------------------------------------------------------------------------------

namespace {

/// Pieces of several types and odd sizes, as in a tape.
struct pieces {
  double* a;
  float* b;
  matrix<double> c;
  std::byte* d;
  float* none;
  explicit constexpr pieces(arena& from, fathom::index n)
      : a(from.take<double>(n)),
        b(from.take<float>(n + 1)),
        c(from.take<double>(3, n)),
        d(from.take<std::byte>(1)),
        none(from.take<float>(0)) {}
};

}  // namespace

TEST_CASE("an arena measures what it then uses, in aligned pieces that do not overlap", "[core][arena]") {
  STATIC_REQUIRE(fathom::bytes_of<pieces>(fathom::index{8}) == 64 + 64 + 192 + 64);
  for (const fathom::index n : {1, 7, 8, 9, 100}) {
    const std::size_t bytes = fathom::bytes_of<pieces>(n);
    const fathom::buffer memory(bytes);
    arena a(memory.bytes().data());
    const pieces p(a, n);
    CHECK(a.used() == bytes);
    CHECK(p.c.rows == 3);
    CHECK(p.c.columns == n);
    // The first and one past the last byte of every piece, in order.
    const std::byte* at = memory.bytes().data();
    const auto follows = [&](const void* piece, std::size_t size) {
      CHECK(reinterpret_cast<std::uintptr_t>(piece) % fathom::alignment == 0);
      CHECK(static_cast<const std::byte*>(piece) >= at);
      at = static_cast<const std::byte*>(piece) + size;
    };
    const auto count = static_cast<std::size_t>(n);
    follows(p.a, count * sizeof(double));
    follows(p.b, (count + 1) * sizeof(float));
    follows(p.c.data, 3 * count * sizeof(double));
    follows(p.d, 1);
    CHECK(at <= memory.bytes().data() + bytes);
  }
  CHECK(arena{}.take<float>(5) == nullptr);
}

TEST_CASE("an arena handed on by value lends the rest of its block", "[core][arena]") {
  const fathom::buffer memory(1024);
  arena a(memory.bytes().data());
  static_cast<void>(a.take<float>(3));
  const auto callee = [](arena lent) { return lent.take<float>(100); };
  float* const first = callee(a);
  CHECK(callee(a) == first);
  CHECK(a.take<float>(1) == first);
}

TEST_CASE("make gives aligned zeroed memory", "[core][memory]") {
  struct block {
    fathom::tensor<float, 3, 5> a;
    fathom::tensor<float, 1> b;
  };
  for (int i = 0; i < 3; ++i) {  // the second time the heap returns used memory
    auto owned = fathom::make<block>();
    CHECK(reinterpret_cast<std::uintptr_t>(owned.get()) % fathom::alignment == 0);
    for (float& x : owned->a.span()) CHECK(std::exchange(x, 7.0f) == 0);
    for (float& x : owned->b.span()) CHECK(std::exchange(x, 7.0f) == 0);
  }
  for (int i = 0; i < 3; ++i) {
    const fathom::buffer memory(1000);
    REQUIRE(memory.bytes().size() == 1000);
    CHECK(reinterpret_cast<std::uintptr_t>(memory.bytes().data()) % fathom::alignment == 0);
    for (std::byte& x : memory.bytes()) REQUIRE(std::exchange(x, std::byte{7}) == std::byte{0});
  }
  const fathom::buffer none, nothing(0);
  CHECK(none.bytes().empty());
  CHECK(nothing.bytes().empty());
}

// ---- Views -----------------------------------------------------------------------------------------------------------

TEST_CASE("a tensor is its numbers, aligned", "[core][tensor]") {
  using table = fathom::tensor<float, 3, 5>;
  STATIC_REQUIRE(table::rank == 2);
  STATIC_REQUIRE(table::size == 15);
  STATIC_REQUIRE(table::shape == std::array<fathom::index, 2>{3, 5});
  STATIC_REQUIRE(sizeof(table) == 64);  // 60 bytes, and padding to the alignment
  STATIC_REQUIRE(alignof(table) == fathom::alignment);
  STATIC_REQUIRE(!std::is_copy_constructible_v<table> && !std::is_copy_assignable_v<table>);
  STATIC_REQUIRE(fathom::shapes::matrix<3, 5>::shape == table::shape);
  STATIC_REQUIRE(fathom::shapes::head<7, 2>::size == 14);
  STATIC_REQUIRE(fathom::shapes::vector<7>::rank == 1);

  auto owned = fathom::make<table>();
  const auto view = owned->view();
  for (fathom::index i = 0; i < 3; ++i)
    for (fathom::index j = 0; j < 5; ++j) view(i, j) = static_cast<float>(10 * i + j);
  CHECK(owned->data()[1 * 5 + 2] == 12);
  CHECK(owned->span()[14] == 24);
  CHECK(std::as_const(*owned).view()(2, 4) == 24);
}

TEST_CASE("views of views point at the right numbers", "[core][matrix]") {
  std::vector<int> numbers(8 * 10);
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<int>(i);
  const matrix<int> all(numbers.data(), 8, 10);
  const auto number = [](fathom::index row, fathom::index column) { return static_cast<int>(row * 10 + column); };

  const matrix<int> columns = all.columns_from(3, 4);
  CHECK(columns.rows == 8);
  CHECK(columns.columns == 4);
  CHECK(columns(5, 2) == number(5, 5));

  const matrix<int> rows = columns.rows_from(2, 6);
  CHECK(rows.rows == 6);
  CHECK(rows(0, 0) == number(2, 3));
  CHECK(*rows.row(5) == number(7, 3));

  const matrix<const int> third = rows.every(3, 1);  // rows 3 and 6 of all
  CHECK(third.rows == 2);
  CHECK(third.columns == 4);
  CHECK(third(0, 1) == number(3, 4));
  CHECK(third(1, 3) == number(6, 6));
  CHECK(third.every(2, 1)(0, 0) == number(6, 3));

  STATIC_REQUIRE(std::is_convertible_v<matrix<int>, matrix<const int>>);
  STATIC_REQUIRE(!std::is_convertible_v<matrix<const int>, matrix<int>>);
}

TEST_CASE("an extent knows its rows and where its sequences start", "[core][types]") {
  constexpr fathom::extent training{3, 5};
  STATIC_REQUIRE(training.rows() == 15);
  STATIC_REQUIRE(training.start(2) == 0);
  const fathom::index starts[] = {4, 0, 9};
  const fathom::extent decoding{3, 1, starts, 16, 0};
  CHECK(decoding.start(0) == 4);
  CHECK(decoding.start(2) == 9);
}
