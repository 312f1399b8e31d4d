// Trains a tiny byte-level model with layerwise attention shortcuts on a text, on as many processes as MPI starts:
//
//   mpirun -n 2 train TEXT [STEPS [FOLDER [SEED [bf16]]]]
//
// or on one, without mpirun, with the same result to the last bit. README.md says how to start it on several machines.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <string_view>

#include <fathom/data/text.hpp>
#include <fathom/distributed/mpi.hpp>
#include <fathom/fathom.hpp>

constexpr fathom::config tiny{.vocab = 256, .context = 128, .width = 128, .depth = 6, .heads = 4, .shortcut = {.depths = {2, 4}}};
using net = fathom::model<tiny>;

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: train TEXT [STEPS [FOLDER [SEED [bf16]]]]\n");
    return 2;
  }
  try {
    const fathom::index steps = argc > 2 ? std::atol(argv[2]) : 200;
    const std::filesystem::path folder = argc > 3 ? argv[3] : ".";
    const fathom::index seed = argc > 4 ? std::atol(argv[4]) : 1;
    const bool bf16_gradients = argc > 5 && std::string_view(argv[5]) == "bf16";
    const auto text = fathom::data::bytes(argv[1]);
    // A step has 8 micro-batches of 2 sequences each, whatever the number of ranks, which is 8 at most.
    fathom::trainer<net, fathom::adamw, fathom::distributed::mpi> trainer({.batch = 2,
                                                                           .micro_batches = 8,
                                                                           .bf16_gradients = bf16_gradients,
                                                                           .steps = steps,
                                                                           .rate = 3e-3f,
                                                                           .seed = static_cast<std::uint64_t>(seed),
                                                                           .checkpoint = folder / "distributed.safetensors",
                                                                           .checkpoint_every = 100,
                                                                           .resume = true,
                                                                           .log = folder / "distributed.csv"});
    if (trainer.group().rank() == 0) std::printf("%s\n", trainer.summary().c_str());
    const fathom::training_result result = trainer.fit(text);
    if (trainer.group().rank() != 0) return 0;
    std::printf("%td steps on %d ranks: training NLL %.6f, validation NLL %.6f nats a byte, %.0f tokens/s, of which this rank waited %.1f%%\n",
                result.steps, trainer.group().size(), result.training_nll, result.validation_nll, result.tokens_per_second,
                100 * result.waiting);
    if (result.signal != 0) std::printf("ended early, by signal %d; start it again to go on\n", result.signal);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "train: %s\n", e.what());
    return 1;
  }
}
