# fathom_add_model(NAME CONFIG config.json [WEIGHTS model.safetensors] [TOKENIZER dir] [EMBED] [TYPE f32|bf16|int8])
#
# From a checkpoint to a target: reads the config when CMake is configured, makes the header <NAME.hpp>, and the library
# NAME to link with, which brings fathom along. In the header, in namespace NAME:
#
#   config                                      the constexpr fathom::config
#   model, number, packed, generator            fathom::model<config>; TYPE (f32 when not given); model::packed<number>;
#                                               fathom::generator<model, number>
#   const packed& weights()                     with WEIGHTS: packed when first asked for, in static storage
#   std::string_view tokenizer_vocab()          with TOKENIZER: the text of vocab.json (or encoder.json) in that folder,
#   std::string_view tokenizer_merges()         and of merges.txt (or vocab.bpe); an error if tokenizer_config.json says
#                                               that they are for other rules than GPT-2's
#
# With EMBED all of these are in the program; without, they are read from where they lie now. Neither goes through the
# compiler, but the assembler's .incbin; a changed file is taken up by the next build. What is in the program is the
# safetensors file as it is, in any type that fathom reads: how packed numbers lie depends on the processor, and a machine
# that is built for need not be the one that builds.
#
# config.json has fathom's keys, or those of GPT-2 in the package transformers. One that fathom has no model for is an error
# that names the key and its value.

# The error about a key of the config being read (`file`).
function(_fathom_config_error key value expected)
  message(FATAL_ERROR "fathom_add_model: ${file}: \"${key}\" is ${value}; expected ${expected}")
endfunction()

# Sets `result` to a value as it stands in JSON; `type` is what JSON calls it.
function(_fathom_config_shown result type value)
  if(type STREQUAL "STRING")
    set(value "\"${value}\"")
  elseif(type STREQUAL "BOOLEAN")
    string(REPLACE ON true value ${value})
    string(REPLACE OFF false value ${value})
  elseif(type STREQUAL "NULL")
    set(value null)
  endif()
  set(${result} "${value}" PARENT_SCOPE)
endfunction()

# Sets `result` to the value of a key of `json`, as text, and checks its JSON type and, with PATTERN, its text. What is not
# there is `default`, or an error where there is none. `expected` says what is expected, for the error.
function(_fathom_config_get result key)
  cmake_parse_arguments(PARSE_ARGV 2 arg "" "TYPE;EXPECTED;DEFAULT;PATTERN" "")
  string(REPLACE . ";" at "${key}")
  string(JSON type ERROR_VARIABLE missing TYPE "${json}" ${at})
  if(missing OR (type STREQUAL "NULL" AND DEFINED arg_DEFAULT))
    if(NOT DEFINED arg_DEFAULT)
      _fathom_config_error(${key} "not there" "${arg_EXPECTED}")
    endif()
    set(${result} "${arg_DEFAULT}" PARENT_SCOPE)
    return()
  endif()
  string(JSON value GET "${json}" ${at})
  _fathom_config_shown(shown ${type} "${value}")
  if(type STREQUAL "BOOLEAN")
    set(value ${shown})
  endif()
  if(NOT type STREQUAL arg_TYPE OR (DEFINED arg_PATTERN AND NOT value MATCHES "${arg_PATTERN}"))
    _fathom_config_error(${key} "${shown}" "${arg_EXPECTED}")
  endif()
  set(${result} "${value}" PARENT_SCOPE)
endfunction()

# A whole number from 1 to the largest int, a truth, one word of several, and a number that can only be one.
macro(_fathom_config_size result key)
  _fathom_config_get(${result} ${key} TYPE NUMBER PATTERN "^[1-9][0-9]?[0-9]?[0-9]?[0-9]?[0-9]?[0-9]?[0-9]?[0-9]?$"
                     EXPECTED "a whole number, at least 1" ${ARGN})
