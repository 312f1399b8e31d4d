# Tests of the CUDA backend. They are compiled twice: by the usual compiler, with kernels and CUDA's libraries
# emulated on the CPU (cuda_emulation.hpp, cuda_library.hpp); and, with nvcc if it exists, for a GPU, as gpu_*.cu, with warnings
# as errors. The latter are labelled gpu, and skipped without a GPU.
fathom_test(cuda_model SLOW 50)
fathom_test(cuda_operations SLOW 40)
fathom_test(cuda_attention SLOW 30)
fathom_test(cuda_golden)
fathom_test(cuda_families SLOW 40)
fathom_test(cuda_emulation)
target_sources(test_cuda_operations PRIVATE cuda_second_unit.cpp)
if(CMAKE_CXX_FLAGS MATCHES "-fsanitize")
  return()  # nvcc has its own flags: once is enough
endif()

# Optimised if there is a GPU to run them; otherwise they only have to compile. Then the host code is checked
# but not generated, which halves the time; gpu_operations, which has two units, is always linked.
set(gpu_options -O1)
set(has_gpu TRUE)
if(NOT EXISTS /dev/nvidiactl)
  set(has_gpu FALSE)
  set(gpu_options -O0)
  if(CUDAToolkit_VERSION VERSION_GREATER_EQUAL 12.9)
    list(APPEND gpu_options -Ofc=max)
  endif()
endif()

# fathom_gpu_test(NAME ARCHITECTURE ...) adds gpu_NAME.cu, compiled for these architectures.
function(fathom_gpu_test name)
  if(NOT TARGET fathom_cuda OR NOT CUDAToolkit_NVCC_EXECUTABLE)
    add_test(NAME gpu_${name} COMMAND ${CMAKE_COMMAND} -E echo "skipped: nvcc, or cuBLASLt, was not found")
    set_tests_properties(gpu_${name} PROPERTIES LABELS gpu SKIP_REGULAR_EXPRESSION "^skipped: ")
    return()
  endif()
  set(program ${CMAKE_CURRENT_BINARY_DIR}/gpu_${name})
  set(more)
  if(name STREQUAL operations)
    set(more ${CMAKE_CURRENT_SOURCE_DIR}/cuda_second_unit.cpp)
  endif()
  set(architectures ${ARGN})
  list(TRANSFORM architectures REPLACE "(.+)" "-gencode=arch=compute_\\1,code=sm_\\1")
  # Headers outside the default search path.
  get_target_property(includes Catch2::Catch2 INTERFACE_INCLUDE_DIRECTORIES)
  list(REMOVE_DUPLICATES includes)
  list(REMOVE_ITEM includes /usr/include)
  list(TRANSFORM includes PREPEND -isystem=)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/include/*.hpp ${PROJECT_SOURCE_DIR}/include/*.cuh)
  file(GLOB own CONFIGURE_DEPENDS cuda_*.[ch]pp gpu_*.* golden*.hpp)
  set(output -o ${program} -lcublasLt)
  if(NOT has_gpu AND NOT more)
    set(output -c -Xcompiler=-fsyntax-only -o ${program}.o COMMAND ${CMAKE_COMMAND} -E touch ${program})
  endif()
  add_custom_command(OUTPUT ${program}
    COMMAND ${CUDAToolkit_NVCC_EXECUTABLE} -std=c++20 ${gpu_options} ${architectures} --Werror all-warnings -Xcompiler=-Wall,-Wextra
            -I${PROJECT_SOURCE_DIR}/include ${includes} -DFATHOM_GOLDEN="${CMAKE_CURRENT_SOURCE_DIR}/golden"
            -x cu ${CMAKE_CURRENT_SOURCE_DIR}/gpu_${name}.cu ${more} ${output}
    DEPENDS ${sources} ${own} VERBATIM)
  add_custom_target(gpu_${name}_program ALL DEPENDS ${program})
  if(NOT has_gpu AND NOT more)
    add_test(NAME gpu_${name} COMMAND ${CMAKE_COMMAND} -E echo "skipped: no GPU: it was compiled, and cannot run")
    set_tests_properties(gpu_${name} PROPERTIES LABELS gpu SKIP_REGULAR_EXPRESSION "^skipped: ")
  else()
    add_test(NAME gpu_${name} COMMAND ${program})
    set_tests_properties(gpu_${name} PROPERTIES LABELS gpu SKIP_RETURN_CODE 77)
  endif()
endfunction()
fathom_gpu_test(attention 80 90a)  # the oldest, and the target
fathom_gpu_test(operations 80 90a)
fathom_gpu_test(model 90a)
