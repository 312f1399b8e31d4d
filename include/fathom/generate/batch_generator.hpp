// Writes many independent texts at once: a model, a cache of many sequences, and a sampler for each.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <exception>
#include <initializer_list>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "fathom/core/copy.hpp"
#include "fathom/core/error.hpp"
#include "fathom/core/memory.hpp"
#include "fathom/core/types.hpp"
#include "fathom/generate/drawing.hpp"
#include "fathom/generate/sampler.hpp"
#include "fathom/model/transformer.hpp"

namespace fathom {

/// What a batch_generator has room for.
struct batching {
  index sequences = 8;  // at a time
  index capacity = 0;   // tokens of a sequence, with its prompt; 0: the model's context
  index prefixes = 0;   // beginnings of prompts that are held for sequences to share
  int threads = 0;      // 0: as many as OpenMP would use
};

/// How to continue one of the sequences.
struct continuation {
  float temperature = 1;  // 0: greedy
  index top_k = 0;        // 0: all
  float top_p = 1;
  std::uint64_t seed = 0;
  index ids = 0;    // generates only tokens below this; 0: all
  index count = 0;  // tokens to write at most; 0: as many as there is room for
  std::span<const token> stops{};  // ends after any of these, 8 at most; they are copied
  adjust_logits adjust{};          // as in `generation`
};

/// Why a sequence ended.
enum class ending {
  none,    // it goes on
  stop,    // it wrote one of its stop tokens
  count,   // it wrote as many tokens as it should
  full,    // it has no room for further tokens
  failed,  // drawing a token failed; the batch_generator throws that error
};

/// A token that a step has written.
struct written_token {
  index id;    // of the sequence
  token next;
  ending end;  // if not none, this is the last one, and the sequence has left
};

/// Writes many independent sequences at once. Sequences join and leave at any time; each step reads the weights once and
/// writes a token of every sequence (iteration-level scheduling: Yu et al., Orca, OSDI 2022). Prompts are read in blocks of
/// net::prefill_block tokens, one block in a step, while other sequences go on. P and T are the types of the weights and of the
/// cache, as in `generator`. The constructor allocates all memory.
///
/// Each sequence has its own settings and random numbers, and gets the tokens that a generator writes with the same ones, whoever
/// else is there. But sums are in another order for other numbers of sequences, so logits differ by rounding, and so
/// does a token where rounding decides. The number of threads changes nothing.
///
///   fathom::batch_generator<net> batch(weights, {.sequences = 16});
///   batch.join(prompt, {.temperature = 0, .count = 100});
///   while (batch.size() > 0)
///     for (const auto& [id, next, end] : batch.step()) ...
template <class Model, class P = typename Model::scalar, class T = typename Model::scalar>
class batch_generator {
  static_assert(check::weights_are_packed_as_float_bf16_int8_int4_or_the_scalar<P, typename Model::scalar>,
                "fathom::batch_generator: weights are packed as float, fathom::bf16, std::int8_t, fathom::int4, symmetric_int4, "
                "grouped_int8 or the scalar of the model");

 public:
  using packed = typename Model::template packed<P>;
  static constexpr std::size_t most_stops = 8;

  explicit batch_generator(const typename Model::parameters& weights, const batching& room = {})
      : batch_generator(pack<P>(weights), nullptr, room) {}
  explicit batch_generator(const owned<typename Model::parameters>& weights, const batching& room = {})
      : batch_generator(detail::weights_in(weights, "batch_generator"), room) {}
  /// With packed weights, of which it takes ownership.
  explicit batch_generator(owned<packed>&& weights, const batching& room = {})
      : batch_generator((static_cast<void>(detail::weights_in(weights, "batch_generator")), std::move(weights)), nullptr, room) {}
  /// With the caller's packed weights, which must outlive it.
  explicit batch_generator(const packed& weights, const batching& room = {}) : batch_generator(nullptr, &weights, room) {}

