# fathom_add_model(NAME MODEL model [CONTEXT tokens] [EMBED] [TYPE f32|bf16|int8|int4])
# fathom_add_model(NAME CONFIG config.json [WEIGHTS model.safetensors] [TOKENIZER dir] [EMBED] [TYPE f32|bf16|int8|int4])
#
# Turns a checkpoint into a target: makes the header <NAME.hpp>, and the library NAME to link with, which also links fathom. The
# header has, in namespace NAME:
#
#   config                                      the constexpr fathom::config
#   model, number, packed, generator            fathom::model<config>; TYPE; model::packed<number>;
#                                               fathom::generator<model, number>
#   const packed& weights()                     with WEIGHTS: the weights to decode with
#   std::string_view tokenizer_vocab()          with TOKENIZER: the text of vocab.json (or encoder.json) in that folder,
#   std::string_view tokenizer_merges()         and of merges.txt (or vocab.bpe); an error if tokenizer_config.json says
#                                               that their rules are not GPT-2's
#
# With TYPE, the weights are packed while the project is built, and used where they lie: in the program with EMBED, else in a
# file of the build folder, which is mapped. The checkpoint itself is then no part of the program. Without TYPE, they are those
# of the checkpoint in float, packed at the first call; with EMBED the program contains the checkpoint as it is.
#
# With EMBED all of these are in the program; without, they are read from their present paths. Files do not go through the
# compiler, but through the assembler's .incbin; the next build uses changed files.
#
# A small program, fathom-pack, packs the weights. It is compiled for the build machine, by FATHOM_HOST_COMPILER where the
# project is cross-compiled: packed weights lie in the same way for every processor.
#
# config.json has fathom's keys, for models of all families, or those of GPT-2 in the package transformers. The compiler reads it (io/read_config.hpp): a
# config without a model in fathom is an error at the include of <NAME.hpp>, which names the file, the key and its value.
#
# MODEL is a model as others distribute it: a GGUF file, a folder of `transformers` of any family (config.json, weights and
# tokenizer), or a safetensors file of a GPT-2 that fathom saved. CONTEXT limits the tokens of a sequence, and with them the memory of
# caches. The header then has config, model, number, packed, generator, weights() as above, and
#
#   const fathom::io::model_files& files()      its files; with TYPE those without weights: of a GGUF file, one with all of its
#                                               metadata and no tensors
#   const fathom::data::bpe& tokenizer()        read at the first call; it fails when the model has none
#
# Another small program, fathom-describe, reads the config during the build. With EMBED, a model may have up to 2 GB.

# Writes a file only if its contents change, so that nothing is recompiled needlessly.
function(_fathom_write file text)
  file(WRITE "${file}.new" "${text}")
  file(COPY_FILE "${file}.new" "${file}" ONLY_IF_DIFFERENT)
endfunction()

# The assembler's text that puts a file into the program, as the bytes from `begin` to `end`.
function(_fathom_embed path begin end text)
  if(path MATCHES "[\"\\\\\n]")
    message(FATAL_ERROR "fathom_add_model: ${path}: expected a path without quotation marks, backslashes and line breaks")
  endif()
  set(${text} "
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
" PARENT_SCOPE)
endfunction()

# The beginning of a command that compiles for the machine that runs the build; and its options for fathom's headers, an
# argument that becomes several (COMMAND_EXPAND_LISTS).
function(_fathom_host_compiler command includes)
  set(compiler ${CMAKE_CXX_COMPILER_LAUNCHER} ${CMAKE_CXX_COMPILER})
  if(CMAKE_CROSSCOMPILING OR NOT CMAKE_CXX_COMPILER)
    find_program(FATHOM_HOST_COMPILER NAMES c++ g++ clang++ NO_CMAKE_FIND_ROOT_PATH REQUIRED
                 DOC "fathom_add_model: a C++20 compiler for this machine")
    set(compiler ${FATHOM_HOST_COMPILER})
  endif()
  set(${command} ${compiler} -std=c++20 PARENT_SCOPE)
  set(${includes} "-I$<JOIN:$<TARGET_PROPERTY:fathom::fathom,INTERFACE_INCLUDE_DIRECTORIES>,;-I>" PARENT_SCOPE)
endfunction()

# The target fathom_describe: the program that prints a model's config (fathom-describe.cpp).
function(_fathom_add_describe)
  if(TARGET fathom_describe)
    return()
  endif()
  _fathom_host_compiler(compile includes)
  set(program ${CMAKE_BINARY_DIR}/fathom-models/fathom-describe)
  set(source ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/fathom-describe.cpp)
  file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/fathom-models)
  add_custom_command(OUTPUT ${program} DEPENDS ${source} DEPFILE ${program}.d VERBATIM COMMAND_EXPAND_LISTS
                     COMMAND ${compile} -O0 "${includes}" -MD -MT ${program} -MF ${program}.d ${source} -o ${program}
                     COMMENT "Compiling fathom-describe, which reads models")
  add_custom_target(fathom_describe DEPENDS ${program})
  set_target_properties(fathom_describe PROPERTIES FATHOM_PROGRAM ${program})
