// A tokenizer as the metadata of a GGUF file describes it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"
#include "fathom/data/bpe_errors.hpp"
#include "fathom/data/bpe_parts.hpp"
#include "fathom/data/bpe_rules.hpp"
#include "fathom/data/digit_pieces.hpp"
#include "fathom/data/gpt2_pieces.hpp"
#include "fathom/data/llama3_pieces.hpp"
#include "fathom/data/space_pieces.hpp"
#include "fathom/data/utf8.hpp"

namespace fathom::data {

/// What a GGUF file says about its tokenizer: the values of the keys "tokenizer.ggml.MEMBER". Views and spans need not
/// outlive the call that reads them.
struct gguf_tokenizer {
  std::string_view model;                    // "gpt2", byte-level, or "llama", of SentencePiece's kind
  std::string_view pre{};                    // the pieces of "gpt2": "gpt-2", "llama-bpe", "qwen2", "smollm", ...
  std::span<const std::string_view> tokens;  // by id
  /// Of each token: 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte; empty if all are normal.
  std::span<const std::int32_t> token_type{};
  std::span<const std::string_view> merges{};  // of "gpt2": "LEFT RIGHT"
  std::span<const float> scores{};             // of "llama": of each token; the pair with the highest is merged first
  std::optional<std::int64_t> bos_token_id{}, eos_token_id{};
  std::optional<bool> add_bos_token{}, add_eos_token{};
  std::optional<bool> add_space_prefix{};  // of "llama": a space is put before each text; true if the file says nothing
  std::string_view file = "GGUF";          // the name in errors
};

/// The same to write, with everything that it refers to.
struct written_gguf_tokenizer {
  std::string model, pre{};
  std::vector<std::string> tokens{}, merges{};
  std::vector<std::int32_t> token_type{};
  std::vector<float> scores{};
  std::optional<token> bos{}, eos{}, unknown{};
  bool adds_bos = false, adds_eos = false, adds_space = false;
};

namespace detail {

/// The rules that a file of the model "gpt2" names.
struct gguf_pieces {
  std::string_view name;
  const piece_rule* pieces;
  bool nfc = false, ignores_merges = false, adds_bos = false;
};
inline constexpr gguf_pieces gguf_names[] = {
    {"gpt-2", &gpt2_pieces},
    {"llama-bpe", &llama3_pieces, false, true, true},
    {"llama3", &llama3_pieces, false, true, true},
    {"llama-v3", &llama3_pieces, false, true, true},
    {"qwen2", &qwen2_pieces, true},
    {"smollm", &digit_pieces},
    {"starcoder", &digit_pieces},
    {"olmo", &gpt2_pieces, true},  // of GPT-NeoX's tokenizer, which Pythia has, too
    {"dbrx", &llama3_pieces},      // of OLMo 2's
};

/// Reads the metadata of a GGUF file.
class gguf_reader {
 public:
  explicit gguf_reader(const gguf_tokenizer& from) : from_(from), file_(from.file) {}

  [[nodiscard]] bpe_parts read() {
    parts_.vocab_name = parts_.merges_name = file_;
    parts_.merges_unit = "merge";
    parts_.lists_added = true;
    if (from_.tokens.empty()) fail(file_, ": tokenizer.ggml.tokens is empty; expected a list of tokens");
    if (!from_.token_type.empty() && from_.token_type.size() != from_.tokens.size())
      fail(file_, ": tokenizer.ggml.token_type has ", from_.token_type.size(), " numbers; expected ",
           from_.tokens.size(), ", one for each token");
    if (from_.model == "gpt2")
      read_byte_level();
    else if (from_.model == "llama")
      read_sentencepiece();
    else
      fail(file_, ": tokenizer.ggml.model is ", in_quotes(from_.model), "; expected \"gpt2\" or \"llama\"");
    read_ends();
    return std::move(parts_);
  }

 private:
  enum : std::int32_t { normal = 1, unknown, control, user_defined, unused, byte };
  static constexpr std::size_t longest = 512;  // bytes of a token of which all halves are looked for

  [[nodiscard]] std::int32_t type_of(std::size_t id) const {
    return from_.token_type.empty() ? std::int32_t{normal} : from_.token_type[id];
  }

  /// Those of the vocabulary come first: entries are in its file, all others in a second one.
  void read_tokens() {
    for (const bool added : {false, true}) {
      parts_.entries.begin_file(file_);
      for (std::size_t id = 0; id < from_.tokens.size(); ++id) {
        const std::int32_t type = type_of(id);
        if (type < normal || type > byte)
          fail(file_, ": the token ", in_quotes(from_.tokens[id]), " has the type ", type, "; expected 1 to 6");
        const bool special = type == control || type == unknown;
        if (added != (special || type == user_defined)) continue;
        const std::size_t entry = parts_.entries.add(from_.tokens[id], static_cast<token>(id));
        if (added) parts_.entries.set_added(entry, {special, false});
      }
    }
  }