  /// Adds a sequence: its prompt, of 1 to `capacity` tokens, and how to continue. Returns the sequence's id, which is never used
  /// again, or nothing if there is no room now.
  std::optional<index> join(std::span<const token> prompt, continuation how = {}) {
    return join_text("join", nullptr, prompt, std::move(how));
  }
  std::optional<index> join(std::initializer_list<token> prompt, continuation how = {}) {
    return join({prompt.begin(), prompt.size()}, std::move(how));
  }
  /// The same for a prompt that begins with a prefix that is held (hold), and goes on with `rest`, of at least 1 token. The
  /// prefix's keys and values are copied, not computed again.
  std::optional<index> join_after(index prefix, std::span<const token> rest, continuation how = {}) {
    return join_text("join_after", &prefixes_[prefix_at(prefix, "join_after")], rest, std::move(how));
  }
  std::optional<index> join_after(index prefix, std::initializer_list<token> rest, continuation how = {}) {
    return join_after(prefix, {rest.begin(), rest.size()}, std::move(how));
  }

  /// Reads the beginning of prompts, now, of 1 to capacity - 1 tokens, and holds it until `release`. Returns its id, or nothing if
  /// there is no room for a further prefix.
  std::optional<index> hold(std::span<const token> prefix) {
    check_prompt("hold", prefix, 0, cache_.capacity() - 1);
    for (std::size_t p = 0; p < prefixes_.size(); ++p) {
      if (prefixes_[p].id >= 0) continue;
      const index slot = most_sequences() + static_cast<index>(p);
      cache_.truncate(0, slot);
      Model::prefill(*weights_, prefix, cache_, slot);
      std::copy(prefix.begin(), prefix.end(), text_at(slot).begin());
      prefixes_[p] = {next_id_++, static_cast<index>(prefix.size()), slot};
      return prefixes_[p].id;
    }
    return {};
  }
  /// Forgets a prefix. Sequences that have joined after it go on.
  void release(index prefix) {
    held_prefix& p = prefixes_[prefix_at(prefix, "release")];
    for (sequence& s : sequences_)
      if (s.prefix == p.slot) s.prefix = -1;  // one that waits reads it itself
    p.id = -1;
  }

  /// Writes a token of every sequence whose prompt has been read, and reads on in the prompt of the one that has waited longest.
  /// Returns the tokens, which stay until the next step. Where drawing a token fails (logits are not finite, or `adjust` throws), the
  /// sequence leaves and the others go on; the error is thrown at the end, and `written` has the other tokens.
  std::span<const written_token> step() {
    written_.clear();
    failure_ = nullptr;
    if (const index count = ready_; count > 0) {
      for (index i = 0; i < count; ++i) next_[at(i)] = text_at(order_[at(i)])[at(sequence_at(i).length - 1)];
      const auto logits = Model::decode_first(*weights_, std::span<const token>(next_).first(at(count)), cache_);
      for (index i = 0; i < count; ++i) draw(sequence_at(i), logits.subspan(at(i * Model::vocab), at(Model::vocab)));
    }
    // As many blocks of prompts as fit into one.
    for (index room = Model::prefill_block; waiting_ > 0;) {
      sequence& s = sequence_at(ready_);
      if (s.prefix >= 0 && cache_.length(ready_) == 0) cache_.copy(s.prefix, ready_), s.prefix = -1;
      const index done = cache_.length(ready_), count = std::min(Model::prefill_block, s.length - done);
      if (count > room) break;
      room -= count;
      const auto logits = Model::prefill(*weights_, text_at(order_[at(ready_)]).subspan(at(done), at(count)), cache_, ready_);
      if (done + count < s.length) continue;
      ++ready_, --waiting_;
      draw(s, logits);
    }
    for (index place = ready_ - 1; place >= 0; --place)
      if (sequence_at(place).end != ending::none) remove(place);
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
    return written();
  }
  /// What the last step wrote.
  [[nodiscard]] std::span<const written_token> written() const { return written_; }

  /// Ends a sequence. Fails if there is none with this id, because it has ended.
  void leave(index id) { remove(place_of(id, "leave")); }

  /// The tokens of a sequence so far, with its prompt; until the next step.
  [[nodiscard]] std::span<const token> text(index id) const {
    const index place = place_of(id, "text");
    return text_at(order_[at(place)]).first(at(sequences_[at(order_[at(place)])].length));
  }
  /// The number of sequences that have joined and not ended.
  [[nodiscard]] index size() const { return ready_ + waiting_; }
  /// The number of sequences that can join now.
  [[nodiscard]] index room() const { return most_sequences() - size(); }
  /// The most tokens of a sequence, with its prompt, that the model sees.
  [[nodiscard]] index capacity() const { return cache_.capacity(); }

