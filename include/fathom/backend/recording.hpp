// Work repeated with the same arguments: a training step, or decoding a token.
#pragma once

#include "fathom/core/standard.hpp"  // first

#include <cstdint>
#include <initializer_list>

namespace fathom {

/// Runs f(context) on an executor. If a backend can record and replay work (a GPU), its executor has a type
/// `recording`; `key` then identifies everything that the work depends on, except the contents of memory. New keys
/// start over.
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

/// The same for decoding a token. If a backend has a faster way, its executor has a type `token_recording`.
template <class Executor>
struct repeated_token : repeated<Executor> {};
template <class Executor>
  requires requires { typename Executor::token_recording; }
struct repeated_token<Executor> : Executor::token_recording {};

}  // namespace fathom
