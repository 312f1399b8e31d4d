// Numbers out of range: learning rates over 16 decades, weights that are huge, tiny, subnormal, infinite or NaN in each tensor, and
// types too small for them. Nothing hangs, and nothing wrong passes for a result: where float cannot hold what the definition in
// double gives, the result is not finite, or an error says so.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <fathom/backend/cpu.hpp>
#include <fathom/backend/reference.hpp>
#include <fathom/core/random.hpp>
#include <fathom/generate/generator.hpp>
#include <fathom/io/save_gguf.hpp>
#include <fathom/io/weights.hpp>
#include <fathom/model/initialize.hpp>
#include <fathom/model/model.hpp>
#include <fathom/train/sgd.hpp>
#include <fathom/train/trainer.hpp>

#include "catch.hpp"
#include "fails_with.hpp"
#include "file_contents.hpp"
#include "some_weights.hpp"
#include "temporary_folder.hpp"

namespace {

using fathom::token;
using limits = std::numeric_limits<float>;

constexpr fathom::config gpt{.vocab = 19, .context = 12, .width = 32, .depth = 2, .heads = 4, .hidden = 40, .shortcut = {.depths = {1}}};
constexpr fathom::config llama{.vocab = 19, .context = 12, .width = 32, .depth = 1, .heads = 4, .hidden = 40, .tied = false, .shortcut = {},
                               .family = fathom::family::llama, .kv_heads = 2};
constexpr fathom::config over_depths{.vocab = 19, .context = 12, .width = 8, .depth = 2, .heads = 2, .hidden = 8,
                                     .residual = {.form = fathom::residual_form::attention}};
template <const fathom::config& C>
struct both {
  using net = fathom::model<C>;
  using oracle = fathom::model<C, fathom::backend::reference<double>>;
};
struct of_gpt : both<gpt> {};
struct of_llama : both<llama> {};
struct of_depths : both<over_depths> {};

const std::vector<token> text{3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5};  // of 12 at most

bool all_finite(const auto& numbers) {
  return std::all_of(numbers.begin(), numbers.end(), [](auto x) { return std::isfinite(x); });
}

/// The numbers of a tensor of a model.
template <class Net>
std::span<typename Net::scalar> tensor_of(typename Net::parameters& weights, const fathom::tensor_row& row) {
  return {reinterpret_cast<typename Net::scalar*>(fathom::detail::address_of(weights) + row.offset), static_cast<std::size_t>(row.size)};
}

/// Logits [tokens, vocab] and the loss of `text` in training's forward pass.
template <class Net>
std::vector<double> results_of(const typename Net::parameters& weights) {
  const auto count = static_cast<fathom::index>(text.size()) - 1;
  std::vector<double> all;
  typename Net::tape tape(1, count);
  Net::forward(weights, {std::span(text).first(text.size() - 1), {}, 1, count}, tape);
  for (const auto x : tape.logits()) all.push_back(static_cast<double>(x));
  Net::forward(weights, {std::span(text).first(text.size() - 1), std::span(text).subspan(1), 1, count}, tape);
  all.push_back(static_cast<double>(tape.loss()));
  return all;
}
/// Logits of decoding with weights packed as P, position after position.
template <class Net, class P>
std::vector<double> decoded(const typename Net::parameters& weights) {
  const auto packed = fathom::pack<P>(weights);
  typename Net::cache cache(1);
  std::vector<double> all;
  const auto add = [&](auto logits) {
    for (const auto x : logits) all.push_back(static_cast<double>(x));
  };
  add(Net::prefill(*packed, std::span(text).first(4), cache));
  for (std::size_t i = 4; i + 1 < text.size(); ++i) add(Net::decode(*packed, text[i], cache));
  return all;
}

}  // namespace

