// Errors: one exception type, and one function that raises it.
#pragma once

#include "fathom/core/standard.hpp"  // first

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

namespace fathom {

#if defined(__cpp_exceptions)
/// The one exception of the library. what() says what went wrong, where, and what was expected.
class error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};
#endif

namespace detail {
// Errors and reports are rare. Marked cold, they are compiled for size, which is also quicker to compile.
template <class Piece>
[[gnu::cold, gnu::noinline]] void append(std::string& text, const Piece& piece) {
  if constexpr (std::is_convertible_v<const Piece&, std::string_view>) {
    text += std::string_view(piece);
  } else if constexpr (std::is_same_v<Piece, char>) {
    text += piece;
  } else if constexpr (std::is_floating_point_v<Piece>) {
    char digits[32];
    std::snprintf(digits, sizeof digits, "%g", static_cast<double>(piece));
    text += digits;
  } else {
    text += std::to_string(piece);
  }
}
}  // namespace detail

/// Concatenates strings and numbers.
template <class... Pieces>
[[nodiscard, gnu::cold, gnu::noinline]] std::string join(const Pieces&... pieces) {
  std::string text;
  (detail::append(text, pieces), ...);
  return text;
}

/// Raises every error of the library: throws fathom::error, or prints and aborts in a build without exceptions.
template <class... Pieces>
[[noreturn, gnu::cold, gnu::noinline]] void fail(const Pieces&... pieces) {
#if defined(__cpp_exceptions)
  throw error(join(pieces...));
#else
  std::fprintf(stderr, "fathom: %s\n", join(pieces...).c_str());
  std::abort();
#endif
}

/// Fails on a negative number of threads.
inline void check_threads(int threads) {
  if (threads < 0) fail("threads = ", threads, "; expected 1 or more, or 0 for as many as OpenMP would use");
}

}  // namespace fathom
