// Folders of `transformers` in memory: config.json, safetensors files and an index of shards, into models of two families.
#include <string>
#include <utility>
#include <vector>

#include <fathom/io/config.hpp>
#include <fathom/io/model_files.hpp>

#include "fuzz.hpp"
#include "models.hpp"

namespace fuzz::folder {

template <class F>
void attempt(const F& f) {
  try {
    f();
  } catch (const fathom::error&) {
  }
}

void read(bytes input) {
  std::vector<fathom::io::file_in_memory> files{{"none", {}}};  // so that it is a folder
  for (const auto& [name, contents] : parts_of(input)) files.push_back({name, contents});
  const fathom::io::model_files model(files, "input");
  attempt([&] { static_cast<void>(fathom::io::to_cpp(fathom::io::config_of(model))); });
  attempt([&] { fathom::load(model, fathom::make<tiny_net::parameters>()); });
  attempt([&] { fathom::load(model, fathom::make<llama_net::parameters>()); });
  attempt([&] { fathom::load(model, fathom::make<llama_net::packed<std::int8_t>>()); });
}

void make_seeds(seeds& to) {
  const auto scratch = to.scratch();
  const auto whole = [&] {
    return part("config.json", seeds::read(scratch / "config.json")) + part("model.safetensors", seeds::read(scratch / "model.safetensors"));
  };
  fathom::save_transformers(scratch, weights_of<tiny_net>());
  to.add(whole());
  to.add(part("config.json", seeds::read(scratch / "config.json")) +
         part("model.safetensors.index.json", R"({"metadata": {}, "weight_map": {"wte.weight": "model-1.safetensors"}})") +
         part("model-1.safetensors", seeds::read(scratch / "model.safetensors")));
  fathom::save_transformers(scratch, weights_of<llama_net>());
  to.add(whole());
}

/// Sets the lengths of the headers of all safetensors files.
void repair(std::string& input) {
  constexpr std::string_view ending = ".safetensors\n";
  for (std::size_t at = input.find(ending); at != input.npos; at = input.find(ending, at + 1)) repair_safetensors(input, at + ending.size());
}

const harness it("folder", read, make_seeds, repair);

}  // namespace fuzz::folder