  void read_byte_level() {
    const auto* const named = std::find_if(std::begin(gguf_names), std::end(gguf_names),
                                           [&](const gguf_pieces& p) { return p.name == from_.pre; });
    if (named == std::end(gguf_names)) {
      std::string known;
      for (const gguf_pieces& p : gguf_names) known += (known.empty() ? "\"" : ", \"") + std::string(p.name) + '"';
      fail(file_, from_.pre.empty() ? ": has no metadata tokenizer.ggml.pre" : ": tokenizer.ggml.pre is ",
           from_.pre.empty() ? std::string() : in_quotes(from_.pre), "; expected the name of pieces that bpe has: ", known);
    }
    parts_.rules.pieces = named->pieces;
    parts_.rules.form.nfc = named->nfc;
    parts_.ignores_merges = named->ignores_merges;
    adds_bos_ = named->adds_bos;
    read_tokens();
    parts_.merges.reserve(from_.merges.size());
    for (const std::string_view merge : from_.merges) parts_.add_merge(parts_.merges.size() + 1, merge);
  }

  void read_sentencepiece() {
    const bool adds_space = from_.add_space_prefix.value_or(true);
    parts_.rules.kind = bpe_kind::sentencepiece;
    parts_.rules.pieces = &word_pieces;
    parts_.rules.form.spaces = true;
    parts_.rules.form.space_before = parts_.rules.strips = adds_space;
    adds_bos_ = true;
    if (from_.scores.size() != from_.tokens.size())
      fail(file_, ": tokenizer.ggml.scores has ", from_.scores.size(), " numbers; expected ", from_.tokens.size(),
           ", one for each token");
    read_tokens();
    std::vector<std::size_t> order;
    for (std::size_t id = 0; id < from_.tokens.size(); ++id) {
      if (std::isnan(from_.scores[id]))
        fail(file_, ": the token ", in_quotes(from_.tokens[id]), " has a score that is no number");
      if (is_mergeable(id)) order.push_back(id);
    }
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return from_.scores[a] > from_.scores[b]; });
    for (const std::size_t id : order) add_halves(id);
  }
  [[nodiscard]] bool is_mergeable(std::size_t id) const {
    const std::int32_t type = type_of(id);
    return type == normal || type == user_defined || type == unused;
  }
  /// Adds the merges of all pairs of tokens that make a token, those of lower ids first.
  void add_halves(std::size_t id) {
    const std::string_view whole = from_.tokens[id];
    if (whole.size() > longest)
      fail(file_, ": the token ", in_quotes(whole), " has ", whole.size(), " bytes; expected at most ", longest);
    const auto& entries = parts_.entries;
    halves_.clear();
    const char *const begin = whole.data(), *const end = begin + whole.size();
    for (const char* at = begin; at != end;) {
      at += first_code_point(at, end).bytes;
      if (at == end) break;
      const auto length = static_cast<std::size_t>(at - begin);
      const std::size_t left = entries.find(whole.substr(0, length)), right = entries.find(whole.substr(length));
      if (left == vocabulary_entries::none || right == vocabulary_entries::none) continue;
      const token l = entries.id(left), r = entries.id(right);
      if (is_mergeable(static_cast<std::size_t>(l)) && is_mergeable(static_cast<std::size_t>(r)))
        halves_.emplace_back(l, r, left, right);
    }
    std::sort(halves_.begin(), halves_.end());
    const std::size_t made = entries.find(whole);
    for (const auto& [l, r, left, right] : halves_)
      parts_.merges.push_back({parts_.merges.size() + 1, left, right, made});
  }

  void read_ends() {
    const auto role = [&](const std::optional<std::int64_t>& id, const char* name) -> std::optional<token> {
      if (!id) return std::nullopt;
      if (*id < 0 || *id >= std::ssize(from_.tokens))
        fail(file_, ": tokenizer.ggml.", name, " is ", *id, "; expected a token, 0 to ", from_.tokens.size() - 1);
      return static_cast<token>(*id);
    };
    parts_.bos = role(from_.bos_token_id, "bos_token_id");
    parts_.eos = role(from_.eos_token_id, "eos_token_id");
    if (parts_.bos && from_.add_bos_token.value_or(adds_bos_)) parts_.ends.before.push_back(*parts_.bos);
    if (parts_.eos && from_.add_eos_token.value_or(false)) parts_.ends.after.push_back(*parts_.eos);
  }

  const gguf_tokenizer& from_;
  std::string file_;
  bpe_parts parts_;
  bool adds_bos_ = false;  // if the file does not say
  std::vector<std::tuple<token, token, std::size_t, std::size_t>> halves_;
};

}  // namespace detail

}  // namespace fathom::data
