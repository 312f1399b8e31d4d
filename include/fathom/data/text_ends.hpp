// The tokens that a tokenizer puts at the beginning and at the end of a text.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/json.hpp"
#include "fathom/core/types.hpp"
#include "fathom/data/bpe_entries.hpp"
#include "fathom/data/bpe_errors.hpp"

namespace fathom::data {

/// How encoding treats the ends of a text.
enum class ends {
  bare,   // adds no tokens
  marked  // adds those that the tokenizer's files ask for, as a rule the one that begins a text
};

namespace detail {
/// The tokens at the ends of texts. What is no post-processor that is known is an error when someone asks for the
/// tokens.
struct text_ends {
  std::vector<token> before, after;
  std::string unknown;  // why they are not known; empty if they are

  /// Reads the post_processor of a tokenizer.json.
  void read(const std::string& file, const json& processor, const vocabulary_entries& entries) {
    unknown.clear();
    before.clear();
    after.clear();
    if (processor.is_null()) return;
    const bool several = processor["type"] == "Sequence" && processor["processors"].is_array();
    const json one = json::array({processor});
    for (const json& step : (several ? processor["processors"] : one).elements()) {
      const auto& type = step["type"];
      bool known = type == "ByteLevel";
      if (type == "TemplateProcessing") known = read_template(step, entries);
      if (type == "RobertaProcessing" || type == "BertProcessing")
        known = put(step["cls"][0], entries, before) && put(step["sep"][0], entries, after);
      if (!known) {
        unknown = join(file, ": post_processor is ", said(step),
                       "; expected a \"ByteLevel\", or a \"TemplateProcessing\" with one text and tokens around it");
        return;
      }
    }
  }

 private:
  [[nodiscard]] bool read_template(const json& step, const vocabulary_entries& entries) {
    const auto& single = step["single"];
    if (!single.is_array()) return false;
    bool is_behind = false;
    for (const json& part : single.elements()) {
      if (part["Sequence"].is_object()) {
        if (std::exchange(is_behind, true)) return false;
        continue;
      }
      const auto& name = part["SpecialToken"]["id"];
      if (!name.is_string()) return false;
      const auto& tokens = step["special_tokens"][name.text()]["tokens"];
      if (!tokens.is_array()) return false;
      for (const json& spelling : tokens.elements())
        if (!put(spelling, entries, is_behind ? after : before)) return false;
    }
    return is_behind;
  }
  [[nodiscard]] static bool put(const json& spelling, const vocabulary_entries& entries, std::vector<token>& to) {
    if (!spelling.is_string()) return false;
    const std::size_t entry = entries.find(spelling.text());
    if (entry == vocabulary_entries::none) return false;
    to.push_back(entries.id(entry));
    return true;
  }
};
}  // namespace detail

}  // namespace fathom::data
