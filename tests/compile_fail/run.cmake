# Compiles every file here unchanged, which must work, and with its mistakes, each of which must fail with one sentence. A file's
# first lines list these sentences, and other text that the compiler must show, such as wrong numbers. All mistakes of a file are
# compiled together, with the macro MISTAKES: then every sentence must appear, and no other error.
#
#   // says: <a sentence>
#   // shows: <the numbers, as the compiler shows them>
#   // says: <another sentence>
#   // MISTAKES
#
# Mistakes that need their own flags or end compilation are compiled one by one, as the value of a macro: then the sentence must
# be the only error.
#
#   // says: <the sentence>
#   // flags: <the flags>
#   // MISTAKE=<value of the macro>: <what else is shown>
#
# FOLDER is for the precompiled headers.
#
#   cmake -DCOMPILER=g++ -DINCLUDE=include -DFOLDER=build/compile_fail -P run.cmake
if(NOT COMPILER)
  message("skipped: this compiler is not installed")
  return()
endif()
set(ENV{LC_ALL} C)  # errors in English
set(failures 0)
set(checked 0)

# The declarations of fathom::kernels are enough.
set(flags -std=c++20 -I${INCLUDE} -DFATHOM_KERNELS=FATHOM_ISA)
file(MAKE_DIRECTORY ${FOLDER})
set(precompiled ${FOLDER}/precompiled.hpp)
configure_file(${CMAKE_CURRENT_LIST_DIR}/precompiled.hpp ${precompiled} COPYONLY)
execute_process(COMMAND ${COMPILER} --version OUTPUT_VARIABLE version)
if(version MATCHES "clang")
  list(APPEND flags -ferror-limit=0)
  set(output ${precompiled}.pch)
  set(use -include-pch ${output})
else()
  set(output ${precompiled}.gch)
  set(use -include ${precompiled})
endif()
execute_process(COMMAND ${COMPILER} ${flags} -x c++-header ${precompiled} -o ${output} RESULT_VARIABLE result)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "precompiled.hpp does not compile")
endif()
list(APPEND flags ${use})

function(complain text)
  string(SUBSTRING "${output}" 0 4000 beginning)
  message("${file}: ${text}\n${beginning}")
  math(EXPR failures "${failures} + 1")
  set(failures ${failures} PARENT_SCOPE)
endfunction()
# The values of lines "// key: value" of a text; they must not contain semicolons.
function(values text key result)
  string(REGEX MATCHALL "\n// ${key}: [^\n]+" lines "${text}")
  list(TRANSFORM lines REPLACE "\n// ${key}: " "")
  set(${result} "${lines}" PARENT_SCOPE)
endfunction()

# All mistakes of a file at once, and the unchanged file, which must compile without messages.
function(check_together text)
  execute_process(COMMAND ${COMPILER} ${flags} -fsyntax-only ${file}
                  COMMAND ${COMPILER} ${flags} -fsyntax-only -DMISTAKES ${file}
                  RESULTS_VARIABLE results OUTPUT_QUIET ERROR_VARIABLE output)
  list(GET results 0 result)
  if(NOT result EQUAL 0)
    complain("does not compile without a mistake")
  endif()
  string(REPLACE ";" "," output "${output}")
  string(REGEX MATCHALL "error: [^\n]+" errors "${output}")
  values("${text}" says sentences)
  foreach(sentence IN LISTS sentences)
    set(is_there FALSE)
    set(others)
    foreach(error IN LISTS errors)
      string(FIND "${error}" "${sentence}" at)
      if(at EQUAL -1)
        list(APPEND others "${error}")
      else()
        set(is_there TRUE)
      endif()
    endforeach()
    set(errors "${others}")
    if(NOT is_there)
      complain("no error says \"${sentence}\"")
    endif()
    math(EXPR checked "${checked} + 1")
  endforeach()
  foreach(error IN LISTS errors)
    complain("there is another ${error}")
  endforeach()
  values("${text}" shows all_shown)
  foreach(shown IN LISTS all_shown)
    string(FIND "${output}" "${shown}" at)
    if(at EQUAL -1)
      complain("nothing shows \"${shown}\"")
    endif()
  endforeach()
  set(checked ${checked} PARENT_SCOPE)
  set(failures ${failures} PARENT_SCOPE)
endfunction()

# One mistake of a file, with its own flags.
function(check_alone sentence own_flags macro shown)
  separate_arguments(own_flags UNIX_COMMAND "${own_flags}")
  execute_process(COMMAND ${COMPILER} ${own_flags} -I${INCLUDE} -fsyntax-only "-D${macro}" ${file}
                  RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  # Ignores the error that ends compilation: a missing header (core/standard.hpp).
  string(REGEX REPLACE "fatal error: [^\n]*cannot_be_compiled.hpp" "" without_end "${output}")
  string(REPLACE "error: " "" without_errors "${without_end}")
  string(LENGTH "${without_end}" length)
  string(LENGTH "${without_errors}" length_without)
  math(EXPR errors "(${length} - ${length_without}) / 7")
  string(FIND "${output}" "${sentence}" has_sentence)
  string(FIND "${output}" "${shown}" is_shown)
  set(how "with ${own_flags} and ${macro}")
  if(result EQUAL 0)
    complain("compiles ${how}")
  elseif(NOT errors EQUAL 1)
    complain("${how} there are ${errors} errors, expected one")
  elseif(has_sentence EQUAL -1)
    complain("${how} the error does not say \"${sentence}\"")
  elseif(is_shown EQUAL -1)
    complain("${how} the error does not show \"${shown}\"")
  endif()
  set(failures ${failures} PARENT_SCOPE)
endfunction()

file(GLOB files ${CMAKE_CURRENT_LIST_DIR}/*.cpp)
foreach(file IN LISTS files)
  file(READ ${file} text)
  values("${text}" says sentences)
  if(NOT sentences)
    message(FATAL_ERROR "${file}: has no line \"// says:\"")
  endif()
  if(text MATCHES "\n// MISTAKES\n")
    string(REPLACE ";" "," text "${text}")
    check_together("${text}")
    continue()
  endif()
  string(REGEX MATCHALL "\n// MISTAKE=[^\n]+" mistakes "${text}")
  values("${text}" flags all_flags)
  if(NOT mistakes OR NOT all_flags)
    message(FATAL_ERROR "${file}: has no line \"// MISTAKES\", nor \"// MISTAKE=\" and \"// flags:\"")
  endif()
  foreach(own_flags IN LISTS all_flags)
    foreach(mistake IN LISTS mistakes)
      string(REGEX MATCH "// (MISTAKE=[^:]*): (.*)" all "${mistake}")
      check_alone("${sentences}" "${own_flags}" "${CMAKE_MATCH_1}" "${CMAKE_MATCH_2}")
      math(EXPR checked "${checked} + 1")
    endforeach()
  endforeach()
endforeach()
if(failures)
  message(FATAL_ERROR "${failures} of ${checked} mistakes are not reported as they should be")
endif()
message("${checked} mistakes, each reported in one sentence with its numbers")
