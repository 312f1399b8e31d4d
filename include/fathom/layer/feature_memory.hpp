// The paper's residual source: learned features of selected depths, concatenated to one memory (Verma and Pilanci,
// arXiv 2409.10870).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

#include "fathom/backend/activation.hpp"
#include "fathom/backend/operations.hpp"
#include "fathom/layer/feature_map.hpp"
#include "fathom/layer/part.hpp"
#include "fathom/layer/residual_source.hpp"

namespace fathom::layers {

/// What the features of a depth s are made of: the output X_s; its difference X_s - X_r to that of the selected depth r before it
/// (X_s for the first), as outputs are sums of all that came before (arXiv 2605.18855); or, to tell what is due to the depths from
/// what is due to the rest of the layer, not the depth at all but the input of the block that reads, at the same cost.
enum class reading_of_depths { outputs, differences, own_input };

/// Row t * D + n of the memory [rows * D, E] is Feature(X_s)[t], where s is the n-th of the D selected depths. Every
/// depth has its own weights. The order is position-major, so that a query sees a prefix: the features of all depths up
/// to its position. Inputs: the depths of the inputs of the blocks that read, for own_input.
template <index E, depth_set Depths, class Feature, reading_of_depths Reading = reading_of_depths::outputs, depth_set Inputs = depth_set{}>
struct feature_memory {
  static constexpr bool differs = Reading == reading_of_depths::differences, reads_input = Reading == reading_of_depths::own_input;
  static constexpr depth_set depths = reads_input ? Inputs : Depths;
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
    std::array<matrix<T>, D> difference;  // [rows, E], from the second on; empty if the features are not of differences
    constexpr tape(arena& a, const extent& e) : tape(a, e, std::make_index_sequence<D>()) {}

   private:
    template <std::size_t... N>
    constexpr tape(arena& a, const extent& e, std::index_sequence<N...>)
        : map{(static_cast<void>(N), typename Feature::template tape<T>(a, e))...},
          difference{a.take<T>(differs && N > 0 ? e.rows() : 0, E)...} {}
  };
  template <class T>
  struct scratch {
    [[no_unique_address]] typename Feature::template scratch<T> map;
    matrix<T> ddifference;  // [rows, E]; empty if the features are not of differences
    constexpr scratch(arena& a, const extent& e) : map(a, e), ddifference(a.take<T>(differs ? e.rows() : 0, E)) {}
  };

  template <class On, class P, class Hidden>
  static void forward(const On& on, const P& p, const extent&, const Hidden& hidden, output<On> memory,
                      const tape<scalar<On>>& t) {
    for (std::size_t n = 0; n < D; ++n) {
      if (takes_difference(n)) {
        using T = scalar<On>;
        elementwise(on, times{-1}, std::array<matrix<T>, 1>{t.difference[n]}, std::array<matrix<const T>, 1>{hidden.state(depth(n - 1))});
        add(on, hidden.state(depth(n)), t.difference[n]);
      }
      Feature::forward(on, p.map[n], from(hidden, t, n), rows_of(memory, n), t.map[n]);
    }
  }
  template <class On, class P, class Hidden, class G>
  static void backward(const On& on, const P& p, const extent&, const Hidden& hidden, output<On> dmemory,
                       const tape<scalar<On>>& t, G& g, const scratch<scalar<On>>& s) {
    for (std::size_t n = 0; n < D; ++n) {
      const bool is_difference = takes_difference(n);
      if (is_difference) zero(on, s.ddifference);
      Feature::backward(on, p.map[n], from(hidden, t, n), rows_of(dmemory, n),
                        is_difference ? s.ddifference : hidden.gradient(read_depth(hidden, n)), t.map[n], g.map[n], s.map);
      if (is_difference) {
        add(on, s.ddifference, hidden.gradient(depth(n)));
        multiply(on, -1, s.ddifference);
        add(on, s.ddifference, hidden.gradient(depth(n - 1)));
      }
    }
  }

