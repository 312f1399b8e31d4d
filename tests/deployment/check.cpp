// A program that includes only the inference headers, compiled without exceptions, run-time type information and OpenMP, for this
// machine and for others (run.cmake). The model is golden (../golden/README.md). Checks the logits of prefill and of
// decoding token by token, and that a greedy generator takes the largest of them, all in static storage; and the tokenizer's
// texts.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <golden_model.hpp>
#include <gpt2.hpp>

using net = golden_model::model;
static_assert(gpt2::model::parameter_count == 124'439'808);  // as published
#if defined(__ARM_NEON)
static_assert(xsimd::default_arch::alignment() == 16 && fathom::cpu::lanes<float> == 4, "this is to check NEON");
#endif

alignas(fathom::alignment) static std::byte cache_memory[net::cache_bytes()];
alignas(fathom::alignment) static std::byte writer_memory[golden_model::generator::bytes];

template <class T>
static std::vector<T> read(const fathom::io::safetensors_file& file, const char* name) {
  const auto& tensor = file.at(name);
  std::vector<T> values(static_cast<std::size_t>(tensor.size()));
  const auto bytes = tensor.bytes();
  std::memcpy(values.data(), bytes.data(), std::min(bytes.size(), values.size() * sizeof(T)));
  return values;
}

static int failures = 0;
static void check(bool holds, const char* what, double found, double expected) {
  std::printf("%s: %s, %g, expected %g\n", holds ? "ok" : "WRONG", what, found, expected);
  failures += !holds;
}

static void check_text(const char* name, std::string_view found, const std::string& folder) {
  const fathom::io::whole_file file(folder + "/" + name);
  const std::string_view expected = file.text();
  check(found == expected, name, static_cast<double>(found.size()), static_cast<double>(expected.size()));
}

int main(int argc, char** argv) {
  if (argc != 3) return std::fprintf(stderr, "check CHECKPOINT TOLERANCE\n"), 2;
  const std::string folder = argv[1];
  const double tolerance = std::atof(argv[2]);
  std::printf("%s, vectors of %d floats\n", xsimd::default_arch::name(), static_cast<int>(fathom::cpu::lanes<float>));
  check_text("vocab.json", golden_model::tokenizer_vocab(), folder);
  check_text("merges.txt", golden_model::tokenizer_merges(), folder);
  const fathom::io::safetensors_file expected(folder + "/expected.safetensors");
  const auto inputs = read<fathom::token>(expected, "inputs");   // [sequences, tokens]
  const auto golden = read<float>(expected, "logits");           // [sequences, tokens, vocab]
  const auto tokens = std::span(inputs).first(static_cast<std::size_t>(expected.at("inputs").shape[1]));

  double largest = 0, decoded = 0, prefilled = 0;
  const auto distance = [&](std::span<const float> logits, std::size_t at) {
    double difference = 0;
    for (std::size_t i = 0; i < logits.size(); ++i) {
      const double e = static_cast<double>(golden[at * logits.size() + i]);
      largest = std::max(largest, std::abs(e));
      // Written so that NaN is the largest difference.
      if (!(std::abs(static_cast<double>(logits[i]) - e) <= difference)) difference = std::abs(static_cast<double>(logits[i]) - e);
    }
    return difference;
  };

  static net::cache cache(1, net::context, cache_memory, {1});
  std::span<const float> logits;
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    logits = net::decode(golden_model::weights(), tokens[t], cache);
    const double d = distance(logits, t);
    if (!(d <= decoded)) decoded = d;
  }
  check(decoded <= tolerance * largest, "decoding, from golden logits at most", decoded / largest, tolerance);
  cache.truncate(3);
  for (std::size_t n : {std::size_t{1}, tokens.size() - 4}) {
    logits = net::prefill(golden_model::weights(), tokens.subspan(static_cast<std::size_t>(cache.length()), n), cache);
    const double d = distance(logits, static_cast<std::size_t>(cache.length()) - 1);
    if (!(d <= prefilled)) prefilled = d;
  }
  check(prefilled <= tolerance * largest, "prefill, from golden logits at most", prefilled / largest, tolerance);

  // The output of a greedy generator after the tokens, checked by fresh prefills of everything so far.
  static golden_model::generator writer(golden_model::weights(), writer_memory, {.temperature = 0, .threads = 1});
  std::vector<fathom::token> text(tokens.begin(), tokens.begin() + 4), written;
  writer.write(text, 10, [&](fathom::token t) {
    written.push_back(t);
    return true;
  });
  int differ = 0;
  for (const fathom::token found : written) {
    cache.truncate(0);
    logits = net::prefill(golden_model::weights(), text, cache);
    const float best = *std::max_element(logits.begin(), logits.end());
    // Any of those equal within rounding.
    differ += !(logits[static_cast<std::size_t>(found)] >= best - 1e-4f * static_cast<float>(largest));
    text.push_back(found);
  }
  check(written.size() == 10 && differ == 0, "tokens of a greedy generator that differ", differ, 0);
  return failures == 0 ? 0 : 1;
}