 private:
  using cache = typename Model::template cache_of<T>;

  struct sequence {
    index id = -1;
    index length = 0;   // tokens of its text
    index left = 0;     // tokens to write
    index prefix = -1;  // while it waits: where in the cache the prefix of its prompt is
    ending end = ending::none;
    std::optional<sampler> sample{};
    adjust_logits adjust{};
    std::array<token, most_stops> stops{};
    std::size_t stop_count = 0;
  };
  struct held_prefix {
    index id = -1;
    index length = 0;
    index slot = 0;  // in the cache, and of its text
  };

  static batching checked(batching room) {
    if (room.capacity == 0) room.capacity = Model::context;
    if (room.sequences < 1 || room.prefixes < 0 || room.capacity < 1 || room.capacity > Model::context)
      fail("batch_generator: ", room.sequences, " sequences of ", room.capacity, " tokens, and ", room.prefixes,
           " prefixes; expected at least 1 sequence, and at most ", Model::context, " tokens, the model's context");
    return room;
  }
  batch_generator(owned<packed> own, const packed* weights, const batching& room)
      : own_weights_(std::move(own)),
        weights_(weights ? weights : own_weights_.get()),
        cache_(checked(room).sequences + room.prefixes, checked(room).capacity, {room.threads}),
        sampler_memory_(sampler::bytes(Model::vocab)),
        adjusted_(std::is_same_v<typename Model::scalar, float> ? 0 : at(Model::vocab)),
        texts_(at(cache_.sequences() * text_size())),
        next_(at(room.sequences)),
        sequences_(at(room.sequences)),
        prefixes_(at(room.prefixes)),
        order_(at(room.sequences)) {
    written_.reserve(at(room.sequences));
    for (index i = 0; i < room.sequences; ++i) order_[at(i)] = i;
  }

  static constexpr std::size_t at(index i) { return static_cast<std::size_t>(i); }
  [[nodiscard]] index most_sequences() const { return std::ssize(sequences_); }
  [[nodiscard]] index text_size() const { return cache_.capacity() + 1; }  // the last token is written, but not read
  [[nodiscard]] std::span<token> text_at(index slot) { return std::span(texts_).subspan(at(slot * text_size()), at(text_size())); }
  [[nodiscard]] std::span<const token> text_at(index slot) const {
    return std::span(texts_).subspan(at(slot * text_size()), at(text_size()));
  }
  [[nodiscard]] sequence& sequence_at(index place) { return sequences_[at(order_[at(place)])]; }

  [[nodiscard]] index place_of(index id, const char* what) const {
    for (index place = 0; place < size(); ++place)
      if (sequences_[at(order_[at(place)])].id == id) return place;
    fail("batch_generator.", what, ": no sequence ", id, "; expected one that has joined and not ended");
  }
  [[nodiscard]] std::size_t prefix_at(index id, const char* what) const {
    for (std::size_t p = 0; p < prefixes_.size(); ++p)
      if (id >= 0 && prefixes_[p].id == id) return p;
    fail("batch_generator.", what, ": no prefix ", id, "; expected one that hold() has returned and that is still held");
  }
  static void check_prompt(const char* what, std::span<const token> prompt, index before, index most) {
    if (prompt.empty()) fail("batch_generator.", what, ": an empty prompt; expected at least 1 token");
    if (const index size = before + std::ssize(prompt); size > most)
      fail("batch_generator.", what, ": a prompt of ", size, " tokens; there is room for ", most);
    check_tokens(prompt, 0, Model::vocab, "batch_generator: prompt");
  }

