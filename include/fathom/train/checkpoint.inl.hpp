// Implementation of checkpoint.hpp.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <span>
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
inline constexpr const char* state_entry = "fathom.training";  // metadata entry
/// The prefix of the tensor names of a part.
[[nodiscard]] inline std::string prefix_of(std::string_view part) { return part.empty() ? std::string() : join(part, "."); }

[[nodiscard]] inline const char* name_of(schedule s) {
  return s == schedule::cosine ? "cosine" : s == schedule::linear ? "linear" : "warmup_stable_decay";
}
[[nodiscard]] inline json json_of(const tensor_setting& s) {
  json all = json::object();
  all["rate"] = s.rate;
  all["decay"] = s.decay ? json(*s.decay) : json();  // null: depends on the tensor's shape
  all["frozen"] = s.frozen;
  return all;
}

/// Keeps the original file format: AdamW's options are among the trainer's, and a cosine schedule, one micro-batch, gradients
/// that are not rounded, and default groups are left out. Only parts of models have "part".
[[nodiscard]] inline json json_of(const run_identity& identity) {
  const training& o = identity.options;
  json all = json::object();
  all["batch"] = o.batch;
  all["tokens"] = o.tokens;
  all["accumulate"] = o.accumulate;
  if (o.micro_batches != 1) all["micro_batches"] = o.micro_batches;
  if (o.bf16_gradients) all["bf16_gradients"] = true;
  all["steps"] = o.steps;
  all["lowest_rate"] = o.lowest_rate;
  all["warmup"] = o.warmup;
  if (o.schedule != schedule::cosine) all["schedule"] = name_of(o.schedule);
  if (o.schedule == schedule::warmup_stable_decay) all["cooldown"] = o.cooldown;
  if (identity.optimizer.empty()) {
    all["rate"] = o.rate;
    all["beta1"] = o.beta1;
    all["beta2"] = o.beta2;
    all["decay"] = o.decay;
    all["clip"] = o.clip;
  } else {
    auto& own = all["optimizer"];
    own["name"] = identity.optimizer;
    for (const option_value& option : identity.own)
      own[option.name] = option.is_flag ? json(option.number != 0) : json(option.number);
  }
  for (std::size_t i = 0; i < identity.settings.size(); ++i)
    if (identity.settings[i] != tensor_setting{}) all["groups"][identity.tensors[i]] = json_of(identity.settings[i]);
  all["seed"] = o.seed;
  all["data"]["tokens"] = identity.data_tokens;
  all["data"]["hash"] = identity.data_hash;
  all["compute"] = identity.compute;
  if (identity.part) {
    all["part"]["base"] = static_cast<std::uint64_t>(identity.part->base);
    if (identity.part->rank > 0) all["part"]["rank"] = index{identity.part->rank}, all["part"]["scale"] = identity.part->scale;
  }
  return all;
}

/// Adds defaults that only one of the two states, so that they can be compared.
inline void say_defaults(json& a, json& b) {
  if (a.contains("micro_batches") || b.contains("micro_batches"))
    for (json* const one : {&a, &b})
      if (!one->contains("micro_batches")) (*one)["micro_batches"] = index{1};
  if (a.contains("bf16_gradients") || b.contains("bf16_gradients"))
    for (json* const one : {&a, &b})
      if (!one->contains("bf16_gradients")) (*one)["bf16_gradients"] = false;
  for (json* const one : {&a, &b})
    if (!one->contains("schedule")) (*one)["schedule"] = name_of(schedule::cosine);
  const auto name_optimizer = [](json& one) {
    if (!one.contains("optimizer")) one["optimizer"]["name"] = "adamw";
  };
  if (a.contains("optimizer") || b.contains("optimizer")) name_optimizer(a), name_optimizer(b);
  const auto add_groups = [](const json& from, json& to) {
    const json* const groups = from.find("groups");
    if (!groups || !groups->is_object()) return;
    for (const auto& [name, setting] : groups->members())
      if (json& others = to["groups"]; others.is_null() || (others.is_object() && !others.contains(name)))
        others[name] = json_of(tensor_setting{});
  };
  add_groups(a, b);
  add_groups(b, a);
}
}  // namespace detail

FATHOM_INLINE run_identity identify(const training& options, const data::token_source& data, std::string_view compute) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  const auto add = [&](std::span<const token> tokens) {
    for (const token t : tokens) hash = (hash ^ static_cast<std::uint32_t>(t)) * 0x100000001b3u;
  };
  constexpr index places = 1024, some = 16;
  if (data.is_in_memory()) {
    add(data.span());
  } else if (data.size() <= places * some) {
    std::vector<token> all(static_cast<std::size_t>(data.size()));
    data.read(0, all);
    add(all);
  } else {
    std::array<token, some> tokens;
    const index last = data.size() - some;  // place p is p / 1023 of the way there, without overflow
    for (index p = 0; p < places; ++p) {
      data.read(last / (places - 1) * p + last % (places - 1) * p / (places - 1), tokens);
      add(tokens);
    }
  }
  return {.options = options, .data_tokens = data.size(), .data_hash = hash, .compute = std::string(compute)};
}

