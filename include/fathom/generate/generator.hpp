// Writing: a model, a cache and a sampler.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>

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
};

/// Writes on from a prompt. P is the type that it holds the weights in: float, bf16 or int8. Weights are packed and all
/// memory is allocated when it is made; writing allocates nothing.
template <class Model, class P = typename Model::scalar>
class generator {
 public:
  explicit generator(const typename Model::parameters& weights, const generation& options = {})
      : weights_(pack<P>(weights)),
        cache_(1, Model::context, {options.threads}),
        sampler_(Model::vocab, {options.temperature, options.top_k, options.top_p, options.seed}),
        overflow_(options.overflow),
        memory_(static_cast<std::size_t>(Model::context) * sizeof(token)),
        history_(reinterpret_cast<token*>(memory_.bytes().data()), static_cast<std::size_t>(Model::context)) {}

  /// Calls callback(token) for up to `count` tokens that follow the prompt, one by one; it returns false to stop. A prompt
  /// longer than the context is an error, or, when sliding, loses its beginning. Returns the number of tokens written.
  template <class Callback>
  index write(std::span<const token> prompt, index count, Callback&& callback) {
    if (prompt.empty()) fail("generator.write: an empty prompt; expected at least 1 token");
    check_tokens(prompt, 0, Model::vocab, "generator.write: prompt");
    if (static_cast<index>(prompt.size()) > Model::context) {
      if (overflow_ == overflow::fails) too_long(prompt.size());
      prompt = prompt.last(static_cast<std::size_t>(Model::context));
    }
    if (count <= 0) return 0;
    std::copy(prompt.begin(), prompt.end(), history_.begin());
    index length = static_cast<index>(prompt.size());
    cache_.truncate(0);
    auto logits = Model::prefill(*weights_, prompt, cache_);
    for (index written = 0;;) {
      const token next = sampler_(logits);
      ++written;
      if (!callback(next) || written == count) return written;
      if (length == Model::context) {
        if (overflow_ == overflow::fails)
          fail("generator.write: the model's context of ", Model::context, " tokens is full after ", written,
               " tokens; expected fewer, or fathom::overflow::slide");
        std::copy(history_.end() - kept, history_.end(), history_.begin());
        history_[static_cast<std::size_t>(kept)] = next;
        length = kept + 1;
        cache_.truncate(0);
        logits = Model::prefill(*weights_, history_.first(static_cast<std::size_t>(length)), cache_);
      } else {
        history_[static_cast<std::size_t>(length++)] = next;
        logits = Model::decode(*weights_, next, cache_);
      }
    }
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

 private:
  static constexpr index kept = Model::context / 2;  // tokens that stay when a sequence slides

  [[noreturn]] static void too_long(std::size_t size) {
    fail("generator.write: a prompt of ", size, " tokens; the model's context has room for ", Model::context);
  }

  owned<typename Model::template packed<P>> weights_;
  typename Model::cache cache_;
  sampler sampler_;
  fathom::overflow overflow_;
  buffer memory_;
  std::span<token> history_;  // [context], the tokens in the cache
};

}  // namespace fathom
