# Runs the same program built header-only and with fathom::kernels: both must print the same numbers.
#
#   cmake -DHEADER_ONLY=... -DWITH_KERNELS=... -DFOLDER=... -P both_ways.cmake
foreach(how HEADER_ONLY WITH_KERNELS)
  execute_process(COMMAND ${${how}} ${FOLDER}/${how} OUTPUT_VARIABLE ${how}_output COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCHALL "[^\n]+" lines "${${how}_output}")
  list(LENGTH lines ${how}_count)
endforeach()
if(HEADER_ONLY_count LESS 100 OR NOT HEADER_ONLY_output STREQUAL WITH_KERNELS_output)
  file(WRITE ${FOLDER}/header_only.txt "${HEADER_ONLY_output}")
  file(WRITE ${FOLDER}/with_kernels.txt "${WITH_KERNELS_output}")
  execute_process(COMMAND diff ${FOLDER}/header_only.txt ${FOLDER}/with_kernels.txt)
  message(FATAL_ERROR "header-only, ${HEADER_ONLY_count} lines, and with fathom::kernels, ${WITH_KERNELS_count} lines: not the same")
endif()
message("${HEADER_ONLY_count} lines, the same both ways")
