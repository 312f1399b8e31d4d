// The main function of tests that need a GPU: without one they are skipped, with exit status 77.
#pragma once

#define CATCH_CONFIG_RUNNER
#include <cstdio>

#include <fathom/backend/cuda/runtime.cuh>

#include "catch.hpp"

int main(int count, char** arguments) {
  try {
    fathom::cuda::require_gpu();
  } catch (const fathom::error& e) {
    std::printf("skipped: %s\n", e.what());
    return 77;
  }
  return Catch::Session().run(count, arguments);
}
