// The gradients of every single layer, element by element, by complex step (Squire and Trapp, SIAM Review 40, 1998):
// for a function f that is real on real numbers, Im f(x + ih) / h is f'(x) to machine precision, because nothing is
// subtracted and h may be as small as 1e-20. The reference backend computes with complex numbers, so a layer's forward
// checks its own backward. The cpu backend must then agree with the reference backend.
#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <cstddef>
#include <limits>
#include <ratio>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include <fathom/backend/cpu.hpp>
#include <fathom/backend/reference.hpp>
#include <fathom/core/arena.hpp>
#include <fathom/core/memory.hpp>
#include <fathom/core/random.hpp>
#include <fathom/layer/attention.hpp>
#include <fathom/layer/cross_entropy.hpp>
#include <fathom/layer/embedding.hpp>
#include <fathom/layer/feature_map.hpp>
#include <fathom/layer/rotary.hpp>
#include <fathom/layer/feature_memory.hpp>
#include <fathom/layer/gated_mlp.hpp>
#include <fathom/layer/joint_attention.hpp>
#include <fathom/layer/layer_norm.hpp>
#include <fathom/layer/linear.hpp>
#include <fathom/layer/mlp.hpp>
#include <fathom/layer/output_head.hpp>
#include <fathom/layer/rms_norm.hpp>
#include <fathom/layer/self_attention.hpp>
#include <fathom/layer/shortcut_attention.hpp>

#include "catch.hpp"

