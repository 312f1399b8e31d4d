// Writing: a model, a cache and a sampler.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "fathom/core/arena.hpp"
#include "fathom/core/copy.hpp"
#include "fathom/core/error.hpp"
#include "fathom/core/memory.hpp"
#include "fathom/core/types.hpp"
#include "fathom/generate/sampler.hpp"
#include "fathom/model/transformer.hpp"

namespace fathom {

/// What happens when a sequence reaches the model's context.
enum class overflow {
  fails,  // an error
  slide   // the older half is forgotten; the newer half is read again as a sequence of its own, because positions are
          // learned and begin at 0
};

struct generation {
  float temperature = 1;  // 0: greedy
  index top_k = 0;        // 0: all
  float top_p = 1;
  std::uint64_t seed = 0;
  fathom::overflow overflow = fathom::overflow::slide;
  int threads = 0;  // 0: as many as OpenMP would use
  index ids = 0;    // only tokens below this are written; 0: all. For vocabularies that were padded: 50257 of 50304
  /// Called before every token with the tokens that the model has read, the prompt among them, and the logits [vocab] that
  /// follow, to change as it likes: add biases, or make -infinity what must not be written.
  std::function<void(std::span<const token>, std::span<float>)> adjust{};
};

namespace detail {
/// `generation` with the names that other libraries have for its fields beside them: what {.top = 5} is taken for, so that the
/// error can say what to write.
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
/// Whether f(token) returns nothing, or what says whether to go on.
template <class F>
concept takes_tokens = requires(F& f, token t) { f(t); } && (requires(F& f, token t) {
                         { f(t) } -> std::same_as<void>;
                       } || requires(F& f, token t) { static_cast<bool>(f(t)); });
}  // namespace detail

/// Writes on from a prompt. P is the type that it holds the weights in: float, bf16 or int8. Weights are packed and all
/// memory is allocated when it is made; writing allocates nothing.
template <class Model, class P = typename Model::scalar>
class generator {
  static_assert(check::weights_are_packed_as_float_bf16_int8_or_the_scalar<P, typename Model::scalar>,
                "fathom::generator: weights are packed as float, fathom::bf16, std::int8_t or the scalar of the model");
  static constexpr bool here = is_on_host<Model>;  // where logits and caches are
  struct nothing_to_draw_with {};
  template <class Backend>
  struct drawing_of {
    using type = nothing_to_draw_with;
  };
  template <class Backend>
    requires requires { typename Backend::drawing; }
  struct drawing_of<Backend> {
    using type = typename Backend::drawing;
  };
  using drawing = typename drawing_of<typename Model::backend>::type;
  template <class Weights>
  static constexpr bool are_weights =
      std::is_same_v<Weights, typename Model::parameters> || std::is_same_v<Weights, owned<typename Model::parameters>>;

  /// Where everything lies that writing uses.
  struct views {
    token* history;      // [context], the tokens in the cache
    std::byte* sampler;
    std::byte* cache;  // where a cache lies in the host's memory; others it makes for itself

    explicit constexpr views(arena& a)
        : history(a.take<token>(Model::context)),
          sampler(a.take<std::byte>(static_cast<index>(here ? fathom::sampler::bytes(Model::vocab) : 0))),
          cache(a.take<std::byte>(static_cast<index>(here ? Model::cache_bytes() : 0))) {}
  };

 public:
  using packed = typename Model::template packed<P>;
  /// Bytes of the memory that a generator writes in.
  static constexpr std::size_t bytes = bytes_of<views>();

  explicit generator(const typename Model::parameters& weights, const generation& options = {})
      : generator(pack<P>(weights), options) {}
  explicit generator(const owned<typename Model::parameters>& weights, const generation& options = {})
      : generator(detail::weights_in(weights, "generator"), options) {}
  /// The same with weights that are packed already, which it takes over.
  explicit generator(owned<packed>&& weights, const generation& options = {})
      : generator((static_cast<void>(detail::weights_in(weights, "generator")), std::move(weights)), nullptr, buffer(bytes), {},
                  options) {}
  /// The same with weights that are packed already and in memory of the caller's, both of which must outlive it: at least
  /// `bytes` bytes at a multiple of fathom::alignment. Nothing at all is allocated.
  generator(const packed& weights, std::span<std::byte> memory, const generation& options = {})
      : generator(nullptr, &weights, {}, (check_memory("generator", memory, bytes), memory), options) {}

  // What people write by habit, and what they are told.
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

  /// Calls callback(token) for up to `count` tokens that follow the prompt, one by one; it returns false to stop, or nothing.
  /// A prompt longer than the context is an error, or, when sliding, loses its beginning. Returns the number of tokens written.
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
  static constexpr index kept = Model::context / 2;  // tokens that stay when a sequence slides

