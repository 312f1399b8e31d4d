// What checkpoint.hpp declares.
#pragma once

#include <algorithm>
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
/// What comes before the names of the tensors of a part.
[[nodiscard]] inline std::string prefix_of(std::string_view part) { return part.empty() ? std::string() : join(part, "."); }

[[nodiscard]] inline const char* name_of(schedule s) {
  return s == schedule::cosine ? "cosine" : s == schedule::linear ? "linear" : "warmup_stable_decay";
}
[[nodiscard]] inline nlohmann::json json_of(const tensor_setting& s) {
  auto json = nlohmann::json::object();
  json["rate"] = s.rate;
  json["decay"] = s.decay ? nlohmann::json(*s.decay) : nlohmann::json();  // null: by the tensor's shape
  json["frozen"] = s.frozen;
  return json;
}

/// Files hold AdamW's options among the trainer's, and no schedule where it is a cosine, no group where there is none: what they
/// have always held.
[[nodiscard]] inline nlohmann::json json_of(const run_identity& identity) {
  const training& o = identity.options;
  auto json = nlohmann::json::object();
  json["batch"] = o.batch;
  json["tokens"] = o.tokens;
  json["accumulate"] = o.accumulate;
  json["steps"] = o.steps;
  json["lowest_rate"] = o.lowest_rate;
  json["warmup"] = o.warmup;
  if (o.schedule != schedule::cosine) json["schedule"] = name_of(o.schedule);
  if (o.schedule == schedule::warmup_stable_decay) json["cooldown"] = o.cooldown;
  if (identity.optimizer.empty()) {
    json["rate"] = o.rate;
    json["beta1"] = o.beta1;
    json["beta2"] = o.beta2;
    json["decay"] = o.decay;
    json["clip"] = o.clip;
  } else {
    auto& own = json["optimizer"];
    own["name"] = identity.optimizer;
    for (const option_value& option : identity.own)
      own[option.name] = option.is_flag ? nlohmann::json(option.number != 0) : nlohmann::json(option.number);
  }
  for (std::size_t i = 0; i < identity.settings.size(); ++i)
    if (identity.settings[i] != tensor_setting{}) json["groups"][identity.tensors[i]] = json_of(identity.settings[i]);
  json["seed"] = o.seed;
  json["data"]["tokens"] = identity.data_tokens;
  json["data"]["hash"] = identity.data_hash;
  json["compute"] = identity.compute;
  return json;
}

/// Gives both what one of them leaves to be understood, so that they can be compared.
inline void say_defaults(nlohmann::json& a, nlohmann::json& b) {
  for (auto* const json : {&a, &b})
    if (!json->contains("schedule")) (*json)["schedule"] = name_of(schedule::cosine);
  const auto name_optimizer = [](nlohmann::json& json) {
    if (!json.contains("optimizer")) json["optimizer"]["name"] = "adamw";
  };
  if (a.contains("optimizer") || b.contains("optimizer")) name_optimizer(a), name_optimizer(b);
  const auto add_groups = [](const nlohmann::json& from, nlohmann::json& to) {
    if (!from.contains("groups") || !from["groups"].is_object()) return;
    for (const auto& group : from["groups"].items())
      if (auto& groups = to["groups"]; groups.is_null() || (groups.is_object() && !groups.contains(group.key())))
        groups[group.key()] = json_of(tensor_setting{});
  };
  add_groups(a, b);
  add_groups(b, a);
}
}  // namespace detail

FATHOM_INLINE run_identity identify(const training& options, std::span<const token> data, std::string_view compute) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const token t : data) hash = (hash ^ static_cast<std::uint32_t>(t)) * 0x100000001b3u;
  return {.options = options, .data_tokens = std::ssize(data), .data_hash = hash, .compute = std::string(compute)};
}

