// Checkpoints of today's model families (model/config.hpp) in the layout of `transformers`: how their config.json and
// their tensors differ from ours. Sources: the modeling and configuration files of each family in
// github.com/huggingface/transformers.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "fathom/core/compiled.hpp"
#include "fathom/io/conversion.hpp"
#include "fathom/io/safetensors.hpp"
#include "fathom/model/config.hpp"
#include "fathom/model/tensor_table.hpp"

namespace fathom::io {

/// A tensor of another layout that holds columns of one of ours (numbers of one of ours, for a bias).
struct tensor_piece {
  std::string name;
  index columns = 0;         // of ours
  bool is_transposed = false;  // a linear map [out, in], where ours are [in, out]
  std::vector<index> rows{};   // which of its rows (out) is each of our columns; empty: all, in order
  float offset = 0;            // its numbers are ours plus this
};

/// The pieces of our tensor `name`, in the order of its columns; empty if the family has no such tensor.
[[nodiscard]] std::vector<tensor_piece> pieces_in_transformers(const config& of, std::string_view name);

/// The same for GGUF files (gguf_models.hpp).
[[nodiscard]] std::vector<tensor_piece> pieces_in_gguf(const config& of, std::string_view name);

/// The config that a config.json of `transformers` describes. Appends a line to `problems` for every key whose value a
/// config cannot express.
[[nodiscard]] config config_of_transformers(std::string_view json, std::string& problems);

/// The differences of a normalized config from that of a file, one line for each member; empty when the file's model is
/// the same, with at least as long a context.
[[nodiscard]] std::string family_differences(const config& expected, const config& found);

/// Fails unless the config.json of a folder fits a config: the same model, for at least as long a context. The error
/// lists every key that does not.
void check_family_config(const config& given, const std::filesystem::path& folder);

/// The tensors of a checkpoint of `transformers`, or of a GGUF file, under our names and in our layout; others keep their
/// names. Converts to float while reading. Refers to `from`, which must outlive it. `wanted` are the tensors of the model.
class family_tensors : public stored_tensors {
 public:
  family_tensors(const stored_tensors& from, const config& of, const tensor_table& wanted);
};

/// The text of a config.json from which `transformers` makes a model of this config. `type`: of the weights, "float32".
[[nodiscard]] std::string to_family_json(const config& given, std::string_view type);

/// Writes config.json and model.safetensors into a folder, in the layout of `transformers`, in the type of the weights.
/// Makes a copy of them.
void write_family(const std::filesystem::path& folder, const model_numbers& weights, const config& of);

/// Opens the weights of a model with a config: a folder of `transformers`, a GGUF file (by its first bytes, or its ending,
/// .gguf), or a safetensors file. Checks its config, if it has one, and gives its tensors our names and layout.
[[nodiscard]] std::shared_ptr<const stored_tensors> open_family(const std::filesystem::path& path, const config& of, const tensor_table& wanted);

/// The same for a GGUF file, also of the family gpt2.
[[nodiscard]] std::shared_ptr<const stored_tensors> open_gguf(const std::filesystem::path& path, const config& of, const tensor_table& wanted);
/// Whether a file begins as GGUF files do, or is called so.
[[nodiscard]] bool is_gguf(const std::filesystem::path& path);

}  // namespace fathom::io

#if !defined(FATHOM_KERNELS)
#include "fathom/io/families.inl.hpp"
#include "fathom/io/gguf_models.inl.hpp"
#endif
