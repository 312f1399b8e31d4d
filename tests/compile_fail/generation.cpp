// Common mistakes in generation, and their errors.
// says: fathom::generation has no such field: it has temperature, top_k, top_p, seed, overflow, threads, ids, adjust; how many tokens to write is told to write()
// says: fathom::generator: expected weights of its model: *weights, weights or trainer.weights()
// says: fathom::generator: packed weights are taken over, expected std::move(weights)
// says: fathom::generator: packed weights are taken over from what owns them, expected std::move(weights), or *weights and memory to write in
// says: fathom::generator: weights are packed as float, fathom::bf16, std::int8_t, fathom::int4, symmetric_int4, grouped_int8 or the scalar of the model
// says: fathom::pack: weights are packed as float, fathom::bf16, std::int8_t, fathom::int4, symmetric_int4, grouped_int8 or the scalar of the model
// says: fathom::pack: expected weights: *weights, weights or trainer.weights()
// says: fathom: a cache holds keys and values in the scalar of the model, in fathom::bf16 or in std::int8_t
// says: generator.write: expected a prompt of tokens, as a std::span or a std::vector of fathom::token (32 bits) or as {1, 2, 3}, or a text
// says: generator.write: the callback must be callable with a fathom::token, and return bool or nothing
// says: generator.write: a text prompt needs a model whose tokens are bytes, vocab 256
// says: fathom::attention_map: this model has no shortcut to look at
// MISTAKES
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <fathom/backend/reference.hpp>
#include <fathom/core/memory.hpp>
#include <fathom/generate/generator.hpp>
#include <fathom/model/attention_map.hpp>
#include <fathom/model/model.hpp>

template <int Vocab, fathom::shortcut Shortcut = fathom::shortcut{}>
using model_of = fathom::model<fathom::config{.vocab = Vocab, .context = 16, .width = 32, .depth = 2, .heads = 4, .shortcut = Shortcut},
                               fathom::backend::reference<float>>;
using net = model_of<61>;
using of_bytes = model_of<256>;
using with_shortcut = model_of<61, fathom::shortcut{.depths = {1}}>;

#if defined(MISTAKES)
[[maybe_unused]] static void mistakes(const net::parameters& weights, fathom::owned<net::parameters>& owned,
                                      fathom::owned<net::packed<float>>& packed, const fathom::owned<net::packed<float>>& fixed,
                                      std::vector<long>& longs) {
  fathom::generator<net> writer(weights, {.temp = 0.5});
  fathom::generator<net> second(owned, {.top_k = 3, .max_new_tokens = 100});
  fathom::generator<net> third("file");
  fathom::generator<net> fourth(*fathom::make<of_bytes::parameters>(), {.seed = 1});
  fathom::generator<net> fifth(packed);
  fathom::generator<net> sixth(fixed, {.seed = 1});
  fathom::generator<net> seventh(*packed);
  fathom::generator<net, short> eighth(weights);
  auto some = fathom::pack<short>(weights);
  auto more = fathom::pack<long>(owned);
  auto none = fathom::pack<float>(longs);
  net::cache_of<short> cache;
  writer.write(longs, 10, [](fathom::token) {});
  writer.write({1, 2, 3}, 10, 5);
  writer.write({1, 2, 3}, 10, [](const std::string&) { return true; });
  writer.write({1, 2, 3}, 10, [](fathom::token) { return std::string(); });
  writer.write("In the beginning", 10, [](fathom::token) { return true; });
  static_cast<void>(fathom::attention_map<net>(weights, std::vector<fathom::token>{1, 2}));
}
#endif

[[maybe_unused]] static void habits(const net::parameters& weights, fathom::owned<net::parameters>& owned,
                                    const fathom::owned<net::parameters>& fixed, of_bytes::parameters& bytes,
                                    std::span<std::byte> memory, const std::vector<fathom::token>& prompt,
                                    const with_shortcut::parameters& looks_back) {
  fathom::generator<net> writer(weights), by_owner(owned), by_const(fixed), with(owned, {.temperature = 0.5f, .seed = 1}), same(weights, {});
  fathom::generator<net, fathom::bf16> second(owned), third(fathom::pack<fathom::bf16>(weights), {.threads = 1});
  auto ready = fathom::pack<float>(owned);
  fathom::generator<net> elsewhere(*ready, memory), there(*ready, memory, {.top_k = 5});
  fathom::generator<net> taken(std::move(ready));
  const fathom::generation options{.top_p = 0.9f};
  fathom::generator<net, std::int8_t> fourth(weights, options);
  fathom::generator<net, float, std::int8_t> rounding(weights);
  net::cache_of<fathom::bf16> cache(1, 10);
  writer.write(prompt, 10, [](fathom::token) {});
  writer.write({1, 2, 3}, 10, [](fathom::token) {});
  writer.write(std::span(prompt).first(2), 10, [](long t) { return t; });
  const auto callback = [](auto) {};
  writer.write({1}, 10, callback);
  fathom::generator<of_bytes> says(bytes);
  says.write("In the beginning", 10, [](fathom::token) { return true; });
  says.write(std::string("In the beginning"), 10, [](fathom::token) { return true; });
  static_cast<void>(fathom::attention_map<with_shortcut>(looks_back, prompt));
}
