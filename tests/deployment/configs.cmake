# Errors of fathom_add_model for invalid arguments, and of compilers for its headers with invalid
# configs. io_config.cpp covers all errors in configs.
#
#   cmake -DSOURCE=... -DFOLDER=... -DGENERATOR=... -DCOMPILERS=g++;clang++ -DINCLUDES=a,b -P configs.cmake
#
# Each invalid case is configured as a separate project.
cmake_minimum_required(VERSION 3.25)
file(REMOVE_RECURSE ${FOLDER})
file(MAKE_DIRECTORY ${FOLDER}/tokenizer)
set(failures 0)
set(checked 0)

function(expect_error statement text)
  file(WRITE ${FOLDER}/CMakeLists.txt "cmake_minimum_required(VERSION 3.25)
project(wrong NONE)
include(${SOURCE}/cmake/fathom-add-model.cmake)
${statement}
")
  execute_process(COMMAND ${CMAKE_COMMAND} -G ${GENERATOR} -S ${FOLDER} -B ${FOLDER}/build
                  RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  string(REGEX REPLACE "[ \n]+" " " output "${output}")
  string(FIND "${output}" "${text}" at)
  if(result EQUAL 0 OR at EQUAL -1)
    message("${statement}\nreturns ${result}, and does not say \"${text}\" but\n${output}\n")
    math(EXPR failures "${failures} + 1")
  endif()
  math(EXPR checked "${checked} + 1")
  set(failures ${failures} PARENT_SCOPE)
  set(checked ${checked} PARENT_SCOPE)
endfunction()

# Compilers report an invalid config at the include of the header: the file, the key, the value and what was
# expected, without further errors. File names with quotation marks and the like work, too.
set(quoted "${FOLDER}/it's \\ \"good\".json")
set(good [[{"vocab": 61, "context": 16, "width": 32, "depth": 4, "heads": 4, "mlp_ratio": 4, "tied": true, "layer_norm_eps": 1e-05,
  "shortcut": {"depths": [1, 2], "features": "mlp", "hidden": 16, "placement": "joint"}}]])
file(WRITE "${quoted}" "${good}")
file(WRITE ${FOLDER}/ours.json [[{"vocab": 61, "context": 16, "width": 32, "depth": 4, "heads": 5}]])
file(WRITE ${FOLDER}/theirs.json [[{"model_type": "gpt2", "activation_function": "gelu\n; ${no} [x", "n_ctx": ");"}]])
file(WRITE ${FOLDER}/broken.json "{\"vocab\": ")
file(WRITE ${FOLDER}/CMakeLists.txt "cmake_minimum_required(VERSION 3.25)
project(models NONE)
include(${SOURCE}/cmake/fathom-add-model.cmake)
fathom_add_model(quoted CONFIG [[${quoted}]])
fathom_add_model(gpt2 CONFIG ${SOURCE}/tests/deployment/gpt2.json)
fathom_add_model(ours CONFIG ours.json)
fathom_add_model(theirs CONFIG theirs.json)
fathom_add_model(broken CONFIG broken.json)
")
execute_process(COMMAND ${CMAKE_COMMAND} -G ${GENERATOR} -S ${FOLDER} -B ${FOLDER}/build OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
file(WRITE ${FOLDER}/good.cpp "#include <quoted.hpp>
#include <gpt2.hpp>
static_assert(quoted::config == fathom::config{.vocab = 61, .context = 16, .width = 32, .depth = 4, .heads = 4, .hidden = 128,
              .shortcut = {.depths = {1, 2}, .hidden = 16, .placement = fathom::placement::joint}});
static_assert(gpt2::model::parameter_count == 124439808);
")
file(WRITE ${FOLDER}/wrong.cpp "#include <ours.hpp>\n#include <theirs.hpp>\n#include <broken.hpp>\n")
string(REPLACE "," ";-I" includes "-I${INCLUDES}")
foreach(compiler IN LISTS COMPILERS)
  if(NOT compiler)
    continue()
  endif()
  set(command ${compiler} -std=c++20 -DFATHOM_KERNELS=FATHOM_ISA ${includes})
  foreach(model quoted gpt2 ours theirs broken)
    list(APPEND command -I${FOLDER}/build/fathom-models/${model})
  endforeach()
  execute_process(COMMAND ${command} -fsyntax-only ${FOLDER}/good.cpp COMMAND ${command} -fsyntax-only ${FOLDER}/wrong.cpp
                  RESULTS_VARIABLE results OUTPUT_QUIET ERROR_VARIABLE output)
  string(REPLACE ";" "," results "${results}")
  if(NOT results MATCHES "^0,[1-9]")
    message("${compiler}: good and wrong configs return ${results}\n${output}\n")
    math(EXPR failures "${failures} + 1")
  endif()
  string(REPLACE "', '" "" output "${output}")  # clang++ 14 has no other way to show text
  string(REPLACE "\\" "" output "${output}")
  foreach(text IN ITEMS
      "fathom_add_model: ${FOLDER}/ours.json: is the config of no model" "\"heads\" is 5@ expected a divisor of the width, 32"
      "fathom_add_model: ${FOLDER}/theirs.json: is the config of no model"
      "\"activation_function\" is \"gelun@ \${no} [x\"@ expected one of gelu_new, gelu_pytorch_tanh, gelu_fast"
      "fathom_add_model: ${FOLDER}/broken.json: is the config of no model" "is not a JSON object")
    string(REPLACE "@" ";" text "${text}")
    string(FIND "${output}" "${text}" at)
    if(at EQUAL -1)
      message("${compiler} does not say \"${text}\" but\n${output}\n")
      math(EXPR failures "${failures} + 1")
    endif()
    math(EXPR checked "${checked} + 1")
  endforeach()
  string(REPLACE "error: " "" without "${output}")
  string(LENGTH "${output}" length)
  string(LENGTH "${without}" length_without)
  math(EXPR errors "(${length} - ${length_without}) / 7")
  if(NOT errors EQUAL 3)
    message("${compiler} finds ${errors} errors in three configs\n${output}\n")
    math(EXPR failures "${failures} + 1")
  endif()
endforeach()

# Arguments.
file(WRITE ${FOLDER}/config.json "${good}")
expect_error("fathom_add_model(m)" "fathom_add_model: CONFIG is missing")
expect_error("fathom_add_model(m CONFIG)" "fathom_add_model: not understood: CONFIG; expected fathom_add_model(NAME")
expect_error("fathom_add_model(m CONFIG config.json INT8)" "fathom_add_model: not understood: INT8; expected")
expect_error("fathom_add_model(my-model CONFIG config.json)" "fathom_add_model: the name my-model; expected one that can name a namespace")
expect_error("fathom_add_model(m CONFIG config.json TYPE f16)" "fathom_add_model: TYPE f16; expected f32, bf16, int8 or int4")
expect_error("fathom_add_model(m CONFIG config.json EMBED)" "fathom_add_model: EMBED without WEIGHTS and TOKENIZER")
expect_error("fathom_add_model(m CONFIG nowhere.json)" "/nowhere.json: there is no such file")
expect_error("fathom_add_model(m CONFIG config.json WEIGHTS no.safetensors)" "/no.safetensors: there is no such file, and no command that makes it")
expect_error("fathom_add_model(m CONFIG config.json TOKENIZER tokenizer)" "/tokenizer: has neither vocab.json nor encoder.json")
file(WRITE ${FOLDER}/tokenizer/encoder.json "{}")
expect_error("fathom_add_model(m CONFIG config.json TOKENIZER tokenizer)" "/tokenizer: has neither merges.txt nor vocab.bpe")
file(WRITE ${FOLDER}/tokenizer/vocab.bpe "")
file(WRITE ${FOLDER}/tokenizer/tokenizer_config.json [[{"tokenizer_class": "Qwen2Tokenizer"}]])
expect_error("fathom_add_model(m CONFIG config.json TOKENIZER tokenizer)" "/tokenizer/tokenizer_config.json: tokenizer_class is \"Qwen2Tokenizer\"; expected \"GPT2Tokenizer\"")
file(WRITE ${FOLDER}/tokenizer/tokenizer_config.json [[{"tokenizer_class": null, "add_prefix_space": true}]])
expect_error("fathom_add_model(m CONFIG config.json TOKENIZER tokenizer)" "/tokenizer/tokenizer_config.json: add_prefix_space is true; expected false")

# Models as others distribute them.
file(MAKE_DIRECTORY ${FOLDER}/model)
expect_error("fathom_add_model(m MODEL)" "fathom_add_model: not understood: MODEL; expected")
expect_error("fathom_add_model(m MODEL nowhere.gguf)" "/nowhere.gguf: there is no such file or folder, and no command that makes it")
expect_error("fathom_add_model(m MODEL model)" "/model: has no config.json")
file(WRITE ${FOLDER}/model/config.json "{}")
expect_error("fathom_add_model(m MODEL model)" "/model: has neither model.safetensors nor model.safetensors.index.json")
file(WRITE ${FOLDER}/model/model.safetensors.index.json [[{"weight_map": {"a": "model-1.safetensors"}}]])
expect_error("fathom_add_model(m MODEL model)" "/model: has no model-1.safetensors, which model.safetensors.index.json lists")
expect_error("fathom_add_model(m MODEL config.json)" "/config.json: expected a GGUF file, NAME.gguf, a folder of transformers, or NAME.safetensors")
expect_error("fathom_add_model(m MODEL model CONFIG config.json)" "fathom_add_model: MODEL and CONFIG")
expect_error("fathom_add_model(m MODEL model TOKENIZER tokenizer)" "fathom_add_model: MODEL and TOKENIZER")
expect_error("fathom_add_model(m MODEL model CONTEXT 0)" "fathom_add_model: CONTEXT 0; expected a number of tokens, at least 1")
expect_error("fathom_add_model(m CONFIG config.json CONTEXT 5)" "fathom_add_model: CONTEXT without MODEL")

if(failures)
  message(FATAL_ERROR "${failures} of ${checked} configs and calls are not taken as they should be")
endif()
message("${checked} configs and calls, each taken as it should be")