FATHOM_INLINE void save_checkpoint(const std::filesystem::path& path, const checkpoint_numbers& numbers, const config* of,
                                   const run_identity& identity, const run_state& state) {
  io::tensors_to_write tensors;
  for (const auto& part : numbers.parts) tensors.add({numbers.table, numbers.type, part.begin}, detail::prefix_of(part.name));
  auto json = detail::json_of(identity);
  json["step"] = state.step;
  for (auto& recent = json["recent"] = nlohmann::json::array(); const double loss : state.recent) recent.push_back(loss);
  io::write_weights(path, tensors, of, {{detail::state_entry, json.dump()}});
}

FATHOM_INLINE checkpoint_file::checkpoint_file(const std::filesystem::path& path, const config* of, const run_identity& identity,
                                               bool extend)
    : file_(path) {
  const auto entry = file_.metadata().find(detail::state_entry);
  auto found = entry == file_.metadata().end() ? nlohmann::json() : io::detail::parse_json(entry->second);
  const auto has = [&](const char* key, bool (nlohmann::json::*is)() const) {
    return found.is_object() && found.contains(key) && (found[key].*is)();
  };
  if (!has("step", &nlohmann::json::is_number_unsigned) || !has("recent", &nlohmann::json::is_array) ||
      !std::all_of(found["recent"].begin(), found["recent"].end(), [](const auto& loss) { return loss.is_number(); }))
    fail(file_.path(), ": is not a trainer's checkpoint, so the run cannot be resumed from it");

  auto expected = detail::json_of(identity);
  if (!found.contains("compute")) expected.erase("compute");  // files did not always say it
  if (has("warmup", &nlohmann::json::is_number_unsigned) && std::in_range<index>(found["warmup"].get<std::uint64_t>()))
    warmup_ = found["warmup"].get<index>();
  const bool had_fewer_steps = has("steps", &nlohmann::json::is_number_unsigned) &&
                               std::cmp_less(found["steps"].get<std::uint64_t>(), identity.options.steps);
  if (extend && had_fewer_steps) expected.erase("steps");
  if (extend && had_fewer_steps) expected.erase("cooldown");  // which is then that of the longer run
  if (extend && identity.options.warmup == -1) expected.erase("warmup");
  detail::say_defaults(expected, found);
  std::string text = io::detail::differences(expected, found);
  if (const auto config = file_.metadata().find(io::config_entry); of && config != file_.metadata().end())
    text += io::detail::config_problems(config->second, *of, missing::fails);
  if (!text.empty())
    fail(file_.path(), ": is the checkpoint of another run:", text,
         had_fewer_steps && !extend ? "\n  for more steps than it was planned for, set extend" : "");
  const auto step = found["step"].get<std::uint64_t>();
  if (std::cmp_greater(step, identity.options.steps)) fail(file_.path(), ": is of step ", step, " of ", identity.options.steps);
  state_.step = static_cast<index>(step);
  for (const auto& loss : found["recent"]) state_.recent.push_back(loss.get<double>());
}

FATHOM_INLINE void checkpoint_file::read(std::string_view part, std::span<const std::string_view> states,
                                         const io::wanted_tensors& model, std::string_view type, std::byte* to) const {
  io::wanted_tensors wanted = model;
  wanted.prefix = detail::prefix_of(part);
  if (part.empty())
    for (const std::string_view state : states) wanted.accepted_prefixes.push_back(detail::prefix_of(state));
  else
    wanted.accepted_prefixes.push_back("");
  const std::vector<io::found_tensor> found = io::find_tensors(file_, wanted);
  std::string problems;  // other types would be converted, and the run not be what it was
  for (std::size_t i = 0; i < found.size(); ++i)
    if (found[i].numbers->type != type)
      problems += join("\n  ", wanted.prefix, wanted.table[i].name, ": expected ", type, ", found ", found[i].numbers->type);
  if (!problems.empty()) fail(file_.path(), ": is the checkpoint of another run:", problems);
  io::read_tensors(file_, wanted, type, to);
}

}  // namespace fathom
