// A small training run on the ranks of an MPI program, or of a process alone, for distributed.py.
//
//   distributed_program KIND [NAME=NUMBER|PATH ...]
//
// KIND is one of mpi, alone (a trainer without a group), muon, muon_alone. It prints the result's numbers exactly, and a hash of
// the weights.
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <map>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include <fathom/backend/cpu.hpp>
#include <fathom/core/random.hpp>
#include <fathom/data/token_bins.hpp>
#include <fathom/data/token_files.hpp>
#include <fathom/distributed/mpi.hpp>
#include <fathom/io/weights.hpp>
#include <fathom/model/model.hpp>
#include <fathom/train/muon.hpp>
#include <fathom/train/trainer.hpp>

namespace {

using fathom::token;

// Its largest tensor, [2100, 32], is in two ranges of a step.
constexpr fathom::config small{.vocab = 2100, .context = 16, .width = 32, .depth = 2, .heads = 2, .shortcut = {.depths = {1}}};
using net = fathom::model<small>;

std::map<std::string, std::string> settings;
fathom::index number(const char* name, fathom::index otherwise) {
  const auto at = settings.find(name);
  return at == settings.end() ? otherwise : std::atol(at->second.c_str());
}

std::vector<token> some_tokens(fathom::index count, std::uint64_t seed) {
  fathom::random numbers(seed, 0);
  std::vector<token> tokens(static_cast<std::size_t>(count), 1);
  for (std::size_t i = 1; i < tokens.size(); ++i)
    tokens[i] = static_cast<token>(numbers.below(10) == 0 ? numbers.below(2100) : (tokens[i - 1] * 2 + 1) % 2100);
  return tokens;
}

/// The group of an MPI program, on one rank of which something goes wrong after a step.
float* a_weight = nullptr;
struct faulty : fathom::distributed::mpi {
  /// What a checkpoint needs of other ranks goes to the first one, with nothing in return.
  exchange start(std::span<const fathom::incoming> in, std::span<const fathom::outgoing> out) const {
    if (rank() == number("rank", 0) && in.empty() && out.size() == 1) std::this_thread::sleep_for(std::chrono::seconds(number("late", 0)));
    return mpi::start(in, out);
  }
  void end_run() const {
    if (rank() == number("rank", 0) && number("term_at_end", 0) != 0) ::raise(SIGTERM);
    mpi::end_run();
  }
  [[nodiscard]] int stop_signal() const {  // a trainer asks once a step, and after the last one
    static fathom::index step = number("from", 0);
    ++step;
    if (rank() == number("rank", 0)) {
      if (step == number("kill", -1)) ::raise(SIGKILL);
      if (step == number("nan", -1)) *a_weight = std::nanf("");
      if (step == number("throw", -1)) fathom::fail("something broke");
      if (step == number("leave", -1)) std::exit(0);
      if (step == number("hang", -1)) std::this_thread::sleep_for(std::chrono::hours(1));
      if (step == number("nap", -1)) std::this_thread::sleep_for(std::chrono::seconds(2));
      if (step == number("term", -1)) ::raise(SIGTERM);
    }
    if (number("slow", 0) > 0) std::this_thread::sleep_for(std::chrono::milliseconds(number("slow", 0)));
    const int found = mpi::stop_signal();
    if (rank() == number("rank", 0) && step == number("term_after", -1)) ::raise(SIGTERM);
    return found;
  }
  faulty() : mpi({.patience = static_cast<double>(number("patience", 60))}) {}
};

template <class Group, template <class> class Optimizer, class Options>
void run(Options o) {
  const Group group;
  const int rank = group.rank();
  const bool is_odd_one = rank == number("rank", 0);
  o.batch = number("batch", 2);
  o.tokens = 16;
  o.accumulate = number("accumulate", 1);
  o.micro_batches = number("micro_batches", 8);
  o.bf16_gradients = number("bf16", 0) != 0;
  o.steps = number("steps", 8) + (is_odd_one ? number("more_steps", 0) : 0);
  o.warmup = 3;
  o.seed = 7;
  o.evaluate_every = o.checkpoint_every = number("every", 0);
  o.evaluate_batches = 3;
  o.checkpoint = settings["checkpoint"];
  o.resume = number("resume", 0) != 0;
  o.log = settings["log"];
  o.progress = false;
  o.threads = static_cast<int>(number("threads", 1));
  if (const fathom::index last = number("stop", 0); last > 0) o.observer = [last](const fathom::progress& p) { return p.step != last; };
  const auto train = some_tokens(number("tokens", 3000), is_odd_one ? static_cast<std::uint64_t>(number("data_seed", 5)) : 5);
  const auto validation = some_tokens(number("validation", 300), 6);
  fathom::trainer<net, Optimizer, Group> trainer(o, group);
  a_weight = trainer.weights().out.ln_f.bias.data();
  if (is_odd_one && number("other_weights", 0) != 0) *a_weight = 2;
  if (const std::string file = settings["write_tokens"]; !file.empty()) fathom::data::write_bin(file, train);
  const std::string files = settings["token_files"];
  const fathom::training_result result = files.empty() ? trainer.fit(train, validation)
                                                       : trainer.fit(fathom::data::token_files(files, net::vocab), validation);
  if (rank != 0) return;
  std::uint64_t hash = 0;
  const auto* const words = reinterpret_cast<const std::uint32_t*>(&trainer.weights());
  for (std::size_t i = 0; i < sizeof trainer.weights() / sizeof *words; ++i) hash = (hash ^ words[i]) * 0x100000001b3u;
  std::printf("steps %td training %a validation %a weights %016lx signal %d\n", result.steps, result.training_nll, result.validation_nll,
              static_cast<unsigned long>(hash), result.signal);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string kind = argc > 1 ? argv[1] : "";
  for (int i = 2; i < argc; ++i) {
    const std::string setting = argv[i];
    settings[setting.substr(0, setting.find('='))] = setting.substr(setting.find('=') + 1);
  }
  try {
    if (kind == "mpi") run<faulty, fathom::adamw>(fathom::training{.rate = 1e-2f});
    if (kind == "alone") run<fathom::lone, fathom::adamw>(fathom::training{.rate = 1e-2f});
    if (kind == "muon") run<faulty, fathom::muon>(fathom::training_of<fathom::muon_options>{});
    if (kind == "muon_alone") run<fathom::lone, fathom::muon>(fathom::training_of<fathom::muon_options>{});
  } catch (const std::exception& e) {
    std::fprintf(stderr, "distributed_program: %s\n", e.what());
    return 1;
  }
}
