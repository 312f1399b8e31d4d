// Checkpoints of a run: a safetensors file with the weights, the optimiser's states, and the options and progress of
// the run.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fathom/core/compiled.hpp"
#include "fathom/core/types.hpp"
#include "fathom/data/token_source.hpp"
#include "fathom/io/weights.hpp"
#include "fathom/train/optimizer.hpp"
#include "fathom/train/training.hpp"

namespace fathom {

/// What a run trains of a model, if only a part (model/trained.hpp). The checkpoint has only that.
struct part_identity {
  std::uint32_t base = 0;  // identity of what is frozen, as io::base_identity
  int rank = 0;            // of low-rank additions; 0: there are none
  double scale = 0;        // of low-rank additions
};
/// What must match, besides the model, to resume a run.
struct run_identity {
  training options;         // those that affect the result; AdamW's only if it is the optimiser
  index data_tokens = 0;    // tokens of the training data
  std::uint64_t data_hash = 0;  // FNV-1a hash of them, or of some if they are in files
  std::string compute;      // type of the matrix products: "float", "double", "bf16"
  std::string_view optimizer{};            // name; empty for AdamW
  std::vector<option_value> own{};         // options of another optimiser than AdamW
  std::vector<std::string> tensors{};      // names of all tensors
  std::vector<tensor_setting> settings{};  // of each tensor, from the groups
  std::optional<part_identity> part{};     // none: a run of the whole model
};
/// Of tokens that are not in memory, 16 at each of 1024 places are hashed, which are spread evenly.
[[nodiscard]] run_identity identify(const training& options, const data::token_source& data, std::string_view compute);

/// All that the ranks of a group must have in common, as a text: their runs, and `more`, by name.
[[nodiscard]] std::string text_of(const run_identity& identity, std::span<const std::pair<std::string, std::string>> more);
/// What differs between two of these texts.
[[nodiscard]] std::string run_differences(std::string_view expected, std::string_view found);

/// The progress of a run.
struct run_state {
  index step = 0;              // steps taken so far
  std::vector<double> recent;  // losses of the last steps
};
/// The same as bytes, for the other ranks of a group.
[[nodiscard]] std::string packed_state(const run_state& state);
[[nodiscard]] run_state unpacked_state(std::string_view bytes);

/// Weights and states in host memory, all with the same table.
struct checkpoint_numbers {
  const tensor_table& table;
  std::string_view type;  // "F32" or "F64"
  struct part {
    std::string_view name;  // of a state, whose tensors are named NAME.WEIGHT; empty: the weights
    const std::byte* begin;
  };
  std::vector<part> parts;
};
void save_checkpoint(const std::filesystem::path& path, const checkpoint_numbers& numbers, std::string_view description,
                     const run_identity& identity, const run_state& state);

/// A checkpoint to resume from.
class checkpoint_file {
 public:
  /// Fails when the checkpoint is of another run, with all differences. `description` is the model's
  /// (io/description.hpp), if it has one. `extend` also accepts a run of fewer steps, and any warm-up if the wanted one
  /// is -1.
  checkpoint_file(const std::filesystem::path& path, std::string_view description, const run_identity& identity, bool extend);
  [[nodiscard]] const run_state& state() const { return state_; }
  /// The warm-up steps of the run that wrote it.
  [[nodiscard]] index warmup() const { return warmup_; }
  /// Reads a part, the weights ("") or a state, into numbers of a type. Fails when it does not fit, or when the file
  /// has tensors of other states.
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
