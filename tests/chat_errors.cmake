# examples/chat.sh and adapt.sh say in one line what is wrong with their arguments, before they install or compile anything; and chat.sh
# what is wrong with a model, before it compiles that.
#   cmake -DSOURCE=... -DFOLDER=... -P chat_errors.cmake
cmake_minimum_required(VERSION 3.25)
file(REMOVE_RECURSE ${FOLDER})
file(MAKE_DIRECTORY ${FOLDER}/empty)
file(WRITE ${FOLDER}/notes.txt "text")

function(expect_error_of script expected)
  execute_process(COMMAND bash ${SOURCE}/examples/${script} ${ARGN} WORKING_DIRECTORY ${FOLDER} RESULT_VARIABLE result OUTPUT_VARIABLE output
                  ERROR_VARIABLE error)
  if(result EQUAL 0 OR NOT output STREQUAL "" OR NOT error STREQUAL "${script}: ${expected}\n")
    message(FATAL_ERROR "${script} ${ARGN}\nreturns ${result} and writes\n${output}${error}expected\n${script}: ${expected}")
  endif()
endfunction()
macro(expect_error expected)
  expect_error_of(chat.sh "${expected}" ${ARGN})
endmacro()

expect_error("${FOLDER}/nothing.gguf: there is no such file or folder" nothing.gguf)
expect_error("${FOLDER}/empty: has no config.json; expected a folder of transformers, or a GGUF file" empty)
expect_error("${FOLDER}/notes.txt: expected a GGUF file, NAME.gguf, or a folder of transformers" ${FOLDER}/notes.txt)
expect_error("two models, a.gguf and b.gguf; expected one" a.gguf b.gguf)
expect_error("--type is q4; expected float, bf16, int8 or int4" --type q4)
foreach(context 0 many -1)
  expect_error("--context is ${context}; expected a number of tokens, at least 1" --context ${context})
endforeach()
expect_error("--prompt needs a value" --prompt)
expect_error("unknown option --topk" --topk 3)

# Models that no program can be made of: what the config says, and what only the compiler would find. Nothing stays behind.
set(kept ${SOURCE}/build/chat)
function(expect_no_model expected json)
  file(WRITE ${FOLDER}/impossible/config.json "${json}")
  file(WRITE ${FOLDER}/impossible/model.safetensors "")
  execute_process(COMMAND bash ${SOURCE}/examples/chat.sh impossible WORKING_DIRECTORY ${FOLDER} RESULT_VARIABLE result OUTPUT_VARIABLE output
                  ERROR_VARIABLE error)
  string(REGEX REPLACE "\n *" " " said "${error}")
  if(NOT result EQUAL 1 OR NOT output STREQUAL "" OR NOT said STREQUAL "Compiling (about half a minute) ${FOLDER}/impossible${expected} ")
    message(FATAL_ERROR "chat.sh with ${json}\nreturns ${result} and writes\n${output}${error}expected\n${FOLDER}/impossible${expected}")
  endif()
  file(GLOB left ${kept}/impossible-*)
  if(left)
    message(FATAL_ERROR "chat.sh leaves ${left} behind")
  endif()
endfunction()
set(llama [["model_type": "llama", "vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "rms_norm_eps": 1e-5]])
expect_no_model("/config.json: is the config of no model that can be built: hidden_act: expected \"silu\", the only value that a fathom::config can express; found \"relu\""
                "{${llama}, \"hidden_act\": \"relu\"}")
expect_no_model(": is the config of no model that can be built: kv_heads: expected a divisor of heads, 4; found 3" "{${llama}, \"num_key_value_heads\": 3}")

expect_error_of(adapt.sh "no text; expected at least one file")
expect_error_of(adapt.sh "${FOLDER}/nothing.txt: there is no such file" nothing.txt)
expect_error_of(adapt.sh "${FOLDER}/nothing.txt: there is no such file" notes.txt --other nothing.txt)
expect_error_of(adapt.sh "${FOLDER}/nothing.gguf: there is no such file or folder" notes.txt --model nothing.gguf)
expect_error_of(adapt.sh "${FOLDER}/empty: has no adapter.safetensors; train one first" --prompt Hello --folder empty)
expect_error_of(adapt.sh "--minutes needs a value" notes.txt --minutes)
expect_error_of(adapt.sh "unknown option --hours" notes.txt --hours 1)
message("chat.sh and adapt.sh say what is wrong")
