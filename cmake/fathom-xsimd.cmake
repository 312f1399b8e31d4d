# The target fathom::xsimd: only the headers of xsimd. Debian's package also links the library xtl, which is
# neither needed nor installed with it. Also part of the installed package; sets fathom_xsimd_FOUND.
find_path(FATHOM_XSIMD_INCLUDE_DIR xsimd/xsimd.hpp DOC "Where the headers of xsimd are")
set(fathom_xsimd_FOUND FALSE)
if(FATHOM_XSIMD_INCLUDE_DIR)
  set(fathom_xsimd_FOUND TRUE)
  if(NOT TARGET fathom::xsimd)
    add_library(fathom::xsimd INTERFACE IMPORTED)
    target_include_directories(fathom::xsimd SYSTEM INTERFACE ${FATHOM_XSIMD_INCLUDE_DIR})
  endif()
endif()
