// Golden values: checks a backend against other implementations' results for small models (golden/README.md).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <fathom/core/memory.hpp>
#include <fathom/io/file.hpp>
#include <fathom/io/weights.hpp>
#include <fathom/model/attention_map.hpp>
#include <fathom/model/model.hpp>
#include <fathom/train/adamw.hpp>

#include "catch.hpp"
#include "json.hpp"

/// The elements of an expected tensor.
template <class T>
std::vector<T> read(const fathom::io::safetensors_file& file, std::string_view name) {
  const auto& tensor = file.at(name);
  std::vector<T> values(static_cast<std::size_t>(tensor.size()));
  if constexpr (std::is_same_v<T, fathom::token>) {
    REQUIRE(tensor.type == "I32");
    tensor.read(std::as_writable_bytes(std::span(values)));
  } else {
    fathom::io::copy_numbers(tensor, values.data());
  }
  return values;
}

/// The largest difference, relative to the largest expected value.
template <class A, class B>
double distance(const A& found, const B& expected) {
  REQUIRE(found.size() == expected.size());
  double difference = 0, scale = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double e = static_cast<double>(expected[i]);
    // Written so that NaN is the largest difference.
    if (!(std::abs(static_cast<double>(found[i]) - e) <= difference)) difference = std::abs(static_cast<double>(found[i]) - e);
    scale = std::max(scale, std::abs(e));
  }
  return difference / scale;
}

template <class Model, class Backend>
void meets_golden_values(double tolerance, bool with_steps = true) {
  using net = fathom::model<Model::c, Backend>;
  const auto folder = std::filesystem::path(FATHOM_GOLDEN) / Model::name;
  INFO("golden model " << Model::name);

  // The test's config must be the one used to compute the values.
  const fathom::json json = parsed(fathom::io::whole_file(folder / "config.json").text());
  REQUIRE(fathom::io::differences(Model::c, json.dump()).empty());

  auto weights = fathom::make<typename net::parameters>();
  auto gradients = fathom::make<typename net::parameters>();
  fathom::load(folder / "weights.safetensors", *weights);
  const fathom::io::safetensors_file expected(folder / "expected.safetensors");
  const auto inputs = read<fathom::token>(expected, "inputs"), targets = read<fathom::token>(expected, "targets");
  const auto sequences = json["batch"].as<fathom::index>(), tokens = json["tokens"].as<fathom::index>();
  const fathom::batch batch{inputs, targets, sequences, tokens};

  typename net::tape tape(sequences, tokens);
  net::forward(*weights, {inputs, {}, sequences, tokens}, tape);
  CHECK(distance(tape.logits(), read<double>(expected, "logits")) < tolerance);
  net::forward(*weights, batch, tape);
  CHECK(std::abs(tape.loss() / read<double>(expected, "loss")[0] - 1) < tolerance);

  net::backward(*weights, batch, tape, *gradients);
  int tensors = 0;
  double squares = 0;
  std::map<std::string, std::vector<double>> golden_gradients;
  net::visit(
      [&](std::string_view name, fathom::initial, const auto& gradient) {
        INFO("gradient of " << name);
        const auto& golden = golden_gradients[std::string(name)] = read<double>(expected, "grad." + std::string(name));
        CHECK(distance(gradient.span(), golden) < tolerance);
        for (const double g : golden) squares += g * g;
        ++tensors;
      },
      *fathom::on_host(*gradients));
  CHECK(tensors == std::count_if(expected.tensors().begin(), expected.tensors().end(),
                                 [](const auto& entry) { return entry.first.starts_with("grad."); }));

  // The last block's attention, [sequences, heads, queries, sources * keys].
  if constexpr (!net::body::depths.empty()) {
    const auto golden = read<double>(expected, "attention");
    std::vector<float> found;
    for (fathom::index s = 0; s < sequences; ++s) {
      const auto map = fathom::attention_map<net>(
          *weights, std::span(inputs).subspan(static_cast<std::size_t>(s * tokens), static_cast<std::size_t>(tokens)));
      found.insert(found.end(), map.weights.begin(), map.weights.end());
    }
    CHECK(distance(found, golden) < tolerance);
  }

  // Three clipped AdamW steps on the same batch, the first with the gradients from above.
  if (!with_steps) return;
  const auto& settings = json["adamw"];
  const auto rate = settings["lr"].as<float>();
  fathom::adamw<net> optimizer({.rate = rate,
                                .beta1 = settings["betas"][0].as<float>(),
                                .beta2 = settings["betas"][1].as<float>(),
                                .eps = settings["eps"].as<float>(),
                                .decay = settings["weight_decay"].as<float>(),
                                .clip = settings["clip"].as<float>()});
  const auto losses = read<double>(expected, "losses");
  REQUIRE(losses.size() == 3);
  for (std::size_t step = 0; step < 3; ++step) {
    if (step > 0) net::forward_backward(*weights, batch, tape, *gradients);
    INFO("step " << step);
    CHECK(std::abs(tape.loss() / losses[step] - 1) < tolerance);
    const double norm = optimizer.step(*weights, *gradients);
    if (step == 0) CHECK(std::abs(norm / std::sqrt(squares) - 1) < tolerance);
  }
  net::visit(
      [&](std::string_view name, fathom::initial, const auto& weight) {
        const auto golden = read<double>(expected, "after." + std::string(name));
        const auto& gradient = golden_gradients.at(std::string(name));
        double largest = 0;
        for (const double g : gradient) largest = std::max(largest, std::abs(g));
        // A step has length rate * m / sqrt(v), whatever the size of the gradient. So the gradient's error, `tolerance` of
        // the tensor's largest, matters relative to the gradient itself: if that is almost 0, as for the bias of
        // a key, which softmax ignores, only the length of the step is known. Weights are rounded to float.
        double worst = 0;
        for (std::size_t i = 0; i < golden.size(); ++i) {
          const double error = std::min(2.0, 2 * tolerance * largest / std::abs(gradient[i]));
          const double allowed = 3 * static_cast<double>(rate) * error + 4 * 0x1p-24 * std::abs(golden[i]) + 1e-12;
          const double ratio = std::abs(static_cast<double>(weight.span()[i]) - golden[i]) / allowed;
          if (!(ratio <= worst)) worst = ratio;
        }
        INFO(name << " after three steps");
        CHECK(worst <= 1);
      },
      *fathom::on_host(*weights));
}
