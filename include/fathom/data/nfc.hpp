// Normalisation form C of Unicode (Standard Annex 15): a letter and its marks are one code point where there is one,
// and marks come in one order.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fathom/data/nfc_tables.hpp"
#include "fathom/data/utf8.hpp"

namespace fathom::data::detail {

/// The range of a code point that may change or move; nullptr if it stays as it is, whatever is around it.
[[nodiscard]] inline const nfc_range* find_nfc_range(std::uint32_t code) {
  if (code < nfc_ranges.front().first) return nullptr;
  const auto* const found = std::lower_bound(nfc_ranges.begin(), nfc_ranges.end(), code,
                                             [](const nfc_range& r, std::uint32_t c) { return r.last < c; });
  return found != nfc_ranges.end() && found->first <= code ? found : nullptr;
}

/// A code point with its combining class.
struct nfc_symbol {
  std::uint32_t code, combining_class;
};

/// Hangul syllables are made of a leading consonant, a vowel and, possibly, a trailing consonant.
struct hangul {
  static constexpr std::uint32_t syllables = 0xAC00, leading = 0x1100, vowels = 0x1161, trailing = 0x11A7;
  static constexpr std::uint32_t leading_count = 19, vowel_count = 21, trailing_count = 28;
  static constexpr std::uint32_t count = leading_count * vowel_count * trailing_count;
};

/// Appends what a code point stands for.
inline void decompose(std::uint32_t code, std::vector<nfc_symbol>& symbols) {
  if (code >= hangul::syllables && code < hangul::syllables + hangul::count) {
    const std::uint32_t n = code - hangul::syllables, last = n % hangul::trailing_count;
    const std::uint32_t pair = n / hangul::trailing_count;
    symbols.push_back({hangul::leading + pair / hangul::vowel_count, 0});
    symbols.push_back({hangul::vowels + pair % hangul::vowel_count, 0});
    if (last != 0) symbols.push_back({hangul::trailing + last, 0});
    return;
  }
  const auto* const found = std::lower_bound(nfc_decompositions.begin(), nfc_decompositions.end(), code,
                                             [](const nfc_decomposition& d, std::uint32_t c) { return d.code < c; });
  if (found == nfc_decompositions.end() || found->code != code) {
    const nfc_range* const range = find_nfc_range(code);
    symbols.push_back({code, range == nullptr ? 0 : range->combining_class});
    return;
  }
  decompose(found->first, symbols);  // ends after a few steps
  if (found->second != 0) decompose(found->second, symbols);
}

/// What two code points become; 0 if they stay two.
[[nodiscard]] inline std::uint32_t compose(std::uint32_t first, std::uint32_t second) {
  const std::uint32_t l = first - hangul::leading, v = second - hangul::vowels, s = first - hangul::syllables;
  if (l < hangul::leading_count && v < hangul::vowel_count)
    return hangul::syllables + (l * hangul::vowel_count + v) * hangul::trailing_count;
  const std::uint32_t t = second - hangul::trailing;
  if (s < hangul::count && s % hangul::trailing_count == 0 && t > 0 && t < hangul::trailing_count) return first + t;
  const auto* const found =
      std::lower_bound(nfc_compositions.begin(), nfc_compositions.end(), std::pair(first, second),
                       [](std::uint16_t at, const auto& pair) {
                         return std::pair(nfc_decompositions[at].first, nfc_decompositions[at].second) < pair;
                       });
  if (found == nfc_compositions.end()) return 0;
  const nfc_decomposition& made = nfc_decompositions[*found];
  return made.first == first && made.second == second ? made.code : 0;
}

/// Normalises symbols, which are decomposed, in place.
inline void reorder_and_compose(std::vector<nfc_symbol>& symbols) {
  for (auto begin = symbols.begin(); begin != symbols.end();) {
    if (begin->combining_class == 0) {
      ++begin;
      continue;
    }
    const auto end = std::find_if(begin, symbols.end(), [](const nfc_symbol& s) { return s.combining_class == 0; });
    std::stable_sort(begin, end,
                     [](const nfc_symbol& a, const nfc_symbol& b) { return a.combining_class < b.combining_class; });
    begin = end;
  }
  std::size_t kept = 0, starter = symbols.size();  // the last symbol of class 0; none at first
  std::uint32_t last_class = 0;                    // of the symbol kept last, if it is not the starter
  for (const nfc_symbol s : symbols) {
    if (starter < kept && (starter + 1 == kept || last_class < s.combining_class))
      if (const std::uint32_t made = compose(symbols[starter].code, s.code); made != 0) {
        symbols[starter].code = made;
        continue;
      }
    if (s.combining_class == 0) starter = kept;
    last_class = s.combining_class;
    symbols[kept++] = s;
  }
  symbols.resize(kept);
}

/// A text in normalisation form C: the text itself, where nothing in it can change, or else the buffer, which is
/// overwritten. Bytes outside of well-formed sequences stay as they are.
[[nodiscard]] inline std::string_view normalize_nfc(std::string_view text, std::string& buffer) {
  const char *const begin = text.data(), *const end = begin + text.size();
  const char *copied = begin, *starter = begin;  // what is in the buffer; the last symbol that stays
  bool changed = false;
  std::vector<nfc_symbol> symbols;
  for (const char* at = begin; at != end;) {
    if (static_cast<unsigned char>(*at) < 0x80) {
      starter = at++;
      continue;
    }
    const code_point next = first_code_point(at, end);
    if (find_nfc_range(next.code) == nullptr) {
      starter = at;
      at += next.bytes;
      continue;
    }
    // From the symbol before, up to the next one that stays.
    symbols.clear();
    const char* to = starter;
    while (to != end) {
      const code_point one = first_code_point(to, end);
      if (one.code == malformed || (to > starter && to >= at && find_nfc_range(one.code) == nullptr)) break;
      decompose(one.code, symbols);
      to += one.bytes;
    }
    if (symbols.empty()) {  // behind a malformed byte
      starter = at;
      continue;
    }
    reorder_and_compose(symbols);
    if (!changed) buffer.clear();
    changed = true;
    buffer.append(copied, starter);
    for (const nfc_symbol s : symbols) append_utf8(buffer, s.code);
    copied = starter = at = to;
  }
  if (!changed) return text;
  buffer.append(copied, end);
  return buffer;
}

}  // namespace fathom::data::detail
