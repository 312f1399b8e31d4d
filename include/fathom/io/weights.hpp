// Weights to and from safetensors files.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <map>
#include <new>
#include <set>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/memory.hpp"
#include "fathom/core/storage.hpp"
#include "fathom/core/tensor.hpp"
#include "fathom/io/config.hpp"
#include "fathom/io/json.hpp"
#include "fathom/io/conversion.hpp"
#include "fathom/io/safetensors.hpp"
#include "fathom/io/transformers.hpp"

namespace fathom {

/// What load does about tensors of the model that the file does not have.
enum class missing {
  fails,  // an error
  keep    // they keep the values that they have: a plain GPT-2 checkpoint into a model with shortcuts
};

struct load_options {
  fathom::missing missing = fathom::missing::fails;
};

namespace io {

/// The entry of the metadata that holds the config.
inline constexpr const char* config_entry = "fathom.config";

/// The config of a model as JSON text; empty when its architecture was not made from a config.
template <class Model>
[[nodiscard]] std::string config_text() {
  if constexpr (requires { Model::architecture::configuration; })
    return to_json(Model::architecture::configuration).dump();
  else
    return {};
}

/// The tensors of some parameters, under `prefix` + their names, in the order of memory. They point into `weights`.
template <class Parameters>
void list_tensors(const Parameters& weights, const std::string& prefix,
                  std::vector<std::pair<std::string, stored_tensor>>& list) {
  using model = typename Parameters::model;
  model::visit(
      [&](std::string_view name, initial, const auto& tensor) {
        using T = typename std::remove_cvref_t<decltype(tensor)>::value_type;
        static_assert(!type_name<T>.empty(), "weights of this scalar type have no form in a file");
        list.emplace_back(prefix + std::string(name), stored_tensor{std::string(type_name<T>),
                                                                    {tensor.shape.begin(), tensor.shape.end()},
                                                                    std::as_bytes(tensor.span())});
      },
      weights);
}

/// Buffers of old GPT-2 checkpoints that are not weights.
[[nodiscard]] inline bool is_ignored(std::string_view name) {
  return name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias");
}

/// Whether weights are packed to decode with, and not numbers to train.
template <class Parameters>
inline constexpr bool is_packed = requires { typename Parameters::number; };

/// The bytes of a model's largest tensor.
template <class Model>
inline constexpr std::size_t largest_tensor = [] {
  index largest = 0;
  Model::visit_tensors([&](initial, const auto& tensor) { largest = std::max(largest, tensor.size); }, Model::tensors);
  return static_cast<std::size_t>(largest) * sizeof(typename Model::scalar);
}();

/// Packs a tensor of a file; As: its shape and role. `room` is for its numbers as the model has them.
template <class Packed, class As, class To>
void pack_stored(const stored_tensor& from, const As&, const stored_tensor* scales, std::span<std::byte> room, To& to) {
  using model = typename Packed::model;
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    using numbers = tensor<typename model::scalar, As::shape[I]...>;
    auto& plain = *::new (room.data()) numbers;
    copy_numbers(from, As::role, scales, plain.data());
    model::backend::template pack_tensor<typename Packed::number>(plain, to);
  }(std::make_index_sequence<As::rank>());
}

/// Reads tensors under `prefix` + their names into `weights`. `accept(name)` says whether a tensor of the file that the
/// model does not have is in order. All of it is checked before the first number is written. File: safetensors_file or
/// safetensors_folder.
template <class File, class Parameters, class Accept>
void read_tensors(const File& file, const std::string& prefix, Parameters& weights,
                  const load_options& options, const Accept& accept) {
  using model = typename Parameters::model;
  std::string problems;
  std::set<std::string, std::less<>> used;

  if (const auto entry = file.metadata().find(config_entry); entry != file.metadata().end()) {
    if constexpr (requires { model::architecture::configuration; }) {
      const auto found = parse_json(entry->second);
      auto expected = to_json(model::architecture::configuration);
      if (!found.is_object()) problems += join("\n  metadata ", config_entry, ": is not a JSON object");
      if (options.missing == missing::keep && found.is_object() && found.contains("shortcut") && found["shortcut"].is_null())
        expected.erase("shortcut");
      if (found.is_object()) problems += differences(expected, found);
    }
  }

  const auto find = [&](std::string_view name) -> const stored_tensor* {
    const stored_tensor* result = nullptr;
    for (const char* optional : {"", "transformer."}) {
      const auto entry = file.tensors().find(join(prefix, optional, name));
      if (entry == file.tensors().end()) continue;
      if (result) problems += join("\n  ", name, ": is there twice, with and without the prefix \"transformer.\"");
      result = &entry->second;
      used.insert(entry->first);
    }
    return result;
  };
  const auto find_scales = [&](std::string_view name, const stored_tensor& tensor, role as) {
    return tensor.type == "I8" && may_be_int8(as) ? find(join(name, scale_suffix)) : nullptr;
  };
  model::visit(
      [&](std::string_view name, initial, const auto& as) {
        stored_tensor expected{may_be_int8(as.role) ? "F32, F64, BF16, F16 or I8" : "F32, F64, BF16 or F16",
                               {as.shape.begin(), as.shape.end()}, {}};
        const stored_tensor* const found = find(name);
        if (!found) {
          if (options.missing == missing::fails)
            problems += join("\n  ", prefix, name, ": missing; expected ", expected.describe());
          return;
        }
        const bool is_int8 = found->type == "I8" && may_be_int8(as.role);
        const stored_tensor* const scales = find_scales(name, *found, as.role);
        if (found->shape != expected.shape || !(is_int8 || is_floating_point(found->type)))
          problems += join("\n  ", prefix, name, ": expected ", expected.describe(), ", found ", found->describe());
        else if (is_int8)
          problems += scale_problem(join(prefix, name), *found, as.role, scales);
      },
      model::tensors);
  if constexpr (model::tied) {  // a tied checkpoint may hold the output projection a second time
    const stored_tensor* const table = find("wte.weight");
    const stored_tensor* const projection = find("lm_head.weight");
    if (table && projection &&
        (table->type != projection->type || table->shape != projection->shape ||
         !std::equal(table->bytes.begin(), table->bytes.end(), projection->bytes.begin())))
      problems += join("\n  ", prefix, "lm_head.weight: differs from wte.weight, and the model's head is tied");
  }
  for (const auto& [name, tensor] : file.tensors())
    if (!used.contains(name) && !is_ignored(name) && !accept(name))
      problems += join("\n  ", name, ": not part of the model; found ", tensor.describe());
  if (!problems.empty()) fail(file.path(), ": does not fit the model:", problems);

  const buffer room(is_packed<Parameters> ? largest_tensor<model> : 0);
  model::visit(
      [&](std::string_view name, initial, auto& tensor, const auto& as) {
        const stored_tensor* const found = find(name);
        if (!found) return;
        const stored_tensor* const scales = find_scales(name, *found, as.role);
        if constexpr (is_packed<Parameters>)
          pack_stored<Parameters>(*found, as, scales, room.bytes(), tensor);
        else
          copy_numbers(*found, as.role, scales, tensor.data());
      },
      weights, model::tensors);
}

/// The same without a prefix, for weights in whatever memory.
template <class File, class Parameters, class Accept>
void read_anywhere(const File& file, Parameters& weights, const load_options& options, const Accept& accept) {
  if constexpr (is_packed<Parameters> && !is_on_host<Parameters>) {
    using model = typename Parameters::model;
    if (options.missing == missing::keep)
      fail(file.path(), ": load with missing::keep into packed weights of a GPU; expected parameters, to be packed afterwards");
    auto whole = make<typename model::parameters>();
    read_anywhere(file, *whole, options, accept);
    pack_into(*whole, weights);
  } else {
    edit_on_host(weights, [&](auto& to) { read_tensors(file, "", to, options, accept); });
  }
}

/// Where a trainer's checkpoint keeps the moments of AdamW.
inline constexpr const char* moments_prefix = "adamw.";

}  // namespace io

