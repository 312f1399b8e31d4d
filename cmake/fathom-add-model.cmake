# fathom_add_model(NAME CONFIG config.json [WEIGHTS model.safetensors] [TOKENIZER dir] [EMBED] [TYPE f32|bf16|int8])
#
# Turns a checkpoint into a target: makes the header <NAME.hpp>, and the library NAME to link with, which also links fathom. The
# header has, in namespace NAME:
#
#   config                                      the constexpr fathom::config
#   model, number, packed, generator            fathom::model<config>; TYPE (default f32); model::packed<number>;
#                                               fathom::generator<model, number>
#   const packed& weights()                     with WEIGHTS: packed at the first call, in static storage
#   std::string_view tokenizer_vocab()          with TOKENIZER: the text of vocab.json (or encoder.json) in that folder,
#   std::string_view tokenizer_merges()         and of merges.txt (or vocab.bpe); an error if tokenizer_config.json says
#                                               that their rules are not GPT-2's
#
# With EMBED all of these are in the program; without, they are read from their present paths. Files do not go through the
# compiler, but through the assembler's .incbin; the next build uses changed files. The program contains the unchanged
# safetensors file, in any type that fathom reads, because the layout of packed numbers depends on the processor, and the
# target machine need not be the build machine.
#
# config.json has fathom's keys, or those of GPT-2 in the package transformers. The compiler reads it (io/read_config.hpp): a
# config without a model in fathom is an error at the include of <NAME.hpp>, which names the file, the key and its value.

# Writes a file only if its contents change, so that nothing is recompiled needlessly.
function(_fathom_write file text)
  file(WRITE "${file}.new" "${text}")
  file(COPY_FILE "${file}.new" "${file}" ONLY_IF_DIFFERENT)
endfunction()

