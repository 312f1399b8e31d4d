// What of a model is trained. A model whose tensors are all trained has nothing of this: gradients and moments are
// `parameters`. One that trains only a part (train_only.hpp, low_rank.hpp) adds to the members of the model
//
//   struct trained;                            the numbers that are trained, in one block; gradients and moments are of this type
//   static constexpr lowest_stage lowest;      the lowest stage to which gradients go. A tape keeps nothing of what is below
//   static tensor_table trained_table();       the tensors in `trained`
//   static void initialize_trained(parameters&, seed);   their initial values, where the model's tensors do not hold them
//   static void take(const parameters&, trained&);       reads them from the weights
//   static void put(const trained&, parameters&);        puts them into effect in the weights, which hold the last ones
//   using gradients;                           a layout of the architecture, over a storage whose tensors say where
//                                              gradients go (core/tensor_view.hpp)
//   static constexpr index spare;              numbers of memory that backward may use beside `trained`
//   static void place(const parameters&, trained& g, scalar* spare, gradients& to);
//
// One whose weights hold `trained` only in sums (low_rank.hpp) also has
//
//   static void note_additions(parameters&);         the weights hold the sums now
//   static bool holds_additions(const parameters&);  whether they still do, or were changed since, by loading a base
#pragma once

#include "fathom/layer/stack.hpp"
#include "fathom/model/tensor_table.hpp"

namespace fathom {

namespace detail {
template <class Model>
inline constexpr bool is_partly_trained = requires { typename Model::trained; };
template <class Model>
inline constexpr bool has_additions = requires(typename Model::parameters& p) { Model::note_additions(p); };
template <class Model>
struct trained_numbers {
  using type = typename Model::parameters;
};
template <class Model>
  requires is_partly_trained<Model>
struct trained_numbers<Model> {
  using type = typename Model::trained;
};
}  // namespace detail

/// The type of a model's gradients and moments.
template <class Model>
using trained_of = typename detail::trained_numbers<Model>::type;

/// The lowest stage that a model trains.
template <class Model>
[[nodiscard]] consteval lowest_stage lowest_of() {
  if constexpr (detail::is_partly_trained<Model>)
    return Model::lowest;
  else
    return {};
}

/// The tensors that a model trains, with their places in `like`.
template <class Model>
[[nodiscard]] tensor_table trained_table_of([[maybe_unused]] const trained_of<Model>& like) {
  if constexpr (detail::is_partly_trained<Model>)
    return Model::trained_table();
  else
    return table_of<Model>(like);
}

}  // namespace fathom