namespace fathom::test {
namespace {

// ---- Subjects --------------------------------------------------------------------------------------------------------
//
// A subject defines how to run a layer on some inputs:
//
//   parameters<S>, visit                 its tensors
//   inputs                               the matrices that it reads, and whether backward adds to their gradients or
//                                        overwrites them
//   result                               the matrix that it writes
//   views<T>(arena&, extent)             its tape and scratch
//   forward(on, p, in, y, views),  backward(on, p, in, dy, din, g, views)

using layers::slopes_of_heads;
constexpr extent shape{2, 5};  // two sequences of five tokens

enum class gradient { overwritten, added_to };
struct operand {
  index rows, columns;
  gradient how = gradient::overwritten;
};

template <class T>
struct no_views {
  constexpr no_views(arena&, const extent&) {}
};
struct no_parameters {
  template <class S>
  struct parameters {};
  template <class F, class Path, class... P>
  static constexpr void visit(const F&, const Path&, P&...) {}
};

template <class Layer>
struct tape_and_scratch {
  template <class T>
  struct views {
    typename Layer::template tape<T> tape;
    typename Layer::template scratch<T> scratch;
    constexpr views(arena& a, const extent& e) : tape(a, e), scratch(a, e) {}
  };
};

struct linear_map : linear<5, 7> {
  static constexpr std::array inputs{operand{10, 5}};
  static constexpr operand result{10, 7};
  template <class T>
  using views = no_views<T>;
  static void forward(const auto& on, const auto& p, const auto& in, const auto& y, const auto&) {
    linear<5, 7>::forward(on, p, in[0], y);
  }
  static void backward(const auto& on, const auto& p, const auto& in, const auto& dy, const auto& din, auto& g, const auto&) {
    backward_parameters(on, in[0], dy, g);
    backward_input(on, p, dy, din[0]);
  }
};

template <class Norm>
struct normalisation : Norm {
  static constexpr std::array inputs{operand{10, 6, gradient::added_to}};
  static constexpr operand result{10, 6};
  template <class T>
  using views = typename Norm::template tape<T>;
  static void forward(const auto& on, const auto& p, const auto& in, const auto& y, const auto& v) {
    Norm::forward(on, p, in[0], y, v);
  }
  static void backward(const auto& on, const auto& p, const auto& in, const auto& dy, const auto& din, auto& g, const auto& v) {
    Norm::backward(on, p, in[0], dy, din[0], v, g);
  }
};

struct activation : no_parameters {
  static constexpr std::array inputs{operand{10, 6}};
  static constexpr operand result{10, 6};
  template <class T>
  using views = no_views<T>;
  static void forward(const auto& on, const auto&, const auto& in, const auto& y, const auto&) { gelu_forward(on, in[0], y); }
  static void backward(const auto& on, const auto&, const auto& in, const auto& dy, const auto& din, auto&, const auto&) {
    gelu_backward(on, in[0], dy, din[0]);
  }
};

/// A layer of a block: y = residual + Layer(x). The residual's gradient is dy for every layer.
template <class Layer>
struct residual_layer : Layer, tape_and_scratch<Layer> {
  static constexpr index width = Layer::width;
  static constexpr std::array inputs{operand{10, width}, operand{10, width}};
  static constexpr operand result{10, width};
  template <class T>
  using views = typename tape_and_scratch<Layer>::template views<T>;
  static void forward(const auto& on, const auto& p, const auto& in, const auto& y, const auto& v) {
    Layer::forward(on, p, shape, in[0], in[1], y, v.tape);
  }
  static void backward(const auto& on, const auto& p, const auto& in, const auto& dy, const auto& din, auto& g, const auto& v) {
    Layer::backward(on, p, shape, in[0], dy, din[0], v.tape, g, v.scratch);
    copy(on, dy, din[1]);
  }
};
/// The same for a layer that also attends to the rows of a source, Rows for every token.
template <class Layer, index Rows>
struct attending_layer : Layer, tape_and_scratch<Layer> {
  static constexpr index width = Layer::width;
  static constexpr std::array inputs{operand{10, width}, operand{10, width}, operand{10 * Rows, width}};
  static constexpr operand result{10, width};
  template <class T>
  using views = typename tape_and_scratch<Layer>::template views<T>;
  static void forward(const auto& on, const auto& p, const auto& in, const auto& y, const auto& v) {
    Layer::forward(on, p, shape, in[0], in[2], in[1], y, v.tape);
  }
  static void backward(const auto& on, const auto& p, const auto& in, const auto& dy, const auto& din, auto& g, const auto& v) {
    Layer::backward(on, p, shape, in[0], in[2], dy, din[0], din[2], v.tape, g, v.scratch);
    copy(on, dy, din[1]);
  }
};

struct grouped_in_a_window : layers::attention_options {
  static constexpr index kv_heads = 2, head_width = 3, window = 2;
};
struct of_one_key_head : layers::attention_options {
  static constexpr index kv_heads = 1;
  static constexpr bool bias = false;
};
/// Rotates the pairs of each head by position: a linear map that depends on the position reveals errors of backward.
struct turned : layers::attention_options {
  struct rotation {
    template <class On>
    static void turn(const On& on, const extent& e, output<On> x, index head_width, index rows_per_position, double sign) {
      on.tasks(1, [&](index) {
        for (index i = 0; i < x.rows; ++i)
          for (index j = 0; j < x.columns; j += 2) {
            const index row = i / rows_per_position;
            const double position = static_cast<double>(e.start(row / e.tokens) + row % e.tokens);
            const double angle = sign * position / static_cast<double>(j % head_width + 1);
            const auto c = static_cast<scalar<On>>(std::cos(angle)), s = static_cast<scalar<On>>(std::sin(angle));
            const scalar<On> a = x(i, j), b = x(i, j + 1);
            x(i, j) = c * a - s * b;
            x(i, j + 1) = s * a + c * b;
          }
      });
    }
    template <index HeadWidth, class On>
    static void forward(const On& on, const extent& e, output<On> x, index rows_per_position) {
      turn(on, e, x, HeadWidth, rows_per_position, 1);
    }
    template <index HeadWidth, class On>
    static void backward(const On& on, const extent& e, output<On> dx, index rows_per_position) {
      turn(on, e, dx, HeadWidth, rows_per_position, -1);
    }
  };
};
struct rotary_halves : layers::attention_options {
  using rotation = layers::rotary<20, yarn_scaling<std::ratio<4>, 8, 2>>;
};
struct normed_heads : layers::attention_options {
  static constexpr index kv_heads = 1;
  static constexpr bool output_bias = false;
  using rotation = layers::rotary<20>;
  using head_norms = layers::head_norms_of<layer_norm<>, true>;
};
struct normed_queries_and_keys : layers::attention_options {
  using rotation = layers::rotary<20>;
  using head_norms = layers::head_norms_of<layer_norm<>, false>;
};
struct rotary_neighbours : layers::attention_options {
  static constexpr index kv_heads = 1;
  using rotation = layers::rotary<20, rotary_width<2>, adjacent_pairs>;
};
template <slopes_of_heads Slopes, index Window = 0>
struct sloped : layers::attention_options {
  static constexpr index kv_heads = 1, window = Window;
  static constexpr auto slopes = Slopes;
};
struct sloped_and_normed : normed_heads {
  static constexpr auto slopes = slopes_of_heads::learned;
};
struct of_all_positions : layers::attention_options {
  static constexpr bool causal = false;
};

template <class Feature>
struct features : Feature, tape_and_scratch<Feature> {
  static constexpr std::array inputs{operand{10, 6, gradient::added_to}};
  static constexpr operand result{10, 6};
  template <class T>
  using views = typename tape_and_scratch<Feature>::template views<T>;
  static void forward(const auto& on, const auto& p, const auto& in, const auto& y, const auto& v) {
    Feature::forward(on, p, in[0], y, v.tape);
  }
  static void backward(const auto& on, const auto& p, const auto& in, const auto& dy, const auto& din, auto& g, const auto& v) {
    Feature::backward(on, p, in[0], dy, din[0], v.tape, g, v.scratch);
  }
};

/// A residual source over depths 0 and 2 of a model whose states are the inputs.
struct memory_of_depths : layers::feature_memory<6, depth_set{2, 0}, layers::mlp_features<6, 5>> {
  using source = layers::feature_memory<6, depth_set{2, 0}, layers::mlp_features<6, 5>>;
  static constexpr std::array inputs{operand{10, 6, gradient::added_to}, operand{10, 6, gradient::added_to}};
  static constexpr operand result{20, 6};
  template <class T>
  using views = typename tape_and_scratch<source>::template views<T>;
  static auto states(const auto& in, const auto& din) {
    using T = std::remove_pointer_t<decltype(din[0].data)>;
    hidden_states<T, 3> hidden;
    for (const std::size_t n : {0u, 1u}) {
      hidden.states[2 * n] = const_cast<T*>(in[n].data);
      hidden.gradients[2 * n] = din[n].data;
    }
    hidden.rows = 10;
    hidden.width = 6;
    return hidden;
  }
  static void forward(const auto& on, const auto& p, const auto& in, const auto& y, const auto& v) {
    source::forward(on, p, shape, states(in, std::array<std::remove_cvref_t<decltype(y)>, 2>{}), y, v.tape);
  }
  static void backward(const auto& on, const auto& p, const auto& in, const auto& dy, const auto& din, auto& g, const auto& v) {
    source::backward(on, p, shape, states(in, din), dy, v.tape, g, v.scratch);
  }
};

constexpr token tokens[] = {3, 1, 4, 1, 5, 6, 2, 6, 5, 3};

template <bool Tied>
struct embedded_tokens : layers::embedding<7, 5, 6, Tied> {
  using layer = layers::embedding<7, 5, 6, Tied>;
  static constexpr std::array<operand, 0> inputs{};
  static constexpr operand result{10, 6};
  template <class T>
  using views = no_views<T>;
  static void forward(const auto& on, const auto& p, const auto&, const auto& y, const auto&) {
    layer::forward(on, p, shape, tokens, y);
  }
  static void backward(const auto& on, const auto&, const auto&, const auto& dy, const auto&, auto& g, const auto&) {
    layer::backward(on, shape, tokens, dy, g);
  }
};

template <bool Tied>
struct logits_of : layers::output_head<7, 6, Tied> {
  using layer = layers::output_head<7, 6, Tied>;
  template <class S>
  struct parameters {
    typename layer::template parameters<S> head;
    typename S::template head<7, 6> wte;  // with an untied head, it must get no gradient
  };
  template <class F, class Path, class... P>
  static constexpr void visit(const F& f, const Path& at, P&... p) {
    layer::visit(f, at, p.head...);
    f(at / "wte", initial::normal, p.wte...);
  }
  static constexpr std::array inputs{operand{10, 6}};
  static constexpr operand result{10, 7};
  template <class T>
  using views = typename tape_and_scratch<layer>::template views<T>;
  static void forward(const auto& on, const auto& p, const auto& in, const auto& y, const auto& v) {
    layer::forward(on, p.head, p.wte, in[0], y, v.tape);
  }
  static void backward(const auto& on, const auto& p, const auto& in, const auto& dy, const auto& din, auto& g, const auto& v) {
    layer::backward(on, p.head, p.wte, in[0], dy, din[0], v.tape, g.head, g.wte, v.scratch);
  }
};

/// The losses of logits with a soft cap, all scaled alike.
template <bool Tied>
struct losses_of_capped_logits : logits_of<Tied> {
  using layer = layers::output_head<7, 6, Tied, layers::layer_norm<6>, std::ratio<3, 2>>;
  static constexpr double uniform = 0.3;
  static constexpr token targets[] = {3, -1, 4, 1, -1, 0, 2, 6, 5, 3};
  static constexpr std::array inputs{operand{10, 6}};
  static constexpr operand result{10, 1};
  template <class T>
  struct views {
    typename layer::template tape<T> tape;
    typename layer::template scratch<T> scratch;
    matrix<T> logits;
    layers::cross_entropy::tape<T> loss;
    constexpr views(arena& a, const extent& e) : tape(a, e), scratch(a, e), logits(a.take<T>(10, 7)), loss(a, e) {}
  };
  static void forward(const auto& on, const auto& p, const auto& in, const auto& y, const auto& v) {
    layer::forward(on, p.head, p.wte, in[0], v.logits, v.tape);
    layers::cross_entropy::forward(on, v.logits, targets, y.data, v.loss);
  }
  static void backward(const auto& on, const auto& p, const auto& in, const auto&, const auto& din, auto& g, const auto& v) {
    layers::cross_entropy::backward(on, v.logits, targets, uniform, v.loss, layers::soft_cap_of<layer>());
    layer::backward(on, p.head, p.wte, in[0], v.logits, din[0], v.tape, g.head, g.wte, v.scratch);
  }
};

/// The loss of every row, all scaled alike: `uniform` is the only gradient of the result that backward accepts.
struct loss : no_parameters {
  static constexpr double uniform = 0.3;
  static constexpr token targets[] = {3, -1, 4, 1, -1, 0, 2, 6, 5, 3};
  static constexpr std::array inputs{operand{10, 7}};
  static constexpr operand result{10, 1};
  template <class T>
  using views = layers::cross_entropy::tape<T>;
  static void forward(const auto& on, const auto&, const auto& in, const auto& y, const auto& v) {
    layers::cross_entropy::forward(on, in[0], targets, y.data, v);
  }
  static void backward(const auto& on, const auto&, const auto& in, const auto&, const auto& din, auto&, const auto& v) {
    copy(on, in[0], din[0]);
    layers::cross_entropy::backward(on, din[0], targets, uniform, v);
  }
};

// ---- Running them ----------------------------------------------------------------------------------------------------

/// A subject with all its data on a backend. All lists of numbers are in the order of `inputs`, and of visit.
template <class Subject, class Backend>
class laboratory {
 public:
  using T = typename Backend::scalar;
  static constexpr std::size_t N = Subject::inputs.size();

