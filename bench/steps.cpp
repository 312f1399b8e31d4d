// Single steps of one model on demand: tokens decoded at given positions, prefills, training steps. Scripts that compare
// with peers or plot the growth of costs keep this program running and query it in turns; it answers with a line of seconds.
//
//   bench_steps_MODEL f32|bf16|int8|int4 [FILE]     (storage of decoding's weights; bf16: also products of bf16
//                                                  operands; all but f32: a cache in bf16)
//
// FILE holds the weights; without it they are random.
//
// Compiled by nvcc, it does the same on a GPU, without int8 and int4; bf16 then applies to training, too (compare_pytorch_gpu.py).
//
// Then, line by line on the standard input, with N timed steps each:
//   decode FROM N       one token each at positions FROM .. FROM + N - 1, one sequence
//   prefill N           the full context
//   prompt TOKENS N     as many tokens
//   together SEQUENCES FROM N   one token each of several sequences at once, at positions FROM .. FROM + N - 1
//   batch SEQUENCES FROM N      N steps of a batch_generator, greedy, after prompts of FROM tokens (CPU)
//   train SEQUENCES N   forward, backward and AdamW, for a batch of SEQUENCES sequences of at most 256 tokens (GPU: the context)
//   save FILE           the weights, as safetensors
//   logits PROMPT       instead of seconds, the logits after the full context, of which PROMPT tokens were prefilled
// and on a GPU
//   one FROM N, many FROM N    like decode, for any model size: with one kernel per token, or with a graph of many
//   write N             each of N generated tokens after a prompt of one: decoding, sampling, transfer to the host
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#if defined(__CUDACC__)
#include <fathom/cuda.cuh>
#else
#include <fathom/fathom.hpp>
#endif

#include "models.hpp"

namespace {

#if defined(__CUDACC__)
template <class Compute>
using model = fathom::model<bench::FATHOM_BENCH_MODEL, fathom::backend::cuda<Compute>>;
constexpr bool on_gpu = true;
#else
template <class Compute>
using model = fathom::model<bench::FATHOM_BENCH_MODEL, fathom::backend::cpu<Compute>>;
constexpr bool on_gpu = false;
#endif
using net = model<float>;
/// The models for decoding with weights stored as P, and for training.
template <class P>
using decoding_net = std::conditional_t<std::is_same_v<P, fathom::bf16>, model<fathom::bf16>, net>;
template <class P>
using training_net = std::conditional_t<on_gpu, decoding_net<P>, net>;

/// Token i of the text that all these programs read; the same as in compare_ggml.cpp.
fathom::token text(fathom::index i) { return static_cast<fathom::token>(i * 7919 % net::vocab); }

std::vector<fathom::token> text(fathom::index from, fathom::index count) {
  std::vector<fathom::token> tokens;
  for (fathom::index i = from; i < from + count; ++i) tokens.push_back(text(i));
  return tokens;
}

template <class F>
void print_seconds(const F& f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  std::cout << std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() << ' ';
}

std::string weights_file;  // empty: random weights

/// The weights in the file, or initial ones, but with biases and gains other than 0 and 1, so that comparisons cover them.
template <class Net>
fathom::owned<typename Net::parameters> weights() {
  auto w = fathom::make<typename Net::parameters>();
  if (!weights_file.empty()) {
    fathom::load(weights_file, *w);
    return w;
  }
  fathom::initialize<Net>(*w, 1);
  fathom::random draw(2, 0);
  fathom::edit_on_host(*w, [&](auto& here) {
    Net::visit_tensors(
        [&](fathom::initial, auto& tensor) {
          if (tensor.rank == 1)
            for (auto& value : tensor.span()) value += static_cast<float>(0.1 * draw.normal());
        },
        here);
  });
  return w;
}

/// Decoding with weights stored as P.
template <class P>
class decoder {
 public:
  using net = decoding_net<P>;
  /// Keys and values are in bf16 where weights are rounded, too.
  using stored = std::conditional_t<on_gpu || std::is_same_v<P, float>, float, fathom::bf16>;
  using cache_type = typename net::template cache_of<stored>;

