// Errors: one exception type, and one function that raises it.
#pragma once

#include "fathom/core/standard.hpp"  // first

#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>

namespace fathom {

#if defined(__cpp_exceptions)
/// The one exception of the library. what() says what went wrong, where, and what was expected.
class error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};
#endif

namespace detail {
/// A piece of a sentence: text, which must outlive it, or a number.
class piece {
 public:
  piece(std::string_view text) : kind_(kind::text), text_(text) {}  // NOLINT: a piece is its text
  piece(char letter) : kind_(kind::letter), letter_(letter) {}       // NOLINT
  piece(double number) : kind_(kind::real), real_(number) {}         // NOLINT
  piece(int number) : piece(static_cast<long long>(number)) {}       // NOLINT
  piece(long number) : piece(static_cast<long long>(number)) {}      // NOLINT
  piece(long long number) : kind_(kind::integer), integer_(number) {}                     // NOLINT
  piece(unsigned number) : piece(static_cast<unsigned long long>(number)) {}              // NOLINT
  piece(unsigned long number) : piece(static_cast<unsigned long long>(number)) {}         // NOLINT
  piece(unsigned long long number) : kind_(kind::natural), natural_(number) {}            // NOLINT

  [[gnu::cold]] void append_to(std::string& sentence) const {
    char digits[32];
    switch (kind_) {
      case kind::text: sentence += text_; return;
      case kind::letter: sentence += letter_; return;
      case kind::real: std::snprintf(digits, sizeof digits, "%g", real_); break;
      case kind::integer: std::snprintf(digits, sizeof digits, "%lld", integer_); break;
      case kind::natural: std::snprintf(digits, sizeof digits, "%llu", natural_); break;
    }
    sentence += digits;
  }

 private:
  enum class kind : char { text, letter, real, integer, natural };
  kind kind_;
  union {
    std::string_view text_;
    char letter_;
    double real_;
    long long integer_;
    unsigned long long natural_;
  };
};

// Errors and reports are rare, so these functions are marked cold: small, and quick to compile. A program has hundreds
// of different ones, so each generates next to no code.
[[nodiscard, gnu::cold, gnu::noinline]] inline std::string joined(std::initializer_list<piece> pieces) {
  std::string sentence;
  for (const piece& one : pieces) one.append_to(sentence);
  return sentence;
}
/// Every error of the library goes through this function.
[[noreturn, gnu::cold, gnu::noinline]] inline void fail_with(std::initializer_list<piece> pieces) {
#if defined(__cpp_exceptions)
  throw error(joined(pieces));
#else
  std::fprintf(stderr, "fathom: %s\n", joined(pieces).c_str());
  std::abort();
#endif
}
}  // namespace detail

/// Concatenates strings and numbers.
template <class... Pieces>
[[nodiscard, gnu::cold, gnu::noinline]] std::string join(const Pieces&... pieces) {
  return detail::joined({detail::piece(pieces)...});
}

/// Raises every error of the library: throws fathom::error, or prints and aborts in a build without exceptions.
template <class... Pieces>
[[noreturn, gnu::cold, gnu::noinline]] void fail(const Pieces&... pieces) {
  detail::fail_with({detail::piece(pieces)...});
}

/// Fails on a negative number of threads.
inline void check_threads(int threads) {
  if (threads < 0) fail("threads = ", threads, "; expected 1 or more, or 0 for as many as OpenMP would use");
}

}  // namespace fathom
