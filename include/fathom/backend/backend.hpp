// What a backend is, and what it can do.
//
// A backend is a type like backend::reference<T> or backend::cpu<T>, with
//
//   using scalar;            weights, activations and sums
//   using context;           one rank of a team of threads, which operations take first; it has a type scalar
//   struct executor;         runs work on its threads: run(f) calls f(context) on each of them
//   template <class P> using packed;               storage of weights to decode with (core/storage.hpp)
//   static void pack_tensor<P>(from, to);          a tensor into that storage
//
// and the operations of backend/operations.hpp for its context. Everything else is optional, and backend_traits says here, once,
// what a backend without it does.
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

/// Operations that every model needs, found through their context. The whole list is in backend/operations.hpp.
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

/// A backend, as this file describes it.
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
/// The recording of a backend that has none: runs work as it comes.
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

/// What a backend can do, beside what all of them must. Nothing else in the library asks a backend what it has.
template <class Backend>
struct backend_traits {
  using executor = typename Backend::executor;
  using context = typename Backend::context;

  /// Memory of its own (`memory`, core/memory.hpp): parameters, tapes and caches lie there, and the host only copies.
  using memory = memory_of<Backend>;
  static constexpr bool is_on_host = fathom::is_on_host<Backend>;

  /// Records work that is done again and again with the same arguments, and plays it back (`executor::recording`): a training
  /// step. run(executor, key, f) runs f(context); `key` holds all that the work depends on but the numbers in memory, and work
  /// with a new key is recorded anew. Tokens of decoding may have a recording of their own (`executor::token_recording`).
  using recording = typename detail::recording_of<executor>::type;
  using token_recording = typename detail::token_recording_of<executor>::type;
  /// Steps of an optimiser over whole blocks of parameters (`steps`, train/optimizer.hpp).
  static constexpr bool has_steps = requires { typename Backend::steps; };
  /// Tokens are drawn where the logits lie (`drawing`).
  static constexpr bool has_drawing = requires { typename Backend::drawing; };

  /// Bytes that each thread works in while training, and while decoding (`workspace_bytes`, `decoding_workspace_bytes`, and
  /// executor::working_in); 0: none.
  static constexpr std::size_t workspace_bytes = [] {
    if constexpr (requires { Backend::workspace_bytes; }) return std::size_t{Backend::workspace_bytes};
    return std::size_t{0};
  }();
  static constexpr std::size_t decoding_workspace_bytes = [] {
    if constexpr (requires { Backend::decoding_workspace_bytes; }) return std::size_t{Backend::decoding_workspace_bytes};
    return std::size_t{0};
  }();
  /// Logits that training has at one time (`head_logits`).
  static constexpr index head_logits = [] {
    if constexpr (requires { Backend::head_logits; }) return index{Backend::head_logits};
    return index{1} << 22;
  }();
};

/// Stops compilation where heads are wider than a backend's attention has room for (`largest_head_width` of its context). Layers
/// that attend call it.
template <class On, index HeadWidth>
consteval void check_head_width() {
  if constexpr (requires { On::largest_head_width; })
    static_assert(HeadWidth <= On::largest_head_width,
                  "fathom: attention heads (width / heads) are wider than this backend has room for; use more heads");
}

}  // namespace fathom
