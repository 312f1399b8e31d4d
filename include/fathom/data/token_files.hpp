// Token files that are read where they lie: data sets larger than memory.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "fathom/core/compiled.hpp"
#include "fathom/core/types.hpp"
#include "fathom/data/corpus.hpp"
#include "fathom/data/token_numbers.hpp"
#include "fathom/data/token_source.hpp"
#include "fathom/io/file.hpp"

namespace fathom::data {

/// Token files as one sequence, one file after the other. Nothing is loaded: the system maps the files, and reads what is looked
/// at. So they may be larger than memory, and ranks of a group (train/group.hpp) each read their own windows only.
///
///   const fathom::data::token_files train("data/train_*.bin", 50257), validation("data/validation.bin", 50257);
///   trainer.fit(train, validation);
///   trainer.fit(train.part(0, 1'000'000), train.part(1'000'000, 10'000));    // or parts of one
///
/// The formats are those of fathom::data::tokens (tokens.hpp), but for .npy arrays in column-major order. Windows may go on from
/// one file to the next, and are those of the same tokens in memory.
///
/// A token outside of the vocabulary is an error when it is read, not before. Files must not be truncated while they are in use
/// (io::mapped_file).
class token_files {
 public:
  /// A file; a folder, of which all .bin and .npy files below it are taken, except hidden and empty ones; or, if there is no such file,
  /// a pattern with *, ? or [...] in the names of files or folders. Several files are in the order of their names, compared byte by
  /// byte: shard_10 is before shard_2. Fails when there is none, or when one is invalid.
  token_files(const std::filesystem::path& path, index vocab);
  /// Files, in this order.
  token_files(const std::vector<std::filesystem::path>& paths, index vocab);

  /// The tokens of all files.
  [[nodiscard]] index size() const { return files_.empty() ? 0 : files_.back().end; }
  [[nodiscard]] index vocab() const { return vocab_; }
  /// Reads tokens first, first + 1, ... Fails on one outside of the vocabulary, and when there are not as many.
  void read(index first, std::span<token> to) const;
  /// Tokens [first, first + count), to train or to validate with. Fails when there are fewer. Must not outlive this.
  [[nodiscard]] token_source part(index first, index count) const& { return token_source(*this).part(first, count); }
  void part(index, index) const&& = delete;  // would dangle
  /// The files, in order.
  [[nodiscard]] std::vector<std::filesystem::path> paths() const;

 private:
  struct file {
    std::unique_ptr<io::mapped_file> mapped;
    detail::stored_numbers numbers;
    index end;  // of its tokens, among all
  };
  void add(const std::filesystem::path& path);

  index vocab_;
  std::vector<file> files_;
};
static_assert(contract::stored_tokens<token_files>);

}  // namespace fathom::data

#if !defined(FATHOM_KERNELS)
#include "fathom/data/token_files.inl.hpp"
#endif
