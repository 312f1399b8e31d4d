// Reads the files of a tokenizer: from memory, from two paths, or from a folder, which may be in memory.
#pragma once

#include <filesystem>
#include <string>

#include "fathom/core/error.hpp"
#include "fathom/core/json.hpp"
#include "fathom/data/bpe_parts.hpp"
#include "fathom/data/bpe_rules.hpp"
#include "fathom/io/file.hpp"
#include "fathom/io/named_files.hpp"
#include "fathom/io/json.inl.hpp"

namespace fathom::data::detail {

/// Reads a vocabulary and its merges.
[[nodiscard]] inline bpe_parts read_bpe(const source& vocab, const source& merges, const source& added = {}) {
  bpe_parts parts;
  parts.read_vocab(vocab);
  parts.read_merges(merges);
  if (!added.text.empty()) parts.read_added(added);
  return parts;
}
[[nodiscard]] inline bpe_parts read_bpe(const std::filesystem::path& vocab, const std::filesystem::path& merges) {
  const io::whole_file vocab_file(vocab), merges_file(merges);
  return read_bpe(source{vocab.string(), vocab_file.text()}, {merges.string(), merges_file.text()});
}

/// Reads the files of a folder.
[[nodiscard]] inline bpe_parts read_bpe(const io::named_files& files) {
  const std::string config_name = files.name_of("tokenizer_config.json");
  const auto json_in = [&](const char* name) { return io::detail::json_of(files.text(name), files.name_of(name)); };
  const json config = files.has("tokenizer_config.json") ? json_in("tokenizer_config.json") : json();
  json model;
  const tokenizer_class* const named = check_config(files, config_name, config, files.has("tokenizer.json"), model);

  bpe_parts parts;
  const bool by_file = files.has("tokenizer.json");
  if (named != nullptr && !by_file) {
    parts.rules.pieces = named->pieces.front();
    parts.rules.form.nfc = named->nfc;
  }
  const auto read = [&](const char* name, void (bpe_parts::*what)(const source&)) {
    const std::string text = files.text(name);
    (parts.*what)({files.name_of(name), text});
  };
  const auto read_both = [&](const char* vocab, const char* merges) {
    read(vocab, &bpe_parts::read_vocab);
    read(merges, &bpe_parts::read_merges);
  };
  if (by_file)
    read("tokenizer.json", &bpe_parts::read_tokenizer);
  else if (files.has("vocab.json"))
    read_both("vocab.json", "merges.txt");
  else if (files.has("encoder.json"))
    read_both("encoder.json", "vocab.bpe");
  else
    fail(files.name(), ": has neither tokenizer.json, nor vocab.json and merges.txt, nor encoder.json and vocab.bpe");
  if (named != nullptr && by_file) check_class(files, *named, parts.rules, model);
  check_options(config_name, config, parts.rules);
  if (files.has("added_tokens.json")) read("added_tokens.json", &bpe_parts::read_added);
  if (config.is_object()) parts.read_config(config_name, config);
  if (files.has("special_tokens_map.json")) {
    const auto bos = parts.bos, eos = parts.eos;  // go before those of the map
    if (const auto map = json_in("special_tokens_map.json"); map.is_object())
      parts.read_config(files.name_of("special_tokens_map.json"), map);
    if (bos) parts.bos = bos;
    if (eos) parts.eos = eos;
  }
  // A tokenizer.json says itself what is put around a text.
  if (!by_file && config["add_bos_token"] == true && parts.bos) parts.ends.before.push_back(*parts.bos);
  if (!by_file && config["add_eos_token"] == true && parts.eos) parts.ends.after.push_back(*parts.eos);
  return parts;
}

}  // namespace fathom::data::detail
