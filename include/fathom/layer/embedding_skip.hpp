// Scalars that modded-nanogpt (https://github.com/KellerJordan/modded-nanogpt) and nanochat
// (https://github.com/karpathy/nanochat, resid_lambdas, x0_lambdas, backout_lambda) learn: a multiple of the embedding
// before each block, and of one earlier depth before the head.
#pragma once

#include <string>
#include <string_view>

#include "fathom/core/depth_set.hpp"
#include "fathom/core/error.hpp"
#include "fathom/layer/depth_sum.hpp"
#include "fathom/layer/part.hpp"

namespace fathom::layers {

struct embedding_only {
  static constexpr bool has_own = true, at_end = false;
  static constexpr int most = 1;
  static constexpr depth_set depths{0};
  static constexpr bool is_there(int) { return true; }
  static constexpr int count(int) { return 1; }
  static constexpr int depth_of(int, int) { return 0; }
  [[nodiscard]] static std::string describe() { return "multiples of the stream and of the embedding"; }
};
template <int Depth>
struct one_depth {
  static constexpr bool has_own = false, at_end = true;
  static constexpr int most = 1;
  static constexpr depth_set depths = depth_set::only(Depth);
  static constexpr bool is_there(int) { return true; }
  static constexpr int count(int) { return 1; }
  static constexpr int depth_of(int, int) { return Depth; }
  [[nodiscard]] static std::string describe() { return join("a multiple of depth ", Depth); }
};

}  // namespace fathom::layers

namespace fathom {

/// y = (1 + own) x + weight X_0, a stage at the beginning of a block; own and weight [1] from 0. nanochat: resid_lambda
/// = 1 + own, x0_lambda = weight. There, X_0 is RMS-normalised; here it is what the first block reads.
struct add_embedding {
  static constexpr std::string_view stage_name = "x0";
  static constexpr auto options = fields();
  template <class At>
  using bind = layers::depth_sum<"x0", At::width, layers::embedding_only>;
};

namespace check {
template <int depth, int blocks>
inline constexpr bool backout_depth_is_below_blocks = depth >= 0 && depth < blocks&& depth <= 63;
}  // namespace check

/// y = x + weight X_s, a stage at the end of the last block; weight [1] from 0. modded-nanogpt: backout_lambda =
/// -weight, from 0.5; from 0 here, so that a model begins as the one without. Its tensor is `backout.weight`.
template <int Depth>
struct backout {
  static constexpr std::string_view stage_name = "backout";
  static constexpr auto options = fields(field<"depth">(Depth));

 private:
  template <class At>
  struct bound {
    static_assert(check::backout_depth_is_below_blocks<Depth, At::depth>,
                  "fathom::backout: the depth must be in 0 to 63 and below the number of blocks");
    using type = layers::depth_sum<"/backout", At::width, layers::one_depth<Depth>>;
  };

 public:
  template <class At>
  using bind = typename bound<At>::type;
};

}  // namespace fathom
