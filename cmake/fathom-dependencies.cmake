# What the library needs: Eigen, xsimd, nlohmann-json, and OpenMP where it is there. Also part of the installed package.
find_package(Eigen3 3.4 REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(OpenMP COMPONENTS CXX)

# Debian's package of xsimd asks for the library xtl, which it neither needs nor brings: take its headers alone.
if(NOT TARGET fathom::xsimd)
  find_path(FATHOM_XSIMD_INCLUDE_DIR xsimd/xsimd.hpp REQUIRED DOC "Where the headers of xsimd are")
  add_library(fathom::xsimd INTERFACE IMPORTED)
  target_include_directories(fathom::xsimd SYSTEM INTERFACE ${FATHOM_XSIMD_INCLUDE_DIR})
endif()
