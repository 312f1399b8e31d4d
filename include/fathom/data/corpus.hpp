// Tokens for training, validation and test, in one block.
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

/// The fractions of a corpus to hold out. The rest is for training.
struct split {
  double validation = 0.1;
  double test = 0.0;
  std::uint64_t seed = 0;  // selects the documents, when whole ones are held out
};

namespace detail {
void check_split(const split& parts);
void check_vocab(index vocab);

/// A fraction of `total` tokens, rounded to the nearest.
[[nodiscard]] inline index part_of(index total, double fraction) {
  return static_cast<index>(std::llround(static_cast<double>(total) * fraction));
}
}  // namespace detail

/// A file below a folder, or in a list, that is not part of the corpus.
struct skipped_file {
  std::filesystem::path path;
  std::string reason;
};

/// A text as tokens: first the training part, then validation, then test.
class corpus {
 public:
  /// Holds out the end: the last `parts.test` of the tokens for test, and `parts.validation` before them for
  /// validation. Fails when the training part, or a requested part, would be empty; errors call the corpus `name`.
  corpus(std::vector<token> tokens, index vocab, const split& parts = {}, const std::string& name = "corpus");
  /// Parts of given sizes, in tokens. The rest is the test part.
  corpus(std::vector<token> tokens, index vocab, index train, index validation);

  [[nodiscard]] std::span<const token> train() const& { return part(0, train_); }
  [[nodiscard]] std::span<const token> validation() const& { return part(train_, validation_); }
  [[nodiscard]] std::span<const token> test() const& {
    return part(train_ + validation_, size() - train_ - validation_);
  }
  [[nodiscard]] std::span<const token> all() const& { return tokens_; }
  // Spans into a temporary would dangle.
  void train() const&& = delete;
  void validation() const&& = delete;
  void test() const&& = delete;
  void all() const&& = delete;
  /// The size of the vocabulary.
  [[nodiscard]] index vocab() const { return vocab_; }

  /// The files of the folder that were skipped, and why: empty and hidden files, files of other kinds, and, with
  /// file_options::skip_damaged (files.hpp), files that cannot be read.
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

/// A corpus that holds out whole documents, so that none is in two parts. `parts.seed` selects them, the same way on
/// every machine. Each part takes the documents, in random order, that still fit into its fraction; then also the
/// smallest one left, if that brings it nearer or if the part is empty. So a part misses its fraction by at most half
/// of the smallest document left, unless the other parts need that one. Within a part, documents keep their order and
/// follow each other directly. Empty documents are skipped. Fails when there are fewer documents than parts.
[[nodiscard]] corpus split_documents(std::span<const std::span<const token>> documents, index vocab, const split& parts = {});

/// The same for a sequence of tokens in which each document ends with the token `delimiter`, which stays part of it.
/// The last document may lack it.
[[nodiscard]] corpus split_documents(std::span<const token> tokens, token delimiter, index vocab, const split& parts = {});

}  // namespace fathom::data

#if !defined(FATHOM_KERNELS)
#include "fathom/data/corpus.inl.hpp"
#endif