/// Writes weights to a safetensors file, under the names of ../README.md, with the config in the metadata. The file appears
/// under its name when it is complete. Fails when it cannot be written.
/// save<P>, with P = float, bf16 or int8, writes them as P (../README.md, "Types in files").
template <class P = void, class Parameters>
void save(const std::filesystem::path& path, const Parameters& weights) {
  const auto here = on_host(weights);
  io::converted_tensors to;
  if constexpr (std::is_void_v<P>)
    io::list_tensors(*here, "", to.tensors);
  else
    to = io::convert_tensors<P>(*here);
  std::map<std::string, std::string> metadata{{"format", "pt"}};
  if (auto text = io::config_text<typename Parameters::model>(); !text.empty()) metadata[io::config_entry] = text;
  io::write_safetensors(path, to.tensors, metadata);
}

/// Writes weights as a GPT-2 checkpoint of `transformers`: config.json and model.safetensors in a folder, which is made if
/// it is not there; GPT2LMHeadModel.from_pretrained reads it. For models without a shortcut. Fails when it cannot be written.
template <class Parameters>
void save_transformers(const std::filesystem::path& folder, const Parameters& weights) {
  using architecture = typename Parameters::model::architecture;
  static_assert(requires { architecture::configuration; }, "fathom::save_transformers: the model was not made from a config");
  static_assert(!architecture::has_shortcut, "fathom::save_transformers: transformers has no GPT-2 with shortcuts");
  std::error_code problem;
  std::filesystem::create_directories(folder, problem);
  if (problem) fail(folder.string(), ": cannot be made: ", problem.message());
  std::vector<std::pair<std::string, io::stored_tensor>> tensors;
  const auto here = on_host(weights);
  io::list_tensors(*here, "transformer.", tensors);
  for (auto& [name, tensor] : tensors)
    if (name == "transformer.lm_head.weight") name = "lm_head.weight";
  const char* const type = std::is_same_v<typename Parameters::model::scalar, double> ? "float64" : "float32";
  // Both are there in full before either takes its name.
  io::atomic_file config(folder / "config.json");
  config.write(io::to_transformers_json(architecture::configuration, type).dump(2) + "\n");
  io::write_safetensors(folder / "model.safetensors", tensors,
                        {{"format", "pt"}, {io::config_entry, io::config_text<typename Parameters::model>()}});
  config.commit();
}

