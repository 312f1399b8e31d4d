// A conversation with a model: which tokens it reads, and what is forgotten when its context is full.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fathom/core/error.hpp>
#include <fathom/core/types.hpp>
#include <fathom/data/bpe.hpp>
#include <fathom/data/text_stream.hpp>
#include <fathom/generate/sampler.hpp>

#include "templates.hpp"

namespace chat {

struct settings {
  std::string system;  // empty: none
  float temperature = 0.7f, top_p = 0.9f;
  std::uint64_t seed = 1;
};

template <class Net, class Number>
class conversation {
 public:
  using packed = typename Net::template packed<Number>;

  /// All but the settings must outlive this. `ends`: the tokens that end an answer, beside that of the style.
  conversation(const packed& weights, const fathom::data::bpe& tokenizer, const style& written, std::vector<fathom::token> ends, settings with)
      : weights_(weights),
        tokenizer_(tokenizer),
        style_(written),
        ends_(std::move(ends)),
        settings_(std::move(with)),
        cache_(1),
        sampler_(Net::vocab, sampling()) {
    const auto stop = tokenizer.encode(written.stop(), fathom::data::special::as_tokens);
    if (stop.size() == 1) ends_.push_back(stop.front());
  }

  /// Forgets everything that was said; the next answers are those of a new conversation.
  void reset() {
    rounds_.clear();
    sampler_ = fathom::sampler(Net::vocab, sampling());
  }

  /// Answers a text. Calls write(text) with the characters of the answer, as they come, until it returns false. Fails when
  /// the text does not fit into the context.
  template <class F>
  void answer(std::string_view said, const F& write) {
    ask(said);
    std::span<const float> logits = read(tokens_);
    fathom::data::text_stream text_of(tokenizer_, fathom::data::text_stream::behind_a_prompt);
    for (;;) {
      const fathom::token next = sampler_(logits);
      if (std::find(ends_.begin(), ends_.end(), next) != ends_.end()) break;
      rounds_.back().answer.push_back(next);
      tokens_.push_back(next);
      if (!write(text_of.push(next))) break;
      if (static_cast<fathom::index>(tokens_.size()) >= Net::context) {
        while (rounds_.size() > 1 && !fits(room)) rounds_.erase(rounds_.begin());
        if (!fits(1)) break;  // the answer is as long as the context
      }
      logits = read(tokens_);
    }
    static_cast<void>(write(text_of.finish()));
  }

  /// What the model has read, and its last answer.
  [[nodiscard]] const std::vector<fathom::token>& tokens() const { return tokens_; }

 private:
  struct round {
    std::string said;
    std::vector<fathom::token> answer;
  };
  static constexpr fathom::index room = Net::context / 4;  // that is free after something was forgotten

  [[nodiscard]] fathom::sampling sampling() const {
    return {.temperature = settings_.temperature,
            .top_k = 50,
            .top_p = settings_.top_p,
            .seed = settings_.seed,
            .ids = std::min<fathom::index>(tokenizer_.size(), Net::vocab)};
  }
  /// Writes the whole conversation to tokens_. Whether it leaves `free` tokens of the context.
  [[nodiscard]] bool fits(fathom::index free) {
    tokens_.clear();
    for (std::size_t i = 0; i < rounds_.size(); ++i) {
      if (i == 0)
        append(style_.before_first(settings_.system, rounds_[i].said), style_.content(rounds_[i].said, settings_.system));
      else
        append(style_.before_next(), style_.content(rounds_[i].said));
      tokens_.insert(tokens_.end(), rounds_[i].answer.begin(), rounds_[i].answer.end());
    }
    return static_cast<fathom::index>(tokens_.size()) + std::max<fathom::index>(free, 1) <= Net::context;
  }
  /// Appends a user's text with the marks around it. They are tokenized together, as `transformers` does, unless the text
  /// spells a special token, which is then text.
  void append(const std::string& before, const std::string& said) {
    using fathom::data::special;
    if (tokenizer_.encode(said, special::as_text) == tokenizer_.encode(said, special::as_tokens)) {
      tokenizer_.encode(before + said + style_.behind(), tokens_, special::as_tokens);
    } else {
      tokenizer_.encode(before, tokens_, special::as_tokens);
      tokenizer_.encode(said, tokens_, special::as_text);
      tokenizer_.encode(style_.behind(), tokens_, special::as_tokens);
    }
  }
  /// Adds a round for a user's text, and forgets the oldest ones if it does not fit.
  void ask(std::string_view said) {
    rounds_.push_back({std::string(said), {}});
    if (fits(room)) return;
    std::vector<round> all{rounds_.back()};
    all.swap(rounds_);
    if (!fits(1)) {
      all.pop_back();
      all.swap(rounds_);
      fathom::fail("the text is too long: with the system prompt it has ", tokens_.size(), " tokens; expected fewer than ", Net::context,
                   ", the model's context");
    }
    all.swap(rounds_);
    while (!fits(room) && rounds_.size() > 1) rounds_.erase(rounds_.begin());
  }
  /// Reads the tokens behind the longest beginning that the cache holds.
  [[nodiscard]] std::span<const float> read(std::span<const fathom::token> all) {
    std::size_t same = 0;
    while (same < read_.size() && same + 1 < all.size() && read_[same] == all[same]) ++same;
    if (same < read_.size()) {
      if constexpr (requires(const typename Net::cache& c) { c.least_length(); })  // layers with a window forget what is before it
        if (static_cast<fathom::index>(same) < cache_.least_length()) same = 0;
      cache_.truncate(static_cast<fathom::index>(same));
    }
    read_.assign(all.begin(), all.end());
    return Net::prefill(weights_, all.subspan(same), cache_);
  }

  const packed& weights_;
  const fathom::data::bpe& tokenizer_;
  const style& style_;
  std::vector<fathom::token> ends_;
  settings settings_;
  typename Net::cache cache_;
  fathom::sampler sampler_;
  std::vector<round> rounds_;
  std::vector<fathom::token> tokens_;  // of all rounds
  std::vector<fathom::token> read_;    // those that the cache holds
};

}  // namespace chat
