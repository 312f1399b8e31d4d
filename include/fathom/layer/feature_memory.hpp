// The paper's residual source: learned features of selected depths, concatenated to one memory (Verma and Pilanci,
// arXiv 2409.10870).
#pragma once

#include <array>
#include <cstdint>
#include <utility>

#include "fathom/layer/feature_map.hpp"
#include "fathom/layer/part.hpp"
#include "fathom/layer/residual_source.hpp"

namespace fathom::layers {

/// Row t * D + n of the memory [rows * D, E] is Feature(X_s)[t], where s is the n-th of the D selected depths. Every
/// depth has its own weights. The order is position-major, so that a query sees a prefix: the features of all depths up
/// to its position.
template <index E, depth_set Depths, class Feature>
struct feature_memory {
  static constexpr depth_set depths = Depths;
  static constexpr index rows_per_token = Depths.count();
  static constexpr std::size_t D = static_cast<std::size_t>(Depths.count());

  template <class S>
  struct parameters {
    std::array<typename Feature::template parameters<S>, D> map;
  };
  template <class F, class Path, class... P>
  static constexpr void visit(const F& f, const Path& at, P&... p) {
    for (std::size_t n = 0; n < D; ++n) Feature::visit(f, at / depth(n), p.map[n]...);
  }

  template <class T>
  struct tape {
    std::array<typename Feature::template tape<T>, D> map;
    constexpr tape(arena& a, const extent& e) : tape(a, e, std::make_index_sequence<D>()) {}

   private:
    template <std::size_t... N>
    constexpr tape(arena& a, const extent& e, std::index_sequence<N...>)
        : map{(static_cast<void>(N), typename Feature::template tape<T>(a, e))...} {}
  };
  template <class T>
  using scratch = typename Feature::template scratch<T>;

  template <class On, class P, class Hidden>
  static void forward(const On& on, const P& p, const extent&, const Hidden& hidden, output<On> memory,
                      const tape<scalar<On>>& t) {
    for (std::size_t n = 0; n < D; ++n)
      Feature::forward(on, p.map[n], hidden.state(depth(n)), rows_of(memory, n), t.map[n]);
  }
  template <class On, class P, class Hidden, class G>
  static void backward(const On& on, const P& p, const extent&, const Hidden& hidden, output<On> dmemory,
                       const tape<scalar<On>>& t, G& g, const scratch<scalar<On>>& s) {
    for (std::size_t n = 0; n < D; ++n)
      Feature::backward(on, p.map[n], hidden.state(depth(n)), rows_of(dmemory, n), hidden.gradient(depth(n)), t.map[n],
                        g.map[n], s);
  }

  [[nodiscard]] static constexpr double flops(index tokens) {
    return static_cast<double>(D) * Feature::flops(tokens);
  }
  [[nodiscard]] static std::string describe() {
    std::string list;
    for (std::size_t n = 0; n < D; ++n) list += join(n ? "," : "", depth(n));
    return join("features of depths {", list, "}: ", Feature::describe());
  }

 private:
  static constexpr int depth(std::size_t n) { return Depths[static_cast<int>(n)]; }
  /// The rows of the n-th depth, [rows, E], interleaved with the others'.
  template <class T>
  static matrix<T> rows_of(const matrix<T>& memory, std::size_t n) {
    return memory.every(rows_per_token, static_cast<index>(n));
  }
};

}  // namespace fathom::layers

namespace fathom {

/// Depths that a source reads: 0 is the embedding, s the output of the s-th block.
template <int... Depths>
struct depths {
  static constexpr depth_set set{Depths...};
};
/// The same as a bit set: bit s for depth s.
template <std::uint64_t Bits>
struct depth_bits {
  static constexpr depth_set set = depth_set::from_bits(Bits);
};

namespace check {
template <int depth, int block>
inline constexpr bool depth_is_at_most_the_block_that_looks_back = depth <= block;
}

/// The paper's source as a part: learned features of selected depths, features<depths<2, 4>, mlp_features<>>. Each
/// depth must be the input of the first block that looks back, or lie below it.
template <class Depths, class Feature = mlp_features<>>
struct features {
  static constexpr auto tensor_name = fixed_string("features");
  static constexpr auto options = fields(field<"depths">(Depths::set), field<"features">(part_of<Feature>{}));

 private:
  template <class At>
  [[nodiscard]] static consteval bool checked() {
    static_assert(check::depth_is_at_most_the_block_that_looks_back<Depths::set.largest(), At::first_block>,
                  "fathom::features: a block looks back at a depth that does not exist yet when it runs");
    return Depths::set.largest() <= At::first_block;
  }
  template <class At>
  struct bound {
    static constexpr depth_set set = checked<At>() ? Depths::set : depth_set{0};  // after an error
    using type = layers::feature_memory<At::width, set, detail::bound_part<Feature, At, layers::identity_features<At::width>>>;
  };

 public:
  template <class At>
  using bind = typename bound<At>::type;
};

}  // namespace fathom
