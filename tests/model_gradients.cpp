// The gradients of whole models, for every parameter, by complex step (see layer_gradients.cpp): backward of the
// reference backend against forward of the same model over complex numbers.
#include <algorithm>
#include <cmath>
#include <complex>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fathom/backend/cpu.hpp>
#include <fathom/backend/reference.hpp>
#include <fathom/core/memory.hpp>
#include <fathom/core/random.hpp>
#include <fathom/model/initialize.hpp>
#include <fathom/model/model.hpp>

#include "catch.hpp"

namespace fathom::test {
namespace {

using complex = std::complex<double>;

// Every placement and every feature map, tied and untied, one block and several, with the embedding as a depth and without.
constexpr config small{.vocab = 7, .context = 6, .width = 6, .depth = 3, .heads = 2, .hidden = 10};
constexpr config with(config c, shortcut s) {
  c.shortcut = s;
  return c;
}
struct plain_gpt {
  static constexpr config c{.vocab = 7, .context = 6, .width = 6, .depth = 2, .heads = 3, .tied = false};
};
struct after_mlp {
  static constexpr config c = with(small, {.depths = {2, 0}, .hidden = 4});
};
struct after_zero_init {
  static constexpr config c = with(small, {.depths = all_depths, .features = feature_map::linear, .zero_init = true});
};
struct replace_identity {
  static constexpr config c =
      with(small, {.depths = {1}, .features = feature_map::identity, .placement = placement::replace_self_attention});
};
struct joint_linear_untied {
  static constexpr config c{
      .vocab = 7,
      .context = 6,
      .width = 6,
      .depth = 3,
      .heads = 2,
      .tied = false,
      .shortcut = {.depths = {0, 1, 2}, .features = feature_map::linear, .placement = placement::joint}};
};
struct one_block_after {
  static constexpr config c{.vocab = 7, .context = 6, .width = 6, .depth = 1, .heads = 2, .shortcut = {.depths = {0}}};
};
struct one_block_replace {
  static constexpr config c{.vocab = 7,
                            .context = 6,
                            .width = 6,
                            .depth = 1,
                            .heads = 2,
                            .shortcut = {.depths = {0}, .placement = placement::replace_self_attention}};
};
struct one_block_joint {
  static constexpr config c{.vocab = 7,
                            .context = 6,
                            .width = 6,
                            .depth = 1,
                            .heads = 1,
                            .shortcut = {.depths = {0}, .hidden = 3, .placement = placement::joint}};
};

// Other families, and their shortcuts.
constexpr config of_family(fathom::family f, shortcut s) {
  config c{.vocab = 7, .context = 6, .width = 8, .depth = 3, .heads = 2, .hidden = 5, .tied = true, .shortcut = s, .family = f, .kv_heads = 1, .head_width = 4};
  if (f == family::gpt_neox) c.kv_heads = 0;
  if (f == family::gemma3) c.window = 2, c.window_pattern = 2, c.score_width = 3;
  return c;
}
struct gemma3_plain {
  static constexpr config c = of_family(family::gemma3, {});
};
struct llama_after {
  static constexpr config c = of_family(family::llama, {.depths = {0, 2}, .hidden = 4});
};
struct gemma3_joint {
  static constexpr config c = of_family(family::gemma3, {.depths = {1, 2}, .features = feature_map::linear, .placement = placement::joint});
};
struct gemma3_replace {
  static constexpr config c = of_family(family::gemma3, {.depths = {1}, .features = feature_map::identity, .placement = placement::replace_self_attention});
};
struct olmo2_joint {
  static constexpr config c = of_family(family::olmo2, {.depths = {0, 1}, .hidden = 3, .placement = placement::joint});
};
struct gpt_neox_joint {
  static constexpr config c = of_family(family::gpt_neox, {.depths = {1}, .hidden = 3, .placement = placement::joint});
};
struct gpt_neox_replace {
  static constexpr config c = of_family(family::gpt_neox, {.depths = {0, 2}, .features = feature_map::linear, .placement = placement::replace_self_attention});
};
struct gpt_neox_after {
  static constexpr config c = of_family(family::gpt_neox, {.depths = {2}, .hidden = 4});
};

// Two sequences of five tokens, in a context of six; some targets do not count.
constexpr token inputs[] = {3, 1, 4, 1, 5, 6, 2, 6, 5, 3};
constexpr token targets[] = {1, 4, -1, 5, 6, 2, -1, -1, 3, 0};
const batch examples{inputs, targets, 2, 5};

/// The tensors of some parameters, in the order of visit.
template <class Parameters>
auto tensors_of(Parameters& parameters) {
  using T = typename Parameters::model::scalar;
  std::vector<std::pair<std::string, std::span<T>>> list;
  Parameters::model::visit([&](std::string_view name, initial, auto& t) { list.emplace_back(std::string(name), t.span()); },
                           parameters);
  return list;
}

/// Weights with which no term vanishes: biases and gains are random too. A zeroed projection stays zero.
template <class Model>
owned<typename Model::parameters> some_weights() {
  auto weights = make<typename Model::parameters>();
  Model::visit(
      [](std::string_view name, initial start, auto& tensor) {
        random numbers(5, stream_of(name));
        for (auto& w : tensor.span()) w = (start == initial::one ? 1.0 : 0.0) + 0.4 * numbers.normal();
        if (start == initial::zero && tensor.rank == 2)
          for (auto& w : tensor.span()) w = 0.0;
      },
      *weights);
  return weights;
}

template <class Model>
owned<typename Model::parameters> gradients_of(const typename Model::parameters& weights, double scale = 1) {
  auto gradients = make<typename Model::parameters>();
  typename Model::tape tape(2, 6);
  Model::forward(weights, examples, tape);
  Model::backward(weights, examples, tape, *gradients, scale);
  return gradients;
}

/// The largest difference of two tensors, and the largest magnitude of the second.
std::pair<double, double> difference(std::span<const double> found, std::span<const double> expected) {
  double most = 0, largest = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (const double d = std::abs(found[i] - expected[i]); !(d <= most)) most = d;  // NaN is the largest
    largest = std::max(largest, std::abs(expected[i]));
  }
  return {most, largest};
}

}  // namespace

