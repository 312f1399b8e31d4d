// The contents of a tokenizer's files: vocabularies, lists of merges, and declarations of added tokens.
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/json.hpp"
#include "fathom/core/types.hpp"
#include "fathom/data/bpe_entries.hpp"
#include "fathom/data/bpe_errors.hpp"
#include "fathom/data/bpe_rules.hpp"
#include "fathom/data/text_ends.hpp"
#include "fathom/io/json.inl.hpp"

namespace fathom::data::detail {

/// A text to read, and its name in errors.
struct source {
  std::string name;
  std::string_view text;
};

/// The contents of the files of a tokenizer.
struct bpe_parts {
  vocabulary_entries entries;
  struct merge {
    std::size_t number;             // in its file, from 1
    std::size_t left, right, made;  // entries
  };
  std::vector<merge> merges;
  std::string vocab_name, merges_name;  // of the files
  const char* merges_unit = "line";     // what merge::number counts
  bool lists_added = false;             // tokens not listed as added are not special, however they are made
  bool has_unknown = false;             // a token for what has no token
  bool ignores_merges = false;          // for pieces that are tokens
  bpe_rules rules;                      // how text is cut, and in which form
  text_ends ends;                       // the tokens around a text
  std::optional<token> bos, eos;        // that begin and end a text, by their roles

  /// Reads a JSON object that maps tokens to ids.
  void read_vocab(const source& file) {
    vocab_name = file.name;
    read_ids(file, false);
  }
  /// The same for added tokens.
  void read_added(const source& file) { read_ids(file, true); }
  /// Reads lines of two tokens. The vocabulary must be read first.
  void read_merges(const source& file) {
    merges_name = file.name;
    merges.reserve(static_cast<std::size_t>(std::count(file.text.begin(), file.text.end(), '\n')) + 1);
    std::size_t number = 0;
    for (std::string_view rest = file.text; !rest.empty();) {
      const std::size_t length = std::min(rest.find('\n'), rest.size());
      std::string_view text = rest.substr(0, length);
      rest.remove_prefix(std::min(length + 1, rest.size()));
      ++number;
      if (text.ends_with('\r')) text.remove_suffix(1);
      if (number == 1 && text.starts_with("#version")) continue;
      if (text.empty() && rest.empty()) break;
      add_merge(number, text);
    }
  }
  /// Reads a tokenizer.json. Fails when its rules are not implemented (check_rules).
  void read_tokenizer(const source& file) {
    const std::optional<json> read = json::parse(file.text);
    if (!read) fail(file.name, ": is not JSON", io::detail::but_what(file.text));
    const json& root = *read;
    const auto& model = root["model"];
    if (!model.is_object())
      fail(file.name, ": has no object \"model\"; expected one of the type \"BPE\", as tokenizers writes it");
    rules = check_rules(file.name, root);

    vocab_name = merges_name = file.name;
    merges_unit = "merge";
    lists_added = true;
    ignores_merges = model["ignore_merges"] == true;
    has_unknown = !model["unk_token"].is_null();
    const auto &vocab = model["vocab"], &pairs = model["merges"], &added = root["added_tokens"];
    if (!vocab.is_object()) fail(file.name, ": model.vocab is ", said(vocab), "; expected an object of tokens and ids");
    entries.begin_file(file.name);
    for (const auto& [key, id] : vocab.members()) static_cast<void>(entries.add(key, id));
    if (!pairs.is_array()) fail(file.name, ": model.merges is ", said(pairs), "; expected a list");
    merges.reserve(pairs.size());
    for (const json& pair : pairs.elements()) {
      const std::size_t number = merges.size() + 1;
      const auto half = [&](std::size_t i) -> std::string_view {
        return pair[i].is_string() ? std::string_view(pair[i].text()) : "";
      };
      if (pair.is_string())
        add_merge(number, pair.text());
      else if (pair.is_array() && pair.size() == 2 && !half(0).empty() && !half(1).empty())
        add_merge(number, half(0), half(1));
      else
        fail(place(number), ": is ", said(pair), "; expected \"LEFT RIGHT\" or [\"LEFT\", \"RIGHT\"]");
    }
    if (!added.is_null()) {
      if (!added.is_array()) fail(file.name, ": added_tokens is ", said(added), "; expected a list");
      entries.begin_file(file.name);
      for (const json& one : added.elements()) add_described(file.name, one, one["id"]);
    }
    ends.read(file.name, root["post_processor"], entries);
    if (ends.before.size() == 1) bos = ends.before.front();
    if (ends.after.size() == 1) eos = ends.after.front();
  }
  /// Reads the added tokens of a tokenizer_config.json or special_tokens_map.json.
  void read_config(const std::string& name, const json& config) {
    entries.begin_file(name);
    if (const auto& added = config["added_tokens_decoder"]; added.is_object())
      for (const auto& [key, described] : added.members())
        add_described(name, described, json::parse(key).value_or(json(key)));
    // Tokens with a role are special.
    for (const auto& [key, value] : config.members()) {
      if (key.ends_with("_token")) set_special(name, value);
      if (key == "bos_token") set_role(bos, value);
      if (key == "eos_token") set_role(eos, value);
      if (value.is_array() && key.ends_with("_special_tokens"))
        for (const json& one : value.elements()) set_special(name, one);
    }
  }
  /// Adds a merge, two tokens with a space between them.
  void add_merge(std::size_t number, std::string_view text) {
    const std::size_t space = text.find(' ');
    if (space == text.npos || space == 0 || space + 1 == text.size() || text.find(' ', space + 1) != text.npos)
      fail(place(number), ": ", in_quotes(text), "; expected two tokens with one space between them");
    add_merge(number, text.substr(0, space), text.substr(space + 1));
  }
  /// The name of a merge in errors.
  [[nodiscard]] std::string place(std::size_t number) const {
    return join(merges_name, ": ", merges_unit, " ", number);
  }

