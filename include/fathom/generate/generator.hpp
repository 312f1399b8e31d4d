// Text generation: a model, a cache and a sampler.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

#include "fathom/core/arena.hpp"
#include "fathom/core/copy.hpp"
#include "fathom/core/error.hpp"
#include "fathom/core/memory.hpp"
#include "fathom/core/types.hpp"
#include "fathom/generate/drawing.hpp"
#include "fathom/model/transformer.hpp"

namespace fathom {

/// What happens when a sequence reaches the model's context.
enum class overflow {
  fails,  // an error
  slide   // drops the older half and recomputes the newer half as a new sequence, because learned positions start at 0
};

/// How a generator writes: sampling, the end of the context, threads.
struct generation {
  float temperature = 1;  // 0: greedy
  index top_k = 0;        // 0: all
  float top_p = 1;
  std::uint64_t seed = 0;
  fathom::overflow overflow = fathom::overflow::slide;
  int threads = 0;  // 0: as many as OpenMP would use
  index ids = 0;    // generates only tokens below this; 0: all. For padded vocabularies: 50257 of 50304
  /// Called before every token with the tokens so far, including the prompt, and with the logits [vocab] of the next
  /// one, which it may modify: add biases, or set forbidden tokens to -infinity.
  adjust_logits adjust{};
};

namespace detail {
/// `generation` with other libraries' names for its fields: {.topk = 5} selects this type, so that the error can list
/// the right names.
struct misnamed_generation {
  double temperature = 0, temp = 0;
  index top_k = 0, topk = 0, k = 0;
  double top_p = 0, topp = 0, p = 0;
  std::uint64_t seed = 0, random_seed = 0;
  index count = 0, length = 0, max_length = 0, max_tokens = 0, max_new_tokens = 0;
  double repetition_penalty = 0;
  bool greedy = false, do_sample = false;
  fathom::overflow overflow = fathom::overflow::slide;
  int threads = 0, num_threads = 0;
  index ids = 0, vocab = 0;
  std::function<void(std::span<const token>, std::span<float>)> adjust{}, bias{}, logits_processor{};
};
/// Whether f(token) returns nothing, or something that converts to bool.
template <class F>
concept takes_tokens = requires(F& f, token t) { f(t); } && (requires(F& f, token t) {
                         { f(t) } -> std::same_as<void>;
                       } || requires(F& f, token t) { static_cast<bool>(f(t)); });
}  // namespace detail

/// Continues a prompt. P is the type of its weights: float, bf16, int8 or int4. T is that of keys and values in its
/// cache: the scalar, bf16 or int8. The constructor packs the weights and allocates all memory; writing allocates nothing.
template <class Model, class P = typename Model::scalar, class T = typename Model::scalar>
class generator {
  static_assert(check::weights_are_packed_as_float_bf16_int8_int4_or_the_scalar<P, typename Model::scalar>,
                "fathom::generator: weights are packed as float, fathom::bf16, std::int8_t, fathom::int4, symmetric_int4, grouped_int8 "
                "or the scalar of the model");
  template <class Weights>
  static constexpr bool are_weights =
      std::is_same_v<Weights, typename Model::parameters> || std::is_same_v<Weights, owned<typename Model::parameters>>;

 public:
  using packed = typename Model::template packed<P>;

 private:
  using cache = typename Model::template cache_of<T>;
  using drawing = drawing_of<Model, packed, cache>;
  using session = fathom::session<typename Model::backend>;
  static constexpr std::size_t cache_bytes = session::bytes_on_host(Model::template cache_bytes<T>());

  /// The memory layout of a generator.
  struct views {
    token* history;      // [context], the tokens in the cache
    std::byte* drawing;
    std::byte* cached;  // a cache in host memory; other caches allocate their own memory

    explicit constexpr views(arena& a)
        : history(a.take<token>(Model::context)),
          drawing(a.take<std::byte>(static_cast<index>(generator::drawing::bytes))),
          cached(a.take<std::byte>(static_cast<index>(cache_bytes))) {}
  };