endmacro()
macro(_fathom_config_bool result key)
  _fathom_config_get(${result} ${key} TYPE BOOLEAN EXPECTED "true or false" ${ARGN})
endmacro()
macro(_fathom_config_word result key words)
  string(REPLACE "|" ", " _fathom_words "${words}")
  _fathom_config_get(${result} ${key} TYPE STRING PATTERN "^(${words})$" EXPECTED "one of ${_fathom_words}" ${ARGN})
endmacro()
macro(_fathom_config_only key value)
  _fathom_config_get(_fathom_only ${key} TYPE NUMBER DEFAULT ${value} EXPECTED "${value}, the only one that there is")
  if(NOT _fathom_only EQUAL ${value})
    string(REGEX MATCH "\"${key}\"[ \t\r\n]*:[ \t\r\n]*([-+.0-9eE]+)" _fathom_only "${json}")  # GET adds digits
    _fathom_config_error(${key} "${CMAKE_MATCH_1}" "${value}, the only one that there is")
  endif()
endmacro()
macro(_fathom_config_must_be key value)
  _fathom_config_bool(_fathom_truth ${key} DEFAULT ${value})
  if(NOT _fathom_truth STREQUAL ${value})
    _fathom_config_error(${key} ${_fathom_truth} "${value}; there is no model for the other")
  endif()
endmacro()
# Keys of an object other than those that are known have an unknown meaning.
function(_fathom_config_known prefix object)
  string(JSON count LENGTH "${object}")
  if(count GREATER 0)
    math(EXPR last "${count} - 1")
    foreach(i RANGE ${last})
      string(JSON key MEMBER "${object}" ${i})
      if(NOT key IN_LIST ARGN)
        string(JSON value GET "${object}" "${key}")
        string(JSON type TYPE "${object}" "${key}")
        _fathom_config_shown(value ${type} "${value}")
        string(REPLACE ";" ", " known "${ARGN}")
        _fathom_config_error("${prefix}${key}" "${value}" "no such key, but only ${known}")
      endif()
    endforeach()
  endif()
endfunction()

