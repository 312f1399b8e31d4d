// The contract of a backend, and its optional capabilities.
//
// A backend is a type like backend::reference<T> or backend::cpu<T>, with
//
//   using scalar;            weights, activations and sums
//   using context;           one rank of a team of threads, the first argument of every operation; has a type scalar
//   struct executor;         runs work on its threads: run(f) calls f(context) on each of them
//   template <class P> using packed;               storage of weights for decoding (core/storage.hpp)
//   static void pack_tensor<P>(from, to);          packs a tensor into that storage
//
// and the operations of backend/operations.hpp for its context. Everything else is optional: backend_traits detects it
// and supplies the defaults.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <type_traits>

#include "fathom/backend/epilogue.hpp"
#include "fathom/core/matrix.hpp"
#include "fathom/core/memory.hpp"
#include "fathom/core/types.hpp"

namespace fathom {

namespace contract {

/// Operations that every model needs, found by ADL through their context. backend/operations.hpp lists them all.
template <class Context>
concept operations = requires(const Context& on, matrix<const typename Context::scalar> x, matrix<typename Context::scalar> y,
                              typename Context::scalar* numbers, const typename Context::scalar* read) {
  matmul(on, x, x, y, epilogue::none{});
  matmul_nt(on, x, x, y, epilogue::none{});
  matmul_tn(on, x, x, y);
  column_sums(on, x, numbers);
  copy(on, x, y);
  add(on, x, y);
  zero(on, y);
  layer_norm_forward(on, x, read, read, y, numbers, numbers);
};

/// A backend, as described at the top of this file.
template <class B>
concept backend = requires {
  typename B::scalar;
  typename B::context;
  requires std::is_same_v<typename B::context::scalar, typename B::scalar>;
  typename B::executor;
  typename B::template packed<float>;
} && requires(const typename B::executor& where, void (*work)(const typename B::context&)) { where.run(work); } &&
                  operations<typename B::context>;

}  // namespace contract

namespace detail {
/// For backends without recordings: runs the work directly.
struct no_recording {
  template <class Executor, class F>
  void run(const Executor& where, std::initializer_list<std::uint64_t>, const F& f) {
    where.run(f);
  }
};
template <class Executor>
struct recording_of {
  using type = no_recording;
};
template <class Executor>
  requires requires { typename Executor::recording; }
struct recording_of<Executor> {
  using type = typename Executor::recording;
};
template <class Executor>
struct token_recording_of : recording_of<Executor> {};
template <class Executor>
  requires requires { typename Executor::token_recording; }
struct token_recording_of<Executor> {
  using type = typename Executor::token_recording;
};
}  // namespace detail

/// A backend's optional capabilities.
template <class Backend>
struct backend_traits {
  using executor = typename Backend::executor;
  using context = typename Backend::context;

  /// Device memory (`memory`, core/memory.hpp) for parameters, tapes and caches; the host only copies to and from it.
  using memory = memory_of<Backend>;
  static constexpr bool is_on_host = fathom::is_on_host<Backend>;

  /// Records repeated work, such as a training step, and replays it (`executor::recording`). run(executor, key, f) runs
  /// f(context); `key` identifies everything that the work depends on, except the contents of memory, and work with a new
  /// key is recorded anew. Decoding may have a faster form of its own (`executor::token_recording`).
  using recording = typename detail::recording_of<executor>::type;
  using token_recording = typename detail::token_recording_of<executor>::type;
  /// Optimiser steps over whole parameter blocks (`steps`, train/optimizer.hpp).
  static constexpr bool has_steps = requires { typename Backend::steps; };
  /// Tokens are sampled where the logits are (`drawing`).
  static constexpr bool has_drawing = requires { typename Backend::drawing; };

  /// Workspace bytes per thread, for training and for decoding (`workspace_bytes`, `decoding_workspace_bytes`, with
  /// executor::working_in); 0: none.
  static constexpr std::size_t workspace_bytes = [] {
    if constexpr (requires { Backend::workspace_bytes; }) return std::size_t{Backend::workspace_bytes};
    return std::size_t{0};
  }();
  static constexpr std::size_t decoding_workspace_bytes = [] {
    if constexpr (requires { Backend::decoding_workspace_bytes; }) return std::size_t{Backend::decoding_workspace_bytes};
    return std::size_t{0};
  }();
  /// Logits that training holds at a time (`head_logits`).
  static constexpr index head_logits = [] {
    if constexpr (requires { Backend::head_logits; }) return index{Backend::head_logits};
    return index{1} << 22;
  }();
};

/// Fails to compile if heads are wider than the backend's attention supports (`largest_head_width` of its context).
/// Attention layers call it.
template <class On, index HeadWidth>
consteval void check_head_width() {
  if constexpr (requires { On::largest_head_width; })
    static_assert(HeadWidth <= On::largest_head_width,
                  "fathom: attention heads (width / heads) are wider than this backend has room for; use more heads");
}

}  // namespace fathom
