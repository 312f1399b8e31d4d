// Parts, from which architectures are written. A part has no width of its own; instantiating a model binds it to one
// and makes it a layer, a source or a stage (layer.hpp, residual_source.hpp, stage.hpp).
//
//   template <int Rank>
//   struct bottleneck {                                                          // a part of your own
//     static constexpr auto options = fathom::fields(fathom::field<"rank">(Rank));   // in files, in the summary, in differences
//     template <class At>
//     using bind = bottleneck_layer<At::width, Rank>;                            // At: a binding, as below
//   };
//
// Optional: `static constexpr std::string_view name`, its name in descriptions (default: the type's), and
// `tensor_name`, the name of its tensors within the stage (see `pre` in stage.hpp).
#pragma once

#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>

#include "fathom/backend/activation.hpp"
#include "fathom/core/fields.hpp"
#include "fathom/core/name.hpp"
#include "fathom/core/types.hpp"

namespace fathom {

/// What a part is bound to: the sizes of the model, and the blocks that contain it (first to last, from 0; a run of
/// identical blocks is bound once).
template <index Vocab, index Context, index Width, int Depth, bool Tied, int FirstBlock = 0, int LastBlock = Depth - 1>
struct binding {
  static constexpr index vocab = Vocab;      // V
  static constexpr index context = Context;  // most tokens per sequence
  static constexpr index width = Width;      // E
  static constexpr int depth = Depth;        // L, total number of blocks
  static constexpr bool tied = Tied;         // the head shares the token embedding
  static constexpr int first_block = FirstBlock, last_block = LastBlock;
  static constexpr index source_rows = 0;

  /// The same for a run of blocks.
  template <int First, int Last>
  using in_blocks = binding<Vocab, Context, Width, Depth, Tied, First, Last>;
};
/// The same for a layer that attends to a source.
template <class At, class Source>
struct with_source : At {
  static constexpr index source_rows = Source::rows_per_token;  // D, at most
};

namespace detail {
template <template <class> class>
struct takes_a_binding {};
}  // namespace detail

namespace contract {
/// A part, as described at the top of this file.
template <class P>
concept part = requires {
  std::tuple_size<std::remove_cvref_t<decltype(P::options)>>::value;
  typename detail::takes_a_binding<P::template bind>;
};
}  // namespace contract

/// A part with other tensor names than its default: named<"input_layernorm", layer_norm<>>.
template <fixed_string Name, class Part>
struct named : Part {
  static constexpr auto tensor_name = Name;
  static constexpr std::string_view name = name_of_part<Part>();
};

namespace detail {
template <class Part>
[[nodiscard]] consteval bool check_part() {
  static_assert(contract::part<Part>,
                "fathom: this is no part of an architecture: it needs `static constexpr auto options = fathom::fields(...)` and "
                "`template <class At> using bind = ...`; see layer/part.hpp");
  return contract::part<Part>;
}
template <bool IsGood, class Part, class At, class Otherwise>
struct bound_or {
  using type = typename Part::template bind<At>;
};
template <class Part, class At, class Otherwise>
struct bound_or<false, Part, At, Otherwise> {
  using type = Otherwise;
};
/// A part bound to `At`; if it is not a part, `Otherwise`, after an error.
template <class Part, class At, class Otherwise>
using bound_part = typename bound_or<check_part<Part>(), Part, At, Otherwise>::type;

template <class A>
[[nodiscard]] consteval bool check_activation() {
  static_assert(contract::activation<A>, "fathom: this is no activation: it needs a template `at` with value and derivative; see "
                                         "backend/activation.hpp");
  return contract::activation<A>;
}
/// A if it is an activation; otherwise the identity, after an error.
template <class A>
using checked_activation = std::conditional_t<check_activation<A>(), A, identity>;

/// The options of a layer after applying each of a part's.
template <class Base, class... Options>
struct changed_options {
  using type = Base;
};
template <class Base, class First, class... Rest>
struct changed_options<Base, First, Rest...> : changed_options<typename First::template of<Base>, Rest...> {};

/// The summary line of a layer or a source: its own, or that of its part.
template <class Bound, class Part>
[[nodiscard]] std::string line_of() {
  if constexpr (requires { Bound::describe(); })
    return Bound::describe();
  else if constexpr (contract::part<Part>)
    return line_of_part<Part>();
  else
    return std::string(type_name<Bound>());
}

/// The name of a part's tensors: the part's own tensor_name, or `Otherwise`.
template <class Part, fixed_string Otherwise>
[[nodiscard]] consteval auto tensor_name_of() {
  if constexpr (requires { Part::tensor_name; })
    return Part::tensor_name;
  else
    return Otherwise;
}
}  // namespace detail

}  // namespace fathom
