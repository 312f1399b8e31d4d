// The golden models: values that an independent PyTorch implementation computed in float64 (golden/README.md). Every
// backend must meet the logits, attention, loss, every gradient, and three AdamW steps.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <fathom/backend/cpu.hpp>
#include <fathom/backend/reference.hpp>
#include <fathom/io/weights.hpp>
#include <fathom/model/model.hpp>

#include "catch.hpp"

namespace {

using fathom::config;
using fathom::feature_map;
using fathom::placement;

constexpr config base{.vocab = 61, .context = 16, .width = 32, .depth = 4, .heads = 4};
constexpr config with(config c, fathom::shortcut s) {
  c.shortcut = s;
  return c;
}

struct gpt {
  static constexpr const char* name = "gpt";
  static constexpr config c{.vocab = 61, .context = 16, .width = 32, .depth = 3, .heads = 4};
};
struct gpt_untied {
  static constexpr const char* name = "gpt_untied";
  static constexpr config c{.vocab = 61, .context = 24, .width = 32, .depth = 2, .heads = 2, .tied = false};
};
struct after_mlp {
  static constexpr const char* name = "after_mlp";
  static constexpr config c{
      .vocab = 61, .context = 16, .width = 32, .depth = 5, .heads = 4, .shortcut = {.depths = {4, 2}}};
};
struct after_mlp_embedding {
  static constexpr const char* name = "after_mlp_embedding";
  static constexpr config c = with(base, {.depths = {0, 1, 3}, .hidden = 64});
};
struct joint_identity {
  static constexpr const char* name = "joint_identity";
  static constexpr config c =
      with(base, {.depths = {1, 2}, .features = feature_map::identity, .placement = placement::joint});
};
struct joint_mlp {
  static constexpr const char* name = "joint_mlp";
  static constexpr config c = with(base, {.depths = {2}, .placement = placement::joint});
};
struct replace_linear {
  static constexpr const char* name = "replace_linear";
  static constexpr config c = with(base, {.depths = fathom::all_depths,
                                          .features = feature_map::linear,
                                          .placement = placement::replace_self_attention});
};

/// The numbers of a tensor of the expected values.
template <class T>
std::vector<T> read(const fathom::io::safetensors_file& file, std::string_view name) {
  const auto& tensor = file.at(name);
  std::vector<T> values(static_cast<std::size_t>(tensor.size()));
  if constexpr (std::is_same_v<T, fathom::token>) {
    REQUIRE(tensor.type == "I32");
    std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
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
    // Written so that a NaN is the largest of differences.
    if (!(std::abs(static_cast<double>(found[i]) - e) <= difference)) difference = std::abs(static_cast<double>(found[i]) - e);
    scale = std::max(scale, std::abs(e));
  }
  return difference / scale;
}

template <class Model, class Backend>
void meets_golden_values(double tolerance) {
  using net = fathom::model<Model::c, Backend>;
  const auto folder = std::filesystem::path(FATHOM_GOLDEN) / Model::name;
  INFO("golden model " << Model::name);

  // The config that the test states is the one that the values were computed with.
  const auto json = nlohmann::json::parse(std::ifstream(folder / "config.json"));
  REQUIRE(fathom::io::differences(fathom::io::to_json(Model::c), json).empty());

  auto weights = fathom::make<typename net::parameters>();
  auto gradients = fathom::make<typename net::parameters>();
  fathom::load(folder / "weights.safetensors", *weights);
  const fathom::io::safetensors_file expected(folder / "expected.safetensors");
  const auto inputs = read<fathom::token>(expected, "inputs"), targets = read<fathom::token>(expected, "targets");
  const fathom::index sequences = json["batch"], tokens = json["tokens"];
  const fathom::batch batch{inputs, targets, sequences, tokens};

  typename net::tape tape(sequences, tokens);
  net::forward(*weights, batch, tape);
  CHECK(distance(tape.logits(), read<double>(expected, "logits")) < tolerance);
  CHECK(std::abs(tape.loss() / read<double>(expected, "loss")[0] - 1) < tolerance);

  net::backward(*weights, batch, tape, *gradients);
  int tensors = 0;
  net::visit(
      [&](std::string_view name, fathom::initial, const auto& gradient) {
        INFO("gradient of " << name);
        CHECK(distance(gradient.span(), read<double>(expected, "grad." + std::string(name))) < tolerance);
        ++tensors;
      },
      *gradients);
  CHECK(tensors == std::count_if(expected.tensors().begin(), expected.tensors().end(),
                                 [](const auto& entry) { return entry.first.starts_with("grad."); }));
}

}  // namespace

TEMPLATE_TEST_CASE("reference meets the golden values", "[golden]", gpt, gpt_untied, after_mlp, after_mlp_embedding,
                   joint_identity, joint_mlp, replace_linear) {
  SECTION("in double") { meets_golden_values<TestType, fathom::backend::reference<double>>(1e-6); }
  SECTION("in float") { meets_golden_values<TestType, fathom::backend::reference<float>>(1e-4); }
}

TEMPLATE_TEST_CASE("cpu meets the golden values", "[golden]", gpt, gpt_untied, after_mlp, after_mlp_embedding,
                   joint_identity, joint_mlp, replace_linear) {
  SECTION("in double") { meets_golden_values<TestType, fathom::backend::cpu<double>>(1e-6); }
  SECTION("in float") { meets_golden_values<TestType, fathom::backend::cpu<float>>(1e-4); }
}
