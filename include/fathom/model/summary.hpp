// A model as a table, layer by layer.
#pragma once

#include <string>
#include <string_view>

#include "fathom/core/compiled.hpp"
#include "fathom/core/name.hpp"
#include "fathom/core/types.hpp"
#include "fathom/layer/layer.hpp"

namespace fathom {

namespace detail {
/// The table that summary() makes, row by row.
class summary_table {
 public:
  /// FLOPs are given for a sequence of so many tokens, and shown for one of them.
  explicit summary_table(index tokens);
  /// A row.
  void operator()(std::string_view name, std::string_view what, index parameters, double flops) const;
  /// The end, with the totals; sizes in bytes.
  [[nodiscard]] std::string total(index parameters, double flops, double weight_bytes, double cache_bytes, double tape_bytes,
                                  double training_flops) const;

 private:
  void line(std::string_view name, std::string_view what, std::string_view parameters, std::string_view flops) const;
  index tokens_;
  mutable std::string text_;  // layers describe themselves to a const callable
};
}  // namespace detail

/// A table of the model's layers, with their parameters and the floating-point operations of forward for each token of a
/// sequence of `tokens`; then the totals, and the bytes of weights, cache and tape.
template <class Model>
[[nodiscard]] std::string summary(index tokens = Model::context) {
  const detail::summary_table layer(tokens);
  layer("wte, wpe", Model::embedding::describe(), parameter_count_of<typename Model::embedding>(), 0);
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
