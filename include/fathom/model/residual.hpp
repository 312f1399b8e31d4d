// What a config says of its residual connections: how the depths below a block become its input.
#pragma once

#include "fathom/core/standard.hpp"  // first

namespace fathom {

/// The forms; ../README.md, "Residual connections", has their equations.
enum class residual_form {
  plain,              // x + f(x)
  dense_former,       // an average of all depths after each block (layer/dense_former.hpp)
  embedding_scalars,  // multiples of the stream and the embedding before each block, and backout
                      // (layer/embedding_skip.hpp)
  attention,          // sublayers read a softmax over depths (layer/attention_residuals.hpp)
  delta_attention,    // the same, added to the plain stream
  hyper_connections,  // several streams (layer/hyper_connections.hpp)
  mudd                // an average of all depths whose weights each token computes (layer/mudd.hpp)
};

/// The residual connections of a model. 0 stands for the default of an option; options of other forms have no meaning.
struct residual_connections {
  residual_form form = residual_form::plain;
  int dilation = 0;     // dense_former: every how many depths; 0: 1
  int period = 0;       // dense_former: after every how many blocks; 0: 1
  int backout = 0;      // embedding_scalars: the depth of which a multiple is added before the head; 0: none
  int group = 0;        // attention, delta_attention: blocks whose outputs are summed before; 0: each output by itself
  int streams = 0;      // hyper_connections; 0: 4
  bool dynamic = true;  // hyper_connections: each token computes weights of its own
  int last_blocks = 0;  // mudd: after how many blocks, counted from the last; 0: all

  friend constexpr bool operator==(const residual_connections&, const residual_connections&) = default;
};

/// Writes them out, for a model of `depth` blocks: as normalized of a config (config.hpp).
[[nodiscard]] constexpr residual_connections normalized(residual_connections r, int depth) {
  const auto is = [&](residual_form form) { return r.form == form; };
  residual_connections n{.form = r.form};
  if (is(residual_form::dense_former))
    n.dilation = r.dilation == 0 ? 1 : r.dilation, n.period = r.period == 0 ? 1 : r.period;
  if (is(residual_form::embedding_scalars)) n.backout = r.backout;
  if (is(residual_form::attention) || is(residual_form::delta_attention)) n.group = r.group;
  if (is(residual_form::hyper_connections)) n.streams = r.streams == 0 ? 4 : r.streams, n.dynamic = r.dynamic;
  if (is(residual_form::mudd)) n.last_blocks = r.last_blocks == 0 ? depth : r.last_blocks;
  return n;
}

/// What a model of `depth` blocks would need instead of these residual connections, which are written out; null if they
/// fit.
[[nodiscard]] constexpr const char* problem_of(const residual_connections& r, int depth, bool has_shortcut) {
  switch (r.form) {
    case residual_form::plain:
      return nullptr;
    case residual_form::dense_former:
      if (r.dilation < 1) return "a positive residual.dilation, or 0 for 1";
      if (r.period < 1) return "a positive residual.period, or 0 for 1";
      return depth > 64 ? "at most 64 blocks, for dense_former, as no depth above 63 can be read" : nullptr;
    case residual_form::embedding_scalars:
      return r.backout < 0 || r.backout >= depth || r.backout > 63
                 ? "a depth in residual.backout below the number of blocks and 64, or 0 for none"
                 : nullptr;
    case residual_form::attention:
    case residual_form::delta_attention:
      if (has_shortcut) return "no shortcut, for residual attention";
      if (r.group < 0 || r.group > depth) return "a number of blocks in residual.group, or 0 for none";
      // The last block reads the depth at which its group begins.
      return r.form == residual_form::delta_attention && r.group > 0 && (depth - 1) / r.group * r.group > 63
                 ? "groups that begin at depths of at most 63, for delta_attention, as no depth above can be read"
                 : nullptr;
    case residual_form::hyper_connections:
      if (has_shortcut) return "no shortcut, for hyper_connections";
      return r.streams < 1 || r.streams > 64 ? "1 to 64 residual.streams, or 0 for 4" : nullptr;
    case residual_form::mudd:
      if (r.last_blocks < 1 || r.last_blocks > depth) return "a number of blocks in residual.last_blocks, or 0 for all";
      return depth > 64 ? "at most 64 blocks, for mudd, as no depth above 63 can be read" : nullptr;
  }
  return "a residual.form of its enumeration";
}

}  // namespace fathom