# Sets `result` to the fathom::config, in C++, that a config.json stands for.
function(_fathom_read_config file result)
  file(READ "${file}" json)
  string(JSON type ERROR_VARIABLE error TYPE "${json}")
  if(error OR NOT type STREQUAL "OBJECT")
    message(FATAL_ERROR "fathom_add_model: ${file}: is not a JSON object: ${error}")
  endif()
  set(shortcut)
  string(JSON ignored ERROR_VARIABLE no_n_embd GET "${json}" n_embd)
  string(JSON ignored ERROR_VARIABLE no_model_type GET "${json}" model_type)
  if(NOT no_n_embd OR NOT no_model_type)
    # transformers, GPT2Config. What is not there has the value that GPT2Config gives it.
    _fathom_config_word(kind model_type gpt2 DEFAULT gpt2)
    _fathom_config_size(vocab vocab_size DEFAULT 50257)
    _fathom_config_size(context n_positions DEFAULT 1024)
    _fathom_config_size(width n_embd DEFAULT 768)
    _fathom_config_size(depth n_layer DEFAULT 12)
    _fathom_config_size(heads n_head DEFAULT 12)
    _fathom_config_size(hidden n_inner DEFAULT 0)
    _fathom_config_bool(tied tie_word_embeddings DEFAULT true)
    _fathom_config_word(activation activation_function "gelu_new|gelu_pytorch_tanh" DEFAULT gelu_new)
    _fathom_config_only(layer_norm_epsilon 1e-05)
    _fathom_config_must_be(scale_attn_weights true)
    _fathom_config_must_be(scale_attn_by_inverse_layer_idx false)
    _fathom_config_must_be(add_cross_attention false)
    _fathom_config_must_be(is_encoder_decoder false)
    set(heads_key n_head)
  else()
    _fathom_config_known("" "${json}" vocab context width depth heads mlp_ratio mlp_hidden tied layer_norm_eps shortcut
                         batch tokens adamw)  # the last three are about training
    foreach(key vocab context width depth heads)
      _fathom_config_size(${key} ${key})
    endforeach()
    _fathom_config_size(ratio mlp_ratio DEFAULT 4)
    math(EXPR hidden "${ratio} * ${width}")
    _fathom_config_size(hidden mlp_hidden DEFAULT ${hidden})
    _fathom_config_bool(tied tied DEFAULT true)
    _fathom_config_only(layer_norm_eps 1e-05)
    _fathom_config_get(object shortcut TYPE OBJECT DEFAULT null EXPECTED "null, or an object with depths, features, hidden, placement")
    if(NOT object STREQUAL "null")
      _fathom_config_known(shortcut. "${object}" depths features hidden placement zero_init)
      _fathom_config_get(list shortcut.depths TYPE ARRAY EXPECTED "an array of depths")
      string(JSON count LENGTH "${list}")
      set(depths)
      if(count GREATER 0)
        math(EXPR last "${count} - 1")
        foreach(i RANGE ${last})
          _fathom_config_get(s shortcut.depths.${i} TYPE NUMBER PATTERN "^[0-9]+$" EXPECTED "a depth of at least 0")
          if(s GREATER_EQUAL depth OR s GREATER 63 OR s IN_LIST depths)
            _fathom_config_error(shortcut.depths "${list}" "every depth once, below 64 and below \"depth\", ${depth}")
          endif()
          list(APPEND depths ${s})
        endforeach()
      endif()
      _fathom_config_word(features shortcut.features "identity|linear|mlp" DEFAULT mlp)
      _fathom_config_size(feature_hidden shortcut.hidden DEFAULT 0)
      _fathom_config_word(placement shortcut.placement "after_self_attention|replace_self_attention|joint"
                          DEFAULT after_self_attention)
      _fathom_config_bool(zero_init shortcut.zero_init DEFAULT false)
      if(zero_init AND placement STREQUAL "joint")
        _fathom_config_error(shortcut.zero_init true "false, for the placement joint")
      endif()
      if(depths)
        string(REPLACE ";" ", " depths "${depths}")
        set(shortcut ",
    .shortcut = {.depths = {${depths}}, .features = fathom::feature_map::${features}, .hidden = ${feature_hidden},
                 .placement = fathom::placement::${placement}, .zero_init = ${zero_init}}")
      endif()
    endif()
    set(heads_key heads)
  endif()
  math(EXPR rest "${width} % ${heads}")
  if(NOT rest EQUAL 0)
    _fathom_config_error(${heads_key} ${heads} "a divisor of the width, ${width}")
  endif()
  set(${result} "{.vocab = ${vocab}, .context = ${context}, .width = ${width}, .depth = ${depth}, .heads = ${heads},
    .hidden = ${hidden}, .tied = ${tied}${shortcut}}" PARENT_SCOPE)
endfunction()

# Leaves a file that says this already as it is, so that nothing is compiled anew.
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
  _fathom_read_config("${config}" value)

  # The files, what the functions that hand them out are called, and the declarations of those.
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
    # The program has nothing but the two files, and so cannot see whose rules they are for.
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

  # The header, and, to embed, the source with the files in it.
  set(headers backend/cpu core/bf16 generate/generator model/model)
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

inline constexpr fathom::config config${value};
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
    # An optimiser of the whole program does not see symbols that only the assembler defines.
    set_source_files_properties(${made}/${name}.cpp PROPERTIES OBJECT_DEPENDS "${embedded}" COMPILE_OPTIONS -fno-lto)
    set(scope PUBLIC)
  else()
    add_library(${name} INTERFACE)
    set(scope INTERFACE)
  endif()
  target_include_directories(${name} ${scope} ${made})
  target_link_libraries(${name} ${scope} fathom::fathom)
endfunction()
