// Everything of fathom that runs on a GPU, compiled by nvcc: models, trainer, generator, files; in float and in bf16, with
// and without shortcuts. On a machine without a GPU this is all that can be done with it but the emulation; with one, it runs
// as a smoke test.
#include <fathom/cuda.cuh>

#include <cstdio>
#include <filesystem>
#include <span>
#include <vector>

#if defined(EIGEN_CORE_H) || defined(EIGEN_CORE_MODULE_H) || defined(XSIMD_HPP) || defined(EIGEN_WORLD_VERSION)
#error "fathom/cuda.cuh includes Eigen or xsimd"
#endif

namespace {

constexpr fathom::config plain{.vocab = 256, .context = 64, .width = 64, .depth = 3, .heads = 2};
constexpr fathom::config with_shortcut{.vocab = 256, .context = 64, .width = 64, .depth = 3, .heads = 2, .shortcut = {.depths = {1, 2}}};

template <fathom::config C, class Compute>
void use(std::span<const fathom::token> tokens) {
  using net = fathom::model<C, fathom::backend::cuda<Compute>>;
  const auto file = std::filesystem::temp_directory_path() / "fathom_cuda_compile.safetensors";
  fathom::trainer<net> trainer({.batch = 4, .steps = 3, .progress = false});
  const auto result = trainer.fit(tokens.first(2048), tokens.subspan(2048));
  fathom::save(file, trainer.weights());
  auto weights = fathom::make<typename net::parameters>();
  fathom::load(file, *weights);
  std::filesystem::remove(file);
  fathom::generator<net, fathom::bf16> writer(*weights, {.temperature = 0});
  writer.write(tokens.first(5), 10, [](fathom::token t) { return std::printf("%d ", t) > 0; });
  if constexpr (net::architecture::has_shortcut)
    std::printf("%zu weights of attention; ", fathom::attention_map<net>(*weights, tokens.first(9)).weights.size());
  std::printf("loss %.4f\n%s", result.training_nll, fathom::summary<net>().c_str());
}

}  // namespace

int main() {
  std::vector<fathom::token> tokens(4096);
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<fathom::token>(i * i % 251);
  try {
    use<plain, float>(tokens);
    use<plain, fathom::bf16>(tokens);
    use<with_shortcut, float>(tokens);
    use<with_shortcut, fathom::bf16>(tokens);
  } catch (const fathom::error& e) {
    std::puts(e.what());
    return 1;
  }
}