TEMPLATE_TEST_CASE("gradients of models agree with the complex step", "[model]", plain_gpt, after_mlp, after_zero_init,
                   replace_identity, joint_linear_untied, one_block_after, one_block_replace, one_block_joint, gemma3_plain, llama_after,
                   gemma3_joint, gemma3_replace, olmo2_joint, gpt_neox_joint, gpt_neox_replace, gpt_neox_after) {
  using real_net = model<TestType::c, backend::reference<double>>;
  using net = model<TestType::c, backend::reference<complex>>;
  const auto real_weights = some_weights<real_net>();
  const auto weights = some_weights<net>();
  const auto gradients = gradients_of<real_net>(*real_weights);
  const auto found = tensors_of(*gradients);
  const auto tensors = tensors_of(*weights);
  REQUIRE(found.size() == tensors.size());

  typename net::tape tape(2, 6);
  constexpr double h = 1e-20;
  const auto derivative = [&] {  // along what the imaginary parts of the weights point to
    net::forward(*weights, examples, tape);
    return tape.loss().imag() / h;
  };

  // One number at a time. Gradients have magnitudes of 0.01 to 1; a key's bias has none, because softmax ignores it.
  for (std::size_t n = 0; n < tensors.size(); ++n) {
    std::vector<double> expected;
    for (complex& w : tensors[n].second) {
      w += complex(0, h);
      expected.push_back(derivative());
      w = w.real();
    }
    const auto [most, largest] = difference(found[n].second, expected);
    INFO(tensors[n].first << ": they differ by " << most << ", the largest is " << largest);
    CHECK(most <= 1e-10 * std::max(largest, 1e-3));
  }

  // All numbers at once, along a random direction.
  random numbers(6, 0);
  double expected = 0, size = 0;
  for (std::size_t n = 0; n < tensors.size(); ++n)
    for (std::size_t i = 0; i < tensors[n].second.size(); ++i) {
      const double direction = numbers.normal();
      tensors[n].second[i] += complex(0, h * direction);
      expected += direction * found[n].second[i];
      size += std::abs(direction * found[n].second[i]);
    }
  CHECK(std::abs(derivative() - expected) <= 1e-12 * size);
}

