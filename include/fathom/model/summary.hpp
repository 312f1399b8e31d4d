// The summary of a model: a table with a row for each layer.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "fathom/core/compiled.hpp"
#include "fathom/core/name.hpp"
#include "fathom/core/types.hpp"
#include "fathom/layer/layer.hpp"

namespace fathom {

namespace detail {
/// The table that summary() makes, row by row.
class summary_table {
 public:
  /// Callers give FLOPs for a sequence of `tokens` tokens; the table shows them per token.
  explicit summary_table(index tokens);
  /// Adds a row.
  void operator()(std::string_view name, std::string_view what, index parameters, double flops) const;
  /// Adds the totals, and returns the table. Sizes are in bytes.
  [[nodiscard]] std::string total(index parameters, double flops, double weight_bytes, double cache_bytes, double tape_bytes,
                                  double training_flops) const;

 private:
  using row = std::array<std::string, 4>;  // name, what it is, parameters, FLOPs
  index tokens_;
  mutable std::vector<row> rows_;  // layers describe themselves to a const callable
};
}  // namespace detail

/// Returns a table of the model's layers: parameters, and floating-point operations of forward per token of a sequence
/// of `tokens`; then the totals, and the bytes of weights, cache and tape.
template <class Model>
[[nodiscard]] std::string summary(index tokens = Model::context) {
  const detail::summary_table layer(tokens);
  constexpr bool is_sum = [] {
    if constexpr (requires { Model::embedding::has_additions; }) return Model::embedding::has_additions;
    return true;
  }();
  layer(is_sum ? "wte, wpe" : "wte", Model::embedding::describe(), parameter_count_of<typename Model::embedding>(), 0);
  Model::body::describe(layer, path{}, 0, tokens);
  layer("ln_f, logits", Model::head::describe(), parameter_count_of<typename Model::head>(), Model::head::flops(tokens));
  return layer.total(Model::parameter_count, Model::forward_flops_per_token(tokens),
                     static_cast<double>(sizeof(typename Model::parameters)), static_cast<double>(Model::cache_bytes(1, tokens)),
                     static_cast<double>(Model::tape_bytes(1, tokens)), Model::training_flops_per_token(tokens));
}

}  // namespace fathom

#if !defined(FATHOM_KERNELS)
#include "fathom/model/summary.inl.hpp"
#endif