 public:
  /// Size of a generator's working memory in bytes.
  static constexpr std::size_t bytes = bytes_of<views>();

  explicit generator(const typename Model::parameters& weights, const generation& options = {})
      : generator(pack<P>(weights), options) {}
  explicit generator(const owned<typename Model::parameters>& weights, const generation& options = {})
      : generator(detail::weights_in(weights, "generator"), options) {}
  /// The same with packed weights, of which it takes ownership.
  explicit generator(owned<packed>&& weights, const generation& options = {})
      : generator((static_cast<void>(detail::weights_in(weights, "generator")), std::move(weights)), nullptr, buffer(bytes), {},
                  options) {}
  /// The same with the caller's packed weights and memory, which must both outlive it. The memory needs at least
  /// `bytes` bytes, aligned to fathom::alignment. Allocates nothing.
  generator(const packed& weights, std::span<std::byte> memory, const generation& options = {})
      : generator(nullptr, &weights, {}, (check_memory("generator", memory, bytes), memory), options) {}

  // Common mistakes, with helpful errors.
  template <class Weights, class Habit = detail::misnamed_generation>
    requires(std::is_same_v<Habit, detail::misnamed_generation> && are_weights<Weights>)
  generator(const Weights&, Habit) : generator(owned<packed>()) {
    static_assert(detail::never<Habit>, "fathom::generation has no such field: it has temperature, top_k, top_p, seed, overflow, "
                                        "threads, ids, adjust; how many tokens to write is told to write()");
  }
  template <class Weights>
    requires(!are_weights<Weights>)
  explicit generator(const Weights&, const generation& = {}) : generator(owned<packed>()) {
    if constexpr (std::is_same_v<Weights, owned<packed>>)
      static_assert(detail::never<Weights>, "fathom::generator: packed weights are taken over, expected std::move(weights)");
    else if constexpr (std::is_same_v<Weights, packed>)
      static_assert(detail::never<Weights>, "fathom::generator: packed weights are taken over from what owns them, expected "
                                            "std::move(weights), or *weights and memory to write in");
    else
      static_assert(detail::never<Weights>, "fathom::generator: expected weights of its model: *weights, weights or trainer.weights()");
  }

  /// Generates up to `count` tokens after the prompt and calls callback(token) for each. The callback returns nothing,
  /// or a bool: false stops. A prompt longer than the context is an error, or loses its beginning with overflow::slide.
  /// Returns the number of tokens generated.
  template <class Callback>
  index write(std::span<const token> prompt, index count, Callback&& callback) {
    if constexpr (!detail::takes_tokens<Callback>) {
      static_assert(detail::never<Callback>, "generator.write: the callback must be callable with a fathom::token, and return bool or nothing");
      return 0;
    } else {
      return write_on(prompt, count, callback);
    }
  }
  template <class Callback>
  index write(std::initializer_list<token> prompt, index count, Callback&& callback) {
    return write(std::span<const token>(prompt.begin(), prompt.size()), count, callback);
  }
  /// The same for a prompt in bytes, for models whose tokens are bytes.
  template <class Callback>
  index write(std::string_view prompt, index count, Callback&& callback) {
    static_assert(Model::vocab == 256, "generator.write: a text prompt needs a model whose tokens are bytes, vocab 256; "
                                       "encode the text and hand over tokens");
    if (static_cast<index>(prompt.size()) > Model::context) {
      if (overflow_ == overflow::fails) too_long(prompt.size());
      prompt.remove_prefix(prompt.size() - static_cast<std::size_t>(Model::context));
    }
    std::transform(prompt.begin(), prompt.end(), history_.begin(),
                   [](char byte) { return static_cast<token>(static_cast<unsigned char>(byte)); });
    return write(std::span<const token>(history_.first(prompt.size())), count, callback);
  }
  template <class Prompt, class Callback>
    requires(!std::is_convertible_v<const Prompt&, std::span<const token>> && !std::is_convertible_v<const Prompt&, std::string_view>)
  index write(const Prompt&, index, Callback&&) {
    static_assert(detail::never<Prompt>, "generator.write: expected a prompt of tokens, as a std::span or a std::vector of "
                                         "fathom::token (32 bits) or as {1, 2, 3}, or a text");
    return 0;
  }