  void decode(fathom::index from, int steps) { decode(from, steps, cache_); }
#if defined(__CUDACC__)
  void decode(fathom::index from, int steps, std::size_t one_kernel) {
    typename net::executor where;
    where.one_kernel = one_kernel;
    cache_type cache(1, net::context, where);
    prefill_up_to(from, cache);
    for (int i = 0; i < 3; ++i) {  // the graph is recorded in the second
      net::decode(*weights_, text(from), cache);
      cache.truncate(from);
    }
    decode(from, steps, cache);
  }
  void write(int steps) {
    fathom::generator<net, P> writer(*weights<net>(), {.seed = 1});
    const auto one = std::span(prompt_).first(1);
    writer.write(one, 4, [](fathom::token) { return true; });
    auto last = std::chrono::steady_clock::now();
    writer.write(one, steps, [&](fathom::token) {
      const auto now = std::chrono::steady_clock::now();
      std::cout << std::chrono::duration<double>(now - last).count() << ' ';
      last = now;
      return true;
    });
  }
#endif
  void prefill(fathom::index tokens, int steps) {
    for (int i = 0; i < steps; ++i) print_seconds([&] { prefill_up_to(tokens, cache_); });
  }
  void together(fathom::index sequences, fathom::index from, int steps) {
    cache_type cache(sequences, std::min<fathom::index>(net::context, from + steps));
    for (fathom::index s = 0; s < sequences; ++s) net::prefill(*weights_, text(s, from), cache, s);
    for (int i = 0; i < steps; ++i) {
      const auto next = text(from + i, sequences);
      print_seconds([&] { net::decode(*weights_, next, cache); });
    }
  }
#if !defined(__CUDACC__)
  void batch(fathom::index sequences, fathom::index from, int steps) {
    const fathom::index reading = from * sequences / net::prefill_block + 1;  // those that joined first write in the meantime
    fathom::batch_generator<net, P, stored> all(
        *weights_, {.sequences = sequences, .capacity = std::min<fathom::index>(net::context, from + reading + steps + 1)});
    for (fathom::index s = 0; s < sequences; ++s) all.join(text(s, from), {.temperature = 0});
    while (std::ssize(all.written()) < sequences) all.step();
    for (int i = 0; i < steps; ++i) print_seconds([&] { all.step(); });
  }
#endif
  void logits(fathom::index prompt) {
    std::span<const float> logits = prefill_up_to(prompt, cache_);
    for (fathom::index i = prompt; i < net::context; ++i) logits = net::decode(*weights_, text(i), cache_);
    for (const float x : logits) std::cout << x << ' ';
  }

 private:
  std::span<const float> prefill_up_to(fathom::index tokens, cache_type& cache) {
    cache.truncate(0);
    return net::prefill(*weights_, std::span(prompt_).first(static_cast<std::size_t>(tokens)), cache);
  }
  void decode(fathom::index from, int steps, cache_type& cache) {
    if (cache.length() < from) prefill_up_to(from, cache);
    cache.truncate(from);
    for (int i = 0; i < steps; ++i) print_seconds([&] { net::decode(*weights_, text(from + i), cache); });
  }

  static fathom::owned<typename net::template packed<P>> packed_weights() {
    if (weights_file.empty()) return fathom::pack<P>(*weights<net>());
    auto w = fathom::make<typename net::template packed<P>>();
    fathom::load(weights_file, *w);
    return w;
  }

  fathom::owned<typename net::template packed<P>> weights_ = packed_weights();
  cache_type cache_{1};
  std::vector<fathom::token> prompt_ = text(0, net::context);
};

/// Repeated training on one batch.
template <class P>
class trainer {
 public:
  using net = training_net<P>;

