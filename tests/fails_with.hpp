// Checks that a call fails with an error of the library's own type and the expected message.
#pragma once

#include <string>
#include <string_view>

#include <fathom/core/error.hpp>

#include "catch.hpp"

/// Whether a call throws a fathom::error whose message contains all these pieces.
template <class Call, class... Pieces>
bool fails_with(const Call& call, const Pieces&... pieces) {
  try {
    static_cast<void>(call());
  } catch (const fathom::error& error) {
    const std::string message = error.what();
    UNSCOPED_INFO("the error says: " << message);
    return ((message.find(std::string_view(pieces)) != std::string::npos) && ...);
  }
  UNSCOPED_INFO("there was no error");
  return false;
}