/// Reads weights from a safetensors file: one that fathom saved, a trainer's checkpoint, or one of GPT-2; or from a folder
/// that save_pretrained of `transformers` wrote for a GPT-2, shards included, whose config.json is then checked first.
/// Types F32, F64, BF16 and F16, and I8 with scales, are converted. When it does not fit the model, the error lists every
/// key of the config that disagrees, or every tensor that is missing, unknown or of another shape or type, and the weights
/// stay as they were. `weights` are parameters, or packed<P>: then there is never a second copy of all of them.
template <class Parameters>
void load(const io::safetensors_file& file, Parameters& weights, const load_options& options = {}) {
  io::read_anywhere(file, weights, options, [](std::string_view name) { return name.starts_with(io::moments_prefix); });
}
template <class Parameters>
void load(const std::filesystem::path& path, Parameters& weights, const load_options& options = {}) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(path, ignored)) return load(io::safetensors_file(path), weights, options);
  const auto json = io::read_json(path / "config.json");
  using architecture = typename Parameters::model::architecture;
  if constexpr (requires { architecture::configuration; })
    if (const auto text = io::transformers_differences(architecture::configuration, json); !text.empty())
      fail((path / "config.json").string(), ": does not fit the model:", text);
  io::read_anywhere(io::safetensors_folder(path), weights, options, [](std::string_view) { return false; });
}

}  // namespace fathom
