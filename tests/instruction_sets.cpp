// A program whose kernels are chosen at start (instruction_sets.cmake): prints the chosen set, and the bits of what some
// operations of each kind return. Compiled for one set, header-only, it prints what that set's kernels must return.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include <fathom/backend/cpu.hpp>
#include <fathom/core/random.hpp>

namespace fathom::test {
namespace {

template <class T>
std::vector<T> numbers(std::size_t count, std::uint64_t seed) {
  random from(seed, 0);
  std::vector<T> all(count);
  for (T& x : all) x = static_cast<T>(from.uniform() - 0.5);
  return all;
}

/// FNV-1a of the bits.
template <class T>
void print(const char* what, const std::vector<T>& all) {
  std::uint64_t hash = 14695981039346656037u;
  for (std::size_t i = 0; i < all.size() * sizeof(T); ++i)
    hash = (hash ^ reinterpret_cast<const unsigned char*>(all.data())[i]) * 1099511628211u;
  std::printf("%s %016llx\n", what, static_cast<unsigned long long>(hash));
}

constexpr index M = 70, K = 300, N = 190, heads = 3, width = 40, tokens = 90;

template <class Compute>
void run(const char* name) {
  using T = typename backend::cpu<Compute>::scalar;
  std::printf("%s\n", name);
  const std::vector<T> x = numbers<T>(M * K, 1), w = numbers<T>(K * N, 2), wide = numbers<T>(tokens * 3 * heads * width, 3);
  std::vector<T> y(M * N), gradient(K * N), out(tokens * heads * width), lse(tokens * heads), statistics(2 * M), norm(M * K);
  typename backend::cpu<Compute>::executor{2}.run([&](const auto& on) {
    const matrix<const T> xs(x.data(), M, K), ws(w.data(), K, N);
    const matrix<T> ys(y.data(), M, N);
    matmul(on, xs, ws, ys, epilogue::none{});
    matmul_tn(on, xs, ys, matrix<T>(gradient.data(), K, N));
    const auto part = [&](index n) { return matrix<const T>(wide.data() + n * heads * width, tokens, heads * width, 3 * heads * width); };
    const index start = 0;
    attention_forward(on, {1, tokens, heads, width, 1, tokens, &start}, part(0), part(1), part(2),
                      matrix<T>(out.data(), tokens, heads * width), lse.data());
    rms_norm_forward(on, xs, x.data(), matrix<T>(norm.data(), M, K), statistics.data(), 1e-5, 0, 1);
  });
  print("matmul", y);
  print("matmul_tn", gradient);
  print("attention", out);
  print("rms_norm", norm);
}

template <class P>
void run_packed(const char* name) {
  const auto x = numbers<float>(M * K, 1), w = numbers<float>(K * N, 2);
  const auto packed = std::make_unique<cpu::packed_matrix<P, K, N>>();
  packed->pack(w.data(), N, 1);
  for (const index rows : {1, 3, 70}) {
    std::vector<float> y(static_cast<std::size_t>(rows * N));
    backend::cpu<float>::executor{2}.run([&](const auto& on) {
      matmul(on, matrix<const float>(x.data(), rows, K), *packed, matrix<float>(y.data(), rows, N), epilogue::none{});
    });
    print(name, y);
  }
}

}  // namespace
}  // namespace fathom::test

int main() {
  using namespace fathom::test;
  std::printf("%s\n", fathom::cpu::instruction_set());
  run<float>("float");
  run<double>("double");
  run<fathom::bf16>("bf16");
  run_packed<fathom::bf16>("packed bf16");
  run_packed<std::int8_t>("packed int8");
}
