// A functor of one's own beside fathom::kernels needs <fathom/functors.hpp>.
// says: fathom: this activation, epilogue or update is not in fathom::kernels; include <fathom/functors.hpp>
// flags: -std=c++20 -DFATHOM_KERNELS=FATHOM_ISA
// MISTAKE=1: softplus
#include <fathom/backend/cpu.hpp>

/// log(1 + e^x)
struct softplus {
  template <class V>
  struct at {
    V value, derivative;
    FATHOM_ANYWHERE explicit at(const V& x) : value(x), derivative(x) {}
  };
};
#if defined(MISTAKE)
using chosen = softplus;
#else
using chosen = fathom::silu;
#endif

void multiply(const fathom::backend::cpu<float>::context& on, fathom::matrix<const float> x, fathom::matrix<float> y) {
  matmul(on, x, x, y, fathom::epilogue::activated{chosen(), static_cast<const float*>(nullptr), y});
}
