# Compiles packed_layout.cpp for several processors, runs it on those that this machine is or emulates, and compares: all must
# pack the same bytes, those that packed_layout.py makes from the description of the layout.
#
#   cmake -DCOMPILER=... -DINCLUDE=... -DFOLDER=... -P packed_layout.cmake
set(ENV{LC_ALL} C)
file(REMOVE_RECURSE ${FOLDER})
file(MAKE_DIRECTORY ${FOLDER})
set(expected "version 1
double cfdcb7728844925f
float fda191fd58c684d0
bf16 bf4059039e91fd50
int8 292dde32ce64f99a
int4 b0d6d95fba0afbbf
symmetric_int4 edb86aaff42a02ad
grouped_int8 84f4f3ad65d62cad
")
# The name of a processor, how to run its programs, the compiler and its options
function(check name runner compiler)
  execute_process(COMMAND ${compiler} -std=c++20 -O1 ${ARGN} -I${INCLUDE} ${CMAKE_CURRENT_LIST_DIR}/packed_layout.cpp -o ${FOLDER}/${name}
                  RESULT_VARIABLE result ERROR_VARIABLE output)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "packed_layout.cpp does not compile for ${name}:\n${output}")
  endif()
  execute_process(COMMAND ${runner} ${FOLDER}/${name} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT result EQUAL 0 OR NOT output STREQUAL expected)
    message(FATAL_ERROR "${name}: instead of\n${expected}its packed weights are\n${output}")
  endif()
  message("${name}: as expected")
endfunction()

check(native "" ${COMPILER} -march=native)
execute_process(COMMAND uname -m OUTPUT_VARIABLE machine OUTPUT_STRIP_TRAILING_WHITESPACE)
if(machine STREQUAL "x86_64")
  check(x86-64 "" ${COMPILER} -march=x86-64)
  if(EXISTS /proc/cpuinfo)
    file(READ /proc/cpuinfo processor)
    if(processor MATCHES "avx2" AND processor MATCHES "fma" AND processor MATCHES "bmi2")
      check(x86-64-v3 "" ${COMPILER} -march=x86-64-v3)
    endif()
  endif()
endif()
find_program(QEMU NAMES qemu-aarch64-static qemu-aarch64)
find_program(AARCH64 aarch64-linux-gnu-g++)
if(QEMU AND AARCH64)
  check(aarch64 ${QEMU} ${AARCH64} -static)
endif()
find_program(QEMU_ARM NAMES qemu-arm-static qemu-arm)
find_program(ARM arm-linux-gnueabihf-g++)
if(QEMU_ARM AND ARM)
  check(arm ${QEMU_ARM} ${ARM} -static -mfpu=neon)
endif()
