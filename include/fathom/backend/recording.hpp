// Work that is done again and again with the same arguments: a training step, a token.
#pragma once

#include "fathom/core/standard.hpp"  // first

#include <cstdint>
#include <initializer_list>

namespace fathom {

/// Runs f(context) on an executor. A backend that can record work and play it back (a GPU) has an executor with a type
/// `recording`; `key` is then all that the work depends on but the numbers in memory, and work with a new key is done anew.
template <class Executor>
struct repeated {
  template <class F>
  void run(const Executor& where, std::initializer_list<std::uint64_t>, const F& f) {
    where.run(f);
  }
};
template <class Executor>
  requires requires { typename Executor::recording; }
struct repeated<Executor> : Executor::recording {};

/// The same for the tokens of decoding, of which a backend may know a better way: then its executor has a type token_recording.
template <class Executor>
struct repeated_token : repeated<Executor> {};
template <class Executor>
  requires requires { typename Executor::token_recording; }
struct repeated_token<Executor> : Executor::token_recording {};

}  // namespace fathom
