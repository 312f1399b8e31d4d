// The tokenizer in a GGUF file, and one for a file to write.
#pragma once

#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"
#include "fathom/data/bpe.hpp"
#include "fathom/data/gguf_tokenizer.hpp"
#include "fathom/io/gguf.hpp"

namespace fathom::data {

/// Reads the tokenizer of a GGUF file; bpe::from_gguf says which kinds. Fails when the file has none.
[[nodiscard]] inline bpe read_bpe(const io::gguf_file& file) {
  const auto with = [](const char* name) { return std::string("tokenizer.ggml.") + name; };
  const std::vector<std::string_view> tokens = file.texts(with("tokens"));
  std::vector<std::int32_t> types;
  if (file.find(with("token_type")))
    for (const index type : file.integers(with("token_type"))) types.push_back(static_cast<std::int32_t>(type));
  std::vector<std::string_view> merges;
  if (file.find(with("merges"))) merges = file.texts(with("merges"));
  std::vector<float> scores;
  if (file.find(with("scores"))) scores = file.reals(with("scores"));
  gguf_tokenizer metadata{.model = file.text(with("model")), .tokens = tokens};
  metadata.pre = file.text(with("pre"), std::string_view());
  metadata.token_type = types;
  metadata.merges = merges;
  metadata.scores = scores;
  const auto id = [&](const char* name) -> std::optional<std::int64_t> {
    return file.find(with(name)) ? std::optional<std::int64_t>(file.integer(with(name))) : std::nullopt;
  };
  const auto flag = [&](const char* name) -> std::optional<bool> {
    return file.find(with(name)) ? std::optional<bool>(file.boolean(with(name))) : std::nullopt;
  };
  metadata.bos_token_id = id("bos_token_id");
  metadata.eos_token_id = id("eos_token_id");
  metadata.add_bos_token = flag("add_bos_token");
  metadata.add_eos_token = flag("add_eos_token");
  metadata.add_space_prefix = flag("add_space_prefix");
  metadata.file = file.path();
  return bpe::from_gguf(metadata);
}

/// The entries of a GGUF file for a tokenizer (io/save_gguf.hpp). With the `vocab` of a model that has room for more tokens,
/// as Qwen's and Pythia's have, unused tokens "[PAD<id>]" follow, as llama.cpp's converter writes them.
[[nodiscard]] inline io::gguf_metadata gguf_metadata_of(const bpe& tokenizer, index vocab = 0) {
  written_gguf_tokenizer all = tokenizer.to_gguf();
  while (std::ssize(all.tokens) < vocab) {
    all.tokens.push_back(join("[PAD", all.tokens.size(), "]"));
    all.token_type.push_back(5);
    if (!all.scores.empty()) all.scores.push_back(-1000);
  }
  io::gguf_metadata metadata;
  const auto add = [&](const char* name, io::gguf_value_to_write value) {
    metadata.emplace_back(std::string("tokenizer.ggml.") + name, std::move(value));
  };
  const auto id = [&](const char* name, const std::optional<token>& t) {
    if (t) add(name, static_cast<std::uint32_t>(*t));
  };
  add("model", all.model);
  add("pre", all.pre);
  add("tokens", all.tokens);
  add("token_type", all.token_type);
  if (!all.merges.empty()) add("merges", all.merges);
  if (!all.scores.empty()) add("scores", all.scores);
  id("bos_token_id", all.bos);
  id("eos_token_id", all.eos);
  id("unknown_token_id", all.unknown);
  add("add_bos_token", all.adds_bos);
  add("add_eos_token", all.adds_eos);
  if (tokenizer.kind() == bpe_kind::sentencepiece) add("add_space_prefix", all.adds_space);
  return metadata;
}

}  // namespace fathom::data
