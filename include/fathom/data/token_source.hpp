// A sequence of tokens that batches are made of: in memory, or read where it lies (token_files.hpp).
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <span>
#include <type_traits>

#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"

namespace fathom::data {
class token_source;
}

namespace fathom::contract {
/// Tokens that need not be in memory.
///
///   size()               how many
///   vocab()              all that are read are in [0, vocab)
///   read(first, to)      reads tokens first, first + 1, ... into `to`, which are among the size(). Fails if it cannot
template <class T>
concept stored_tokens = !std::same_as<T, data::token_source> && requires(const T& tokens, index first, std::span<token> to) {
  { tokens.size() } -> std::same_as<index>;
  { tokens.vocab() } -> std::same_as<index>;
  tokens.read(first, to);
};
}  // namespace fathom::contract

namespace fathom::data {

/// A view of tokens: a span, or a part of something that reads them.
class token_source {
 public:
  token_source() = default;
  template <class Tokens>
    requires(std::is_convertible_v<const Tokens&, std::span<const token>> && !std::same_as<Tokens, token_source>)
  token_source(const Tokens& tokens) : token_source(std::span<const token>(tokens), 0) {}  // NOLINT: as of std::span
  template <contract::stored_tokens Tokens>
  token_source(const Tokens& tokens)  // NOLINT
      : object_(&tokens),
        read_([](const void* object, index first, std::span<token> to) { static_cast<const Tokens*>(object)->read(first, to); }),
        size_(tokens.size()),
        vocab_(tokens.vocab()) {}

  [[nodiscard]] index size() const { return size_; }
  /// The vocabulary that tokens are checked against when they are read; 0: they are in memory, and nobody has checked them.
  [[nodiscard]] index vocab() const { return vocab_; }
  [[nodiscard]] bool is_in_memory() const { return read_ == nullptr; }
  /// All of them, if they are in memory.
  [[nodiscard]] std::span<const token> span() const { return {memory_, static_cast<std::size_t>(is_in_memory() ? size_ : 0)}; }
  /// Tokens first, first + 1, ..., which must be among the size().
  void read(index first, std::span<token> to) const {
    if (read_)
      read_(object_, first_ + first, to);
    else
      std::copy_n(memory_ + first, to.size(), to.data());
  }
  /// Tokens [first, first + count). Fails when there are fewer.
  [[nodiscard]] token_source part(index first, index count) const {
    if (first < 0 || count < 0 || first > size_ || count > size_ - first)
      fail("tokens ", first, " to ", first, " + ", count, " of ", size_, "; expected a part of them");
    token_source some = *this;
    some.size_ = count;
    if (read_)
      some.first_ += first;
    else if (memory_)
      some.memory_ += first;
    return some;
  }

 private:
  // With a second argument, as the template above also takes spans.
  token_source(std::span<const token> tokens, int) : memory_(tokens.data()), size_(std::ssize(tokens)) {}

  const token* memory_ = nullptr;
  const void* object_ = nullptr;
  void (*read_)(const void* object, index first, std::span<token> to) = nullptr;
  index first_ = 0;  // of the object's tokens
  index size_ = 0;
  index vocab_ = 0;
};

}  // namespace fathom::data
