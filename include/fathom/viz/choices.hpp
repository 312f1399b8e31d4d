// What pictures and pages of attention show: which heads, and which measure.
#pragma once

namespace fathom::viz {

/// Which heads are shown.
enum class heads {
  mean,  // none of them by itself: the mean over the heads
  all    // each of them
};

/// What the colours stand for.
enum class measure {
  relative,  // a weight as a multiple of even attention, which would give all that the query sees the same: 1 is no
             // preference. So early queries, which see few keys, and late ones, which see many, can be compared
  weight     // the weight itself
};

}  // namespace fathom::viz