  laboratory()
      : weights_(make<parameters>()), gradients_(make<parameters>()), memory_(bytes_of<views>(shape)), views_([&] {
          arena a(memory_.bytes().data());
          return views(a, shape);
        }()) {
    for (const operand& o : Subject::inputs) inputs.emplace_back(size(o)), input_gradients.emplace_back(size(o));
    result.resize(size(Subject::result));
    result_gradient.resize(size(Subject::result));
    Subject::visit([&](const path& name, initial, auto& w) { weights.push_back(w.span()), names.emplace_back(name.view()); },
                   path{}, *weights_);
    Subject::visit([&](const path&, initial, auto& g) { gradients.push_back(g.span()); }, path{}, *gradients_);
  }

  std::vector<std::vector<T>> inputs, input_gradients;
  std::vector<T> result, result_gradient;
  std::vector<std::string> names;
  std::vector<std::span<T>> weights, gradients;

  void forward() {
    where_.run([&](const auto& on) {
      Subject::forward(on, *weights_, matrices<const T>(inputs), matrix_of<T>(result, Subject::result), views_);
    });
  }
  void backward() {
    where_.run([&](const auto& on) {
      Subject::backward(on, *weights_, matrices<const T>(inputs), matrix_of<T>(result_gradient, Subject::result),
                        matrices<T>(input_gradients), *gradients_, views_);
    });
  }

