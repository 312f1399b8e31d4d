// Copies weights, whichever memory holds them.
#pragma once

#include <type_traits>
#include <utility>

#include "fathom/core/error.hpp"
#include "fathom/core/memory.hpp"

namespace fathom {

namespace detail {
/// False, but only at instantiation: for a static_assert in a branch that must not be used.
template <class...>
inline constexpr bool never = false;

/// The type that only empty braces convert to. A constructor that takes it is the one that ({}) calls; otherwise ({})
/// might mean a class's options or an object of the class itself.
enum class nothing_at_all {};

/// Whether T is a block of a model's numbers: parameters, or packed weights.
template <class T>
inline constexpr bool is_weights = requires { typename std::remove_cvref_t<T>::model; };
/// Whether T owns such a block or points to one, like the results of fathom::make and fathom::pack.
template <class T>
inline constexpr bool points_to_weights = requires(const std::remove_cvref_t<T>& pointer) {
  requires is_weights<decltype(*pointer)>;
  static_cast<bool>(pointer);
};
template <class T>
inline constexpr bool stands_for_weights = is_weights<T> || points_to_weights<T>;

/// The weights that an argument stands for: itself, or what it points to. Fails on a null pointer.
template <class T>
[[nodiscard]] auto& weights_in(T& argument, [[maybe_unused]] const char* who) {
  if constexpr (points_to_weights<T>) {
    if (!argument) fail(who, ": a pointer to nothing; expected weights, as fathom::make makes them");
    return *argument;
  } else {
    return argument;
  }
}
template <class T>
using weights_of = std::remove_reference_t<decltype(weights_in(std::declval<T&>(), ""))>;
}  // namespace detail

/// to = from: weights, gradients, moments or packed weights, in the memory of their backend. Both are such blocks of
/// one model, or own them: fathom::copy(trainer.weights(), best).
template <class From, class To>
  requires(detail::stands_for_weights<From> && detail::stands_for_weights<To>)
void copy(const From& from, To&& to) {
  using source = detail::weights_of<const From>;
  using target = detail::weights_of<std::remove_reference_t<To>>;
  if constexpr (!std::is_same_v<std::remove_cv_t<source>, std::remove_cv_t<target>>) {
    static_assert(detail::never<From, To>, "fathom::copy: from and to must be weights of one model, and of one kind");
  } else if constexpr (std::is_const_v<target>) {
    static_assert(detail::never<From, To>, "fathom::copy: the weights to copy to are const");
  } else {
    const auto& numbers = detail::weights_in(from, "copy");
    auto& place = detail::weights_in(to, "copy");
    if (&numbers != &place) memory_of<target>::copy(&place, &numbers, sizeof place);
  }
}

/// A new block with the same numbers: auto best = fathom::copy(trainer.weights()).
template <class From>
  requires(detail::stands_for_weights<From>)
[[nodiscard]] auto copy(const From& from) {
  auto to = make<std::remove_cv_t<detail::weights_of<const From>>>();
  copy(from, *to);
  return to;
}

}  // namespace fathom