  [[nodiscard]] static constexpr double flops(index tokens) {
    return static_cast<double>(D) * Feature::flops(tokens);
  }
  /// What the n-th row of a token is of, for maps of attention.
  [[nodiscard]] static std::string name_of_row(int n) {
    const int s = Depths[n];
    if (reads_input) return join("own input for depth ", s);
    return differs && n > 0 ? join("depth ", s, " - depth ", Depths[n - 1]) : join("depth ", s);
  }
  [[nodiscard]] static std::string describe() {
    std::string list;
    for (std::size_t n = 0; n < D; ++n) list += join(n ? "," : "", depth(n));
    const std::string_view read = reads_input ? "the block's input in place of depths {" : differs ? "differences of depths {" : "depths {";
    return join("features of ", read, list, "}: ", Feature::describe());
  }

 private:
  static constexpr int depth(std::size_t n) { return Depths[static_cast<int>(n)]; }
  static constexpr bool takes_difference(std::size_t n) { return differs && n > 0; }
  /// The depth whose output is read for the n-th.
  template <class Hidden>
  static int read_depth([[maybe_unused]] const Hidden& hidden, [[maybe_unused]] std::size_t n) {
    if constexpr (reads_input)
      return hidden.block;
    else
      return depth(n);
  }
  /// What the n-th map reads, [rows, E].
  template <class Hidden, class T>
  static matrix<const T> from(const Hidden& hidden, const tape<T>& t, std::size_t n) {
    return takes_difference(n) ? matrix<const T>(t.difference[n]) : hidden.state(read_depth(hidden, n));
  }
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

// What features are made of (layers::reading_of_depths).
struct outputs_of_depths {
  static constexpr auto value = layers::reading_of_depths::outputs;
  static constexpr auto options = fields();
};
struct differences_of_depths {
  static constexpr auto value = layers::reading_of_depths::differences;
  static constexpr auto options = fields(field<"reading">("differences"));
};
struct own_input_for_depths {
  static constexpr auto value = layers::reading_of_depths::own_input;
  static constexpr auto options = fields(field<"reading">("own input"));
};

/// The paper's source as a part: learned features of selected depths, features<depths<2, 4>, mlp_features<>>. Each
/// depth must be the input of the first block that looks back, or lie below it.
template <class Depths, class Feature = mlp_features<>, class Reading = outputs_of_depths>
struct features {
  static constexpr auto tensor_name = fixed_string("features");
  static constexpr auto options =
      std::tuple_cat(fields(field<"depths">(Depths::set), field<"features">(part_of<Feature>{})), Reading::options);

 private:
  template <class At>
  [[nodiscard]] static consteval bool checked() {
    static_assert(check::depth_is_at_most_the_block_that_looks_back<Depths::set.largest(), At::first_block>,
                  "fathom::features: a block looks back at a depth that does not exist yet when it runs");
    constexpr bool is_in_reach = Reading::value != layers::reading_of_depths::own_input || At::last_block < 64;
    static_assert(is_in_reach, "fathom::features: the input of a block above 63 cannot be read, as depths above 63 cannot");
    return Depths::set.largest() <= At::first_block && is_in_reach;
  }
  template <class At>
  struct bound {
    static constexpr depth_set set = checked<At>() ? Depths::set : depth_set{0};  // after an error
    static constexpr depth_set inputs = [] {
      std::uint64_t bits = 0;
      if (Reading::value == layers::reading_of_depths::own_input)
        for (int block = At::first_block; block <= At::last_block && block < 64; ++block) bits |= std::uint64_t{1} << block;
      return depth_set::from_bits(bits);
    }();
    using type = layers::feature_memory<At::width, set, detail::bound_part<Feature, At, layers::identity_features<At::width>>,
                                        Reading::value, inputs>;
  };

 public:
  template <class At>
  using bind = typename bound<At>::type;
};

}  // namespace fathom