TEMPLATE_TEST_CASE("whatever a tensor holds, a result is right, or not finite", "[extremes]", of_gpt, of_llama, of_depths) {
  using net = typename TestType::net;
  using oracle = typename TestType::oracle;
  const auto weights = fathom::test::some_weights<net>();
  const auto exact = fathom::test::some_weights<oracle>();
  const fathom::tensor_table table = fathom::table_of<net>(*weights), other = fathom::table_of<oracle>(*exact);
  REQUIRE(table.size() == other.size());
  for (std::size_t t = 0; t < table.size(); ++t)
    std::ranges::copy(tensor_of<net>(*weights, table[t]), tensor_of<oracle>(*exact, other[t]).begin());
  const auto vocab = static_cast<std::size_t>(net::vocab);
  int wrong = 0, finite = 0, not_finite = 0;
  for (std::size_t t = 0; t < table.size(); ++t) {
    const auto here = tensor_of<net>(*weights, table[t]);
    const auto there = tensor_of<oracle>(*exact, other[t]);
    const std::vector<float> before(here.begin(), here.end());
    // Up to 1e35: SiLU's logistic function is never below 1e-38, so SiLU of less than -1e36 is off, but finite.
    for (const float value : {limits::quiet_NaN(), limits::infinity(), -limits::infinity(), 1e35f, 1e30f, 1e20f, 1e-30f, limits::denorm_min()})
      for (const bool is_scale : {false, true}) {  // a single number, or all of them
        if (is_scale && !std::isfinite(value)) continue;
        // The third row of a table is that of no token but 3; numbers of the first token are those of the whole text.
        const std::size_t at = table[t].name.starts_with("wte") || table[t].name.starts_with("lm_head") ? 3 * static_cast<std::size_t>(net::width) : 0;
        if (is_scale)
          std::ranges::transform(before, here.begin(), [&](float x) { return x * value; });
        else
          here[at] = value;
        std::ranges::copy(here, there.begin());
        const auto found = results_of<net>(*weights), expected = results_of<oracle>(*exact);
        INFO(table[t].name << (is_scale ? " times " : " begins with ") << value);
        const auto check = [&](const char* how, const std::vector<double>& given, std::size_t from, double tolerance) {
          INFO(how);
          for (std::size_t i = 0; i < given.size(); ++i) {
            const double right = expected[from + i];
            // The largest of a row of logits says how exact the others are.
            double largest = std::abs(right);
            if (from + i < expected.size() - 1)
              for (std::size_t j = 0; j < vocab; ++j) largest = std::max(largest, std::abs(expected[(from + i) / vocab * vocab + j]));
            const bool is_right = !std::isfinite(given[i]) || (std::isfinite(right) && std::abs(given[i] - right) <= tolerance * (1 + largest));
            (std::isfinite(given[i]) ? finite : not_finite) += 1;
            wrong += !is_right;
            if (!is_right) {
              INFO("number " << i << ": " << given[i] << " in place of " << right);
              CHECK(is_right);
              return;
            }
          }
        };
        check("forward", found, 0, 1e-3);
        check("decode", decoded<net, float>(*weights), 3 * vocab, 1e-3);
        if (!all_finite(expected)) {  // rounded weights are not compared, but hide nothing
          if constexpr (std::is_same_v<TestType, of_gpt>) {
            const std::vector<double> positions(expected.begin() + 3 * static_cast<std::ptrdiff_t>(vocab), expected.end() - 1);
            if (!all_finite(positions)) {
              CHECK(!all_finite(decoded<net, fathom::bf16>(*weights)));
              CHECK(!all_finite(decoded<net, std::int8_t>(*weights)));
              CHECK(!all_finite(decoded<net, fathom::int4>(*weights)));
            }
          }
        }
        std::ranges::copy(before, here.begin());
        std::ranges::copy(before, there.begin());
      }
  }
  CHECK(wrong == 0);
  CHECK(finite > 0);
  CHECK(not_finite > 0);
}

TEST_CASE("at any learning rate, a run ends with finite weights or says that it stopped", "[extremes]") {
  using net = of_gpt::net;
  std::vector<token> tokens = fathom::test::some_tokens(200, 4);
  int ended = 0, stopped = 0;
  const auto run = [&]<class Trainer, class Options>(std::type_identity<Trainer>, const Options& options, bool must_end) {
    try {
      Trainer trainer(options);
      const auto result = trainer.fit(tokens, std::span(tokens).first(40));
      ++ended;
      CHECK(std::isfinite(result.training_nll));
      CHECK(all_finite(std::span(reinterpret_cast<const float*>(&trainer.weights()), sizeof(trainer.weights()) / sizeof(float))));
    } catch (const fathom::error& error) {
      ++stopped;
      CHECK(std::string_view(error.what()).starts_with("training stopped: "));
      CHECK_FALSE(must_end);
    }
  };
  for (int decade = -8; decade <= 8; ++decade)
    for (const fathom::index steps : {1, 2, 7}) {
      const float rate = std::pow(10.f, static_cast<float>(decade));
      INFO("rate " << rate << ", " << steps << " steps");
      run(std::type_identity<fathom::trainer<net>>(), fathom::training{.batch = 2, .steps = steps, .rate = rate, .warmup = 0, .progress = false},
          decade <= -2);
      run(std::type_identity<fathom::trainer<net, fathom::sgd>>(),
          fathom::training_of<fathom::sgd_options>{.batch = 2, .steps = steps, .warmup = 0, .optimizer = {.rate = rate}, .progress = false}, decade <= -2);
    }
  // Weight decay alone multiplies each weight by 1 - 1e30 * 1e8, also those of the last step.
  run(std::type_identity<fathom::trainer<net>>(),
      fathom::training{.batch = 2, .steps = 1, .rate = 1e30f, .warmup = 0, .decay = 1e10f, .progress = false}, false);
  CHECK(ended > 40);
  CHECK(stopped > 0);
}