 private:
  void read_ids(const source& file, bool added) {
    entries.begin_file(file.name);
    std::optional<std::string> key;  // the last one
    json_reader at(file.text);       // uses no memory for deep nesting, which only invalid files have
    for (bool is_inside = false; at.next() < json_event::end;) {
      if (at.last() == json_event::key) {
        key = at.string();
      } else if (at.last() == json_event::begin_object && !is_inside) {
        is_inside = true;
      } else if (at.last() != json_event::end_object) {
        if (!is_inside) fail(file.name, ": expected a JSON object of tokens and their ids, {\"a\": 0, \"b\": 1, ...}");
        const std::size_t entry = entries.add(*key, json(at));  // fails on a structure, so depth stays 1
        if (added && !entries.added(entry)) entries.set_added(entry, {});
      }
    }
    if (at.last() == json_event::end) return;
    const std::string what = io::detail::but_what(file.text);
    fail(file.name, ": is not JSON",
         !what.empty() ? what
         : key         ? ", after the token " + in_quotes(*key)
                       : std::string());
  }

  void add_merge(std::size_t number, std::string_view left, std::string_view right) {
    const auto find = [&](std::string_view spelling) {
      const std::size_t entry = entries.find(spelling);
      if (entry == vocabulary_entries::none) fail(place(number), ": the vocabulary has no token ", in_quotes(spelling));
      return entry;
    };
    both_.assign(left).append(right);
    merges.push_back({number, find(left), find(right), find(both_)});
  }

  /// Adds a token with its description, in the format of Hugging Face tokenizers.
  void add_described(const std::string& file, const json& described, const json& id) {
    const auto& content = described["content"];
    if (!content.is_string()) fail(file, ": an added token is ", said(described), "; expected one with \"content\"");
    const std::size_t entry = entries.add(content.text(), id);
    entries.set_added(entry, how(file, described));
  }
  /// Marks a token, given by its spelling or a description, as special.
  void set_special(const std::string& file, const json& value) {
    const auto& content = value.is_object() ? value["content"] : value;
    if (!content.is_string()) return;
    const std::size_t entry = entries.find(content.text());
    if (entry != vocabulary_entries::none && !entries.added(entry)) entries.set_added(entry, how(file, value));
  }
  /// Notes which token has a role; none, if it is null.
  void set_role(std::optional<token>& role, const json& value) const {
    const auto& content = value.is_object() ? value["content"] : value;
    role.reset();
    if (!content.is_string()) return;
    if (const std::size_t entry = entries.find(content.text()); entry != vocabulary_entries::none)
      role = entries.id(entry);
  }
  [[nodiscard]] static added_token how(const std::string& file, const json& described) {
    const auto flag = [&](const char* name, bool standard) {
      const auto& value = described[name];
      if (value.is_null()) return standard;
      if (!value.is_boolean())
        fail(file, ": \"", name, "\" of the token ", said(described["content"]), " is ", said(value),
             "; expected true or false");
      return value.as<bool>();
    };
    for (const char* rule : {"single_word", "lstrip", "rstrip"})
      if (flag(rule, false))
        fail(file, ": \"", rule, "\" of the token ", said(described["content"]),
             " is true; expected false, because bpe finds tokens whatever is beside them, and keeps that");
    const bool special = flag("special", true);
    return {special, flag("normalized", !special)};
  }

  std::string both_;
};

}  // namespace fathom::data::detail