 private:
  using parameters = typename Subject::template parameters<plain<T>>;
  using views = typename Subject::template views<T>;
  static std::size_t size(const operand& o) { return static_cast<std::size_t>(o.rows * o.columns); }
  template <class U>
  static matrix<U> matrix_of(std::vector<T>& numbers, const operand& o) {
    return {numbers.data(), o.rows, o.columns};
  }
  template <class U>
  static std::array<matrix<U>, N> matrices(std::vector<std::vector<T>>& all) {
    std::array<matrix<U>, N> list;
    for (std::size_t i = 0; i < N; ++i) list[i] = matrix_of<U>(all[i], Subject::inputs[i]);
    return list;
  }

  owned<parameters> weights_, gradients_;
  buffer memory_;
  views views_;
  typename Backend::executor where_{};
};

/// Fills in random numbers, the same on every backend. Gradients that backward must overwrite start as NaN.
template <class Lab, class Subject>
void prepare(Lab& lab, Subject) {
  random numbers(1, stream_of("gradients"));
  const auto fill = [&](auto& list) {
    for (auto& x : list) x = numbers.normal();
  };
  for (auto& input : lab.inputs) fill(input);
  for (auto& weight : lab.weights) fill(weight);
  fill(lab.result_gradient);
  if constexpr (requires { Subject::uniform; })
    std::fill(lab.result_gradient.begin(), lab.result_gradient.end(), Subject::uniform);
  for (auto& gradient : lab.gradients) fill(gradient);
  for (std::size_t i = 0; i < lab.inputs.size(); ++i)
    if (fill(lab.input_gradients[i]); Subject::inputs[i].how == gradient::overwritten)
      std::fill(lab.input_gradients[i].begin(), lab.input_gradients[i].end(), std::numeric_limits<double>::quiet_NaN());
}

/// Checks that the numbers agree to `tolerance` of the largest expected one.
template <class A, class B>
void check_agree(const std::string& what, const A& found, const B& expected, double tolerance) {
  REQUIRE(found.size() == expected.size());
  double difference = 0, largest = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (const double d = std::abs(found[i] - expected[i]); !(d <= difference)) difference = d;  // NaN is the largest
    largest = std::max(largest, std::abs(expected[i]));
  }
  INFO(what << ": they differ by " << difference << ", the largest is " << largest);
  CHECK(difference <= tolerance * largest);
}

using complex = std::complex<double>;

}  // namespace