endfunction()

# Packs the weights of a model as NUMBER into OUTPUT, while the project is built; `from` are the model and all files that it
# consists of. With TEXT, writes what else a GGUF file has. The header ${made}/${name}_config.hpp has the config.
function(_fathom_pack name made number output text from)
  _fathom_host_compiler(compile includes)
  set(program ${made}/fathom-pack)
  set(source ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/fathom-pack.cpp)
  list(POP_FRONT from model)
  add_custom_command(OUTPUT ${program} DEPENDS ${source} ${made}/${name}_config.hpp DEPFILE ${program}.d VERBATIM COMMAND_EXPAND_LISTS
                     COMMAND ${compile} -O1 "${includes}" -I${made} -DFATHOM_PACK_CONFIG=<${name}_config.hpp> -DFATHOM_PACK_NAME=${name}
                             -DFATHOM_PACK_NUMBER=${number} -MD -MT ${program} -MF ${program}.d ${source} -o ${program}
                     COMMENT "Compiling fathom-pack for ${name}")
  add_custom_command(OUTPUT ${output} ${text} DEPENDS ${program} ${from} VERBATIM
                     COMMAND ${program} ${model} ${output} ${text}
                     COMMENT "Packing the weights of ${name}")
endfunction()

# The names of a model's files: the file itself, or those of a folder that fathom reads.
function(_fathom_model_files model names)
  if(NOT IS_DIRECTORY "${model}")
    get_filename_component(name "${model}" NAME)
    set(${names} "${name}" PARENT_SCOPE)
    return()
  endif()
  set(found)
  foreach(name config.json generation_config.json tokenizer.json tokenizer_config.json special_tokens_map.json added_tokens.json
               vocab.json merges.txt encoder.json vocab.bpe chat_template.jinja chat_template.json)
    if(EXISTS "${model}/${name}")
      list(APPEND found ${name})
    endif()
  endforeach()
  if(EXISTS "${model}/model.safetensors")
    list(APPEND found model.safetensors)
  elseif(EXISTS "${model}/model.safetensors.index.json")
    file(READ "${model}/model.safetensors.index.json" index)
    string(REGEX MATCHALL "\"[^\"/;]+\\.safetensors\"" shards "${index}")
    list(REMOVE_DUPLICATES shards)
    list(TRANSFORM shards REPLACE "\"" "")
    list(APPEND found model.safetensors.index.json ${shards})
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${model}/model.safetensors.index.json")
  else()
    message(FATAL_ERROR "fathom_add_model: ${model}: has neither model.safetensors nor model.safetensors.index.json")
  endif()
  foreach(name IN LISTS found)
    if(NOT EXISTS "${model}/${name}")
      message(FATAL_ERROR "fathom_add_model: ${model}: has no ${name}, which model.safetensors.index.json lists")
    endif()
  endforeach()
  set(${names} "${found}" PARENT_SCOPE)
endfunction()

