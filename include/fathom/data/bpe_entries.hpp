// The entries of vocabularies: tokens as files spell them, with their ids.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/json.hpp"
#include "fathom/core/types.hpp"
#include "fathom/data/bpe_errors.hpp"
#include "fathom/data/bpe_tables.hpp"

namespace fathom::data::detail {

/// How a file declares a token that was added to a vocabulary.
struct added_token {
  bool special = true;      // otherwise a token in all text
  bool normalized = false;  // tokens that are not normalized are searched for first
};

/// The tokens of files, with their ids. Spellings are unique.
class vocabulary_entries {
 public:
  static constexpr auto none = std::numeric_limits<std::size_t>::max();

  /// Starts a file: later entries belong to it.
  void begin_file(std::string name) { files_.push_back(std::move(name)); }
  /// Adds a token and returns its entry, which may already exist. Fails when that has another id.
  std::size_t add(std::string_view key, token id) {
    const std::size_t there = find(key);
    if (there == none) {
      const std::size_t entry = size();
      if (entry == std::size_t{1} << 24) fail(files_.back(), ": has more than ", entry, " tokens");
      table_.insert(key, static_cast<token>(entry));
      entries_.push_back({spellings_.size(), id, files_.size() - 1, std::nullopt});
      spellings_ += key;
      return entry;
    }
    if (this->id(there) != id && file(there) == files_.back())
      fail(files_.back(), ": has the token ", in_quotes(key), " twice, with the ids ", this->id(there), " and ", id);
    if (this->id(there) != id)
      fail(files_.back(), ": the token ", in_quotes(key), " has the id ", id, "; expected ", this->id(there), " as in ",
           file(there));
    return there;
  }
  /// The same for an id in JSON. Fails when it is not an id.
  std::size_t add(std::string_view key, const json& id) {
    if (!id.is_unsigned() || id.as<std::uint64_t>() > std::uint64_t{std::numeric_limits<token>::max()})
      fail(files_.back(), ": the token ", in_quotes(key), " has the id ",
           id.is_structured() ? std::string("of a structure") : in_quotes(id.dump()), "; expected a number, 0 or more");
    return add(key, id.as<token>());
  }
  /// Marks an entry as an added token.
  void set_added(std::size_t entry, const added_token& how) { entries_[entry].added = how; }

  [[nodiscard]] std::size_t size() const { return entries_.size(); }
  [[nodiscard]] token id(std::size_t entry) const { return entries_[entry].id; }
  [[nodiscard]] std::string_view spelling(std::size_t entry) const {
    const std::size_t begin = entries_[entry].begin;
    const std::size_t end = entry + 1 < size() ? entries_[entry + 1].begin : spellings_.size();
    return std::string_view(spellings_).substr(begin, end - begin);
  }
  /// The first file with an entry.
  [[nodiscard]] const std::string& file(std::size_t entry) const { return files_[entries_[entry].file]; }
  /// Whether the first file, the vocabulary, has an entry.
  [[nodiscard]] bool is_in_vocabulary(std::size_t entry) const { return entries_[entry].file == 0; }
  [[nodiscard]] const std::optional<added_token>& added(std::size_t entry) const { return entries_[entry].added; }
  /// The entry of a spelling; `none` if it has no entry.
  [[nodiscard]] std::size_t find(std::string_view key) const {
    const token entry = table_.find(key, [this](token e) { return spelling(static_cast<std::size_t>(e)); });
    return entry < 0 ? none : static_cast<std::size_t>(entry);
  }

 private:
  struct entry_of_token {
    std::size_t begin;  // in spellings_
    token id;
    std::size_t file;
    std::optional<added_token> added;
  };
  std::string spellings_;  // of all entries, concatenated
  std::vector<entry_of_token> entries_;
  std::vector<std::string> files_;
  string_table table_;
};

}  // namespace fathom::data::detail
