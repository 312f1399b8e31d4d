// Choices for pictures and pages of attention: heads and measure.
#pragma once

namespace fathom::viz {

/// Which heads are shown.
enum class heads {
  mean,  // only the mean over all heads
  all    // each head
};

/// What the colours encode.
enum class measure {
  relative,  // the weight as a multiple of even attention, which gives all visible keys the same weight; 1 is no
             // preference. Makes early queries, which see few keys, comparable with late ones
  weight     // the weight itself
};

}  // namespace fathom::viz
