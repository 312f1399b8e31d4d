// Checkpoints of a run: a safetensors file with the weights, the states of the optimiser, and what the run is and how far it is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fathom/core/compiled.hpp"
#include "fathom/core/types.hpp"
#include "fathom/io/weights.hpp"
#include "fathom/train/optimizer.hpp"
#include "fathom/train/training.hpp"

namespace fathom {

/// What a resumed run must agree in, beside the model.
struct run_identity {
  training options;         // those that decide what is computed; those of AdamW only where it is the optimiser
  index data_tokens = 0;    // of the training data, and
  std::uint64_t data_hash = 0;  // FNV-1a of them
  std::string compute;      // what products are computed in: "float", "double", "bf16"
  std::string_view optimizer{};            // another optimiser's name, and
  std::vector<option_value> own{};         // its options
  std::vector<std::string> tensors{};      // the names of all tensors, and
  std::vector<tensor_setting> settings{};  // what the groups make of them
};
[[nodiscard]] run_identity identify(const training& options, std::span<const token> data, std::string_view compute);

/// How far a run is.
struct run_state {
  index step = 0;              // taken so far
  std::vector<double> recent;  // losses of the last steps
};

/// Weights and states in the host's memory, of one table.
struct checkpoint_numbers {
  const tensor_table& table;
  std::string_view type;  // "F32" or "F64"
  struct part {
    std::string_view name;  // of a state: tensors are named with it, and a dot, before the weight's name; of the weights: none
    const std::byte* begin;
  };
  std::vector<part> parts;
};
void save_checkpoint(const std::filesystem::path& path, const checkpoint_numbers& numbers, std::string_view description,
                     const run_identity& identity, const run_state& state);

/// A checkpoint to resume from.
class checkpoint_file {
 public:
  /// Fails when it is not one of this run, with all that is different; `description` is the model's (io/description.hpp), if
  /// it has one. With `extend`, one of a run of fewer steps will do, and, where the warm-up wanted is -1, of any warm-up.
  checkpoint_file(const std::filesystem::path& path, std::string_view description, const run_identity& identity, bool extend);
  [[nodiscard]] const run_state& state() const { return state_; }
  /// Of the run that wrote it.
  [[nodiscard]] index warmup() const { return warmup_; }
  /// One of its parts, the weights ("") or a state, into numbers of a type. Fails when it does not fit, and when the file has
  /// other tensors than these states.
  void read(std::string_view part, std::span<const std::string_view> states, const io::wanted_tensors& model, std::string_view type,
            std::byte* to) const;

 private:
  io::safetensors_file file_;
  run_state state_;
  index warmup_ = 0;
};

}  // namespace fathom

#if !defined(FATHOM_KERNELS)
#include "fathom/train/checkpoint.inl.hpp"
#endif