  void train(fathom::index sequences, int steps) {
    constexpr fathom::index tokens = on_gpu ? net::context : std::min<fathom::index>(net::context, 256);
    const auto ids = text(0, sequences * tokens + 1);
    const auto count = static_cast<std::size_t>(sequences * tokens);
    const fathom::batch batch{std::span(ids).first(count), std::span(ids).last(count), sequences, tokens};
    typename net::tape tape(sequences, tokens);
    const auto step = [&] {
      net::forward_backward(*weights_, batch, tape, *gradients_);
      optimizer_.step(*weights_, *gradients_);
    };
    for (int i = 0; i < 3; ++i) step();  // to warm up; the GPU's steps are recorded in the second
    for (int i = 0; i < steps; ++i) print_seconds(step);
  }

 private:
  fathom::owned<typename net::parameters> weights_ = weights<net>(), gradients_ = fathom::make<typename net::parameters>();
  fathom::adamw<net> optimizer_;
};

template <class P>
constexpr std::size_t cache_bytes_of(fathom::index capacity) {
  return net::cache_bytes<typename decoder<P>::stored>(1, capacity);
}

template <class P>
void serve() {
  constexpr auto half = static_cast<std::size_t>(net::context / 2);
  constexpr std::size_t position_bytes =
      (cache_bytes_of<P>(net::context) - cache_bytes_of<P>(net::context - net::context / 2)) / half;
  std::cout << "{\"context\": " << net::context << ", \"vocab\": " << net::vocab
            << ", \"weight_bytes\": " << net::weight_bytes<P>
            << ", \"position_bytes\": " << position_bytes
            << ", \"flops\": " << net::forward_flops_per_token() * static_cast<double>(net::context) << "}" << std::endl;
  std::unique_ptr<decoder<P>> ready;
  std::unique_ptr<trainer<P>> training;
  const auto decoding = [&]() -> decoder<P>& {
    if (!ready) ready = std::make_unique<decoder<P>>();
    return *ready;
  };
  std::string file;
  fathom::index n = 0, sequences = 0;
  int steps = 0;
  const std::map<std::string, std::function<void()>> commands{
      {"decode", [&] { std::cin >> n >> steps; decoding().decode(n, steps); }},
#if defined(__CUDACC__)
      {"one", [&] { std::cin >> n >> steps; decoding().decode(n, steps, ~std::size_t{0}); }},
      {"many", [&] { std::cin >> n >> steps; decoding().decode(n, steps, 0); }},
      {"write", [&] { std::cin >> steps; decoding().write(steps); }},
#endif
      {"prefill", [&] { std::cin >> steps; decoding().prefill(net::context, steps); }},
      {"prompt", [&] { std::cin >> n >> steps; decoding().prefill(n, steps); }},
      {"together", [&] { std::cin >> sequences >> n >> steps; decoding().together(sequences, n, steps); }},
#if !defined(__CUDACC__)
      {"batch", [&] { std::cin >> sequences >> n >> steps; decoding().batch(sequences, n, steps); }},
#endif
      {"train", [&] {
         std::cin >> n >> steps;
         if (!training) training = std::make_unique<trainer<P>>();
         training->train(n, steps);
       }},
      {"save", [&] { std::cin >> file; fathom::save(file, *weights<net>()); }},
      {"logits", [&] { std::cin >> n; decoding().logits(n); }}};
  for (std::string command; std::cin >> command; std::cout << std::endl) commands.at(command)();
}

}  // namespace

int main(int argc, char** argv) try {
  const std::string type = argc == 2 || argc == 3 ? argv[1] : "";
  if (argc == 3) weights_file = argv[2];
  std::cout.precision(9);
  if (type == "f32") return serve<float>(), 0;
  if (type == "bf16") return serve<fathom::bf16>(), 0;
#if !defined(__CUDACC__)
  if (type == "int8") return serve<std::int8_t>(), 0;
  if (type == "int4") return serve<fathom::int4>(), 0;
#endif
  std::fputs("usage: bench_steps_MODEL f32|bf16|int8|int4 [FILE], and commands on the standard input\n", stderr);
  return 2;
} catch (const std::exception& e) {
  std::fprintf(stderr, "%s\n", e.what());
  return 1;
}
