// Names of tensors: text as a template argument, and the path that a visitor builds as it descends.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string_view>

#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"

namespace fathom {

/// Text that can be a template argument: sublayer<"ln_1", ...>.
template <std::size_t N>
struct fixed_string {
  char text[N]{};
  consteval fixed_string() = default;
  consteval fixed_string(const char (&literal)[N]) { std::copy_n(literal, N, text); }  // NOLINT: implicit by design
  [[nodiscard]] constexpr std::string_view view() const { return {text, N - 1}; }
};
/// "shortcut" + ".ln" is "shortcut.ln".
template <std::size_t A, std::size_t B>
[[nodiscard]] consteval fixed_string<A + B - 1> operator+(const fixed_string<A>& a, const fixed_string<B>& b) {
  fixed_string<A + B - 1> both;
  std::copy_n(a.text, A - 1, both.text);
  std::copy_n(b.text, B, both.text + A - 1);
  return both;
}

/// Builds the name of a tensor piece by piece: path{} / "h" / 3 / "attn" is "h.3.attn". A piece that begins with '/'
/// starts at the root: path / "/shortcut.attn" is "shortcut.attn". Holds its text itself and uses no heap.
class path {
 public:
  constexpr path() = default;

  [[nodiscard]] constexpr path operator/(std::string_view piece) const {
    path longer = *this;
    if (piece.starts_with('/')) {
      longer.length_ = 0;
      piece.remove_prefix(1);
    }
    if (longer.length_ > 0 && !piece.empty()) longer.append(".");
    longer.append(piece);
    return longer;
  }
  [[nodiscard]] constexpr path operator/(index number) const {
    // Filled from the end, because g++ 12 warns of an overflow in std::reverse.
    char digits[20]{};
    char* const end = digits + sizeof digits;
    char* first = end;
    do *--first = static_cast<char>('0' + number % 10);
    while ((number /= 10) > 0);
    return *this / std::string_view(first, static_cast<std::size_t>(end - first));
  }

  [[nodiscard]] constexpr std::string_view view() const { return {text_, length_}; }
  constexpr operator std::string_view() const { return view(); }  // NOLINT: a path is its text

 private:
  static constexpr std::size_t capacity = 120;
  constexpr void append(std::string_view piece) {
    if (piece.size() > capacity - length_) fail("a tensor's name longer than ", capacity, " letters: ", view(), piece);
    std::copy_n(piece.data(), piece.size(), text_ + length_);
    length_ += piece.size();
  }
  char text_[capacity]{};
  std::size_t length_ = 0;
};

/// Replaces a path where names do not matter: in counting, stepping and packing.
struct no_path {
  constexpr no_path operator/(std::string_view) const { return {}; }
  constexpr no_path operator/(index) const { return {}; }
};

}  // namespace fathom
