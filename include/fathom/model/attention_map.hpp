// The attention weights of the shortcut for a given input.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "fathom/core/arena.hpp"
#include "fathom/core/compiled.hpp"
#include "fathom/core/error.hpp"
#include "fathom/core/memory.hpp"
#include "fathom/core/types.hpp"

namespace fathom {

/// Attention weights, heads x queries x sources x keys. A source is a selected depth; with placement::joint the block's
/// own context comes before them. For each head and query all weights add up to 1; keys after the query have weight 0.
struct attention_weights_map {
  index heads = 0;
  index queries = 0;                 // tokens of the input
  std::vector<std::string> sources;  // "context", "depth 2", ...
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
};

namespace detail {
/// Sets map.weights from found [heads * queries, keys * sources]: key j of source s in column j * sources + s.
void set_weights(attention_weights_map& map, const float* found);
void set_weights(attention_weights_map& map, const double* found);
}  // namespace detail

/// Returns the attention weights of a model's shortcut while it reads `tokens`. Fails when the tokens do not fit the
/// model.
template <class Model>
[[nodiscard]] attention_weights_map attention_map(const typename Model::parameters& weights,
                                                  std::span<const token> tokens) {
  static_assert(!Model::body::depths.empty(), "fathom::attention_map: this model has no shortcut to look at");
  using T = typename Model::scalar;
  const index n = static_cast<index>(tokens.size());
  if (n == 0 || n > Model::context)
    fail("attention_map: ", n, " tokens; expected 1 to ", Model::context, ", the model's context");
  typename Model::tape tape(1, n);
  Model::forward(weights, {tokens, {}, 1, n}, tape);

  attention_weights_map map;
  tape.each_stage([&]<class Stage>(Stage, const auto& stage_tape) {
    if constexpr (requires { requires Stage::layer::source_rows > 0 && Stage::layer::key_rows > 0; }) {
      using layer = typename Stage::layer;
      constexpr index rows = layer::key_rows;
      map = {.heads = layer::heads,
             .queries = n,
             .sources = {},
             .keys = n,
             .tokens = {tokens.begin(), tokens.end()},
             .vocab = Model::vocab,
             .weights = {}};
      if (rows > Stage::depths.count()) map.sources.push_back("context");
      for (int d = 0; d < Stage::depths.count(); ++d) map.sources.push_back(join("depth ", Stage::depths[d]));
      const auto numbers = static_cast<std::size_t>(layer::heads * n * n * rows);
      const buffer_in<typename Model::memory> memory(numbers * sizeof(T) + alignment);
      arena a(memory.bytes().data());
      const matrix<T> w = a.take<T>(layer::heads * n, n * rows);
      tape.where().run([&](const auto& on) { layer::weights(on, tape.shape(), stage_tape.layer, w); });
      reader<typename Model::memory, T> read;
      detail::set_weights(map, read(w.data, w.rows * w.columns).data());
    }
  });
  return map;
}
/// The same for what owns weights.
template <class Model>
[[nodiscard]] attention_weights_map attention_map(const owned<typename Model::parameters>& weights, std::span<const token> tokens) {
  if (!weights) fail("attention_map: a pointer to nothing; expected weights, as fathom::make makes them");
  return attention_map<Model>(*weights, tokens);
}

}  // namespace fathom

#if !defined(FATHOM_KERNELS)
#include "fathom/model/attention_map.inl.hpp"
#endif
