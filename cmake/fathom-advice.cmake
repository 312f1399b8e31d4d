# fathom is only fast with optimisation, the machine's vector instructions, and threads. Warns if one of the three
# is missing. Silence it with -DFATHOM_ADVICE=OFF.
option(FATHOM_ADVICE "Warn when optimisation, SIMD flags or OpenMP are missing" ON)

function(fathom_advise)
  string(TOUPPER "${CMAKE_BUILD_TYPE}" type)
  set(flags "${CMAKE_CXX_FLAGS} ${CMAKE_CXX_FLAGS_${type}}")
  get_property(multi_config GLOBAL PROPERTY GENERATOR_IS_MULTI_CONFIG)
  if(NOT multi_config AND NOT flags MATCHES "-O[123sf]")
    message(WARNING "fathom: this build is not optimised and will be many times slower than it could be; "
                    "configure with -DCMAKE_BUILD_TYPE=Release")
  endif()
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64" AND NOT flags MATCHES "-march=|-mcpu=|-mavx"
     AND NOT FATHOM_INSTRUCTION_SETS)
    message(WARNING "fathom: without SIMD flags only SSE2 is used, at a quarter of the machine's speed or less; "
                    "add -DCMAKE_CXX_FLAGS=-march=native, or -march=x86-64-v3 for a program to hand on")
  endif()
  if(NOT OpenMP_CXX_FOUND)
    message(WARNING "fathom: OpenMP was not found, so only one thread is used; with clang on Debian, install libomp-dev")
  endif()
endfunction()

if(FATHOM_ADVICE)
  fathom_advise()
endif()
