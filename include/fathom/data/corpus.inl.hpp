// Definitions for corpus.hpp.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "fathom/core/compiled.hpp"
#include "fathom/core/error.hpp"
#include "fathom/core/random.hpp"
#include "fathom/core/types.hpp"
#include "fathom/data/corpus.hpp"
#include "fathom/model/batch.hpp"

namespace fathom::data {

namespace detail {
FATHOM_INLINE void check_split(const split& parts) {
  for (const double fraction : {parts.validation, parts.test, parts.validation + parts.test})
    if (!(fraction >= 0 && fraction < 1))  // also catches NaN
      fail("split: validation = ", parts.validation, ", test = ", parts.test,
           "; expected fractions of at least 0 that together are less than 1");
}

FATHOM_INLINE void check_vocab(index vocab) {
  constexpr auto largest = std::int64_t{std::numeric_limits<token>::max()} + 1;
  if (vocab < 1 || std::cmp_greater(vocab, largest))
    fail("a vocabulary of ", vocab, " symbols; expected 1 to ", largest);
}
}  // namespace detail

FATHOM_INLINE corpus::corpus(std::vector<token> tokens, index vocab, const split& parts, const std::string& name)
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
FATHOM_INLINE corpus::corpus(std::vector<token> tokens, index vocab, index train, index validation)
    : tokens_(std::move(tokens)), vocab_(vocab), train_(train), validation_(validation) {
  check("corpus");
  if (train < 1 || validation < 0 || train > size() || validation > size() - train)
    fail("corpus: ", size(), " tokens cannot be split into ", train, " for training and ", validation,
         " for validation");
}
FATHOM_INLINE void corpus::check(const std::string& name) const {
  detail::check_vocab(vocab_);
  check_tokens(tokens_, 0, vocab_, name.c_str());
}

FATHOM_INLINE corpus split_documents(std::span<const std::span<const token>> documents, index vocab,
                                            const split& parts) {
  detail::check_split(parts);
  std::vector<std::size_t> order;  // non-empty documents, shuffled (Fisher and Yates)
  index total = 0;
  for (std::size_t i = 0; i < documents.size(); ++i) {
    if (!documents[i].empty()) order.push_back(i);
    total += std::ssize(documents[i]);
  }
  random numbers(parts.seed, stream_of("split_documents"));
  for (index i = std::ssize(order) - 1; i > 0; --i)
    std::swap(order[static_cast<std::size_t>(i)], order[static_cast<std::size_t>(numbers.below(i + 1))]);

  index reserved = 1 + (parts.validation > 0) + (parts.test > 0);  // documents reserved for the remaining parts
  if (std::ssize(order) < reserved)
    fail("split_documents: ", order.size(), " documents that are not empty; expected at least ", reserved,
         ", one for each part");

  enum part : std::size_t { train, validation, test };
  std::vector<part> where(documents.size(), train);
  std::array<index, 3> sizes{};  // of the held-out parts, in tokens
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

FATHOM_INLINE corpus split_documents(std::span<const token> tokens, token delimiter, index vocab,
                                            const split& parts) {
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
