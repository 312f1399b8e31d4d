// Adapters, put into the weights of their base, and into those that low-rank additions are trained with.
#include <cstring>

#include <fathom/core/copy.hpp>
#include <fathom/core/error.hpp>
#include <fathom/io/adapter.hpp>
#include <fathom/model/low_rank.hpp>
#include <fathom/model/train_only.hpp>

#include "fuzz.hpp"
#include "models.hpp"

namespace fuzz::adapter {

using replaced = fathom::train_only<tiny_net, "h.0.mlp.*", "ln_f.*">;
using added = fathom::low_rank<tiny_net, 2, 4>;

/// Loads into weights. A file that is refused must change nothing.
template <class Parameters>
void load(const std::filesystem::path& path, Parameters& weights) {
  const auto before = fathom::copy(weights);
  try {
    fathom::load_adapter(path, weights);
  } catch (const fathom::error&) {
    expect(std::memcmp(&weights, before.get(), sizeof weights) == 0, "a refused adapter changes nothing");
    throw;
  }
}

void read(bytes input) {
  const auto path = file("input.safetensors", input);
  const auto base = weights_of<tiny_net>();
  load(path, *base);
  const auto trained = fathom::make<added::parameters>();
  fathom::initialize<tiny_net>(*trained, 3);
  added::initialize_trained(*trained, 3);
  load(path, *trained);
}

void make_seeds(seeds& to) {
  const auto path = to.scratch() / "a.safetensors";
  const auto base = weights_of<tiny_net>();
  fathom::save_adapter<replaced>(path, *base);
  to.add(seeds::read(path));
  fathom::save_adapter<replaced, fathom::bf16>(path, *base);
  to.add(seeds::read(path));
  const auto trained = fathom::make<added::parameters>();
  fathom::initialize<tiny_net>(*trained, 3);
  added::initialize_trained(*trained, 5);
  fathom::save_adapter<added>(path, *trained);
  to.add(seeds::read(path));
}

const harness it("adapter", read, make_seeds, [](std::string& input) { repair_safetensors(input); });

}  // namespace fuzz::adapter
