// Token names in pictures and pages.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"

namespace fathom::viz {

/// Token names: from a function of the token, or from a list indexed by token. Without either, tokens are bytes of text
/// if the vocabulary is 256, and numbers otherwise. Names are UTF-8; invalid bytes and control characters appear in
/// hexadecimal.
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

}  // namespace fathom::viz
