# Builds two_marches.cpp twice, for any x86-64 and for AVX2, and links both into one program, which must work. It must
# not link if one unit fills an object of the other's type.
#
#   cmake -DCOMPILER=... -DINCLUDES=... -DFOLDER=... -P two_marches.cmake
#
# FOLDER is the working folder; INCLUDES are fathom's include folder and those of its dependencies, separated by commas.
set(ENV{LC_ALL} C)
file(REMOVE_RECURSE ${FOLDER})
file(MAKE_DIRECTORY ${FOLDER})
string(REPLACE "," ";" includes "${INCLUDES}")
list(REMOVE_DUPLICATES includes)
list(REMOVE_ITEM includes "" /usr/include)
list(TRANSFORM includes PREPEND -I)

# Runs a command; sets `result` and `output`.
macro(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
endmacro()
macro(must_run)
  run(${ARGN})
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${ARGN}\nfails:\n${output}")
  endif()
endmacro()
# Compiles a unit for a processor, and sets `object`.
macro(compile unit march)
  set(object ${FOLDER}/${unit}${ARGN}.${march}.o)
  must_run(${COMPILER} -std=c++20 -O0 -march=${march} ${includes} -DUNIT=${unit} ${ARGN} -c ${CMAKE_CURRENT_LIST_DIR}/two_marches.cpp -o ${object})
endmacro()

compile(1 x86-64)
set(first ${object})
compile(2 x86-64-v3)
set(second ${object})
must_run(${COMPILER} ${first} ${second} -o ${FOLDER}/apart)
must_run(${FOLDER}/apart)
message("${output}")

compile(1 x86-64 -DMIXED)
set(mixed ${object})
compile(2 x86-64)
must_run(${COMPILER} ${mixed} ${object} -o ${FOLDER}/alike)
must_run(${FOLDER}/alike)
run(${COMPILER} ${mixed} ${second} -o ${FOLDER}/mixed)
foreach(function fill look_at)
  if(result EQUAL 0 OR NOT output MATCHES "undefined reference to [^\n]*${function}\\(")
    message(FATAL_ERROR "${function}() of another processor's unit is linked:\n${output}")
  endif()
endforeach()
