// The families of models on the CUDA backend, under emulation (cuda_model.cpp).
#if !defined(__CUDACC__)
#include "cuda_library.hpp"
#endif

#include <fathom/cuda.cuh>

#include "catch.hpp"
#include "family_models.hpp"

namespace family_models {

TEMPLATE_TEST_CASE("families train and decode on the GPU as in the reference backend", "[cuda]", FATHOM_FAMILY_MODELS, FATHOM_RESIDUAL_MODELS) {
  using cuda = fathom::backend::cuda<float>;
  using net = fathom::model<TestType::c, cuda>;
  meets_reference<TestType::c, cuda>([](const auto& check) {
    for (const bool one_kernel : {true, false}) {
      INFO((one_kernel ? "one kernel" : "many kernels"));
      typename net::executor where;
      if (!one_kernel) where.one_kernel = 0;
      typename net::cache cache(1, net::context, where);
      check(cache);
    }
  });
}

}  // namespace family_models
