// Runs a layer on its own, for microbenchmarks and experiments.
#pragma once

#include <cmath>
#include <cstdint>

#include "fathom/backend/session.hpp"
#include "fathom/core/arena.hpp"
#include "fathom/core/memory.hpp"
#include "fathom/core/name.hpp"
#include "fathom/core/random.hpp"
#include "fathom/core/storage.hpp"
#include "fathom/layer/layer.hpp"

namespace fathom {

/// A layer (layer.hpp) with all the memory to run it: parameters and their gradients, an input, an output and their
/// gradients, a tape and scratch. The seed determines the initial parameters and inputs: normal(0, 1), weights scaled
/// by 1/sqrt(width). The views are writable.
template <class Layer, class Backend>
class standalone {
 public:
  using scalar = typename Backend::scalar;
  using session = fathom::session<Backend>;
  using parameters = typename Layer::template parameters<plain<scalar>>;
  static constexpr index width = Layer::width;
  static constexpr index source_rows = [] {
    if constexpr (requires { Layer::source_rows; })
      return Layer::source_rows;
    else
      return 0;
  }();

  standalone(index sequences, index tokens, std::uint64_t seed = 1, typename Backend::executor where = {})
      : weights(make<parameters>()),
        gradients(make<parameters>()),
        extent_{sequences, tokens},
        memory_block_(bytes_of<views>(extent_)),
        workspace_(session::bytes_of_workspaces(where, backend_traits<Backend>::workspace_bytes)),
        session_(where, workspace_.bytes(), backend_traits<Backend>::workspace_bytes),
        views_([&] {
          arena a(memory_block_.bytes().data());
          return views(a, extent_);
        }()),
        x(views_.x),
        y(views_.y),
        dy(views_.dy),
        dx(views_.dx),
        memory(views_.memory),
        dmemory(views_.dmemory) {
    random numbers(seed, stream_of("standalone"));
    const auto fill = [&](scalar* to, index count, double factor) {
      for (index i = 0; i < count; ++i) to[i] = static_cast<scalar>(factor * numbers.normal());
    };
    for (const matrix<scalar>& m : {x, memory, dy}) fill(m.data, m.rows * m.columns, 1);
    Layer::visit([&](no_path, initial, auto& w) { fill(w.data(), w.size, 1 / std::sqrt(static_cast<double>(width))); },
                 no_path{}, *weights);
  }

  /// y = x + Layer(x[, memory])
  void forward() {
    session_.run([&](const auto& on) {
      if constexpr (source_rows > 0)
        Layer::forward(on, *weights, extent_, x, memory, x, y, views_.tape);
      else
        Layer::forward(on, *weights, extent_, x, x, y, views_.tape);
    });
  }
  /// Computes dx and dmemory from dy, and adds to gradients. Call after forward. dx is the gradient through the layer
  /// alone, without the residual.
  void backward() {
    session_.run([&](const auto& on) {
      if constexpr (source_rows > 0)
        Layer::backward(on, *weights, extent_, x, memory, dy, dx, dmemory, views_.tape, *gradients, views_.scratch);
      else
        Layer::backward(on, *weights, extent_, x, dy, dx, views_.tape, *gradients, views_.scratch);
    });
  }

  owned<parameters> weights, gradients;

 private:
  struct views {
    matrix<scalar> x, memory, y, dy, dx, dmemory;
    typename Layer::template tape<scalar> tape;
    typename Layer::template scratch<scalar> scratch;
    constexpr views(arena& a, const extent& e)
        : x(a.take<scalar>(e.rows(), width)),
          memory(a.take<scalar>(e.rows() * source_rows, width)),
          y(a.take<scalar>(e.rows(), width)),
          dy(a.take<scalar>(e.rows(), width)),
          dx(a.take<scalar>(e.rows(), width)),
          dmemory(a.take<scalar>(e.rows() * source_rows, width)),
          tape(a, e),
          scratch(a, e) {}
  };
  extent extent_;
  buffer memory_block_, workspace_;
  session session_;
  views views_;

 public:
  matrix<scalar> x, y, dy, dx;      // [sequences * tokens, width]
  matrix<scalar> memory, dmemory;   // [sequences * tokens * source_rows, width]
};

}  // namespace fathom
