// A training loop by hand: weights, gradients and moments are values of one type.
//
//   custom_loop TEXT_FILE
#include <cmath>
#include <cstdio>

#include <fathom/data/text.hpp>
#include <fathom/fathom.hpp>

constexpr fathom::config tiny{.vocab = 256, .context = 128, .width = 128, .depth = 6, .heads = 4,
                              .shortcut = {.depths = {2, 4}}};
using net = fathom::model<tiny>;

int main(int argc, char** argv) try {
  if (argc != 2) return std::fprintf(stderr, "usage: custom_loop TEXT_FILE\n"), 2;
  const auto text = fathom::data::bytes(argv[1]);

  auto weights = fathom::make<net::parameters>();  // owning, aligned, zeroed
  auto gradients = fathom::make<net::parameters>();
  fathom::initialize<net>(*weights, /*seed=*/1);
  net::tape tape(8, 128);  // intermediate values for backward, with room for 8 sequences of 128 tokens
  fathom::adamw<net> optimizer({.rate = 1e-3f, .decay = 0.1f, .clip = 1.0f});

  // Windows at random places, which depend only on the seed and the step.
  fathom::index step = 0;
  for (const auto& batch : fathom::data::batches(text.train(), {.batch = 8, .tokens = 128, .steps = 200, .seed = 1})) {
    net::forward(*weights, batch, tape);
    net::backward(*weights, batch, tape, *gradients);  // adds to the gradients
    const double norm = optimizer.step(*weights, *gradients);  // and zeroes them
    if (++step % 20 == 0) std::printf("step %3td  loss %.3f nats a byte  gradient norm %.2f\n", step, tape.loss(), norm);
  }
  std::printf("validation %.3f nats a byte\n", fathom::evaluate<net>(*weights, text.validation(), tape, 8));

  // Every tensor has a name and a shape, and visit walks tensors of the same name together.
  auto start = fathom::make<net::parameters>();
  fathom::initialize<net>(*start, 1);
  std::printf("how far training moved the shortcut's tensors:\n");
  net::visit(
      [](std::string_view name, fathom::initial, const auto& w, const auto& w0) {
        if (!name.starts_with("shortcut") || w.rank != 2) return;
        double moved = 0, size = 0;
        for (fathom::index i = 0; i < w.size; ++i) {
          moved += std::pow(w.data()[i] - w0.data()[i], 2);
          size += std::pow(w0.data()[i], 2);
        }
        std::printf("  %-32.*s [%td, %td]  %.2f of its size\n", static_cast<int>(name.size()), name.data(), w.shape[0],
                    w.shape[1], std::sqrt(moved / size));
      },
      *weights, *start);
} catch (const std::exception& e) {
  std::fprintf(stderr, "custom_loop: %s\n", e.what());
  return 1;
}
