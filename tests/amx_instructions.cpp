// Checks only that the AMX kernels compile, because few test machines have AMX (backend_matmul_amx.cpp runs
// them with emulated instructions).
#include <fathom/backend/cpu.hpp>

namespace fathom {

static_assert(cpu::has_amx);

using on_bf16 = cpu::context<bf16, float>;
void products(const on_bf16& on, matrix<const float> x, matrix<const float> w, matrix<float> y) {
  matmul(on, x, w, y, epilogue::none{});
  matmul_nt(on, x, w, y, epilogue::none{});
  matmul_tn(on, x, w, y);
}
void packed_product(const on_bf16& on, matrix<const float> x, const cpu::packed_matrix<bf16, 64, 64>& w, matrix<float> y) {
  matmul(on, x, w, y, epilogue::none{});
}

}  // namespace fathom
