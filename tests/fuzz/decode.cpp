// Weights of any numbers: loaded from a safetensors file or a GGUF file into each type of packed weights, then a prompt is
// read and tokens are drawn.
#include <string>
#include <utility>
#include <vector>

#include <fathom/generate/generator.hpp>
#include <fathom/io/model_files.hpp>
#include <fathom/io/save_gguf.hpp>
#include <fathom/io/weights.hpp>

#include "fuzz.hpp"
#include "models.hpp"

namespace fuzz::decode {

template <class Net, class P>
void write(const fathom::io::model_files& from) {
  try {
    auto weights = fathom::make<typename Net::template packed<P>>();
    fathom::load(from, *weights);
    fathom::generator<Net, P> writer(std::move(weights), {.top_k = 5, .threads = 1});
    writer.write({1, 2, 3}, 12, [&](fathom::token t) { expect(t >= 0 && t < Net::vocab, "what is drawn is a token"); });
  } catch (const fathom::error&) {
  }
}

void read(bytes input) {
  const char* const name = text_of(input).starts_with("GGUF") ? "input.gguf" : "input.safetensors";
  const fathom::io::model_files model({{name, input}}, "input");
  write<llama_net, float>(model);
  write<llama_net, fathom::bf16>(model);
  write<llama_net, std::int8_t>(model);
  write<llama_net, fathom::int4>(model);
}

void make_seeds(seeds& to) {
  const auto weights = weights_of<llama_net>();
  const auto path = to.scratch() / "a";
  const auto add = [&] { to.add(seeds::read(path)); };
  fathom::save(path, *weights), add();
  fathom::save<std::int8_t>(path, *weights), add();
  fathom::save<fathom::int4>(path, *weights), add();
  fathom::save_gguf(path, *weights), add();
  fathom::save_gguf(path, *weights, {.type = fathom::gguf_numbers::q8_0}), add();
}

const harness it("decode", read, make_seeds, [](std::string& input) {
  if (!input.starts_with("GGUF")) repair_safetensors(input);
});

}  // namespace fuzz::decode
