// DenseFormer: the average of all depths so far, with learned weights, after each block (Pagliardini, Mohtashami,
// Fleuret and Jaggi, arXiv 2402.02622).
#pragma once

#include <string>
#include <string_view>

#include "fathom/core/depth_set.hpp"
#include "fathom/core/error.hpp"
#include "fathom/layer/depth_sum.hpp"
#include "fathom/layer/part.hpp"

namespace fathom::layers {

/// The depths i - k, i - 2 k, ..., down to 0 or more, for the average Y_i after block i, which is there if p divides i: the
/// paper's dilation k and period p. For stages at the beginning of the blocks First to Last, or at their end.
template <int Dilation, int Period, int First, int Last, bool AtEnd>
struct averaged_depths {
  static constexpr bool has_own = true, at_end = AtEnd;
  static constexpr bool is_there(int own) { return own > 0 && own % Period == 0; }
  static constexpr int count(int own) { return is_there(own) ? own / Dilation : 0; }
  static constexpr int depth_of(int own, int n) { return own - (n + 1) * Dilation; }
  static constexpr int first_own = First + (AtEnd ? 1 : 0), last_own = Last + (AtEnd ? 1 : 0);
  static constexpr int most = [] {
    int found = 0;
    for (int own = first_own; own <= last_own; ++own) found = count(own) > found ? count(own) : found;
    return found;
  }();
  static constexpr depth_set depths = [] {
    depth_set all;
    for (int own = first_own; own <= last_own; ++own)
      for (int n = 0; n < count(own); ++n) {
        const depth_set one = depth_set::only(depth_of(own, n));
        all.bits |= one.bits;
        if (one.impossible != 0) all.impossible = one.impossible;
      }
    return all;
  }();
  [[nodiscard]] static std::string describe() {
    std::string text = "weighted average of the depths below";
    if (Dilation > 1) text += join(", every ", Dilation);
    if (Period > 1) text += join(", after every ", Period, " blocks");
    return text;
  }
};

}  // namespace fathom::layers

namespace fathom {

namespace check {
template <int dilation>
inline constexpr bool dilation_is_positive = dilation > 0;
template <int period>
inline constexpr bool period_is_positive = period > 0;
}  // namespace check

/// The depth-weighted average Y_i = (1 + own) X_i + sum over n of weight_n X_{i - (n + 1) Dilation}, as a stage at the
/// beginning of block i, or at the end of block i - 1. X_0 is the embedding, X_i the output of block i, which reads
/// Y_{i-1}; Y_0 = X_0. The paper has one weight alpha_ii from 1; here it is 1 + own, own from 0. `dense_former`
/// (model/residual_forms.hpp) inserts the stages of a whole model.
template <int Dilation = 1, int Period = 1, bool AtEnd = false>
struct depth_average {
  static_assert(check::dilation_is_positive<Dilation>, "fathom::depth_average: the dilation must be positive");
  static_assert(check::period_is_positive<Period>, "fathom::depth_average: the period must be positive");
  static constexpr std::string_view stage_name = AtEnd ? "average_out" : "average";
  static constexpr auto options = fields(field<"dilation">(Dilation), field<"period">(Period), field<"at_end">(AtEnd));

 private:
  static consteval auto tensors_name() {
    if constexpr (AtEnd)
      return fixed_string("average_out");
    else
      return fixed_string("average");
  }
  template <class At>
  struct bound {
    using terms = layers::averaged_depths<Dilation, Period, At::first_block, At::last_block, AtEnd>;
    using type = layers::depth_sum<tensors_name(), At::width, terms>;
  };

 public:
  template <class At>
  using bind = typename bound<At>::type;
};

}  // namespace fathom
