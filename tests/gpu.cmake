# The CUDA backend. Its tests are compiled twice: by the compiler of everything else, with kernels and CUDA's libraries
# emulated on the CPU (cuda_emulation.hpp, cuda_library.hpp); and, where nvcc is, for a GPU, as gpu_*.cu. Those are labelled gpu,
# and skipped where there is no GPU; but they are compiled, with warnings as errors, wherever nvcc is.
fathom_test(cuda_operations)
fathom_test(cuda_golden)
fathom_test(cuda_model)
foreach(test cuda_operations cuda_golden cuda_model)  # loops of an emulator
  target_compile_options(test_${test} PRIVATE -O1)
endforeach()

if(CMAKE_CXX_FLAGS MATCHES "-fsanitize")
  return()  # nvcc has flags of its own: once is enough
endif()
set(FATHOM_CUDA_ARCHITECTURE 90a CACHE STRING "The GPU that the tests are compiled for: 80, 90a, ...")
function(fathom_gpu_test name)
  if(NOT TARGET fathom_cuda OR NOT CUDAToolkit_NVCC_EXECUTABLE)
    add_test(NAME gpu_${name} COMMAND ${CMAKE_COMMAND} -E echo "skipped: nvcc, or cuBLASLt, was not found")
    set_tests_properties(gpu_${name} PROPERTIES LABELS gpu SKIP_REGULAR_EXPRESSION "^skipped: ")
    return()
  endif()
  set(program ${CMAKE_CURRENT_BINARY_DIR}/gpu_${name})
  # Headers that are not where every compiler looks.
  set(includes)
  foreach(library Catch2::Catch2 nlohmann_json::nlohmann_json)
    get_target_property(folders ${library} INTERFACE_INCLUDE_DIRECTORIES)
    list(APPEND includes ${folders})
  endforeach()
  list(REMOVE_DUPLICATES includes)
  list(REMOVE_ITEM includes /usr/include)
  list(TRANSFORM includes PREPEND -isystem=)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/include/*.hpp ${PROJECT_SOURCE_DIR}/include/*.cuh)
  file(GLOB own CONFIGURE_DEPENDS cuda_*.[ch]pp gpu_*.* golden.hpp)
  set(arch ${FATHOM_CUDA_ARCHITECTURE})
  add_custom_command(OUTPUT ${program}
    COMMAND ${CUDAToolkit_NVCC_EXECUTABLE} -std=c++20 -O1 -gencode=arch=compute_${arch},code=sm_${arch} --Werror all-warnings
            -Xcompiler=-Wall,-Wextra -I${PROJECT_SOURCE_DIR}/include ${includes}
            -DFATHOM_GOLDEN="${CMAKE_CURRENT_SOURCE_DIR}/golden" ${CMAKE_CURRENT_SOURCE_DIR}/gpu_${name}.cu -o ${program}
            -lcublasLt
    DEPENDS ${sources} ${own} VERBATIM)
  add_custom_target(gpu_${name}_program ALL DEPENDS ${program})
  add_test(NAME gpu_${name} COMMAND ${program})
  set_tests_properties(gpu_${name} PROPERTIES LABELS gpu SKIP_RETURN_CODE 77)
endfunction()
fathom_gpu_test(operations)
fathom_gpu_test(model)