TEMPLATE_TEST_CASE("gradients of models are the same on the cpu backend", "[model]", after_zero_init, one_block_joint) {
  // Golden values cover the others (golden.cpp).
  using oracle = model<TestType::c, backend::reference<double>>;
  using net = model<TestType::c, backend::cpu<double>>;
  const auto expected_owner = gradients_of<oracle>(*some_weights<oracle>());
  const auto found_owner = gradients_of<net>(*some_weights<net>());
  const auto expected = tensors_of(*expected_owner), found = tensors_of(*found_owner);
  for (std::size_t n = 0; n < expected.size(); ++n) {
    const auto [most, largest] = difference(found[n].second, expected[n].second);
    INFO(expected[n].first << ": they differ by " << most << ", the largest is " << largest);
    CHECK(most <= 1e-12 * std::max(largest, 1e-3));
  }
}

TEST_CASE("a zeroed projection has a gradient, and hides the features behind it", "[model]") {
  using net = model<after_zero_init::c, backend::reference<double>>;
  const auto gradients = gradients_of<net>(*some_weights<net>());
  for (const auto& [name, numbers] : tensors_of(*gradients)) {
    const bool any = std::any_of(numbers.begin(), numbers.end(), [](double g) { return g != 0; });
    INFO(name);
    CHECK(any == (!name.starts_with("shortcut.") || name.starts_with("shortcut.attn.c_proj.")));
  }
}

TEST_CASE("backward adds to the gradients, scaled", "[model]") {
  using net = model<after_mlp::c, backend::reference<double>>;
  const auto weights = some_weights<net>();
  const auto once_owner = gradients_of<net>(*weights), scaled_owner = gradients_of<net>(*weights, 0.25);
  auto twice_owner = make<net::parameters>();
  net::tape tape(2, 6);
  for (int i = 0; i < 2; ++i) {
    net::forward(*weights, examples, tape);
    net::backward(*weights, examples, tape, *twice_owner);
  }
  const auto once = tensors_of(*once_owner), twice = tensors_of(*twice_owner), scaled = tensors_of(*scaled_owner);
  for (std::size_t n = 0; n < once.size(); ++n) {
    INFO(once[n].first);
    for (std::size_t i = 0; i < once[n].second.size(); ++i) {
      // Sums are accumulated, so the second time they are rounded differently.
      CHECK(std::abs(twice[n].second[i] - 2 * once[n].second[i]) <= 1e-14);
      CHECK(std::abs(scaled[n].second[i] - 0.25 * once[n].second[i]) <= 1e-14);
    }
  }
}

TEST_CASE("targets that do not count leave no trace", "[model]") {
  using net = model<after_mlp::c, backend::reference<double>>;
  const auto weights = some_weights<net>();
  net::tape tape(2, 6);

  // None counts: no gradient, and a loss that is not a number.
  const std::vector<token> none(10, -1);
  auto gradients = make<net::parameters>();
  net::forward(*weights, {inputs, none, 2, 5}, tape);
  CHECK(tape.counted() == 0);
  CHECK(std::isnan(tape.loss()));
  net::backward(*weights, {inputs, none, 2, 5}, tape, *gradients);
  for (const auto& [name, numbers] : tensors_of(*gradients))
    CHECK(std::all_of(numbers.begin(), numbers.end(), [](double g) { return g == 0; }));

  // The loss is the mean over counted targets: of both sequences together, or of each, weighted by their number.
  net::forward(*weights, examples, tape);
  CHECK(tape.counted() == 7);
  const double both = tape.loss();
  const auto losses = tape.losses();
  double sum = 0;
  for (std::size_t i = 0; i < 10; ++i) {
    CHECK((losses[i] == 0) == (targets[i] < 0));
    sum += losses[i];
  }
  CHECK(both == Approx(sum / 7).epsilon(1e-14));
  double by_sequence = 0;
  for (const std::size_t s : {0u, 1u}) {
    net::forward(*weights, {std::span(inputs).subspan(5 * s, 5), std::span(targets).subspan(5 * s, 5), 1, 5}, tape);
    by_sequence += tape.loss() * static_cast<double>(tape.counted());
  }
  CHECK(both == Approx(by_sequence / 7).epsilon(1e-14));
}

}  // namespace fathom::test