function(fathom_add_model name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "EMBED" "CONFIG;WEIGHTS;TOKENIZER;TYPE" "")
  if(arg_UNPARSED_ARGUMENTS OR arg_KEYWORDS_MISSING_VALUES)
    message(FATAL_ERROR "fathom_add_model: not understood: ${arg_UNPARSED_ARGUMENTS}${arg_KEYWORDS_MISSING_VALUES}; expected "
                        "fathom_add_model(NAME CONFIG config.json [WEIGHTS model.safetensors] [TOKENIZER dir] [EMBED] "
                        "[TYPE f32|bf16|int8])")
  endif()
  if(NOT name MATCHES "^[A-Za-z][A-Za-z0-9_]*$")
    message(FATAL_ERROR "fathom_add_model: the name ${name}; expected one that can name a namespace")
  endif()
  set(number_f32 float)
  set(number_bf16 fathom::bf16)
  set(number_int8 std::int8_t)
  if(NOT DEFINED arg_TYPE)
    set(arg_TYPE f32)
  endif()
  if(NOT DEFINED number_${arg_TYPE})
    message(FATAL_ERROR "fathom_add_model: TYPE ${arg_TYPE}; expected f32, bf16 or int8")
  endif()
  if(arg_EMBED AND NOT arg_WEIGHTS AND NOT arg_TOKENIZER)
    message(FATAL_ERROR "fathom_add_model: EMBED without WEIGHTS and TOKENIZER; there is nothing to put into the program")
  endif()
  if(NOT arg_CONFIG)
    message(FATAL_ERROR "fathom_add_model: CONFIG is missing; expected the path of a config.json")
  endif()

  file(REAL_PATH "${arg_CONFIG}" config BASE_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR})
  if(NOT EXISTS "${config}" OR IS_DIRECTORY "${config}")
    message(FATAL_ERROR "fathom_add_model: ${config}: there is no such file")
  endif()
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${config}")
  file(READ "${config}" config_text)
  string(FIND "${config_text}" ")config_json\"" end)
  if(NOT end EQUAL -1)
    message(FATAL_ERROR "fathom_add_model: ${config}: contains )config_json\", which no config does")
  endif()
  string(REGEX REPLACE "([\"\\\\])" "\\\\\\1" config_in_quotes "${config}")

  # The files, the names of the functions that return them, and their declarations.
  set(files)
  if(arg_WEIGHTS)
    file(REAL_PATH "${arg_WEIGHTS}" weights BASE_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR})
    get_source_file_property(is_made "${weights}" GENERATED)
    if(NOT is_made AND (NOT EXISTS "${weights}" OR IS_DIRECTORY "${weights}"))
      message(FATAL_ERROR "fathom_add_model: ${weights}: there is no such file, and no command that makes it")
    endif()
    list(APPEND files weights_file)
    set(file_weights_file "${weights}")
  endif()
  if(arg_TOKENIZER)
    file(REAL_PATH "${arg_TOKENIZER}" folder BASE_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR})
    foreach(part IN ITEMS "vocab;vocab.json;encoder.json" "merges;merges.txt;vocab.bpe")
      list(POP_FRONT part what first second)
      set(file_tokenizer_${what} "${folder}/${first}")
      if(NOT EXISTS "${folder}/${first}")
        set(file_tokenizer_${what} "${folder}/${second}")
      endif()
      if(NOT EXISTS "${file_tokenizer_${what}}")
        message(FATAL_ERROR "fathom_add_model: ${folder}: has neither ${first} nor ${second}")
      endif()
      list(APPEND files tokenizer_${what})
    endforeach()
    # The program only has the two files, so it cannot check whose rules they follow.
    if(EXISTS "${folder}/tokenizer_config.json")
      file(READ "${folder}/tokenizer_config.json" json)
      string(JSON class ERROR_VARIABLE missing GET "${json}" tokenizer_class)
      if(NOT missing AND class AND NOT class MATCHES "^(GPT2|Whisper)Tokenizer(Fast)?$")
        message(FATAL_ERROR "fathom_add_model: ${folder}/tokenizer_config.json: tokenizer_class is \"${class}\"; expected "
                            "\"GPT2Tokenizer\", or \"WhisperTokenizer\", whose rules are the same")
      endif()
      string(JSON prefix ERROR_VARIABLE missing GET "${json}" add_prefix_space)
      if(NOT missing AND prefix)
        message(FATAL_ERROR "fathom_add_model: ${folder}/tokenizer_config.json: add_prefix_space is true; expected false")
      endif()
      set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${folder}/tokenizer_config.json")
    endif()
  endif()

  # The header, and, with EMBED, the source that contains the files.
  set(headers backend/cpu core/bf16 generate/generator io/read_config model/model)
  set(functions)
  set(source "// Made by fathom_add_model: files, as they are, in the program.
#include <cstddef>
#include <span>
#include <string_view>
")
  foreach(function IN LISTS files)
    set(path "${file_${function}}")
    if(path MATCHES "[\"\\\\\n]")
      message(FATAL_ERROR "fathom_add_model: ${path}: expected a path without quotation marks, backslashes and line breaks")
    endif()
    set(begin fathom_${name}_${function}_begin)
    set(end fathom_${name}_${function}_end)
    string(APPEND source "
asm(R\"(
  .pushsection .rodata.${begin}, \"a\", %progbits
  .balign 64
  .global ${begin}, ${end}
  .hidden ${begin}, ${end}
  .type ${begin}, %object
${begin}:
  .incbin \"${path}\"
  .size ${begin}, . - ${begin}
${end}:
  .byte 0
  .popsection
)\");
extern \"C\" const std::byte ${begin}[], ${end}[];
")
    if(function STREQUAL "weights_file")
      string(APPEND source "namespace ${name} {
std::span<const std::byte> weights_file();
std::span<const std::byte> weights_file() { return {${begin}, ${end}}; }
}  // namespace ${name}
")
      get_filename_component(file_name "${path}" NAME)
      if(arg_EMBED)
        set(declaration "/// The bytes of ${file_name}.
std::span<const std::byte> weights_file();

")
        set(from "fathom::io::safetensors_file(weights_file(), \"${file_name} in this program\")")
      else()
        set(declaration "")
        set(from "\"${path}\"")
      endif()
      list(APPEND headers core/memory io/weights)
      string(APPEND functions "
${declaration}/// The weights to decode with. They are packed when first asked for, in static storage; it fails when they do not fit the
/// config.
inline const packed& weights() {
  static packed ready;
  static const packed& loaded = [&]() -> packed& {
    fathom::prefer_huge_pages(&ready, sizeof ready);
    fathom::load(${from}, ready);
    return ready;
  }();
  return loaded;
}
")
    else()
      string(APPEND source "namespace ${name} {
std::string_view ${function}();
std::string_view ${function}() {
  return {reinterpret_cast<const char*>(${begin}), static_cast<std::size_t>(${end} - ${begin})};
}
}  // namespace ${name}
")
      if(arg_EMBED)
        string(APPEND functions "\nstd::string_view ${function}();\n")
      else()
        list(APPEND headers io/file)
        string(APPEND functions "
inline std::string_view ${function}() {
  static const fathom::io::whole_file file(\"${path}\");
  return file.text();
}
")
      endif()
    endif()
  endforeach()

  list(REMOVE_DUPLICATES headers)
  list(SORT headers)
  list(TRANSFORM headers REPLACE "(.+)" "#include <fathom/\\1.hpp>\n")
  string(JOIN "" headers ${headers})
  set(made ${CMAKE_CURRENT_BINARY_DIR}/fathom-models/${name})
  _fathom_write(${made}/${name}.hpp "// Made by fathom_add_model from
//   ${config}
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

${headers}
namespace ${name} {

namespace config_file {
inline constexpr fathom::io::config_reading read = fathom::io::read_config(R\"config_json(${config_text})config_json\");
template <class Problem>
consteval fathom::config checked() {
  static_assert(fathom::io::is_config<Problem>,
                \"fathom_add_model: ${config_in_quotes}: is the config of no model; the argument of is_config says why\");
  return read.value;
}
}  // namespace config_file

inline constexpr fathom::config config = config_file::checked<fathom::io::config_sentence<config_file::read.problem>>();
using model = fathom::model<config>;
using number = ${number_${arg_TYPE}};
using packed = model::packed<number>;
using generator = fathom::generator<model, number>;
${functions}
}  // namespace ${name}
")
  if(arg_EMBED)
    _fathom_write(${made}/${name}.cpp "${source}")
    add_library(${name} STATIC ${made}/${name}.cpp)
    set(embedded)
    foreach(function IN LISTS files)
      list(APPEND embedded "${file_${function}}")
    endforeach()
    # Link-time optimisation does not see symbols that only the assembler defines.
    set_source_files_properties(${made}/${name}.cpp PROPERTIES OBJECT_DEPENDS "${embedded}" COMPILE_OPTIONS -fno-lto)
    set(scope PUBLIC)
  else()
    add_library(${name} INTERFACE)
    set(scope INTERFACE)
  endif()
  target_include_directories(${name} ${scope} ${made})
  target_link_libraries(${name} ${scope} fathom::fathom)
endfunction()
