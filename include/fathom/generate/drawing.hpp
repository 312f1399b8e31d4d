// Draws the next token of a text: on the host, or on the device that holds the logits.
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "fathom/backend/backend.hpp"
#include "fathom/core/memory.hpp"
#include "fathom/core/types.hpp"
#include "fathom/generate/sampler.hpp"

namespace fathom {

/// Modifies the logits [vocab] of the token after a text, before that token is drawn.
using adjust_logits = std::function<void(std::span<const token>, std::span<float>)>;

/// Draws on the host, with a sampler. Works with every backend.
template <class Model, class Weights, class Cache>
class draws_from_logits {
 public:
  using cache = Cache;
  /// Size of its workspace in bytes.
  static constexpr std::size_t bytes = fathom::sampler::bytes(Model::vocab);

  draws_from_logits(const sampling& how, adjust_logits adjust, std::span<std::byte> memory)
      : sampler_(Model::vocab, how, memory), adjust_(std::move(adjust)) {}

  /// Runs the model on a text. Afterwards the cache holds just its tokens.
  void begin(const Weights& weights, std::span<const token> text, cache& c) {
    c.truncate(0);
    logits_ = Model::prefill(weights, text, c);
  }
  /// Starts computing the token after next, if that is possible before the host knows the next token.
  void look_ahead(const Weights&, cache&) {}
  /// The token that follows `text`.
  [[nodiscard]] token draw(std::span<const token> text) {
    if (!adjust_) return sampler_(logits_);
    if constexpr (std::is_same_v<typename Model::scalar, float>) {
      // The logits are in the cache's memory, and nothing else reads them before they are recomputed.
      const std::span<float> logits(const_cast<float*>(logits_.data()), logits_.size());
      adjust_(text, logits);
      return sampler_(std::span<const float>(logits));
    } else {
      adjusted_.assign(logits_.size(), 0);
      std::transform(logits_.begin(), logits_.end(), adjusted_.begin(), [](const auto& x) { return static_cast<float>(x); });
      adjust_(text, adjusted_);
      return sampler_(std::span<const float>(adjusted_));
    }
  }
  /// Runs the model on the token that was drawn.
  void read(const Weights& weights, token drawn, cache& c) { logits_ = Model::decode(weights, drawn, c); }
  /// Discards the work of look_ahead.
  void stop() {}

 private:
  fathom::sampler sampler_;
  adjust_logits adjust_;
  std::span<const typename Model::scalar> logits_;
  std::vector<float> adjusted_;  // logits converted to float, for `adjust_`
};

/// Draws on the device that holds the logits, which can compute the next token while the host still handles the last
/// one. With `adjust`, draws on the host after all.
template <class Model, class Weights, class Cache>
class draws_in_place {
 public:
  using cache = Cache;
  static constexpr std::size_t bytes = 0;

  draws_in_place(const sampling& how, adjust_logits adjust, std::span<std::byte>) {
    if (adjust) {
      memory_ = buffer(fathom::sampler::bytes(Model::vocab));
      from_logits_.emplace(how, std::move(adjust), memory_.bytes());
    } else {
      draws_ = std::make_unique<typename Model::backend::drawing>(Model::vocab, how);
    }
  }

  void begin(const Weights& weights, std::span<const token> text, cache& c) {
    if (from_logits_) return from_logits_->begin(weights, text, c);
    c.truncate(0);
    Model::prefill_and_draw(weights, text, c, *draws_);
  }
  void look_ahead(const Weights& weights, cache& c) {
    if (draws_) Model::decode_and_draw(weights, c, *draws_);
  }
  [[nodiscard]] token draw(std::span<const token> text) { return from_logits_ ? from_logits_->draw(text) : draws_->take(); }
  void read(const Weights& weights, token drawn, cache& c) {
    if (from_logits_) from_logits_->read(weights, drawn, c);
  }
  void stop() {
    if (draws_) draws_->drop();
  }

 private:
  buffer memory_;
  std::optional<draws_from_logits<Model, Weights, Cache>> from_logits_;
  std::unique_ptr<typename Model::backend::drawing> draws_;
};

/// The class that draws a model's tokens.
template <class Model, class Weights, class Cache = typename Model::cache>
using drawing_of =
    typename std::conditional_t<backend_traits<typename Model::backend>::has_drawing, std::type_identity<draws_in_place<Model, Weights, Cache>>,
                                std::type_identity<draws_from_logits<Model, Weights, Cache>>>::type;

}  // namespace fathom
