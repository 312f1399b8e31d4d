// What pictures and pages of attention have in common: choices, the tokens' names, and checks.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"
#include "fathom/model/attention_map.hpp"

namespace fathom::viz {

/// Which heads are shown.
enum class heads {
  mean,  // none of them by itself: the mean over the heads
  all    // each of them
};

/// What the colours stand for.
enum class measure {
  relative,  // a weight as a multiple of even attention, which would give all that the query sees the same: 1 is no
             // preference. So early queries, which see few keys, and late ones, which see many, can be compared
  weight     // the weight itself
};

/// What tokens are called: the result of a function of the token, or its entry in a list of names. Without either,
/// tokens are bytes of text where the vocabulary is 256, and numbers elsewhere. Names are UTF-8; bytes that are not, and
/// control characters, appear as hexadecimal numbers.
class labels {
 public:
  labels() = default;
  template <class Function>
    requires std::is_invocable_r_v<std::string, const Function&, token>
  labels(Function function) : name_(std::move(function)) {}  // NOLINT: .labels = [](fathom::token t) { ... }
  labels(std::vector<std::string> names)                     // NOLINT: .labels = vocabulary
      : name_([names = std::move(names)](token t) {
          if (std::cmp_less(t, 0) || std::cmp_greater_equal(t, names.size()))
            fail("viz::labels: token ", t, " has no name; expected a name for every token, there are ", names.size());
          return names[static_cast<std::size_t>(t)];
        }) {}

  [[nodiscard]] std::string operator()(token t, index vocab) const {
    if (name_) return name_(t);
    return are_bytes(vocab) ? std::string(1, static_cast<char>(t)) : std::to_string(t);
  }
  [[nodiscard]] bool are_bytes(index vocab) const { return !name_ && vocab == 256; }

 private:
  std::function<std::string(token)> name_;
};

namespace detail {

/// Fails when there is nothing to draw, or not what the map's sizes say.
inline void check(const attention_weights_map& map) {
  const auto sources = static_cast<index>(map.sources.size());
  if (map.heads <= 0 || map.queries <= 0 || sources == 0)
    fail("viz: an attention map of ", map.heads, " heads, ", map.queries, " tokens and ", sources,
         " sources; expected at least 1 of each");
  const index count = map.heads * map.queries * sources * map.keys;
  if (map.keys != map.queries || std::cmp_not_equal(map.tokens.size(), map.keys) ||
      std::cmp_not_equal(map.weights.size(), count))
    fail("viz: an attention map of ", map.heads, " heads, ", map.queries, " queries, ", sources, " sources and ",
         map.keys, " keys with ", map.tokens.size(), " tokens and ", map.weights.size(),
         " weights; expected as many keys and tokens as queries, and a weight for each head, query, source and key");
  for (const float weight : map.weights)
    if (!(weight >= 0 && weight <= 1.001f))  // so written that a NaN fails, too
      fail("viz: an attention map with a weight of ", weight, "; expected numbers from 0 to 1");
}

/// How many bytes the UTF-8 character has that text begins with; 0 when that is none, or a control character.
[[nodiscard]] inline std::size_t character_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const auto follows = [&](std::size_t i, unsigned from = 0x80, unsigned to = 0xbf) {
    return byte(i) >= from && byte(i) <= to;
  };
  const unsigned first = byte(0);
  if (first < 0x80) return first >= 0x20 && first != 0x7f ? 1 : 0;
  // The limits of the second byte keep out control characters, surrogates, what is beyond the last character, and what
  // could be written in fewer bytes.
  if (first >= 0xc2 && first <= 0xdf) return follows(1, first == 0xc2 ? 0xa0 : 0x80) ? 2 : 0;
  if (first >= 0xe0 && first <= 0xef)
    return follows(1, first == 0xe0 ? 0xa0 : 0x80, first == 0xed ? 0x9f : 0xbf) && follows(2) ? 3 : 0;
  if (first >= 0xf0 && first <= 0xf4)
    return follows(1, first == 0xf0 ? 0x90 : 0x80, first == 0xf4 ? 0x8f : 0xbf) && follows(2) && follows(3) ? 4 : 0;
  return 0;
}

}  // namespace detail

}  // namespace fathom::viz
