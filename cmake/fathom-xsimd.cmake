# The target fathom::xsimd: the headers of xsimd alone. Debian's package of it also asks to link the library xtl, which is
# neither needed nor brought along. Part of the installed package as well; says whether it found them in fathom_xsimd_FOUND.
find_path(FATHOM_XSIMD_INCLUDE_DIR xsimd/xsimd.hpp DOC "Where the headers of xsimd are")
set(fathom_xsimd_FOUND FALSE)
if(FATHOM_XSIMD_INCLUDE_DIR)
  set(fathom_xsimd_FOUND TRUE)
  if(NOT TARGET fathom::xsimd)
    add_library(fathom::xsimd INTERFACE IMPORTED)
    target_include_directories(fathom::xsimd SYSTEM INTERFACE ${FATHOM_XSIMD_INCLUDE_DIR})
  endif()
endif()