  generator(owned<packed> own, const packed* weights, buffer own_memory, std::span<std::byte> memory, const generation& options)
      : own_weights_(std::move(own)),
        weights_(weights ? weights : own_weights_.get()),
        own_memory_(std::move(own_memory)),
        views_(laid_out(memory.empty() ? own_memory_.bytes() : memory)),
        cache_(cache_in(views_, options.threads)),
        adjust_(options.adjust),
        history_(views_.history, static_cast<std::size_t>(Model::context)),
        overflow_(options.overflow) {
    const sampling how{options.temperature, options.top_k, options.top_p, options.seed, options.ids};
    if constexpr (here) {
      sampler_.emplace(Model::vocab, how, std::span(views_.sampler, fathom::sampler::bytes(Model::vocab)));
    } else {
      if (adjust_) sampler_.emplace(Model::vocab, how);
      draws_ = std::make_unique<drawing>(Model::vocab, how);
    }
  }
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
    if constexpr (!here) draws_->drop();  // what an earlier call began and did not need
    begin(prompt);
    for (index written = 0;;) {
      const bool is_full = length == Model::context;
      // Elsewhere, the token after the next is begun before the host knows the next.
      if constexpr (!here)
        if (draws_elsewhere() && !is_full && written + 1 < count) Model::decode_and_draw(*weights_, cache_, *draws_);
      const token next = draw(length);
      ++written;
      if (!goes_on(callback, next) || written == count) return written;
      if (is_full) {
        if (overflow_ == overflow::fails)
          fail("generator.write: the model's context of ", Model::context, " tokens is full after ", written,
               " tokens; expected fewer, or fathom::overflow::slide");
        std::copy(history_.end() - kept, history_.end(), history_.begin());
        history_[static_cast<std::size_t>(kept)] = next;
        length = kept + 1;
        begin(history_.first(static_cast<std::size_t>(length)));
      } else {
        history_[static_cast<std::size_t>(length++)] = next;
        if (!draws_elsewhere()) logits_ = Model::decode(*weights_, next, cache_);
      }
    }
  }
  /// Whether tokens are drawn where the model is, which is not here. A callback that sees logits needs them here.
  [[nodiscard]] bool draws_elsewhere() const { return !here && !adjust_; }
  /// Reads tokens as a sequence of its own.
  void begin(std::span<const token> tokens) {
    cache_.truncate(0);
    if constexpr (!here)
      if (draws_elsewhere()) return Model::prefill_and_draw(*weights_, tokens, cache_, *draws_);
    logits_ = Model::prefill(*weights_, tokens, cache_);
  }
  /// The token that follows the first `length` of the history.
  token draw(index length) {
    if constexpr (!here)
      if (draws_elsewhere()) return draws_->take();
    using T = typename Model::scalar;
    if (!adjust_) return (*sampler_)(logits_);
    const auto text = history_.first(static_cast<std::size_t>(length));
    if constexpr (std::is_same_v<T, float>) {
      // They are in the cache's memory, and nobody else reads them before they are made anew.
      const std::span<float> logits(const_cast<float*>(logits_.data()), logits_.size());
      adjust_(text, logits);
      return (*sampler_)(std::span<const float>(logits));
    } else {
      adjusted_.assign(logits_.size(), 0);
      std::transform(logits_.begin(), logits_.end(), adjusted_.begin(), [](const T& x) { return static_cast<float>(x); });
      adjust_(text, adjusted_);
      return (*sampler_)(std::span<const float>(adjusted_));
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
  static typename Model::cache cache_in(const views& v, int threads) {
    if constexpr (here)
      return typename Model::cache(1, Model::context, {v.cache, Model::cache_bytes()}, {threads});
    else
      return typename Model::cache(1, Model::context, {threads});
  }
  [[noreturn]] static void too_long(std::size_t size) {
    fail("generator.write: a prompt of ", size, " tokens; the model's context has room for ", Model::context);
  }

  owned<packed> own_weights_;
  const packed* weights_;
  buffer own_memory_;
  views views_;
  typename Model::cache cache_;
  std::function<void(std::span<const token>, std::span<float>)> adjust_;
  std::span<const typename Model::scalar> logits_;  // here, or with a callback
  std::vector<float> adjusted_;                     // logits of another scalar, for the callback
  std::optional<fathom::sampler> sampler_;           // here, or with a callback
  std::unique_ptr<drawing> draws_;                   // elsewhere
  std::span<token> history_;  // [context], the tokens in the cache
  fathom::overflow overflow_;
};

}  // namespace fathom
