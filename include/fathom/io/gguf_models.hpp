// Models in GGUF files (gguf.hpp): their config, and how their tensors differ from ours. Keys and names:
// github.com/ggml-org/llama.cpp, gguf-py/gguf/constants.py; layouts: conversion/*.py.
#pragma once

#include <filesystem>
#include <string>

#include "fathom/core/compiled.hpp"
#include "fathom/io/gguf.hpp"
#include "fathom/io/safetensors.hpp"
#include "fathom/model/config.hpp"

namespace fathom::io {

/// The config of the model in a GGUF file, of architecture llama, qwen2, qwen3, gemma3, gpt2, gptneox or olmo2. Appends a
/// line to `problems` for everything that a config cannot express.
[[nodiscard]] config config_of_gguf(const gguf_file& file, std::string& problems);

/// Fails unless the model in a GGUF file fits a config, as check_family_config does.
void check_gguf_config(const config& given, const gguf_file& file);

/// The architecture of a family's GGUF files: "gptneox".
[[nodiscard]] std::string gguf_architecture(family of);

/// The tensors of a GGUF file under their own names, dequantised to F32 while reading. Refers to the file, which must
/// outlive it.
class gguf_tensors : public stored_tensors {
 public:
  explicit gguf_tensors(const gguf_file& file);
};

}  // namespace fathom::io

#if !defined(FATHOM_KERNELS)
#include "fathom/io/gguf_models.inl.hpp"
#endif
