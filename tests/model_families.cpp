// The families of models on the cpu backend.
#include <fathom/backend/cpu.hpp>

#include "catch.hpp"
#include "family_models.hpp"

namespace family_models {

TEMPLATE_TEST_CASE("families train and decode on the cpu backend as in the reference backend", "[families]", FATHOM_FAMILY_MODELS) {
  using cpu = fathom::backend::cpu<float>;
  using net = fathom::model<TestType::c, cpu>;
  meets_reference<TestType::c, cpu>([](const auto& check) {
    typename net::cache cache(1);
    check(cache);
  });
}

}  // namespace family_models
