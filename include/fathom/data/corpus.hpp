// Tokens to train on, to validate on and to test on: one block of them, and where it is split.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "fathom/core/types.hpp"

namespace fathom::data {

/// How much of a corpus is held back, as fractions of its tokens. The rest is for training.
struct split {
  double validation = 0.1;
  double test = 0.0;
  std::uint64_t seed = 0;  // when whole documents are held back: which ones
};

namespace detail {
void check_split(const split& parts);
void check_vocab(index vocab);

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
  corpus(std::vector<token> tokens, index vocab, const split& parts = {}, const std::string& name = "corpus");
  /// Parts of given sizes, in tokens. The test part is what is left.
  corpus(std::vector<token> tokens, index vocab, index train, index validation);

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
  void check(const std::string& name) const;
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
[[nodiscard]] corpus split_documents(std::span<const std::span<const token>> documents, index vocab, const split& parts = {});

/// The same for one run of tokens in which every document ends with the token `delimiter`, which stays part of it; the
/// last may lack it.
[[nodiscard]] corpus split_documents(std::span<const token> tokens, token delimiter, index vocab, const split& parts = {});

}  // namespace fathom::data

#if !defined(FATHOM_KERNELS)
#include "fathom/data/corpus.inl.hpp"
#endif
