# Tests of the CUDA backend: kernels run on the CPU everywhere (cuda_emulation.hpp), and nvcc compiles them where it is.
fathom_test(cuda_emulation)
fathom_test(cuda_attention)
target_compile_options(test_cuda_attention PRIVATE -O1)  # loops of an emulator

find_program(FATHOM_NVCC nvcc HINTS $ENV{CUDA_HOME}/bin $ENV{CUDA_PATH}/bin /usr/local/cuda/bin)
# nvcc compiles gpu_NAME.cu for the oldest GPU and for the one that is aimed at, warnings as errors. Nothing is run.
function(fathom_nvcc_test name)
  if(NOT FATHOM_NVCC)
    add_test(NAME nvcc_${name} COMMAND ${CMAKE_COMMAND} -E echo "skipped: nvcc was not found")
    set_tests_properties(nvcc_${name} PROPERTIES SKIP_REGULAR_EXPRESSION "^skipped: ")
    return()
  endif()
  get_target_property(catch Catch2::Catch2 INTERFACE_INCLUDE_DIRECTORIES)
  list(REMOVE_ITEM catch /usr/include)  # where the compiler looks by itself, in its own order
  list(TRANSFORM catch PREPEND -isystem=)
  add_test(NAME nvcc_${name}
           COMMAND ${FATHOM_NVCC} -std=c++20 -O1 -gencode=arch=compute_80,code=sm_80 -gencode=arch=compute_90a,code=sm_90a
                   --Werror all-warnings -Xcompiler=-Wall,-Wextra -I${PROJECT_SOURCE_DIR}/include ${catch}
                   -c ${CMAKE_CURRENT_SOURCE_DIR}/gpu_${name}.cu -o ${CMAKE_CURRENT_BINARY_DIR}/gpu_${name}.o)
endfunction()
fathom_nvcc_test(attention)
