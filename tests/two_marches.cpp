// Two units of one program, compiled for two processors (two_marches.cmake): UNIT is 1 or 2.
//
// Each packs weights and multiplies with them, in its own widths and layouts, without mixing code. If one
// unit fills an object of the other's type (MIXED), linking fails.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <new>
#include <vector>

#include <fathom/backend/cpu/packed_matmul.hpp>
#include <fathom/backend/epilogue.hpp>
#include <fathom/model/model.hpp>

#define JOIN_TOKENS(a, b) a##b
#define JOIN(a, b) JOIN_TOKENS(a, b)

namespace {

constexpr fathom::index in = 37, out = 29;
template <class P>
using weights = fathom::cpu::packed_matrix<P, in, out>;

/// Packs into an object followed by other bytes, multiplies rows with it, and returns whether everything is right.
template <class P>
bool is_right(double tolerance) {
  std::vector<float> numbers(in * out), x(5 * in), y(5 * out);
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<float>((i * 31 + 7) % 64) / 32 - 1;
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>((i * 13 + 5) % 16) / 8 - 1;
  constexpr std::size_t behind = 8192;
  alignas(64) static unsigned char memory[sizeof(weights<P>) + behind];
  std::memset(memory, 0xa5, sizeof memory);
  auto& packed = *::new (static_cast<void*>(memory)) weights<P>;
  std::memset(static_cast<void*>(&packed), 0, sizeof packed);
  packed.pack(numbers.data(), out, 1);
  bool right = true;
  for (std::size_t i = 0; i < behind; ++i) right = right && memory[sizeof packed + i] == 0xa5;

  fathom::cpu::meeting_point alone;
  const fathom::cpu::context<float, float> on(0, 1, alone);
  for (const fathom::index rows : {1, 5}) {
    std::fill(y.begin(), y.end(), 0.0f);
    fathom::cpu::matmul(on, fathom::matrix<const float>{x.data(), rows, in}, packed, fathom::matrix<float>{y.data(), rows, out},
                        fathom::epilogue::none{});
    for (fathom::index r = 0; r < rows; ++r)
      for (fathom::index j = 0; j < out; ++j) {
        double sum = 0;
        for (fathom::index k = 0; k < in; ++k)
          sum += static_cast<double>(x[static_cast<std::size_t>(r * in + k)]) * static_cast<double>(numbers[static_cast<std::size_t>(k * out + j)]);
        right = right && std::abs(sum - static_cast<double>(y[static_cast<std::size_t>(r * out + j)])) <= tolerance;
      }
  }
  return right;
}

constexpr fathom::config c{.vocab = 5, .context = 4, .width = 4, .depth = 1, .heads = 1};

}  // namespace

/// Returns how many of three forms of weights are right in this unit, and prints its sizes.
int JOIN(check_, UNIT)() {
  const bool right[] = {is_right<float>(1e-4), is_right<fathom::bf16>(1e-4), is_right<std::int8_t>(0.2)};
  std::printf("unit %d: vectors of %d bytes, int8 weights of %zu: float %d, bf16 %d, int8 %d\n", UNIT, fathom::cpu::vector_bytes,
              sizeof(weights<std::int8_t>), right[0], right[1], right[2]);
  return right[0] + right[1] + right[2];
}

// Defined in another unit.
void fill(weights<std::int8_t>& to, const float* from);
void look_at(const fathom::model<c>* model);

#if UNIT == 1
int check_2();
int main() {
#if defined(__x86_64__)
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("bmi2")) {
    std::puts("skipped: this processor is older than x86-64-v3");
    return 0;
  }
#endif
#if defined(MIXED)
  const std::vector<float> numbers(in * out);
  weights<std::int8_t> here;
  fill(here, numbers.data());
  look_at(nullptr);
#endif
  return check_1() + check_2() == 6 ? 0 : 1;
}
#else
void fill(weights<std::int8_t>& to, const float* from) { to.pack(from, out, 1); }
void look_at(const fathom::model<c>*) {}
#endif
