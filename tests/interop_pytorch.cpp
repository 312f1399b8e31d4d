// The fathom half of pytorch_module.py and transformers_checkpoints.py, which compile it for their models' configs
// and compare it with PyTorch:
//
//   interop_pytorch initialize SEED TO      initial weights
//   interop_pytorch resave FROM TO          weights of any kind that load accepts, as fathom's file
//   interop_pytorch transformers FROM TO    the same, as a folder for transformers
//   interop_pytorch logits FROM IN OUT      logits [B, T, V] for the tokens `inputs` [B, T] in IN
//   interop_pytorch greedy FROM IN OUT      `count` [1] greedy tokens after the `prompt` [N]: written [count]
//   interop_pytorch step FROM IN OUT        one clipped step of AdamW on `inputs` and `targets`: logits, loss [1], norm [1],
//                                           grad.NAME, after.NAME
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <fathom/fathom.hpp>

#ifndef FATHOM_CONFIG
#define FATHOM_CONFIG .vocab = 13, .context = 6, .width = 8, .depth = 2, .heads = 2
#endif
#ifndef FATHOM_BACKEND
#define FATHOM_BACKEND reference<double>
#endif

namespace {

constexpr fathom::config c{FATHOM_CONFIG};
using net = fathom::model<c, fathom::backend::FATHOM_BACKEND>;
using T = net::scalar;

std::vector<fathom::token> read(const fathom::io::safetensors_file& file, const char* name) {
  const auto& tensor = file.at(name);
  if (tensor.type != "I32") fathom::fail(file.path(), ": ", name, ": expected I32, found ", tensor.describe());
  std::vector<fathom::token> values(static_cast<std::size_t>(tensor.size()));
  tensor.read(std::as_writable_bytes(std::span(values)));
  return values;
}
template <class Number>
fathom::io::tensor_to_write store(const char* name, std::vector<fathom::index> shape, std::span<const Number> numbers) {
  return {name, std::string(fathom::io::type_name<std::remove_const_t<Number>>), std::move(shape), std::as_bytes(numbers)};
}

using weights = fathom::owned<net::parameters>;
weights load(const char* from) {
  auto loaded = fathom::make<net::parameters>();
  fathom::load(from, *loaded);
  return loaded;
}

void logits(const char* from, const char* in, const char* out) {
  const auto w = load(from);
  const fathom::io::safetensors_file file(in);
  const auto inputs = read(file, "inputs");
  const auto& shape = file.at("inputs").shape;
  net::tape tape(shape.at(0), shape.at(1));
  net::forward(*w, {inputs, {}, shape[0], shape[1]}, tape);
  fathom::io::write_safetensors(out, {store<const T>("logits", {shape[0], shape[1], c.vocab}, tape.logits())}, {});
}

void greedy(const char* from, const char* in, const char* out) {
  const fathom::io::safetensors_file file(in);
  fathom::generator<net> writer(*load(from), {.temperature = 0, .overflow = fathom::overflow::fails});
  std::vector<fathom::token> written;
  writer.write(read(file, "prompt"), read(file, "count").at(0), [&](fathom::token t) { return written.push_back(t), true; });
  fathom::io::write_safetensors(
      out, {store<const fathom::token>("written", {static_cast<fathom::index>(written.size())}, written)}, {});
}

void step(const char* from, const char* in, const char* out) {
  const auto w = load(from);
  const fathom::io::safetensors_file file(in);
  const auto inputs = read(file, "inputs"), targets = read(file, "targets");
  const auto& shape = file.at("inputs").shape;
  const fathom::batch batch{inputs, targets, shape.at(0), shape.at(1)};
  net::tape tape(batch.sequences, batch.tokens);
  auto gradients = fathom::make<net::parameters>();
  net::forward(*w, {inputs, {}, batch.sequences, batch.tokens}, tape);
  const std::vector<T> logits(tape.logits().begin(), tape.logits().end());
  net::forward_backward(*w, batch, tape, *gradients);
  const T loss = static_cast<T>(tape.loss());
  const auto kept = fathom::copy(gradients);  // the step zeroes them
  fathom::adamw<net> optimizer({.rate = 1e-3f, .decay = 0.1f, .clip = 1.0f});
  const T norm = static_cast<T>(optimizer.step(*w, *gradients));
  fathom::io::tensors_to_write tensors;
  tensors.tensors = {store<const T>("logits", {batch.sequences, batch.tokens, c.vocab}, logits),
                     store<const T>("loss", {1}, {&loss, 1}), store<const T>("norm", {1}, {&norm, 1})};
  const auto table = fathom::table_of<net>(*w);
  tensors.add(fathom::io::numbers_of<net>(table, *kept), "grad.");
  tensors.add(fathom::io::numbers_of<net>(table, *w), "after.");
  fathom::io::write_safetensors(out, tensors.tensors, {});
}

void run(int argc, char** argv) {
  const std::string command = argc > 1 ? argv[1] : "";
  if (command == "initialize" && argc == 4) {
    auto w = fathom::make<net::parameters>();
    fathom::initialize<net>(*w, static_cast<std::uint64_t>(std::atoll(argv[2])));
    fathom::save(argv[3], *w);
  } else if (command == "resave" && argc == 4) {
    fathom::save(argv[3], *load(argv[2]));
  } else if (command == "transformers" && argc == 4) {
    if constexpr (!net::architecture::has_shortcut) fathom::save_transformers(argv[3], *load(argv[2]));
  } else if (command == "logits" && argc == 5) {
    logits(argv[2], argv[3], argv[4]);
  } else if (command == "greedy" && argc == 5) {
    greedy(argv[2], argv[3], argv[4]);
  } else if (command == "step" && argc == 5) {
    step(argv[2], argv[3], argv[4]);
  } else {
    fathom::fail("interop_pytorch: expected initialize SEED TO, resave|transformers FROM TO, or logits|greedy|step FROM IN OUT");
  }
}

}  // namespace

int main(int argc, char** argv) try {
  run(argc, argv);
} catch (const std::exception& error) {
  return std::fprintf(stderr, "%s\n", error.what()), 1;
}
