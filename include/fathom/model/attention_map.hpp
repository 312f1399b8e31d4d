// The attention weights of the shortcut, or of any block's self-attention, for a given input.
#pragma once

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "fathom/core/arena.hpp"
#include "fathom/core/compiled.hpp"
#include "fathom/core/error.hpp"
#include "fathom/core/memory.hpp"
#include "fathom/core/types.hpp"

namespace fathom {

/// Attention weights, heads x queries x sources x keys. A source is a selected depth, its difference to the one before it, or the
/// block's own input in its place; with placement::joint the block's own context comes before them. Self-attention has one source, its block. For each head and query all weights add up to 1; keys after the query have weight 0.
struct attention_weights_map {
  index heads = 0;
  index queries = 0;                 // tokens of the input
  std::vector<std::string> sources;  // "context", "depth 2", "depth 4 - depth 2", "own input for depth 2", "block 3", ...
  index keys = 0;                    // as many as queries
  std::vector<token> tokens;         // the input
  index vocab = 0;                   // size of the vocabulary
  std::vector<float> weights;        // [heads, queries, sources, keys]

  [[nodiscard]] float operator()(index head, index query, index source, index key) const {
    const index row = (head * queries + query) * static_cast<index>(sources.size()) + source;
    return weights[static_cast<std::size_t>(row * keys + key)];
  }
  /// The share of a query's attention that goes to a source, in one head: 0 to 1.
  [[nodiscard]] double share(index head, index query, index source) const {
    double sum = 0;
    for (index key = 0; key < keys; ++key) sum += static_cast<double>((*this)(head, query, source, key));
    return sum;
  }
  /// The share of all attention that goes to a source, over all heads and queries: 0 to 1.
  [[nodiscard]] double share(index source) const {
    double sum = 0;
    for (index head = 0; head < heads; ++head)
      for (index query = 0; query < queries; ++query) sum += share(head, query, source);
    return sum / static_cast<double>(heads * queries);
  }
  /// The map of a single head. Fails when there is no such head.
  [[nodiscard]] attention_weights_map one_head(index head) const;
};

/// Which attention attention_map looks at.
struct attention_of {
  int block = 0;  // from 0, as in the names of tensors; its self-attention
};

namespace detail {
/// Sets map.weights from found [heads * queries, keys * sources]: key j of source s in column j * sources + s.
void set_weights(attention_weights_map& map, const float* found);
void set_weights(attention_weights_map& map, const double* found);
}  // namespace detail

namespace detail {
/// The weights of an attention on a tape that forward has filled, and the names of its sources.
template <class Model, class Layer, class LayerTape>
[[nodiscard]] attention_weights_map map_of(const typename Model::tape& tape, const LayerTape& t, std::span<const token> tokens,
                                           std::vector<std::string> sources) {
  using T = typename Model::scalar;
  const index n = static_cast<index>(tokens.size());
  attention_weights_map map{.heads = Layer::heads,
                            .queries = n,
                            .sources = std::move(sources),
                            .keys = n,
                            .tokens = {tokens.begin(), tokens.end()},
                            .vocab = Model::vocab,
                            .weights = {}};
  const auto numbers = static_cast<std::size_t>(Layer::heads * n * n * Layer::key_rows);
  const buffer_in<typename Model::memory> memory(numbers * sizeof(T) + alignment);
  arena a(memory.bytes().data());
  const matrix<T> w = a.take<T>(Layer::heads * n, n * Layer::key_rows);
  tape.where().run([&](const auto& on) { Layer::weights(on, tape.shape(), t, w); });
  reader<typename Model::memory, T> read;
  set_weights(map, read(w.data, w.rows * w.columns).data());
  return map;
}
/// The rows of a source that a layer attends to, for each token.
template <class Layer>
[[nodiscard]] constexpr index attended_rows() {
  if constexpr (requires { Layer::attended_rows; })
    return Layer::attended_rows;
  else
    return Layer::source_rows;
}
/// "context", if the attention covers its own context, and what the rows of its source are of.
template <class Stage>
[[nodiscard]] std::vector<std::string> sources_of() {
  std::vector<std::string> sources;
  constexpr int rows = static_cast<int>(attended_rows<typename Stage::layer>());
  if (Stage::layer::key_rows > rows) sources.push_back("context");
  for (int d = 0; d < rows; ++d)
    if constexpr (requires { Stage::source::name_of_row(d); })
      sources.push_back(Stage::source::name_of_row(d));
    else
      sources.push_back(Stage::depths.count() == rows ? join("depth ", Stage::depths[d]) : join("features ", d));
  return sources;
}
/// Calls f(sublayer, its tape) for a stage that is an attention, or has one in it, or for each of two side by side.
template <class Stage, class T, class F>
void for_attentions(const Stage&, const T& t, const F& f) {
  if constexpr (requires { typename Stage::inner_stage; }) {
    for_attentions(typename Stage::inner_stage{}, t.inner, f);
  } else if constexpr (requires { typename Stage::second_stage; }) {
    for_attentions(typename Stage::first_stage{}, t.first, f);
    for_attentions(typename Stage::second_stage{}, t.second, f);
  } else if constexpr (requires { requires Stage::layer::source_rows >= 0 && Stage::layer::key_rows > 0; }) {
    f(Stage{}, t);
  }
}
template <class Model>
void check_map_tokens(std::span<const token> tokens) {
  if (tokens.empty() || std::ssize(tokens) > Model::context)
    fail("attention_map: ", tokens.size(), " tokens; expected 1 to ", Model::context, ", the model's context");
}
[[noreturn]] inline void fail_without_weights() { fail("attention_map: a pointer to nothing; expected weights, as fathom::make makes them"); }
}  // namespace detail

/// Returns the attention weights of a model's shortcut, of the last block that has one, while it reads `tokens`. Fails when the
/// tokens do not fit the model, or it looks back in other ways: placement::own_values adds depths without attending to them.
template <class Model>
[[nodiscard]] attention_weights_map attention_map(const typename Model::parameters& weights, std::span<const token> tokens) {
  static_assert(!Model::body::depths.empty(),
                "fathom::attention_map: this model has no shortcut to look at; for self-attention, say of which block: {.block = 0}");
  detail::check_map_tokens<Model>(tokens);
  typename Model::tape tape(1, static_cast<index>(tokens.size()));
  Model::forward(weights, {tokens, {}, 1, static_cast<index>(tokens.size())}, tape);
  attention_weights_map map;
  tape.each_stage([&](const auto& stage, const auto& stage_tape) {
    detail::for_attentions(stage, stage_tape, [&]<class Stage>(Stage, const auto& t) {
      if constexpr (detail::attended_rows<typename Stage::layer>() > 0)
        map = detail::map_of<Model, typename Stage::layer>(tape, t.layer, tokens, detail::sources_of<Stage>());
    });
  });
  if (map.heads == 0) fail("attention_map: no attention of this model is over depths; for self-attention, say of which block: {.block = 0}");
  return map;
}
/// Returns the attention weights of a block's self-attention, of any model; with placement::joint, also those of the
/// shortcut in the same softmax. Fails when the block has no self-attention, or the tokens do not fit the model.
template <class Model>
[[nodiscard]] attention_weights_map attention_map(const typename Model::parameters& weights, std::span<const token> tokens, attention_of which) {
  detail::check_map_tokens<Model>(tokens);
  typename Model::tape tape(1, static_cast<index>(tokens.size()));
  Model::forward(weights, {tokens, {}, 1, static_cast<index>(tokens.size())}, tape);
  attention_weights_map map;
  std::string others;
  bool is_found = false;
  tape.each_stage([&](const auto& stage, const auto& stage_tape, int block) {
    detail::for_attentions(stage, stage_tape, [&]<class Stage>(Stage, const auto& t) {
      constexpr index of_source = detail::attended_rows<typename Stage::layer>();
      if constexpr (Stage::layer::key_rows > of_source) {
        others += join(others.empty() ? "" : ", ", block);
        if (block != which.block || is_found) return;
        is_found = true;
        auto sources = of_source > 0 ? detail::sources_of<Stage>() : std::vector<std::string>{join("block ", block)};
        map = detail::map_of<Model, typename Stage::layer>(tape, t.layer, tokens, std::move(sources));
      }
    });
  });
  if (!is_found)
    fail("attention_map: block ", which.block, " of ", Model::depth, " has no self-attention; expected one of ", others.empty() ? "none" : others);
  return map;
}
/// The same for what owns weights.
template <class Model>
[[nodiscard]] attention_weights_map attention_map(const owned<typename Model::parameters>& weights, std::span<const token> tokens) {
  if (!weights) detail::fail_without_weights();
  return attention_map<Model>(*weights, tokens);
}
template <class Model>
[[nodiscard]] attention_weights_map attention_map(const owned<typename Model::parameters>& weights, std::span<const token> tokens,
                                                  attention_of which) {
  if (!weights) detail::fail_without_weights();
  return attention_map<Model>(*weights, tokens, which);
}

}  // namespace fathom

#if !defined(FATHOM_KERNELS)
#include "fathom/model/attention_map.inl.hpp"
#endif
