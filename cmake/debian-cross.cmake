# A toolchain file for Debian's cross compilers, g++-aarch64-linux-gnu, g++-arm-linux-gnueabihf and their like, with the
# headers of xsimd that this machine has:
#
#   cmake --toolchain cmake/debian-cross.cmake -DFATHOM_CROSS=aarch64-linux-gnu ...
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES FATHOM_CROSS)
string(REGEX MATCH "^[^-]+" processor "${FATHOM_CROSS}")
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR ${processor})
set(CMAKE_CXX_COMPILER ${FATHOM_CROSS}-g++)
if(processor STREQUAL "arm")
  set(CMAKE_CXX_FLAGS_INIT "-mfpu=neon-vfpv4 -Wno-psabi")  # an option there, and what g++ 7 passed otherwise is no matter
endif()

# They lie in /usr/include, which must not come before the other machine's own headers.
set(headers ${CMAKE_BINARY_DIR}/headers)
file(MAKE_DIRECTORY ${headers}/include)
file(CREATE_LINK /usr/include/xsimd ${headers}/include/xsimd SYMBOLIC)
list(APPEND CMAKE_PREFIX_PATH ${headers})
