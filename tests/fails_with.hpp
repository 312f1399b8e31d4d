// Checking errors: that there is one, of the library's own type, and that it says what it should.
#pragma once

#include <string>
#include <string_view>

#include <fathom/core/error.hpp>

#include "catch.hpp"

/// Whether a call raises a fathom::error whose message has all these pieces in it.
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
