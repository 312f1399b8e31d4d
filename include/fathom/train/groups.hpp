// Parameter groups: tensors, selected by name, with their own learning rate or weight decay, or frozen.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fathom/core/compiled.hpp"
#include "fathom/core/name.hpp"
#include "fathom/core/storage.hpp"
#include "fathom/model/tensor_table.hpp"

namespace fathom {

/// If several groups match a tensor, only the last one applies.
struct parameter_group {
  std::function<bool(std::string_view)> match{};  // takes a tensor's name ("h.3.attn.c_attn.weight"); see glob
  double rate = 1;                // factor of the optimiser's learning rate
  std::optional<double> decay{};  // weight decay, for tensors of any shape; none: the optimiser's
  bool frozen = false;            // not trained, and not part of the gradient norm
};

/// Matches whole names: `*` matches any characters, dots included; `?` matches one character. glob("h.?.mlp.*").
[[nodiscard]] std::function<bool(std::string_view)> glob(std::string pattern);

/// The settings of a tensor, from the groups.
struct tensor_setting {
  double rate = 1;
  std::optional<double> decay{};
  bool frozen = false;
  bool operator==(const tensor_setting&) const = default;
};

namespace detail {
/// The setting of every tensor of a table. Fails on a group that matches no tensor or is invalid, and when all tensors
/// are frozen.
[[nodiscard]] std::vector<tensor_setting> resolve(std::span<const parameter_group> groups, const tensor_table& table);
}  // namespace detail

}  // namespace fathom

#if !defined(FATHOM_KERNELS)
#include "fathom/train/groups.inl.hpp"
#endif