  std::optional<index> join_text(const char* what, const held_prefix* prefix, std::span<const token> prompt, continuation how) {
    const index before = prefix ? prefix->length : 0;
    check_prompt(what, prompt, before, cache_.capacity());
    if (how.count < 0 || how.stops.size() > most_stops)
      fail("batch_generator.", what, ": ", how.count, " tokens to write and ", how.stops.size(),
           " stop tokens; expected at least 0, and at most ", most_stops);
    const sampling settings{how.temperature, how.top_k, how.top_p, how.seed, how.ids};
    check_sampling(Model::vocab, settings);
    if (room() == 0) return {};
    const index slot = order_[at(size())];
    const auto text = text_at(slot);
    if (prefix) std::copy_n(text_at(prefix->slot).begin(), before, text.begin());
    std::copy(prompt.begin(), prompt.end(), text.begin() + before);
    sequence& s = sequences_[at(slot)];
    s.id = next_id_++;
    s.length = before + std::ssize(prompt);
    s.left = how.count > 0 ? how.count : text_size();
    s.prefix = prefix ? prefix->slot : -1;
    s.end = ending::none;
    s.sample.emplace(Model::vocab, settings, sampler_memory_.bytes());
    s.adjust = std::move(how.adjust);
    std::copy(how.stops.begin(), how.stops.end(), s.stops.begin());
    s.stop_count = how.stops.size();
    ++waiting_;
    return s.id;
  }

  /// Draws the token that follows a sequence's text. Where that throws, the sequence ends.
  void draw(sequence& s, std::span<const typename Model::scalar> logits) {
#if defined(__cpp_exceptions)
    try {
      draw_or_throw(s, logits);
    } catch (...) {
      if (!failure_) failure_ = std::current_exception();
      s.end = ending::failed;
    }
#else
    draw_or_throw(s, logits);
#endif
  }
  void draw_or_throw(sequence& s, std::span<const typename Model::scalar> logits) {
    const std::span<token> text = text_at(&s - sequences_.data());
    const token next = drawn(s, text.first(at(s.length)), logits);
    text[at(s.length++)] = next;
    --s.left;
    const auto stops = std::span(s.stops).first(s.stop_count);
    s.end = std::find(stops.begin(), stops.end(), next) != stops.end() ? ending::stop
            : s.left == 0                                              ? ending::count
            : s.length == text_size()                                  ? ending::full
                                                                       : ending::none;
    written_.push_back({s.id, next, s.end});
  }
  token drawn(sequence& s, std::span<const token> text, std::span<const typename Model::scalar> logits) {
    if (!s.adjust) return (*s.sample)(logits);
    if constexpr (std::is_same_v<typename Model::scalar, float>) {
      // The logits are in the cache's memory, and nothing else reads them before they are recomputed.
      const std::span<float> own(const_cast<float*>(logits.data()), logits.size());
      s.adjust(text, own);
      return (*s.sample)(std::span<const float>(own));
    } else {
      std::transform(logits.begin(), logits.end(), adjusted_.begin(), [](const auto& x) { return static_cast<float>(x); });
      s.adjust(text, adjusted_);
      return (*s.sample)(std::span<const float>(adjusted_));
    }
  }

  /// Removes a sequence. So that a step runs over neighbouring sequences of the cache, the last of them takes its place there.
  void remove(index place) {
    sequence& s = sequence_at(place);
    s.id = -1;
    s.adjust = nullptr;
    if (place < ready_) {
      const index last = --ready_;
      cache_.copy(last, place);
      std::swap(order_[at(place)], order_[at(last)]);
      if (waiting_ > 0) cache_.copy(last + 1, last);  // what is read of the first prompt that waits
      cache_.truncate(0, waiting_ > 0 ? last + 1 : last);
      place = last;
    } else {
      if (place == ready_) cache_.truncate(0, ready_);
      --waiting_;
    }
    const auto freed = order_.begin() + place;
    std::rotate(freed, freed + 1, order_.end());
  }

  owned<packed> own_weights_;
  const packed* weights_;
  cache cache_;             // sequences whose prompts are read, then the one whose prompt is being read; after the last, prefixes
  buffer sampler_memory_;   // one sampler draws at a time
  std::vector<float> adjusted_;  // [vocab], logits converted to float, for `adjust`
  std::vector<token> texts_;     // [sequences + prefixes, capacity + 1]
  std::vector<token> next_;      // [sequences], the tokens that a step reads
  std::vector<sequence> sequences_;
  std::vector<held_prefix> prefixes_;
  std::vector<index> order_;     // a permutation: sequences by their places in the cache, then those that wait, then free ones
  std::vector<written_token> written_;
  std::exception_ptr failure_;
  index ready_ = 0, waiting_ = 0;
  index next_id_ = 0;
};

}  // namespace fathom