FATHOM_INLINE std::string text_of(const run_identity& identity, std::span<const std::pair<std::string, std::string>> more) {
  json all = detail::json_of(identity);
  for (const auto& [name, value] : more) all[name] = value;
  return all.dump();
}
FATHOM_INLINE std::string run_differences(std::string_view expected, std::string_view found) {
  json a = json::parse(expected).value_or(json()), b = json::parse(found).value_or(json());
  if (a.is_object() && b.is_object()) detail::say_defaults(a, b);
  return io::detail::differences(a, b, false);
}
FATHOM_INLINE std::string packed_state(const run_state& state) {
  std::string bytes(reinterpret_cast<const char*>(&state.step), sizeof state.step);
  return bytes.append(reinterpret_cast<const char*>(state.recent.data()), state.recent.size() * sizeof(double));
}
FATHOM_INLINE run_state unpacked_state(std::string_view bytes) {
  run_state state;
  std::memcpy(&state.step, bytes.data(), sizeof state.step);
  bytes.remove_prefix(sizeof state.step);
  state.recent.resize(bytes.size() / sizeof(double));
  if (!bytes.empty()) std::memcpy(state.recent.data(), bytes.data(), bytes.size());
  return state;
}

FATHOM_INLINE void save_checkpoint(const std::filesystem::path& path, const checkpoint_numbers& numbers, std::string_view description,
                                   const run_identity& identity, const run_state& state) {
  io::tensors_to_write tensors;
  for (const auto& part : numbers.parts) tensors.add({numbers.table, numbers.type, part.begin}, detail::prefix_of(part.name));
  json all = detail::json_of(identity);
  all["step"] = state.step;
  for (json& recent = all["recent"] = json::array(); const double loss : state.recent) recent.push_back(loss);
  io::write_weights(path, tensors, description, {{detail::state_entry, all.dump()}});
}

FATHOM_INLINE checkpoint_file::checkpoint_file(const std::filesystem::path& path, std::string_view description,
                                               const run_identity& identity, bool extend)
    : file_(path) {
  const auto entry = file_.metadata().find(detail::state_entry);
  json found = entry == file_.metadata().end() ? json() : json::parse(entry->second).value_or(json());
  const json& stored = found;
  const json &step = stored["step"], &recent = stored["recent"], &steps = stored["steps"], &warmup = stored["warmup"];
  bool is_checkpoint = step.is_unsigned() && recent.is_array();
  if (is_checkpoint)
    for (const json& loss : recent.elements()) is_checkpoint &= loss.is_number();
  if (!is_checkpoint)
    fail(file_.path(), ": is not a trainer's checkpoint, so the run cannot be resumed from it");

  json expected = detail::json_of(identity);
  if (!found.contains("compute")) expected.erase("compute");  // older files do not have it
  if (warmup.is_unsigned() && std::in_range<index>(warmup.as<std::uint64_t>())) warmup_ = warmup.as<index>();
  const bool had_fewer_steps = steps.is_unsigned() && std::cmp_less(steps.as<std::uint64_t>(), identity.options.steps);
  if (extend && had_fewer_steps) expected.erase("steps");
  if (extend && had_fewer_steps) expected.erase("cooldown");  // the longer run's cooldown applies
  if (extend && identity.options.warmup == -1) expected.erase("warmup");
  detail::say_defaults(expected, found);
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

FATHOM_INLINE void checkpoint_file::read(std::string_view part, std::span<const std::string_view> states,
                                         const io::wanted_tensors& model, std::string_view type, std::byte* to) const {
  io::wanted_tensors wanted = model;
  wanted.prefix = detail::prefix_of(part);
  if (part.empty())
    for (const std::string_view state : states) wanted.accepted_prefixes.push_back(detail::prefix_of(state));
  else
    wanted.accepted_prefixes.push_back("");
  const std::vector<io::found_tensor> found = io::find_tensors(file_, wanted);
  std::string problems;  // no conversion of types: the run would not continue exactly
  for (std::size_t i = 0; i < found.size(); ++i)
    if (found[i].numbers->type != type)
      problems += join("\n  ", wanted.prefix, wanted.table[i].name, ": expected ", type, ", found ", found[i].numbers->type);
  if (!problems.empty()) fail(file_.path(), ": is the checkpoint of another run:", problems);
  io::read_tensors(file_, wanted, type, to);
}

}  // namespace fathom
