# A toolchain file for Debian's cross compilers, such as g++-aarch64-linux-gnu and g++-arm-linux-gnueabihf, with this
# machine's xsimd headers:
#
#   cmake --toolchain cmake/debian-cross.cmake -DFATHOM_CROSS=aarch64-linux-gnu ...
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES FATHOM_CROSS)
string(REGEX MATCH "^[^-]+" processor "${FATHOM_CROSS}")
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR ${processor})
set(CMAKE_CXX_COMPILER ${FATHOM_CROSS}-g++)
if(processor STREQUAL "arm")
  set(CMAKE_CXX_FLAGS_INIT "-mfpu=neon-vfpv4 -Wno-psabi")  # NEON is optional there; ABI changes since g++ 7 are irrelevant
endif()

# The xsimd headers are in /usr/include, which must not precede the target machine's own headers.
set(headers ${CMAKE_BINARY_DIR}/headers)
file(MAKE_DIRECTORY ${headers}/include)
file(CREATE_LINK /usr/include/xsimd ${headers}/include/xsimd SYMBOLIC)
list(APPEND CMAKE_PREFIX_PATH ${headers})