 private:
  static constexpr index kept = Model::context / 2;  // tokens kept when a sequence slides

  generator(owned<packed> own, const packed* weights, buffer own_memory, std::span<std::byte> memory, const generation& options)
      : own_weights_(std::move(own)),
        weights_(weights ? weights : own_weights_.get()),
        own_memory_(std::move(own_memory)),
        views_(laid_out(memory.empty() ? own_memory_.bytes() : memory)),
        cache_(cache_in(views_, options.threads)),
        drawing_({options.temperature, options.top_k, options.top_p, options.seed, options.ids}, options.adjust,
                 {views_.drawing, drawing::bytes}),
        history_(views_.history, static_cast<std::size_t>(Model::context)),
        overflow_(options.overflow) {}
  template <class Callback>
  index write_on(std::span<const token> prompt, index count, Callback& callback) {
    if (prompt.empty()) fail("generator.write: an empty prompt; expected at least 1 token");
    check_tokens(prompt, 0, Model::vocab, "generator.write: prompt");
    if (static_cast<index>(prompt.size()) > Model::context) {
      if (overflow_ == overflow::fails) too_long(prompt.size());
      prompt = prompt.last(static_cast<std::size_t>(Model::context));
    }
    if (count <= 0) return 0;
    std::copy(prompt.begin(), prompt.end(), history_.begin());
    index length = static_cast<index>(prompt.size());
    drawing_.stop();  // discard what an earlier call looked ahead
    drawing_.begin(*weights_, prompt, cache_);
    for (index written = 0;;) {
      const bool is_full = length == Model::context;
      if (!is_full && written + 1 < count) drawing_.look_ahead(*weights_, cache_);
      const token next = drawing_.draw(history_.first(static_cast<std::size_t>(length)));
      ++written;
      if (!goes_on(callback, next) || written == count) return written;
      if (is_full) {
        if (overflow_ == overflow::fails)
          fail("generator.write: the model's context of ", Model::context, " tokens is full after ", written,
               " tokens; expected fewer, or fathom::overflow::slide");
        std::copy(history_.end() - kept, history_.end(), history_.begin());
        history_[static_cast<std::size_t>(kept)] = next;
        length = kept + 1;
        drawing_.begin(*weights_, history_.first(static_cast<std::size_t>(length)), cache_);
      } else {
        history_[static_cast<std::size_t>(length++)] = next;
        drawing_.read(*weights_, next, cache_);
      }
    }
  }
  template <class Callback>
  static bool goes_on(Callback& callback, token next) {
    if constexpr (std::is_void_v<std::invoke_result_t<Callback&, token>>)
      return callback(next), true;
    else
      return static_cast<bool>(callback(next));
  }

  static views laid_out(std::span<std::byte> memory) {
    arena a(memory.data());
    return views(a);
  }
  static cache cache_in(const views& v, int threads) {
    if constexpr (cache_bytes > 0)
      return cache(1, Model::context, {v.cached, cache_bytes}, {threads});
    else
      return cache(1, Model::context, {threads});
  }
  [[noreturn]] static void too_long(std::size_t size) {
    fail("generator.write: a prompt of ", size, " tokens; the model's context has room for ", Model::context);
  }

  owned<packed> own_weights_;
  const packed* weights_;
  buffer own_memory_;
  views views_;
  cache cache_;
  drawing drawing_;
  std::span<token> history_;  // [context], the tokens in the cache
  fathom::overflow overflow_;
};

}  // namespace fathom
