// Byte-pair merging: the tokens of one piece of text.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <queue>
#include <string_view>
#include <utility>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"
#include "fathom/data/bpe_tables.hpp"
#include "fathom/data/utf8.hpp"

namespace fathom::data::detail {

/// The tokens of single bytes or characters, and the list of merges.
class bpe_merges {
 public:
  /// Reserves room for a number of merges. The first symbols are the bytes of a piece, or else its characters, of which
  /// those without a token are their bytes.
  bpe_merges(std::size_t merges, bool by_characters) : ranks_(merges), by_characters_(by_characters) {
    byte_tokens_.fill(-1);
  }

  void set_byte(std::size_t byte, token t) { byte_tokens_[byte] = t; }
  /// Sets the token of a character, which has none yet.
  void set_character(std::string_view character, token t) { characters_.insert(character, t); }
  /// Appends a merge to the list. Returns false if the list already has the pair.
  [[nodiscard]] bool add(token left, token right, token made) {
    if (ranks_.find(left, right) != no_rank) return false;
    ranks_.insert(left, right, static_cast<std::uint32_t>(made_.size()));
    made_.push_back(made);
    return true;
  }

  /// The token of a byte; -1 if the vocabulary has none.
  [[nodiscard]] token token_of(char byte) const { return byte_tokens_[static_cast<unsigned char>(byte)]; }
  /// The results of all merges, in the order of the list.
  [[nodiscard]] const std::vector<token>& made() const { return made_; }

  /// The pairs of the list, in its order.
  [[nodiscard]] std::vector<std::pair<token, token>> pairs() const {
    std::vector<std::pair<token, token>> all(made_.size());
    ranks_.each([&](token left, token right, std::uint32_t rank) { all[rank] = {left, right}; });
    return all;
  }

  /// Appends the tokens of a non-empty piece. Bytes without a token are left out.
  void append(std::string_view piece, std::vector<token>& tokens) const {
    if (piece.size() <= short_piece)
      append_short(piece, tokens);
    else
      append_long(piece, tokens);
  }

 private:
  static constexpr std::size_t short_piece = 64;  // bytes; up to here, rescanning all pairs is faster than a queue

  /// Calls f(token) for the first symbols of a piece, of which there are at most as many as bytes.
  template <class F>
  void each_symbol(std::string_view piece, const F& f) const {
    if (!by_characters_) {
      for (const char byte : piece)
        if (const token t = token_of(byte); t >= 0) f(t);
      return;
    }
    while (!piece.empty()) {
      const std::string_view character =
          piece.substr(0, first_code_point(piece.data(), piece.data() + piece.size()).bytes);
      piece.remove_prefix(character.size());
      const token t = characters_.find(character, [&](token) { return character; });  // short ones are in the table
      if (t >= 0)
        f(t);
      else
        for (const char byte : character) f(token_of(byte));
    }
  }

  void append_short(std::string_view piece, std::vector<token>& tokens) const {
    std::array<token, short_piece> symbols;
    std::array<std::uint32_t, short_piece> ranks;  // ranks[i]: of the pair (i, i + 1)
    std::size_t count = 0;
    each_symbol(piece, [&](token t) { symbols[count++] = t; });
    for (std::size_t i = 0; i + 1 < count; ++i) ranks[i] = ranks_.find(symbols[i], symbols[i + 1]);
    while (count > 1) {
      const auto best =
          static_cast<std::size_t>(std::min_element(ranks.begin(), ranks.begin() + count - 1) - ranks.begin());
      if (ranks[best] == detail::no_rank) break;
      symbols[best] = made_[ranks[best]];
      std::copy(symbols.begin() + best + 2, symbols.begin() + count, symbols.begin() + best + 1);
      --count;
      if (best + 1 < count) {
        std::copy(ranks.begin() + best + 2, ranks.begin() + count, ranks.begin() + best + 1);
        ranks[best] = ranks_.find(symbols[best], symbols[best + 1]);
      }
      if (best > 0) ranks[best - 1] = ranks_.find(symbols[best - 1], symbols[best]);
    }
    tokens.insert(tokens.end(), symbols.begin(), symbols.begin() + count);
  }

  /// The same in O(n log n), with a queue of pairs ordered by rank, then by position.
  void append_long(std::string_view piece, std::vector<token>& tokens) const {
    constexpr auto none = std::numeric_limits<std::uint32_t>::max();
    if (piece.size() >= none) fail("bpe.encode: a piece of ", piece.size(), " bytes; expected less than ", none);
    struct node {
      token symbol;
      std::uint32_t rank;  // of the pair (this, next)
      std::uint32_t previous, next;
    };
    std::vector<node> nodes;
    nodes.reserve(piece.size());
    each_symbol(piece, [&](token t) {
      const auto i = static_cast<std::uint32_t>(nodes.size());
      nodes.push_back({t, no_rank, i == 0 ? none : i - 1, i + 1});
    });
    if (nodes.empty()) return;
    nodes.back().next = none;
    const auto count = static_cast<std::uint32_t>(nodes.size());
    const auto rank = [&](std::uint32_t i) {
      return nodes[i].next == none ? detail::no_rank : ranks_.find(nodes[i].symbol, nodes[nodes[i].next].symbol);
    };
    std::vector<std::uint64_t> pairs;  // rank in the upper half, index of the left symbol in the lower
    const auto look = [&](std::uint32_t i) {
      nodes[i].rank = rank(i);
      return std::uint64_t{nodes[i].rank} << 32 | i;
    };
    for (std::uint32_t i = 0; i < count; ++i)
      if (const auto pair = look(i); nodes[i].rank != detail::no_rank) pairs.push_back(pair);
    std::priority_queue queue(std::greater<>(), std::move(pairs));
    while (!queue.empty()) {
      const auto i = static_cast<std::uint32_t>(queue.top());
      const auto of = static_cast<std::uint32_t>(queue.top() >> 32);
      queue.pop();
      node& left = nodes[i];
      if (left.rank != of) continue;  // outdated: one of the two has been merged since
      left.symbol = made_[of];
      nodes[left.next].rank = detail::no_rank;
      left.next = nodes[left.next].next;
      if (left.next != none) nodes[left.next].previous = i;
      for (const std::uint32_t at : {left.previous, i})
        if (at != none)
          if (const auto pair = look(at); nodes[at].rank != detail::no_rank) queue.push(pair);
    }
    for (std::uint32_t i = 0; i != none; i = nodes[i].next) tokens.push_back(nodes[i].symbol);
  }

  std::array<token, 256> byte_tokens_;
  string_table characters_;
  pair_table ranks_;         // of pairs of tokens
  std::vector<token> made_;  // by rank: the result of the merge
  bool by_characters_;
};

}  // namespace fathom::data::detail
