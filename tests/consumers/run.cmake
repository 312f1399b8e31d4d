# Builds and runs a consumer that integrates fathom in one of three ways:
#
#   cmake -DHOW=find_package|add_subdirectory|include -DSOURCE=... -DBUILD=... -DFOLDER=... -DGENERATOR=... -DCOMPILER=...
#         -DFLAGS=... -DINCLUDES=... -P run.cmake
#
# SOURCE and BUILD are fathom's, built with FLAGS; FOLDER is the working folder; INCLUDES are the folders of Eigen and the others,
# separated by commas.
set(ENV{LC_ALL} C)
unset(ENV{CXXFLAGS})
file(REMOVE_RECURSE ${FOLDER})
file(MAKE_DIRECTORY ${FOLDER})

# Runs a command and sets `output`.
macro(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${ARGN}\nfails:\n${output}")
  endif()
endmacro()

if(HOW STREQUAL "include")
  # Without any build system, OpenMP or exceptions.
  string(REPLACE "," ";" includes "${INCLUDES}")
  list(REMOVE_DUPLICATES includes)
  list(REMOVE_ITEM includes "" /usr/include)
  list(TRANSFORM includes PREPEND -I)
  run(${COMPILER} -std=c++20 -fno-exceptions -Wall -Werror=unknown-pragmas -I${SOURCE}/include ${includes}
      ${CMAKE_CURRENT_LIST_DIR}/program.cpp ${CMAKE_CURRENT_LIST_DIR}/second.cpp -o ${FOLDER}/consumer)
  run(${FOLDER}/consumer)
  message("${output}")
  return()
endif()

if(HOW STREQUAL "find_package")
  run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${FOLDER}/prefix)
  set(where -DCMAKE_PREFIX_PATH=${FOLDER}/prefix)
else()
  set(where -DFATHOM_SOURCE=${SOURCE})
endif()

# Configures the consumer, and checks which of the three pieces of advice it prints.
set(advice_optimised "fathom: this build is not optimised")
set(advice_simd "fathom: without SIMD flags")
set(advice_openmp "fathom: OpenMP was not found")
macro(configure)
  run(${CMAKE_COMMAND} -G ${GENERATOR} -S ${CMAKE_CURRENT_LIST_DIR}/${HOW} -B ${FOLDER}/build
      -DCMAKE_CXX_COMPILER=${COMPILER} ${where} ${ARGN})
  string(REGEX REPLACE "[ \n]+" " " output "${output}")
endmacro()
function(expect_advice text)
  string(FIND "${output}" "${text}" at)
  if(at EQUAL -1)
    message(FATAL_ERROR "there is no advice \"${text}\" in:\n${output}")
  endif()
endfunction()
function(expect_no_advice text)
  string(FIND "${output}" "${text}" at)
  if(NOT at EQUAL -1)
    message(FATAL_ERROR "there should be no advice \"${text}\" in:\n${output}")
  endif()
endfunction()

cmake_host_system_information(RESULT machine QUERY OS_PLATFORM)
configure(-DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS=-march=native)
expect_no_advice("${advice_optimised}")
expect_no_advice("${advice_simd}")
configure(-DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_CXX_FLAGS=)
expect_no_advice("${advice_optimised}")
if(machine MATCHES "x86_64|AMD64")
  expect_advice("${advice_simd}")
endif()
configure(-DCMAKE_BUILD_TYPE= -DCMAKE_CXX_FLAGS=${FLAGS} -DFATHOM_ADVICE=OFF -DCMAKE_DISABLE_FIND_PACKAGE_OpenMP=ON)
expect_no_advice("fathom: ")
configure(-DFATHOM_ADVICE=ON)
expect_advice("${advice_openmp}")
configure(-DCMAKE_DISABLE_FIND_PACKAGE_OpenMP=OFF)
expect_advice("${advice_optimised}")

run(${CMAKE_COMMAND} --build ${FOLDER}/build)
run(${FOLDER}/build/consumer)
message("${output}")
