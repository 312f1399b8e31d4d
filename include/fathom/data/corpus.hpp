// Tokens to train on, to validate on and to test on: one block of them, and where it is split.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/random.hpp"
#include "fathom/core/types.hpp"
#include "fathom/model/batch.hpp"

namespace fathom::data {

/// How much of a corpus is held back, as fractions of its tokens. The rest is for training.
struct split {
  double validation = 0.1;
  double test = 0.0;
  std::uint64_t seed = 0;  // when whole documents are held back: which ones
};

namespace detail {
inline void check_split(const split& parts) {
  for (const double fraction : {parts.validation, parts.test, parts.validation + parts.test})
    if (!(fraction >= 0 && fraction < 1))  // so written that NaN fails
      fail("split: validation = ", parts.validation, ", test = ", parts.test,
           "; expected fractions of at least 0 that together are less than 1");
}

inline void check_vocab(index vocab) {
  constexpr auto largest = std::int64_t{std::numeric_limits<token>::max()} + 1;
  if (vocab < 1 || std::cmp_greater(vocab, largest))
    fail("a vocabulary of ", vocab, " symbols; expected 1 to ", largest);
}

/// The number of tokens, out of `total`, that is nearest to a fraction.
[[nodiscard]] inline index part_of(index total, double fraction) {
  return static_cast<index>(std::llround(static_cast<double>(total) * fraction));
}
}  // namespace detail

/// What lies below a folder, or in a list of files, and is not part of the corpus.
struct skipped_file {
  std::filesystem::path path;
  std::string reason;
};

/// A text as tokens: first the training part, then validation, then test.
class corpus {
 public:
  /// Holds back the end: the last `parts.test` of the tokens, and the `parts.validation` before them. Fails when the
  /// training part, or a part that was asked for, would be empty; `name` is what the error calls the corpus.
  corpus(std::vector<token> tokens, index vocab, const split& parts = {}, const std::string& name = "corpus")
      : tokens_(std::move(tokens)), vocab_(vocab) {
    detail::check_split(parts);
    check(name);
    const index validation = detail::part_of(size(), parts.validation);
    const index test = detail::part_of(size(), parts.test);
    train_ = size() - validation - test;
    validation_ = validation;
    if (train_ < 1 || (parts.validation > 0 && validation < 1) || (parts.test > 0 && test < 1))
      fail(name, ": ", size(), " tokens cannot be split: with validation = ", parts.validation,
           " and test = ", parts.test, ", training would have ", train_, ", validation ", validation, " and test ",
           test, " tokens");
  }
  /// Parts of given sizes, in tokens. The test part is what is left.
  corpus(std::vector<token> tokens, index vocab, index train, index validation)
      : tokens_(std::move(tokens)), vocab_(vocab), train_(train), validation_(validation) {
    check("corpus");
    if (train < 1 || validation < 0 || train > size() || validation > size() - train)
      fail("corpus: ", size(), " tokens cannot be split into ", train, " for training and ", validation,
           " for validation");
  }

  [[nodiscard]] std::span<const token> train() const& { return part(0, train_); }
  [[nodiscard]] std::span<const token> validation() const& { return part(train_, validation_); }
  [[nodiscard]] std::span<const token> test() const& {
    return part(train_ + validation_, size() - train_ - validation_);
  }
  [[nodiscard]] std::span<const token> all() const& { return tokens_; }
  // The spans point into the corpus: of a temporary one they would point nowhere.
  void train() const&& = delete;
  void validation() const&& = delete;
  void test() const&& = delete;
  void all() const&& = delete;
  /// How many symbols the encoding has.
  [[nodiscard]] index vocab() const { return vocab_; }

  /// What was left out of the folder that this was read from, and why: empty and hidden files, those of other kinds,
  /// and with file_options::skip_damaged (files.hpp) those that cannot be read.
  [[nodiscard]] const std::vector<skipped_file>& skipped() const& { return skipped_; }
  void skipped() const&& = delete;
  void set_skipped(std::vector<skipped_file> files) { skipped_ = std::move(files); }

