// Trains some of a model's tensors, and freezes all others.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "fathom/core/arena.hpp"
#include "fathom/core/glob.hpp"
#include "fathom/core/memory.hpp"
#include "fathom/core/name.hpp"
#include "fathom/core/tensor_view.hpp"
#include "fathom/core/types.hpp"
#include "fathom/model/layout.hpp"
#include "fathom/model/tape.hpp"
#include "fathom/model/tensor_table.hpp"
#include "fathom/model/trained.hpp"

namespace fathom {

namespace detail {

/// A size in numbers, rounded up so that the next tensor is aligned.
template <class T>
[[nodiscard]] constexpr index aligned_size(index size) {
  return static_cast<index>((static_cast<std::size_t>(size) * sizeof(T) + alignment - 1) / alignment * alignment / sizeof(T));
}

/// Names that match one of several patterns.
template <fixed_string... Patterns>
struct any_pattern {
  [[nodiscard]] static constexpr bool matches([[maybe_unused]] std::string_view name) {
    return (matches_glob(Patterns.view(), name) || ...);
  }
  /// Calls f(pattern) for each.
  template <class F>
  static constexpr void each(const F& f) {
    (f(Patterns.view()), ...);
  }
};

// Gradients of frozen tensors all go to one place, which has room for the largest; those of the embedding's and the head's
// tables go nowhere, as their layers skip them.

[[nodiscard]] constexpr bool is_table(role as) { return as == role::table || as == role::head; }
/// The numbers of that place. is_ignored(name, role) says which tensors are frozen and go there.
template <class Architecture, class F>
[[nodiscard]] consteval index ignored_numbers(const F& is_ignored) {
  const layout<Architecture, shapes>& all = tensors_of<Architecture>;
  index largest = 0;
  const auto add = [&](const path& name, initial, const auto& tensor) {
    if (is_ignored(name, tensor.role)) largest = std::max(largest, tensor.size);
  };
  const auto add_others = [&](const path& name, initial start, const auto& tensor) {
    if (!is_table(tensor.role)) add(name, start, tensor);
  };
  Architecture::body::visit(add, path{}, 0, all.blocks);
  Architecture::embedding::visit(add_others, path{}, all.embed);
  Architecture::head::visit(add_others, path{}, all.out);
  return largest;
}
/// Makes all gradients that are views (core/tensor_view.hpp) ignored ones.
template <class Architecture, class Gradients, class T>
void ignore_all(Gradients& to, T* place) {
  const auto ignore = [&](const no_path&, initial, auto& tensor, const auto&) {
    if constexpr (requires { tensor.values; }) tensor = {place, false};
  };
  const auto skip = [](const no_path&, initial, auto& tensor, const auto& as) {
    if constexpr (requires { tensor.values; }) {
      if (is_table(as.role)) tensor = {nullptr, false};
    }
  };
  const layout<Architecture, shapes>& all = tensors_of<Architecture>;
  visit_layout<Architecture>(ignore, no_path{}, to, all);
  Architecture::embedding::visit(skip, no_path{}, to.embed, all.embed);
  Architecture::head::visit(skip, no_path{}, to.out, all.out);
}

/// What patterns choose of an architecture's tensors.
struct chosen_tensors {
  index numbers = 0;      // of the chosen tensors, each rounded up
  index ignored = 0;      // of the place for the gradients of the others
  index without = 0;      // patterns that match nothing
  lowest_stage lowest{};  // with a chosen tensor
};
template <class Architecture, class T, class Pattern>
[[nodiscard]] consteval chosen_tensors choose() {
  chosen_tensors chosen;
  visit_layout<Architecture>(
      [&](const path& name, initial, const auto& tensor) {
        if (Pattern::matches(name)) chosen.numbers += aligned_size<T>(tensor.size);
      },
      path{}, tensors_of<Architecture>);
  chosen.ignored = ignored_numbers<Architecture>([](std::string_view name, role) { return !Pattern::matches(name); });
  Pattern::each([&](std::string_view pattern) {
    index matches = 0;
    visit_layout<Architecture>([&](const path& name, initial, const auto&) { matches += matches_glob(pattern, name); }, path{},
                               tensors_of<Architecture>);
    chosen.without += matches == 0;
  });
  chosen.lowest = lowest_stage_with<Architecture>([](std::string_view name) { return Pattern::matches(name); });
  return chosen;
}

/// The members that all partly trained models share: training passes over their tapes, and what those cost. `Own` is the
/// model (trained.hpp), made from `Net`.
template <class Own, class Net>
struct partly_trained : Net {
  static_assert(is_on_host<typename Net::parameters>,
                "fathom: a part of a model is trained in the host's memory only, not on a GPU");
  using tape = training_tape<Own>;

