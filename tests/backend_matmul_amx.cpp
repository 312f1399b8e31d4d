// The tests of backend_matmul.cpp with bf16 products as on a processor with AMX, emulated by amx_emulation.hpp.
// With FATHOM_AMX_REFUSED=1 in the environment, Linux does not allow the tiles, and vectors multiply in the tiles'
// layout.
#if defined(__AVX512BF16__) && defined(__AVX512BW__)

#include "amx_emulation.hpp"

#define FATHOM_TESTED_BACKENDS backend::cpu<bf16>
#include "backend_matmul.cpp"

namespace fathom::test {

static_assert(cpu::has_amx);

TEST_CASE("products are made with tiles where Linux allows them, and tiles are given back", "[backend]") {
  const bool is_allowed = std::getenv("FATHOM_AMX_REFUSED") == nullptr;
  CHECK(cpu::detail::amx_is_allowed == is_allowed);
  const framed<float> x(32, 32), w(32, 32);
  framed<float> y(32, 32);
  const long before = amx::products;
  backend::cpu<bf16>::executor{1}.run([&](const auto& on) { matmul(on, x.view(), w.view(), y.view(), epilogue::none{}); });
  CHECK(amx::products - before == (is_allowed ? 4 : 0));
  CHECK(amx::state.shape.palette == 0);
}

}  // namespace fathom::test

#else

#include <cstdio>

int main() {
  std::puts("skipped: this processor has no products of bf16 (AVX512_BF16), which those with AMX have");
  return 0;
}

#endif
