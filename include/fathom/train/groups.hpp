// Groups of parameters: tensors, chosen by their names, that are trained otherwise than the rest, or not at all.
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

/// Of several groups that a tensor's name matches, the last one decides, and decides all.
struct parameter_group {
  std::function<bool(std::string_view)> match{};  // of a tensor's name ("h.3.attn.c_attn.weight"); glob makes one
  double rate = 1;                // times the optimiser's rate
  std::optional<double> decay{};  // weight decay of these tensors, whatever their shape; none: as without the group
  bool frozen = false;            // they keep their values, and have no part in the norm of the gradients
};

/// Matches whole names: `*` stands for any letters, dots included, `?` for one letter. glob("h.?.mlp.*").
[[nodiscard]] std::function<bool(std::string_view)> glob(std::string pattern);

/// What the groups come to for a tensor.
struct tensor_setting {
  double rate = 1;
  std::optional<double> decay{};
  bool frozen = false;
  bool operator==(const tensor_setting&) const = default;
};

namespace detail {
/// The setting of every tensor of a table. Fails on a group that matches no tensor or makes no sense, and when all is frozen.
[[nodiscard]] std::vector<tensor_setting> resolve(std::span<const parameter_group> groups, const tensor_table& table);
}  // namespace detail

}  // namespace fathom

#if !defined(FATHOM_KERNELS)
#include "fathom/train/groups.inl.hpp"
#endif
