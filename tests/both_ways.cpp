// A program that trains, saves, loads, packs and generates, and prints hashes of all results. It is built twice, header-only
// and with fathom::kernels; both_ways.cmake runs both and checks that they print the same: every number has the same bits.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <vector>

#include <fathom/fathom.hpp>
#include <fathom/functors.hpp>

namespace {

std::uint64_t hash_of(std::span<const std::byte> bytes) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const std::byte b : bytes) hash = (hash ^ std::to_integer<unsigned>(b)) * 0x100000001b3u;
  return hash;
}
template <class T>
void print(const char* what, std::span<const T> numbers) {
  std::printf("%s %016llx\n", what, static_cast<unsigned long long>(hash_of(std::as_bytes(numbers))));
}
template <class Net>
void print(const char* what, const typename Net::parameters& weights) {
  Net::visit([&](std::string_view name, fathom::initial, const auto& tensor) {
    print((std::string(what) + " " + std::string(name)).c_str(), tensor.span());
  }, weights);
}
std::vector<fathom::token> text(fathom::index count, fathom::index vocab) {
  fathom::random numbers(7, 0);
  std::vector<fathom::token> tokens;
  while (std::ssize(tokens) < count) tokens.push_back(static_cast<fathom::token>(numbers.below(vocab)));
  return tokens;
}

/// Decoding with weights packed as P: a prompt long enough for the kernels of many rows, then single tokens.
template <class Net, class P>
void decode(const char* what, const typename Net::parameters& weights, std::span<const fathom::token> tokens) {
  const auto ready = fathom::pack<P>(weights);
  typename Net::cache cache(1);
  print(what, Net::prefill(*ready, tokens.first(21), cache));
  for (std::size_t i = 21; i < 30; ++i) print(what, Net::decode(*ready, tokens[i], cache));
  typename Net::cache several(3);
  print(what, Net::decode(*ready, tokens.first(3), several));
}

template <class Net>
void run(const char* name, const std::filesystem::path& folder) {
  std::printf("%s\n", name);
  const auto tokens = text(400, Net::vocab);
  fathom::trainer<Net> trainer({.batch = 3, .tokens = 37, .steps = 3, .rate = 1e-2f, .seed = 5, .log = folder / "run.csv",
                                .progress = false, .threads = 2});
  const auto result = trainer.fit(std::span(tokens).first(300), std::span(tokens).subspan(300));
  std::printf("losses %.17g %.17g\n", result.training_nll, result.validation_nll);
  print<Net>("weights", trainer.weights());

  const auto file = folder / "weights.safetensors";
  fathom::save(file, trainer.weights());
  std::ifstream saved(file, std::ios::binary);
  const std::string bytes(std::istreambuf_iterator<char>(saved), {});
  print("file", std::span<const char>(bytes));
  auto loaded = fathom::make<typename Net::parameters>();
  fathom::load(file, *loaded);
  print<Net>("loaded", *loaded);

  using scalar = typename Net::scalar;
  decode<Net, scalar>("decoded as the scalar", *loaded, tokens);
  if constexpr (std::is_same_v<scalar, float>) {
    decode<Net, fathom::bf16>("decoded as bf16", *loaded, tokens);
    decode<Net, std::int8_t>("decoded as int8", *loaded, tokens);
    decode<Net, fathom::int4>("decoded as int4", *loaded, tokens);
    decode<Net, fathom::symmetric_int4>("decoded as symmetric int4", *loaded, tokens);
    decode<Net, fathom::grouped_int8>("decoded as int8 in groups", *loaded, tokens);
  }
  fathom::generator<Net> writer(*loaded, {.temperature = 0.9f, .top_k = 20, .seed = 3, .threads = 1});
  writer.write(std::span(tokens).first(5), 70, [](fathom::token t) { std::printf("%d ", t); });
  std::printf("\n");
}

constexpr fathom::config shortcut{.vocab = 61, .context = 64, .width = 48, .depth = 3, .heads = 3, .shortcut = {.depths = {1, 2}}};
constexpr fathom::config joint{.vocab = 300, .context = 64, .width = 40, .depth = 2, .heads = 2, .hidden = 600, .tied = false,
                               .shortcut = {.depths = {0, 1}, .placement = fathom::placement::joint}};

/// x / (1 + |x|): an activation that fathom::kernels lacks, so it is compiled here.
struct softsign {
  template <class V>
  struct at {
    V value, derivative;
    FATHOM_ANYWHERE explicit at(const V& x) {
      const V magnitude = fathom::where_positive(x, x, -x), inverse = V(1) / (V(1) + magnitude);
      value = x * inverse;
      derivative = inverse * inverse;
    }
  };
};
using own = fathom::edit<fathom::gpt2<shortcut>, fathom::every_block,
                         fathom::in_place_of<"mlp", fathom::pre<"mlp", fathom::layer_norm<>, fathom::mlp<50, softsign>>,
                                             fathom::pre<"gated", fathom::layer_norm<>, fathom::gated_mlp<30, softsign>>>>;

}  // namespace

int main(int, char** arguments) {
  const std::filesystem::path folder = arguments[1];
  std::filesystem::create_directories(folder);
  run<fathom::model<shortcut>>("shortcut, float", folder);
  run<fathom::model<joint>>("joint, float", folder);
  run<fathom::model<shortcut, fathom::backend::cpu<fathom::bf16>>>("shortcut, bf16", folder);
  run<fathom::model<shortcut, fathom::backend::cpu<double>>>("shortcut, double", folder);
  run<fathom::transformer<own>>("an activation of its own, float", folder);
}
