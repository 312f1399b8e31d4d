// What checkpoint.hpp declares.
#pragma once

#include <cstdint>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/io/json.inl.hpp"
#include "fathom/io/weights.inl.hpp"
#include "fathom/train/checkpoint.hpp"

namespace fathom {

namespace detail {
inline constexpr const char* state_entry = "fathom.training";  // of the metadata
/// What comes before the names of the weights and of the moments.
inline constexpr const char* checkpoint_prefixes[] = {"", "adamw.first.", "adamw.second."};

[[nodiscard, gnu::cold]] inline json json_of(const run_identity& identity) {
  const training& o = identity.options;
  json all = json::object();
  all["batch"] = o.batch;
  all["tokens"] = o.tokens;
  all["accumulate"] = o.accumulate;
  all["steps"] = o.steps;
  all["rate"] = o.rate;
  all["lowest_rate"] = o.lowest_rate;
  all["warmup"] = o.warmup;
  all["beta1"] = o.beta1;
  all["beta2"] = o.beta2;
  all["decay"] = o.decay;
  all["clip"] = o.clip;
  all["seed"] = o.seed;
  all["data"]["tokens"] = identity.data_tokens;
  all["data"]["hash"] = identity.data_hash;
  all["compute"] = identity.compute;
  return all;
}
}  // namespace detail

FATHOM_INLINE run_identity identify(const training& options, std::span<const token> data, std::string_view compute) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const token t : data) hash = (hash ^ static_cast<std::uint32_t>(t)) * 0x100000001b3u;
  return {options, std::ssize(data), hash, std::string(compute)};
}

FATHOM_INLINE void save_checkpoint(const std::filesystem::path& path, const checkpoint_numbers& numbers, std::string_view description,
                                   const run_identity& identity, const run_state& state) {
  io::tensors_to_write tensors;
  const std::byte* const parts[] = {numbers.weights, numbers.first_moment, numbers.second_moment};
  for (std::size_t i = 0; i < std::size(parts); ++i)
    tensors.add({numbers.table, numbers.type, parts[i]}, detail::checkpoint_prefixes[i]);
  json all = detail::json_of(identity);
  all["step"] = state.step;
  for (json& recent = all["recent"] = json::array(); const double loss : state.recent) recent.push_back(loss);
  io::write_weights(path, tensors, description, {{detail::state_entry, all.dump()}});
}

FATHOM_INLINE checkpoint_file::checkpoint_file(const std::filesystem::path& path, std::string_view description,
                                               const run_identity& identity, bool extend)
    : file_(path) {
  const auto entry = file_.metadata().find(detail::state_entry);
  const json found = entry == file_.metadata().end() ? json() : json::parse(entry->second).value_or(json());
  const json &step = found["step"], &recent = found["recent"], &steps = found["steps"], &warmup = found["warmup"];
  bool is_checkpoint = step.is_unsigned() && recent.is_array();
  if (is_checkpoint)
    for (const json& loss : recent.elements()) is_checkpoint &= loss.is_number();
  if (!is_checkpoint)
    fail(file_.path(), ": is not a trainer's checkpoint, so the run cannot be resumed from it");

  json expected = detail::json_of(identity);
  if (!found.contains("compute")) expected.erase("compute");  // files did not always say it
  if (warmup.is_unsigned() && std::in_range<index>(warmup.as<std::uint64_t>())) warmup_ = warmup.as<index>();
  const bool had_fewer_steps = steps.is_unsigned() && std::cmp_less(steps.as<std::uint64_t>(), identity.options.steps);
  if (extend && had_fewer_steps) expected.erase("steps");
  if (extend && identity.options.warmup == -1) expected.erase("warmup");
  std::string text = io::detail::differences(expected, found, false);
  if (const auto other = file_.metadata().find(io::config_entry); !description.empty() && other != file_.metadata().end())
    text += io::detail::description_problems(other->second, std::string(description), missing::fails);
  if (!text.empty())
    fail(file_.path(), ": is the checkpoint of another run:", text,
         had_fewer_steps && !extend ? "\n  for more steps than it was planned for, set extend" : "");
  const auto taken = step.as<std::uint64_t>();
  if (std::cmp_greater(taken, identity.options.steps)) fail(file_.path(), ": is of step ", taken, " of ", identity.options.steps);
  state_.step = static_cast<index>(taken);
  for (const json& loss : recent.elements()) state_.recent.push_back(loss.as<double>());
}

FATHOM_INLINE void checkpoint_file::read(int moment, const io::wanted_tensors& model, std::string_view type, std::byte* to) const {
  io::wanted_tensors wanted = model;
  wanted.prefix = detail::checkpoint_prefixes[moment];
  wanted.accepted_prefix = moment == 0 ? io::moments_prefix : "";
  const std::vector<io::found_tensor> found = io::find_tensors(file_, wanted);
  std::string problems;  // other types would be converted, and the run not be what it was
  for (std::size_t i = 0; i < found.size(); ++i)
    if (found[i].numbers->type != type)
      problems += join("\n  ", wanted.prefix, wanted.table[i].name, ": expected ", type, ", found ", found[i].numbers->type);
  if (!problems.empty()) fail(file_.path(), ": is the checkpoint of another run:", problems);
  io::read_tensors(file_, wanted, type, to);
}

}  // namespace fathom
