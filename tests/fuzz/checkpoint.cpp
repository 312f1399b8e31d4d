// Checkpoints to resume from: weights, states and the progress of a run.
#include <string>
#include <string_view>
#include <vector>

#include <fathom/io/conversion.hpp>
#include <fathom/io/description.hpp>
#include <fathom/io/weights.hpp>
#include <fathom/train/checkpoint.hpp>

#include "fuzz.hpp"
#include "models.hpp"

namespace fuzz::checkpoint {

constexpr std::string_view states[] = {"adamw.first", "adamw.second"};

fathom::run_identity identity() {
  static const std::vector<fathom::token> data{1, 2, 3, 4, 5, 6, 0};
  const fathom::training options{.batch = 2, .tokens = 8, .steps = 12, .lowest_rate = 1e-4f, .warmup = 2, .cooldown = 1};
  fathom::run_identity all = fathom::identify(options, data, "float");
  for (const auto& row : fathom::table_of<tiny_net>()) all.tensors.push_back(row.name);
  all.settings.resize(all.tensors.size());
  return all;
}

void read(bytes input) {
  const auto path = file("input.safetensors", input);
  const std::string description = fathom::io::description_of<tiny_net>();
  for (const bool extend : {true, false}) {
    const fathom::checkpoint_file found(path, description, identity(), extend);
    expect(found.state().step >= 0 && found.state().step <= 12, "a run's step is one of its steps");
    const auto weights = fathom::make<tiny_net::parameters>();
    const fathom::tensor_table table = fathom::table_of<tiny_net>(*weights);
    for (const std::string_view part : {std::string_view(), states[0], states[1]})
      found.read(part, states, fathom::io::wanted_of<tiny_net>(table), "F32", fathom::detail::address_of(*weights));
  }
}

void make_seeds(seeds& to) {
  const auto weights = weights_of<tiny_net>();
  const fathom::tensor_table table = fathom::table_of<tiny_net>(*weights);
  const std::byte* const begin = fathom::io::numbers_of<tiny_net>(table, *weights).begin;
  const auto path = to.scratch() / "a.safetensors";
  fathom::save_checkpoint(path, {table, "F32", {{"", begin}, {states[0], begin}, {states[1], begin}}}, fathom::io::description_of<tiny_net>(), identity(),
                          {.step = 3, .recent = {1.5, 1.25}});
  to.add(seeds::read(path));
}

const harness it("checkpoint", read, make_seeds, [](std::string& input) { repair_safetensors(input); });

}  // namespace fuzz::checkpoint