 private:
  void check(const std::string& name) const {
    detail::check_vocab(vocab_);
    check_tokens(tokens_, 0, vocab_, name.c_str());
  }
  [[nodiscard]] index size() const { return std::ssize(tokens_); }
  [[nodiscard]] std::span<const token> part(index first, index count) const {
    return all().subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count));
  }

  std::vector<token> tokens_;
  index vocab_;
  index train_ = 0;
  index validation_ = 0;
  std::vector<skipped_file> skipped_;
};

/// A corpus that holds back whole documents, so that none is in two parts; `parts.seed` decides which ones, the same on
/// every machine. A part takes the documents, in random order, that still fit into its fraction, and then the smallest
/// one left if that brings it nearer, or if it would be empty otherwise. So it misses its fraction by no more than half
/// of the smallest document left over, unless the other parts need that one. Within a part the documents keep their
/// order, one right after the other. Empty documents are passed over. Fails when there are fewer documents than parts.
[[nodiscard]] inline corpus split_documents(std::span<const std::span<const token>> documents, index vocab,
                                            const split& parts = {}) {
  detail::check_split(parts);
  std::vector<std::size_t> order;  // the documents that have tokens, shuffled (Fisher and Yates)
  index total = 0;
  for (std::size_t i = 0; i < documents.size(); ++i) {
    if (!documents[i].empty()) order.push_back(i);
    total += std::ssize(documents[i]);
  }
  random numbers(parts.seed, stream_of("split_documents"));
  for (index i = std::ssize(order) - 1; i > 0; --i)
    std::swap(order[static_cast<std::size_t>(i)], order[static_cast<std::size_t>(numbers.below(i + 1))]);

  index reserved = 1 + (parts.validation > 0) + (parts.test > 0);  // documents to leave for the parts still to come
  if (std::ssize(order) < reserved)
    fail("split_documents: ", order.size(), " documents that are not empty; expected at least ", reserved,
         ", one for each part");

  enum part : std::size_t { train, validation, test };
  std::vector<part> where(documents.size(), train);
  std::array<index, 3> sizes{};  // of the parts held back, in tokens
  index left = std::ssize(order);
  const auto size = [&](std::size_t document) { return std::ssize(documents[document]); };
  const auto hold_back = [&](part to, double fraction) {
    if (fraction == 0) return;
    --reserved;
    const index target = detail::part_of(total, fraction);
    const auto take = [&](std::size_t document) {
      where[document] = to;
      sizes[to] += size(document);
      --left;
    };
    for (const std::size_t document : order)
      if (left > reserved && where[document] == train && sizes[to] + size(document) <= target) take(document);
    if (left == reserved) return;
    std::size_t smallest = documents.size();
    for (const std::size_t document : order)
      if (where[document] == train && (smallest == documents.size() || size(document) < size(smallest)))
        smallest = document;
    if (sizes[to] == 0 || size(smallest) < 2 * (target - sizes[to])) take(smallest);
  };
  hold_back(validation, parts.validation);
  hold_back(test, parts.test);

  std::vector<token> tokens;
  tokens.reserve(static_cast<std::size_t>(total));
  for (const part p : {train, validation, test})
    for (std::size_t i = 0; i < documents.size(); ++i)
      if (where[i] == p) tokens.insert(tokens.end(), documents[i].begin(), documents[i].end());
  return corpus(std::move(tokens), vocab, total - sizes[validation] - sizes[test], sizes[validation]);
}

/// The same for one run of tokens in which every document ends with the token `delimiter`, which stays part of it; the
/// last may lack it.
[[nodiscard]] inline corpus split_documents(std::span<const token> tokens, token delimiter, index vocab,
                                            const split& parts = {}) {
  std::vector<std::span<const token>> documents;
  while (!tokens.empty()) {
    const auto end = std::find(tokens.begin(), tokens.end(), delimiter);
    const auto length = static_cast<std::size_t>(end - tokens.begin()) + (end != tokens.end());
    documents.push_back(tokens.first(length));
    tokens = tokens.subspan(length);
  }
  return split_documents(documents, vocab, parts);
}

}  // namespace fathom::data