TEST_CASE("an epsilon is added to the variance", "[layer]") {
  using norm = layers::layer_norm<4, std::ratio<3, 4>>;
  constexpr double x[] = {1, 1, 2, 2};  // a variance of 1 / 4
  norm::parameters<plain<double>> p;
  for (index j = 0; j < 4; ++j) {
    p.weight.data()[j] = 2;
    p.bias.data()[j] = 10;
  }
  std::array<double, 4> y{};
  alignas(alignment) std::byte memory[2 * alignment];
  arena a(memory);
  const norm::tape<double> tape(a, extent{1, 1});
  norm::forward(reference::context<double>(), p, matrix<const double>(x, 1, 4), matrix<double>(y.data(), 1, 4), tape);
  CHECK(y == std::array<double, 4>{9, 9, 11, 11});
  STATIC_REQUIRE(layers::layer_norm<4>::epsilon == 1e-5);
}

TEST_CASE("an RMS norm adds its epsilon to the mean square, and its offset to the gain", "[layer]") {
  using norm = layers::rms_norm<4, std::ratio<3, 4>, 1>;
  constexpr double x[] = {1, -2, 2, 4};  // a mean square of 25 / 4
  norm::parameters<plain<double>> p;
  for (index j = 0; j < 4; ++j) p.weight.data()[j] = static_cast<double>(j);
  std::array<double, 4> y{};
  alignas(alignment) std::byte memory[alignment];
  arena a(memory);
  const norm::tape<double> tape(a, extent{1, 1});
  norm::forward(reference::context<double>(), p, matrix<const double>(x, 1, 4), matrix<double>(y.data(), 1, 4), tape);
  for (std::size_t j = 0; j < 4; ++j) CHECK(std::abs(y[j] - x[j] / std::sqrt(7.0) * (1 + static_cast<double>(j))) < 1e-14);
  STATIC_REQUIRE(layers::rms_norm<4>::epsilon == 1e-5);
  STATIC_REQUIRE(layers::rms_norm<4, std::micro>::epsilon == 1e-6);
  // Plain at the start.
  const auto start_of = []<class Norm>(std::type_identity<Norm>) {
    typename Norm::template parameters<plain<double>> tensors;
    initial start{};
    std::vector<std::string> names;
    Norm::visit([&](const path& name, initial how, auto&) { names.emplace_back(name.view()), start = how; }, path{}, tensors);
    CHECK(names == std::vector<std::string>{"weight"});
    return start;
  };
  CHECK(start_of(std::type_identity<layers::rms_norm<4>>{}) == initial::one);
  CHECK(start_of(std::type_identity<layers::rms_norm<4, std::micro, 1>>{}) == initial::zero);
}