  /// Bytes of a tape, as Net::tape_bytes.
  [[nodiscard]] static constexpr std::size_t tape_bytes(index sequences, index tokens = Net::context) {
    return bytes_of<tape_views<Own>>(extent{sequences, tokens});
  }
  static void forward(const auto& p, const batch& b, training_tape<Own>& t) { training_pass<Own>::forward(p, b, t); }
  /// As Net::backward and Net::forward_backward, but g has gradients of the trained tensors only.
  static void backward(const auto& p, const batch& b, training_tape<Own>& t, auto& g, double scale = 1,
                       const lowest_stage& lowest = {}) {
    training_pass<Own>::backward(p, b, t, g, scale, lowest);
  }
  static void forward_backward(const auto& p, const batch& b, training_tape<Own>& t, auto& g, double scale = 1,
                               const lowest_stage& lowest = {}) {
    training_pass<Own>::forward_backward(p, b, t, g, scale, lowest);
  }
};

}  // namespace detail

namespace check {
template <index patterns_without_a_tensor>
inline constexpr bool every_pattern_matches_a_tensor = patterns_without_a_tensor == 0;
}

/// A model of which only the tensors are trained whose names match one of the patterns (core/glob.hpp):
///
///   using adapter = fathom::train_only<net, "shortcut.*">;
///   fathom::trainer<adapter> trainer({.steps = 300});
///   fathom::load("model.gguf", trainer.weights(), {.missing = fathom::missing::keep});
///
/// All others are frozen: they have no gradients and no moments, backward ends at the lowest stage with a trained tensor
/// (`lowest`), and a tape has no room for the activations below it. Weights are those of the model. A gradient is bitwise
/// that of the model's own backward.
template <class Net, fixed_string... Patterns>
struct train_only : detail::partly_trained<train_only<Net, Patterns...>, Net> {
  using typename Net::architecture;
  using typename Net::parameters;
  using typename Net::scalar;
  using pattern = detail::any_pattern<Patterns...>;
  static constexpr detail::chosen_tensors chosen = detail::choose<architecture, scalar, pattern>();
  static_assert(check::every_pattern_matches_a_tensor<chosen.without>,
                "fathom::train_only: a pattern matches no tensor of the model");
  static constexpr lowest_stage lowest = chosen.lowest;

  /// The trained tensors, or their gradients or moments.
  struct trained {
    using model = train_only;
    alignas(alignment) scalar numbers[static_cast<std::size_t>(std::max<index>(chosen.numbers, 1))];
  };

  [[nodiscard]] static tensor_table trained_table() {
    tensor_table table = table_of<Net>();
    std::erase_if(table, [](const tensor_row& row) { return !pattern::matches(row.name); });
    std::size_t offset = 0;
    for (tensor_row& row : table) {
      row.offset = offset;
      offset += static_cast<std::size_t>(detail::aligned_size<scalar>(row.size)) * sizeof(scalar);
    }
    return table;
  }

  static void initialize_trained(parameters&, std::uint64_t) {}
  static void take(const parameters& from, trained& to) {
    each_trained([](const auto& tensor, scalar* numbers) { std::copy_n(tensor.data(), tensor.size, numbers); }, to, from);
  }
  static void put(const trained& from, parameters& to) {
    each_trained([](auto& tensor, const scalar* numbers) { std::copy_n(numbers, tensor.size, tensor.data()); }, from, to);
  }

  using gradients = fathom::layout<architecture, views<scalar>>;
  static constexpr index spare = chosen.ignored;
  static void place(const parameters&, trained& g, scalar* spare_numbers, gradients& to) {
    detail::ignore_all<architecture>(to, spare_numbers);
    each_trained([](auto& tensor, scalar* numbers) { tensor = {numbers, true}; }, g, to);
  }

 private:
  /// Calls f(tensor, its numbers in `all`) for each trained tensor of a layout.
  template <class F, class All, class Layout>
  static void each_trained(const F& f, All& all, Layout& of) {
    auto* numbers = all.numbers;
    Net::visit(
        [&](const path& name, initial, auto& tensor) {
          if (!pattern::matches(name)) return;
          f(tensor, numbers);
          numbers += detail::aligned_size<scalar>(tensor.size);
        },
        of);
  }
};

}  // namespace fathom
