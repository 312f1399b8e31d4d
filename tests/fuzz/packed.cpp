// Files of packed weights, of every type, and what a model makes of whatever numbers they hold.
#include <cmath>
#include <string>
#include <vector>

#include <fathom/generate/generator.hpp>
#include <fathom/io/packed_file.hpp>

#include "fuzz.hpp"
#include "models.hpp"

namespace fuzz::packed {

template <class P>
void read_as(bytes input) {
  try {
    const fathom::packed_file<tiny_net, P> file(input, "input");
    try {
      file.verify();
    } catch (const fathom::error&) {  // mutated numbers; a program need not ask
    }
    const fathom::buffer memory(fathom::generator<tiny_net, P>::bytes);
    fathom::generator<tiny_net, P> writer(*file, memory.bytes(), {.threads = 1});
    fathom::index written = 0;
    writer.write({1, 2, 3}, 10, [&](fathom::token t) {
      expect(t >= 0 && t < tiny.vocab, "what is drawn is a token");
      ++written;
    });
    expect(written == 10, "as many tokens as were asked for");
  } catch (const fathom::error&) {
  }
}

void read(bytes input) {
  const aligned file(input);
  read_as<float>(file.get());
  read_as<fathom::bf16>(file.get());
  read_as<std::int8_t>(file.get());
  read_as<fathom::int4>(file.get());
}

template <class P>
void seed(seeds& to) {
  fathom::save_packed(to.scratch() / "a", fathom::pack<P>(*weights_of<tiny_net>()));
  to.add(seeds::read(to.scratch() / "a"));
}
void make_seeds(seeds& to) {
  seed<float>(to);
  seed<fathom::bf16>(to);
  seed<std::int8_t>(to);
  seed<fathom::int4>(to);
}

const harness it("packed", read, make_seeds, [](std::string& input) { repair_safetensors(input); });

}  // namespace fuzz::packed