TEMPLATE_TEST_CASE("gradients of layers", "[layer]", linear_map, normalisation<layers::layer_norm<6>>,
                   (normalisation<layers::layer_norm<6, std::ratio<1, 4>>>), normalisation<layers::rms_norm<6>>,
                   (normalisation<layers::rms_norm<6, std::ratio<1, 4>, 1>>), activation, (residual_layer<layers::mlp<6, 10>>),
                   (residual_layer<layers::mlp<6, 10, silu, false>>), (residual_layer<layers::gated_mlp<6, 9>>),
                   (residual_layer<layers::gated_mlp<6, 9, gelu_erf, true>>), (residual_layer<self_attention<12, 3>>),
                   (attending_layer<shortcut_attention<8, 2, 3>, 3>), (attending_layer<shortcut_attention<6, 1, 1>, 1>),
                   (attending_layer<joint_attention<8, 2, 2>, 2>),
                   (residual_layer<layers::attention<10, 4, grouped_in_a_window, layers::own_context>>),
                   (attending_layer<layers::attention<10, 4, grouped_in_a_window, layers::own_context, layers::rows_of_source<2>>, 2>),
                   (attending_layer<layers::attention<8, 4, of_one_key_head, layers::rows_of_source<3>>, 3>),
                   (residual_layer<layers::attention<8, 4, of_one_key_head, layers::own_context>>),
                   (attending_layer<layers::attention<8, 2, turned, layers::own_context, layers::rows_of_source<1>>, 1>),
                   (residual_layer<layers::attention<8, 2, turned, layers::own_context>>),
                   (residual_layer<layers::attention<8, 2, rotary_halves, layers::own_context>>),
                   (residual_layer<layers::attention<8, 2, normed_heads, layers::own_context>>),
                   (residual_layer<layers::attention<8, 2, normed_queries_and_keys, layers::own_context>>),
                   (attending_layer<layers::attention<8, 2, normed_heads, layers::rows_of_source<3>>, 3>),
                   (attending_layer<layers::attention<8, 2, normed_heads, layers::own_context, layers::rows_of_source<1>>, 1>),
                   (residual_layer<layers::attention<8, 2, rotary_neighbours, layers::own_context>>),
                   (attending_layer<layers::attention<8, 2, rotary_neighbours, layers::own_context, layers::rows_of_source<1>>, 1>),
                   (residual_layer<layers::attention<6, 2, of_all_positions, layers::own_context>>),
                   (residual_layer<layers::attention<6, 3, sloped<slopes_of_heads::alibi>, layers::own_context>>),
                   (residual_layer<layers::attention<6, 3, sloped<slopes_of_heads::learned, 3>, layers::own_context>>),
                   (attending_layer<layers::attention<6, 3, sloped<slopes_of_heads::learned>, layers::rows_of_source<3>>, 3>),
                   (attending_layer<layers::attention<6, 2, sloped<slopes_of_heads::alibi, 2>, layers::own_context, layers::rows_of_source<2>>, 2>),
                   (attending_layer<layers::attention<6, 3, sloped<slopes_of_heads::learned>, layers::own_context, layers::rows_of_source<2>>, 2>),
                   (residual_layer<layers::attention<8, 2, sloped_and_normed, layers::own_context>>),
                   features<layers::identity_features<6>>,
                   features<layers::linear_features<6>>, (features<layers::mlp_features<6, 9>>), memory_of_depths,
                   embedded_tokens<true>, embedded_tokens<false>, logits_of<true>, logits_of<false>, loss,
                   losses_of_capped_logits<true>, losses_of_capped_logits<false>) {
  laboratory<TestType, backend::reference<double>> oracle;
  prepare(oracle, TestType{});
  const auto before = oracle.input_gradients;
  std::vector<std::vector<double>> weights_before;
  for (const auto& g : oracle.gradients) weights_before.emplace_back(g.begin(), g.end());
  oracle.forward();
  oracle.backward();

  SECTION("agree with the complex step") {
    laboratory<TestType, backend::reference<complex>> lab;
    prepare(lab, TestType{});
    lab.forward();
    check_agree("result", lab.result, oracle.result, 1e-14);

    // The derivative of sum(result_gradient * result) with respect to one number.
    constexpr double h = 1e-20;
    const auto derivative = [&](complex& x) {
      const complex value = x;
      x += complex(0, h);
      lab.forward();
      x = value;
      double sum = 0;
      for (std::size_t i = 0; i < lab.result.size(); ++i) sum += oracle.result_gradient[i] * lab.result[i].imag();
      return sum / h;
    };
    const auto check = [&](const std::string& what, auto& numbers, std::span<const double> found, bool adds,
                           const std::vector<double>& there) {
      std::vector<double> expected, gradients(found.begin(), found.end());
      for (complex& x : numbers) expected.push_back(derivative(x));
      for (std::size_t i = 0; i < gradients.size() && adds; ++i) gradients[i] -= there[i];
      if (std::all_of(expected.begin(), expected.end(), [](double d) { return d == 0; }))
        check_agree(what + ", without influence", found, there, 0);
      else
        check_agree(what, gradients, expected, 1e-10);
    };
    for (std::size_t i = 0; i < lab.inputs.size(); ++i)
      check("input " + std::to_string(i), lab.inputs[i], oracle.input_gradients[i],
            TestType::inputs[i].how == gradient::added_to, before[i]);
    for (std::size_t i = 0; i < lab.weights.size(); ++i)
      check(lab.names[i], lab.weights[i], oracle.gradients[i], true, weights_before[i]);
  }

  SECTION("are the same on the cpu backend") {
    laboratory<TestType, backend::cpu<double>> lab;
    prepare(lab, TestType{});
    lab.forward();
    lab.backward();
    check_agree("result", lab.result, oracle.result, 1e-13);
    for (std::size_t i = 0; i < lab.inputs.size(); ++i)
      check_agree("input " + std::to_string(i), lab.input_gradients[i], oracle.input_gradients[i], 1e-12);
    for (std::size_t i = 0; i < lab.weights.size(); ++i)
      check_agree(lab.names[i], lab.gradients[i], oracle.gradients[i], 1e-12);
  }
}

}  // namespace fathom::test