TEST_CASE("a run that stops names the first tensor whose weights are not finite", "[extremes]") {
  using net = of_gpt::net;
  const std::vector<token> tokens = fathom::test::some_tokens(200, 4);
  fathom::trainer<net> trainer({.batch = 2, .steps = 2, .progress = false});
  for (const fathom::tensor_row& row : fathom::table_of<net>(trainer.weights())) {
    if (row.name == "wpe.weight" || row.name == "wte.weight") continue;  // below, as a batch may not read their first rows
    auto numbers = tensor_of<net>(trainer.weights(), row);
    for (const float value : {limits::quiet_NaN(), limits::infinity()}) {
      numbers[0] = value;
      CHECK(fails_with([&] { return trainer.fit(tokens); }, "training stopped", "of 2; " + row.name + " is not finite; the last good checkpoint is none"));
      fathom::initialize<net>(trainer.weights(), 1);
    }
  }
  // A token that occurs nowhere: its embedding is in no loss of an untied head, but still is saved.
  using untied = of_llama::net;
  fathom::trainer<untied> other({.batch = 2, .steps = 1, .progress = false});
  std::vector<token> few = tokens;
  for (token& t : few) t %= 7;
  other.weights().embed.wte.data()[18 * untied::width] = limits::infinity();
  CHECK(fails_with([&] { return other.fit(few); }, "training stopped: weights are not finite after step 1 of 1; wte.weight is not finite"));
}

TEST_CASE("numbers that a type of files cannot hold are not saved as infinity, nor loaded as such", "[extremes]") {
  using net = of_llama::net;
  using exact = of_llama::oracle;
  const temporary_folder folder;
  const auto path = folder.path() / "a";
  auto weights = fathom::test::some_weights<net>();
  weights->out.lm_head.data()[5] = limits::max();  // BF16 ends at 3.3895e38
  CHECK(fails_with([&] { return fathom::save<fathom::bf16>(path, *weights), 0; }, "save: lm_head.weight has 3.40282e+38, which is infinite as BF16"));
  CHECK(fails_with([&] { return fathom::save_gguf(path, *weights, {.type = fathom::gguf_numbers::bf16}), 0; }, "save_gguf: ", "3.40282e+38", "infinite as BF16"));
  CHECK(fails_with([&] { return fathom::save_gguf(path, *weights, {.type = fathom::gguf_numbers::q8_0}), 0; }, "save_gguf: ", "3.40282e+38"));
  weights->out.lm_head.data()[5] = limits::quiet_NaN();
  CHECK(fails_with([&] { return fathom::save<std::int8_t>(path, *weights), 0; }, "save: lm_head.weight has nan at [0, 5]"));
  CHECK_FALSE(std::filesystem::exists(path));
  fathom::save<fathom::bf16>(path, *weights);  // NaN and infinity are what they are
  auto again = fathom::make<net::parameters>();
  fathom::load(path, *again);
  CHECK(std::isnan(again->out.lm_head.data()[5]));

  auto doubles = fathom::test::some_weights<exact>();
  doubles->out.lm_head.data()[5] = 1e300;
  CHECK(fails_with([&] { return fathom::save<float>(path, *doubles), 0; }, "save: lm_head.weight has 1e+300, which is infinite as F32"));
  fathom::save(path, *doubles);
  CHECK(fails_with([&] { return fathom::load(path, *again), 0; }, "lm_head.weight has 1e+300; expected numbers within the range of a float"));
  auto same = fathom::make<exact::parameters>();
  fathom::load(path, *same);
  CHECK(same->out.lm_head.data()[5] == 1e300);
}