# fathom_add_model(NAME MODEL ...). Without a type, `type` is empty.
function(_fathom_add_distributed_model name model context embeds type number)
  file(REAL_PATH "${model}" model BASE_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR})
  get_source_file_property(is_made "${model}" GENERATED)
  if(NOT is_made AND NOT EXISTS "${model}")
    message(FATAL_ERROR "fathom_add_model: ${model}: there is no such file or folder, and no command that makes it")
  endif()
  if(IS_DIRECTORY "${model}" AND NOT EXISTS "${model}/config.json")
    message(FATAL_ERROR "fathom_add_model: ${model}: has no config.json")
  elseif(NOT IS_DIRECTORY "${model}" AND NOT model MATCHES "\\.(gguf|safetensors)$")
    message(FATAL_ERROR "fathom_add_model: ${model}: expected a GGUF file, NAME.gguf, a folder of transformers, or NAME.safetensors")
  endif()
  if(model MATCHES "[\"\\\\\n;]")
    message(FATAL_ERROR "fathom_add_model: ${model}: expected a path without quotation marks, backslashes, semicolons and line breaks")
  endif()
  get_filename_component(called "${model}" NAME)
  _fathom_model_files("${model}" names)
  set(paths)
  foreach(file IN LISTS names)
    if(IS_DIRECTORY "${model}")
      list(APPEND paths "${model}/${file}")
    else()
      list(APPEND paths "${model}")
    endif()
  endforeach()

  # What files() stands for: the model, or, with a type, its files without weights; the packed weights where that is all.
  set(made ${CMAKE_CURRENT_BINARY_DIR}/fathom-models/${name})
  set(stands_for "${model}")
  if(type)
    set(packed ${made}/${name}.${type}.safetensors)
    set(text)
    set(from "${model}" ${paths})
    if(IS_DIRECTORY "${model}")
      list(FILTER names EXCLUDE REGEX "\\.safetensors(\\.index\\.json)?$")
      list(FILTER paths EXCLUDE REGEX "\\.safetensors(\\.index\\.json)?$")
    elseif(model MATCHES "\\.gguf$")
      set(text ${made}/${called})
      set(stands_for "${text}")
      set(paths "${text}")
    else()
      set(stands_for "${packed}")
      set(paths "${packed}")
    endif()
    _fathom_pack(${name} ${made} ${number} "${packed}" "${text}" "${from}")
    list(APPEND names ${name}.${type}.safetensors)
    list(APPEND paths "${packed}")
  endif()

  set(declarations)
  set(from "\"${stands_for}\"")
  set(packed_from "\"${packed}\"")
  set(source "// Made by fathom_add_model: files, as they are, in the program.\n#include <cstddef>\n#include <span>\n")
  if(embeds)
    set(number_of_file 0)
    set(list)
    foreach(file path IN ZIP_LISTS names paths)
      set(begin fathom_${name}_file_${number_of_file}_begin)
      set(end fathom_${name}_file_${number_of_file}_end)
      _fathom_embed("${path}" ${begin} ${end} code)
      set(function "std::span<const std::byte> file_${number_of_file}()")
      string(APPEND source "${code}namespace ${name}::embedded {
${function};
${function} { return {${begin}, ${end}}; }
}  // namespace ${name}::embedded
")
      string(APPEND declarations "${function};  // ${file}\n")
      if(type AND path STREQUAL packed)
        set(packed_from "embedded::file_${number_of_file}(), \"${file} in this program\"")
      else()
        list(APPEND list "{\"${file}\", embedded::file_${number_of_file}()}")
      endif()
      math(EXPR number_of_file "${number_of_file} + 1")
    endforeach()
    string(REPLACE ";" ", " list "${list}")
    set(from "{${list}}, \"${called} in this program\"")
    set(declarations "namespace embedded {\n${declarations}}  // namespace embedded\n\n")
  endif()

  if(type)
    set(header packed_file)
    set(weights "/// The weights to decode with, where they lie. It fails when they are not what the build packed.
inline const packed& weights() {
  static const fathom::packed_file<model, number> file(${packed_from});
  return *file;
}")
  else()
    set(header weights)
    set(weights "/// The weights to decode with. They are packed when first asked for; it fails when they do not fit the config.
inline const packed& weights() {
  static const auto loaded = [] {
    auto ready = fathom::make<packed>();
    fathom::load(files(), *ready);
    return ready;
  }();
  return *loaded;
}")
  endif()
  _fathom_write(${made}/${name}.hpp "// Made by fathom_add_model from
//   ${model}
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <fathom/backend/cpu.hpp>
#include <fathom/core/bf16.hpp>
#include <fathom/core/memory.hpp>
#include <fathom/data/bpe.hpp>
#include <fathom/data/model_tokenizer.hpp>
#include <fathom/generate/generator.hpp>
#include <fathom/io/${header}.hpp>
#include <fathom/io/model_files.hpp>
#include <fathom/model/model.hpp>

#include \"${name}_config.hpp\"

namespace ${name} {

using model = fathom::model<config>;
using number = ${number};
using packed = model::packed<number>;
using generator = fathom::generator<model, number>;

${declarations}/// The model's files.
inline const fathom::io::model_files& files() {
  static const fathom::io::model_files all(${from});
  return all;
}
${weights}
/// The tokenizer. It is read when first asked for, and fails when the model has none, or one with more tokens than the model.
inline const fathom::data::bpe& tokenizer() {
  static const fathom::data::bpe read = [] {
    auto all = fathom::data::read_bpe(files());
    if (all.size() > model::vocab)
      fathom::fail(files().name(), \": the tokenizer has \", all.size(), \" tokens; the model has \", model::vocab);
    return all;
  }();
  return read;
}

}  // namespace ${name}
")
  _fathom_add_describe()
  get_target_property(describe fathom_describe FATHOM_PROGRAM)
  set(config "${model}")
  if(IS_DIRECTORY "${model}")
    set(config "${model}/config.json")
  endif()
  add_custom_command(OUTPUT ${made}/${name}_config.hpp DEPENDS fathom_describe ${describe} "${config}" VERBATIM
                     COMMAND ${describe} "${model}" ${context} ${name} ${made}/${name}_config.hpp
                     COMMENT "Reading the config of ${called}")
  if(embeds)
    _fathom_write(${made}/${name}.cpp "${source}")
    add_library(${name} STATIC ${made}/${name}.cpp ${made}/${name}_config.hpp)
    set_source_files_properties(${made}/${name}.cpp PROPERTIES OBJECT_DEPENDS "${paths}" COMPILE_OPTIONS -fno-lto)
    set(scope PUBLIC)
  else()
    add_library(${name} INTERFACE ${made}/${name}_config.hpp ${packed} ${text})
    set(scope INTERFACE)
  endif()
  target_include_directories(${name} ${scope} ${made})
  target_link_libraries(${name} ${scope} fathom::fathom)
endfunction()

function(fathom_add_model name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "EMBED" "MODEL;CONTEXT;CONFIG;WEIGHTS;TOKENIZER;TYPE" "")
  if(arg_UNPARSED_ARGUMENTS OR arg_KEYWORDS_MISSING_VALUES)
    message(FATAL_ERROR "fathom_add_model: not understood: ${arg_UNPARSED_ARGUMENTS}${arg_KEYWORDS_MISSING_VALUES}; expected "
                        "fathom_add_model(NAME CONFIG config.json [WEIGHTS model.safetensors] [TOKENIZER dir] [EMBED] "
                        "[TYPE f32|bf16|int8|int4]) or fathom_add_model(NAME MODEL model [CONTEXT tokens] [EMBED] "
                        "[TYPE f32|bf16|int8|int4])")
  endif()
  if(NOT name MATCHES "^[A-Za-z][A-Za-z0-9_]*$")
    message(FATAL_ERROR "fathom_add_model: the name ${name}; expected one that can name a namespace")
  endif()
  set(number_f32 float)
  set(number_bf16 fathom::bf16)
  set(number_int8 std::int8_t)
  set(number_int4 fathom::int4)
  set(number_ float)  # without TYPE
  if(NOT DEFINED number_${arg_TYPE})
    message(FATAL_ERROR "fathom_add_model: TYPE ${arg_TYPE}; expected f32, bf16, int8 or int4")
  endif()
  if(arg_MODEL)
    foreach(other CONFIG WEIGHTS TOKENIZER)
      if(DEFINED arg_${other})
        message(FATAL_ERROR "fathom_add_model: MODEL and ${other}; a model has its own config, weights and tokenizer")
      endif()
    endforeach()
    if(NOT DEFINED arg_CONTEXT)
      set(arg_CONTEXT 0)
    elseif(NOT arg_CONTEXT MATCHES "^[1-9][0-9]?[0-9]?[0-9]?[0-9]?[0-9]?[0-9]?[0-9]?$")
      message(FATAL_ERROR "fathom_add_model: CONTEXT ${arg_CONTEXT}; expected a number of tokens, at least 1")
    endif()
    _fathom_add_distributed_model(${name} "${arg_MODEL}" ${arg_CONTEXT} "${arg_EMBED}" "${arg_TYPE}" ${number_${arg_TYPE}})
    return()
  endif()
  if(DEFINED arg_CONTEXT)
    message(FATAL_ERROR "fathom_add_model: CONTEXT without MODEL; a config.json says what context it has")
  endif()
  if(arg_EMBED AND NOT arg_WEIGHTS AND NOT arg_TOKENIZER)
    message(FATAL_ERROR "fathom_add_model: EMBED without WEIGHTS and TOKENIZER; there is nothing to put into the program")
  endif()
  if(NOT arg_CONFIG)
    message(FATAL_ERROR "fathom_add_model: CONFIG is missing; expected the path of a config.json, or MODEL")
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
  set(made ${CMAKE_CURRENT_BINARY_DIR}/fathom-models/${name})

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
    if(arg_TYPE)
      set(file_weights_file ${made}/${name}.${arg_TYPE}.safetensors)
      _fathom_pack(${name} ${made} ${number_${arg_TYPE}} "${file_weights_file}" "" "${weights};${weights}")
    endif()
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
  set(headers backend/cpu core/bf16 generate/generator model/model)
  set(functions)
  set(source "// Made by fathom_add_model: files, as they are, in the program.
#include <cstddef>
#include <span>
#include <string_view>
")
  foreach(function IN LISTS files)
    set(path "${file_${function}}")
    set(begin fathom_${name}_${function}_begin)
    set(end fathom_${name}_${function}_end)
    _fathom_embed("${path}" ${begin} ${end} text)
    string(APPEND source "${text}")
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
        set(from "weights_file(), \"${file_name} in this program\"")
        if(NOT arg_TYPE)
          set(from "fathom::io::safetensors_file(${from})")
        endif()
      else()
        set(declaration "")
        set(from "\"${path}\"")
      endif()
      if(arg_TYPE)
        list(APPEND headers io/packed_file)
        string(APPEND functions "
${declaration}/// The weights to decode with, where they lie. It fails when they are not what the build packed.
inline const packed& weights() {
  static const fathom::packed_file<model, number> file(${from});
  return *file;
}
")
      else()
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
      endif()
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
  _fathom_write(${made}/${name}_config.hpp "// Made by fathom_add_model from
//   ${config}
#pragma once

#include <fathom/io/read_config.hpp>
#include <fathom/model/config.hpp>

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

}  // namespace ${name}
")
  _fathom_write(${made}/${name}.hpp "// Made by fathom_add_model from
//   ${config}
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

${headers}
#include \"${name}_config.hpp\"

namespace ${name} {

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
    set(packed)
    if(arg_WEIGHTS AND arg_TYPE)
      set(packed ${file_weights_file})
    endif()
    add_library(${name} INTERFACE ${packed})
    set(scope INTERFACE)
  endif()
  target_include_directories(${name} ${scope} ${made})
  target_link_libraries(${name} ${scope} fathom::fathom)
endfunction()
