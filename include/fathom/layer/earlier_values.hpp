// The values of earlier self-attentions as a residual source.
#pragma once

#include <string>

#include "fathom/layer/feature_memory.hpp"
#include "fathom/layer/part.hpp"
#include "fathom/layer/residual_source.hpp"

namespace fathom::layers {

/// Row t * D + n of the memory [rows * D, E] begins with the K values of token t in the self-attention of the block whose output is
/// the n-th of the D selected depths; the rest of the row is 0. These blocks publish them in the channel "values". Added to a later
/// block's own values, with depth 1 only, they are a value residual: v_l + gate v_1 (Zhou et al., arXiv 2410.17897, section 3).
template <index E, depth_set Depths, index K>
struct earlier_values {
  static_assert(K <= E, "fathom::earlier_values: the values of all heads are wider than the model");
  using published = channel<"values", K>;
  static constexpr index rows_per_token = Depths.count();
  static constexpr depth_set depths{};  // it reads no outputs
  template <class S>
  struct parameters {};
  template <class F, class Path, class... P>
  static constexpr void visit(const F&, const Path&, P&...) {}
  template <class T>
  using tape = nothing;
  template <class T>
  using scratch = nothing;

  template <class On, class P, class Hidden>
  static void forward(const On& on, const P&, const extent&, const Hidden& hidden, output<On> memory, const nothing&) {
    for (int n = 0; n < Depths.count(); ++n) {
      const output<On> rows = memory.every(rows_per_token, n);
      if constexpr (K < E) zero(on, rows.columns_from(K, E - K));
      copy(on, hidden.template published<published>(Depths[n] - 1), rows.columns_from(0, K));
    }
  }
  template <class On, class P, class Hidden, class G>
  static void backward(const On& on, const P&, const extent&, const Hidden& hidden, output<On> dmemory, const nothing&, G&, const nothing&) {
    for (int n = 0; n < Depths.count(); ++n)
      add(on, dmemory.every(rows_per_token, n).columns_from(0, K), hidden.template published_gradient<published>(Depths[n] - 1));
  }

  [[nodiscard]] static constexpr double flops(index) { return 0; }
  [[nodiscard]] static std::string describe() {
    std::string list;
    for (int n = 0; n < Depths.count(); ++n) list += join(n ? "," : "", Depths[n]);
    return join("values of the blocks of depths {", list, "}");
  }
};

}  // namespace fathom::layers

namespace fathom {

/// The same as a part, of self-attentions with `Values` numbers of values for each token (key-value heads times their width; 0: as
/// many as the model is wide), which publish_values<"values">.
template <class Depths, index Values = 0>
struct earlier_values {
  static constexpr auto options = fields(field<"depths">(Depths::set), field<"values">(Values));

 private:
  template <class At>
  [[nodiscard]] static consteval bool checked() {
    static_assert(check::depth_is_at_most_the_block_that_looks_back<Depths::set.largest(), At::first_block>,
                  "fathom::earlier_values: a block looks back at a depth that does not exist yet when it runs");
    static_assert(!Depths::set.contains(0), "fathom::earlier_values: depth 0 is the embedding, which has no values");
    return Depths::set.largest() <= At::first_block && !Depths::set.contains(0);
  }
  template <class At>
  struct bound {
    static constexpr depth_set set = checked<At>() ? Depths::set : depth_set{1};  // after an error
    using type = layers::earlier_values<At::width, set, Values == 0 ? At::width : Values>;
  };

 public:
  template <class At>
  using bind = typename bound<At>::type;
};

}  // namespace fathom
