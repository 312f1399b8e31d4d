// The tensors of a model over a storage, their names, and the number of parameters.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include "fathom/core/copy.hpp"
#include "fathom/core/memory.hpp"
#include "fathom/core/name.hpp"
#include "fathom/core/storage.hpp"
#include "fathom/core/types.hpp"
#include "fathom/layer/stack.hpp"

namespace fathom {

/// All tensors of an architecture over a storage: one contiguous block.
template <class Architecture, class S>
struct layout {
  typename Architecture::embedding::template parameters<S> embed;
  typename Architecture::body::template parameters<S> blocks;
  typename Architecture::head::template parameters<S> out;

  // Weights are not copied by accident. These templates win over the deleted functions, and say what to write instead.
  layout() = default;
  layout(const volatile layout&) = delete;
  void operator=(const volatile layout&) = delete;
  template <class From>
    requires std::is_same_v<From, layout>
  layout(const From&) {  // NOLINT: stands for the copy constructor
    static_assert(detail::never<From>, "fathom: weights are copied by fathom::copy(from), into a new block, or fathom::copy(from, to)");
  }
  template <class From>
  layout& operator=(const From&) {
    static_assert(detail::never<From>, "fathom: weights are copied by fathom::copy(from, to)");
    return *this;
  }
};

/// Calls f(name, initial, tensor...) for every tensor of layouts of an architecture, in the order of memory.
template <class Architecture, class F, class Path, class... P>
constexpr void visit_layout(const F& f, const Path& at, P&... p) {
  Architecture::embedding::visit(f, at, p.embed...);
  Architecture::body::visit(f, at, 0, p.blocks...);
  Architecture::head::visit(f, at, p.out...);
}

/// The shapes and roles of all tensors.
template <class Architecture>
inline constexpr layout<Architecture, shapes> tensors_of{};

/// The number of parameters.
template <class Architecture>
inline constexpr index parameter_count_in = [] {
  index count = 0;
  visit_layout<Architecture>([&](const auto&, initial, const auto& tensor) { count += tensor.size; }, no_path{},
                             tensors_of<Architecture>);
  return count;
}();

/// The lowest stage of an architecture that has a tensor whose name f(name) accepts: the embedding if it has one, the
/// end of the body if none has.
template <class Architecture, class F>
[[nodiscard]] constexpr lowest_stage lowest_stage_with(const F& f) {
  const layout<Architecture, shapes>& p = tensors_of<Architecture>;
  lowest_stage lowest{Architecture::body::depth, 0};
  Architecture::body::visit_stages(
      [&](int block, int stage, std::string_view name) {
        if (f(name)) lowest = std::min(lowest, lowest_stage{block, stage});
      },
      0, p.blocks);
  Architecture::embedding::visit([&](std::string_view name, initial, const auto&) { if (f(name)) lowest = {}; }, path{}, p.embed);
  return lowest;
}

/// A name that can be a template argument, so that a compiler shows it.
struct shown_name {
  char text[121]{};
  constexpr shown_name() = default;
  constexpr explicit shown_name(std::string_view name) { std::copy_n(name.data(), name.size(), text); }
};

/// The first name that two tensors of an architecture share; empty if all are distinct. Visits two blocks of a run: the
/// names of all others differ only in the number.
template <class Architecture>
[[nodiscard]] consteval shown_name repeated_name() {
  constexpr auto visit = [](const auto& f, const auto& at) {
    const layout<Architecture, shapes>& p = tensors_of<Architecture>;
    Architecture::embedding::visit(f, at, p.embed);
    Architecture::body::visit_two(f, at, 0, p.blocks);
    Architecture::head::visit(f, at, p.out);
  };
  constexpr std::size_t count = [&] {
    std::size_t n = 0;
    visit([&](const auto&, initial, const auto&) { ++n; }, no_path{});
    return n;
  }();
  const auto hash = [](std::string_view name) {  // FNV-1a
    std::uint64_t h = 14695981039346656037u;
    for (const char letter : name) h = (h ^ static_cast<unsigned char>(letter)) * 1099511628211u;
    return h;
  };
  std::array<std::uint64_t, count> seen{};
  std::size_t n = 0;
  visit([&](const auto& name, initial, const auto&) { seen[n++] = hash(name); }, path{});
  std::sort(seen.begin(), seen.end());
  const auto twice = std::adjacent_find(seen.begin(), seen.end());
  if (twice == seen.end()) return {};
  shown_name found;
  visit([&](const auto& name, initial, const auto&) { if (hash(name) == *twice) found = shown_name(std::string_view(name)); }, path{});
  return found;
}

namespace check {
template <shown_name Name>
inline constexpr bool tensor_names_are_distinct = Name.text[0] == '\0';
}

}  // namespace fathom
