// Trains one kind of adapter of SmolLM2 on a text, and prints what it reaches, how long it takes and what memory it needs.
// adapters.sh builds it for each kind, and runs it.
//
//   compare TEXT OTHER RATE STEPS SEED
//
// Prints a JSON object: kind, NLL in nats a token before and after on held-back text and on another text, the NLL after every
// tenth of the steps with the seconds spent in steps so far, and bytes.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <string>
#include <type_traits>

#include <fathom/core/json.hpp>

#include "../examples/adapt/models.hpp"
#include "../examples/adapt/texts.hpp"

namespace {

using base = fathom::model<adapt_model::config, adapt::backend>;

// What is trained. "h.29.*" is the last block of SmolLM2-135M.
static_assert(adapt::depth == 30, "this comparison is of SmolLM2-135M");
struct shortcut : std::type_identity<fathom::train_only<adapt::net<adapt::some_depths>, "shortcut.*">> {
  static constexpr const char* name = "shortcut";
};
struct last_depth : std::type_identity<fathom::train_only<adapt::net<adapt::last_depth>, "shortcut.*">> {
  static constexpr const char* name = "last depth";
};
struct lora8 : std::type_identity<fathom::low_rank<base, 8, 16>> {
  static constexpr const char* name = "LoRA 8";
};
struct lora16 : std::type_identity<fathom::low_rank<base, 16, 32>> {
  static constexpr const char* name = "LoRA 16";
};
struct last_block : std::type_identity<fathom::train_only<base, "h.29.*">> {
  static constexpr const char* name = "last block";
};
struct everything : std::type_identity<base> {
  static constexpr const char* name = "everything";
};

using method = ADAPT_METHOD;
using model = method::type;
constexpr fathom::index batch = 4;

/// The most memory that this process has had, in bytes; 0 if Linux does not say.
double most_memory() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmHWM:")) return 1024 * std::strtod(line.c_str() + 6, nullptr);
  return 0;
}

void run(char** arguments) {
  const adapt::text text(adapt::text_of(arguments[1]), adapt_model::tokenizer(), arguments[1], model::context, 4096);
  const adapt::text other(adapt::text_of(arguments[2]), adapt_model::tokenizer(), arguments[2], 16, 4096);
  const auto steps = static_cast<fathom::index>(std::strtoll(arguments[4], nullptr, 10));
  const auto seed = std::strtoull(arguments[5], nullptr, 10);
  fathom::json curve = fathom::json::array();
  fathom::trainer<model> trainer(
      {.batch = batch, .steps = steps, .rate = std::strtof(arguments[3], nullptr), .decay = 0.01f, .seed = seed,
       .evaluate_every = std::max<fathom::index>(1, steps / 10), .progress = false, .observer = [&](const fathom::progress& p) {
         if (!std::isnan(p.validation))
           curve.push_back(fathom::json::object(
               {{"step", p.step}, {"nll", p.validation},
                {"seconds", static_cast<double>(p.step * batch * model::context) / p.tokens_per_second}}));
         return true;
       }});
  fathom::load(adapt_model::files(), trainer.weights(), {.missing = fathom::missing::keep});
  fathom::json all;
  all["kind"] = method::name;
  all["rate"] = std::strtod(arguments[3], nullptr);
  all["seed"] = static_cast<std::uint64_t>(seed);
  const auto evaluate = [&](const char* when) {
    typename model::tape tape(batch, model::context);
    all["nll"][when] = fathom::evaluate<model>(trainer.weights(), text.validation(), tape, batch);
    all["other"][when] = fathom::evaluate<model>(trainer.weights(), other.validation(), tape, batch);
  };
  evaluate("before");
  const auto result = trainer.fit(text.training(), text.validation());
  all["seconds"] = static_cast<double>(result.steps * batch * model::context) / result.tokens_per_second;
  all["memory"] = most_memory();
  evaluate("after");
  all["steps"] = result.steps;
  all["trained"] = static_cast<std::uint64_t>(sizeof(fathom::trained_of<model>) / sizeof(float));
  all["gradients_and_moments"] = static_cast<std::uint64_t>(3 * sizeof(fathom::trained_of<model>));
  all["tape"] = static_cast<std::uint64_t>(model::tape_bytes(batch));
  all["curve"] = curve;
  std::puts(all.dump().c_str());
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 6) return std::fputs("compare TEXT OTHER RATE STEPS SEED\n", stderr), 2;
  try {
    return run(arguments), 0;
  } catch (const std::exception& problem) {
    return std::fprintf(stderr, "%s\n", problem.what()), 1;
  }
}
