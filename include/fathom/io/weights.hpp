// Saves and loads weights as safetensors files.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "fathom/core/compiled.hpp"
#include "fathom/core/copy.hpp"
#include "fathom/core/error.hpp"
#include "fathom/core/ggml_blocks.hpp"
#include "fathom/core/grouped.hpp"
#include "fathom/core/memory.hpp"
#include "fathom/core/storage.hpp"
#include "fathom/core/tensor.hpp"
#include "fathom/io/conversion.hpp"
#include "fathom/io/description.hpp"
#include "fathom/io/families.hpp"
#include "fathom/io/safetensors.hpp"
#include "fathom/io/transformers.hpp"
#include "fathom/model/tensor_table.hpp"

namespace fathom {

/// What load does when the file lacks tensors of the model.
enum class missing {
  fails,  // an error
  keep    // they keep their values: for a plain GPT-2 checkpoint into a model with shortcuts or other residual connections, and for
          // one of a family, as transformers and llama.cpp have them
};

struct load_options {
  fathom::missing missing = fathom::missing::fails;
};

namespace io {

/// The tensors to find in a file, and what else it may contain.
struct wanted_tensors {
  const tensor_table& table;
  std::string description;          // of the model, to compare with the file's; empty: none
  bool is_tied;                     // the head is wte.weight, in GPT-2's names
  std::string prefix = "";          // of their names in the file
  load_options options{};
  std::vector<std::string> accepted_prefixes{};  // other tensors may have names with these prefixes; "": any name
  bool accepts_copies = false;      // other tensors may be PREFIX.NAME with the shape of NAME, as the states of
                                    // the optimiser in a trainer's checkpoint are
};
/// Finds the tensors, in the order of the table. Fails with a list of everything that does not fit.
[[nodiscard]] std::vector<found_tensor> find_tensors(const stored_tensors& file, const wanted_tensors& wanted);
/// Reads the tensors into parameters of a type, F32 or F64.
void read_tensors(const stored_tensors& file, const wanted_tensors& wanted, std::string_view type, std::byte* to);

template <class Model>
[[nodiscard]] wanted_tensors wanted_of(const tensor_table& table, const load_options& options = {}) {
  return {.table = table, .description = description_of<Model>(), .is_tied = Model::tied, .options = options};
}

/// Whether weights are packed for decoding, rather than parameters to train.
template <class Parameters>
inline constexpr bool is_packed = requires { typename Parameters::number; };

/// The size of a model's largest tensor in bytes.
template <class Model>
inline constexpr std::size_t largest_tensor = [] {
  index largest = 0;
  Model::visit_tensors([&](initial, const auto& tensor) { largest = std::max(largest, tensor.size); }, Model::tensors);
  return static_cast<std::size_t>(largest) * sizeof(typename Model::scalar);
}();

/// Weights in groups of P, [in, out], to fill group by group: put(g, j, a group<P>) sets group g of column j.
template <class Groups>
concept groups_to_fill = grouped_type<typename Groups::type>;

/// Fills the groups of a tensor that a file holds in groups of P, or column by column, as GGUF files do: their blocks are taken
/// over, exactly, if they are groups of P (core/grouped.hpp); others are dequantised and rounded, a column at a time. Returns
/// false, and does nothing, for other tensors. `shape` is ours.
template <groups_to_fill Groups>
[[nodiscard]] bool take_groups(const found_tensor& found, role as, std::span<const index> shape, const Groups& to) {
  using P = typename Groups::type;
  const stored_tensor& from = *found.numbers;
  const index in = shape[scaled_dimension(as) == 0 ? 1 : 0], out = shape[scaled_dimension(as)];
  if (found.is_grouped()) {
    bool are_same = false;
    const stored_groups groups(found, as, shape);
    groups.with_type([&](auto type) {
      if constexpr (std::is_same_v<P, decltype(type)>) {
        are_same = true;
        for (index j = 0; j < out; ++j)
          for (index g = 0; g * group_size < in; ++g) to.put(g, j, groups.template get<P>(g, j));
      }
    });
    return are_same;
  }
  const auto column = [&](index j) { return from.source ? from.source->blocks(scaled_dimension(as), j) : stored_blocks{}; };
  for (index j = 0; j < out; ++j)
    if (!column(j).begin) return false;
  std::vector<float> numbers(static_cast<std::size_t>(in));
  for (index j = 0; j < out; ++j) {
    const stored_blocks blocks = column(j);
    const bool are_groups = takes_blocks_of<P>(blocks.type);
    if (!are_groups) ggml::dequantize(blocks.type, blocks.begin, in, numbers.data());
    for (index g = 0; g * group_size < in; ++g)
      to.put(g, j, are_groups ? group_of_block<P>(blocks.type, blocks.begin + g * ggml::find_type(blocks.type)->bytes)
                              : round_group<P>(numbers.data() + g * group_size, std::min(group_size, in - g * group_size)));
  }
  return true;
}

/// Packs a tensor of a file. As gives its shape and role; `room` is scratch for its unpacked numbers.
template <class Packed, class As, class To>
void pack_stored(const found_tensor& from, const As&, std::span<std::byte> room, To& to) {
  using model = typename Packed::model;
  using T = typename model::scalar;
  static_assert(!type_name<T>.empty(), "weights of this scalar type have no form in a file");
  if constexpr (requires { model::backend::groups_of(to); }) {
    if (take_groups(from, As::role, As::shape, model::backend::groups_of(to))) return;
  }
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    auto& unpacked = *::new (room.data()) tensor<T, As::shape[I]...>;
    copy_numbers(from, As::role, As::shape, type_name<T>, room.data());
    model::backend::template pack_tensor<typename Packed::number>(unpacked, to);
  }(std::make_index_sequence<As::rank>());
}

/// Reads the tensors of a file into parameters or packed weights, in any memory.
template <class Weights>
void read_weights(const stored_tensors& file, Weights& weights, const load_options& options, bool accepts_copies) {
  using model = typename Weights::model;
  if constexpr (!is_packed<Weights>) {
    edit_on_host(weights, [&](auto& here) {
      using T = typename model::scalar;
      static_assert(!type_name<T>.empty(), "weights of this scalar type have no form in a file");
      const tensor_table table = table_of<model>(here);
      wanted_tensors wanted = wanted_of<model>(table, options);
      wanted.accepts_copies = accepts_copies;
      read_tensors(file, wanted, type_name<T>, fathom::detail::address_of(here));
    });
  } else if constexpr (is_on_host<Weights>) {
    const tensor_table table = table_of<model>();
    wanted_tensors wanted = wanted_of<model>(table, options);
    wanted.accepts_copies = accepts_copies;
    const std::vector<found_tensor> found = find_tensors(file, wanted);
    const buffer room(largest_tensor<model>);
    auto next = found.begin();
    model::visit_tensors(
        [&](initial, auto& tensor, const auto& as) {
          if (next->numbers) pack_stored<Weights>(*next, as, room.bytes(), tensor);
          ++next;
        },
        weights, model::tensors);
  } else {
    if (options.missing == missing::keep)
      fail(file.path(), ": load with missing::keep into packed weights of a GPU; expected parameters, to be packed afterwards");
    auto whole = make<typename model::parameters>();
    read_weights(file, *whole, options, accepts_copies);
    pack_into(*whole, weights);
  }
}

/// The same for files in our layout, or in that of a family's checkpoints (families.hpp).
template <class Weights>
void read_any_layout(const stored_tensors& file, Weights& weights, const load_options& options, bool accepts_copies) {
  using model = typename Weights::model;
  if constexpr (requires { model::architecture::family_configuration; })
    read_weights(family_tensors(file, model::architecture::family_configuration, table_of<model>()), weights, options, accepts_copies);
  else
    read_weights(file, weights, options, accepts_copies);
}

}  // namespace io

/// Writes weights to a safetensors file, with the tensor names of ../README.md and the model's description as metadata.
/// Writes atomically (io/file.hpp). Fails when the file cannot be written, or when a finite weight would become infinite.
/// `weights` are a model's parameters or their owner.
/// save<P>, with P = float, bf16, int8, int4, symmetric_int4 or grouped_int8, writes them as P (../README.md, "Types in files").
template <class P = void, class Weights>
void save(const std::filesystem::path& path, const Weights& weights) {
  constexpr bool is_known =
      std::is_void_v<P> || std::is_same_v<P, float> || std::is_same_v<P, bf16> || std::is_same_v<P, std::int8_t> || grouped_type<P>;
  if constexpr (!detail::stands_for_weights<Weights>) {
    static_assert(detail::never<Weights>, "fathom::save: expected a path and weights: *weights, weights or trainer.weights()");
  } else if constexpr (!is_known) {
    static_assert(detail::never<Weights>, "weights are saved as float, fathom::bf16, std::int8_t, fathom::int4, symmetric_int4 or grouped_int8");
  } else if constexpr (io::is_packed<detail::weights_of<const Weights>>) {
    static_assert(detail::never<Weights>, "fathom::save: packed weights are not saved, but save<P>(path, parameters) writes what packing as P holds");
  } else {
    const auto& parameters = detail::weights_in(weights, "save");
    using model = typename detail::weights_of<const Weights>::model;
    constexpr auto as = std::is_void_v<P>             ? io::written_as::they_are
                        : std::is_same_v<P, float>    ? io::written_as::f32
                        : std::is_same_v<P, bf16>     ? io::written_as::bf16
                        : std::is_same_v<P, int4>     ? io::written_as::int4
                        : std::is_same_v<P, symmetric_int4> ? io::written_as::symmetric_int4
                        : std::is_same_v<P, grouped_int8>   ? io::written_as::grouped_int8
                                                            : io::written_as::int8;
    const auto here = on_host(parameters);
    const tensor_table table = table_of<model>(*here);
    io::tensors_to_write tensors;
    tensors.add(io::numbers_of<model>(table, *here), "", as);
    io::write_weights(path, tensors, io::description_of<model>());
  }
}

/// Reads weights from a safetensors file: one that fathom saved, a trainer's checkpoint, or one of GPT-2. For models made
/// from a config (model/config.hpp), also reads a folder that save_pretrained of `transformers` wrote, shards included,
/// after checking its config.json; and a GGUF file of llama.cpp, whatever its types, after checking its metadata.
/// Converts F32, F64, BF16 and F16, I8 with scales, and groups. If the file does not fit the model, the error lists every key
/// of the description that disagrees and every tensor that is missing, unknown or of another shape or type, and the
/// weights do not change. If the file shrinks, the disk fails, or a number in F64 is beyond a float, the weights may be partly read.
/// `weights` are parameters, packed<P> or an owner of either; there is never a second copy of all weights in the
/// host's memory. Blocks of a GGUF file that are groups of P, such as Q4_1 for int4, are taken over exactly
/// (core/grouped.hpp).
template <class Weights>
void load(const io::safetensors_file& file, Weights&& weights, const load_options& options = {}) {
  if constexpr (!detail::stands_for_weights<Weights>) {
    static_assert(detail::never<Weights>, "fathom::load: expected a path and weights: *weights, weights or trainer.weights()");
  } else if constexpr (std::is_const_v<detail::weights_of<std::remove_reference_t<Weights>>>) {
    static_assert(detail::never<Weights>, "fathom::load: the weights are const, expected weights to write to");
  } else {
    io::read_any_layout(file, detail::weights_in(weights, "load"), options, true);
  }
}
template <class Weights>
void load(const std::filesystem::path& path, Weights&& weights, const load_options& options = {}) {
  if constexpr (!detail::stands_for_weights<Weights>) {
    static_assert(detail::never<Weights>, "fathom::load: expected a path and weights: *weights, weights or trainer.weights()");
  } else if constexpr (std::is_const_v<detail::weights_of<std::remove_reference_t<Weights>>>) {
    static_assert(detail::never<Weights>, "fathom::load: the weights are const, expected weights to write to");
  } else {
    auto& to = detail::weights_in(weights, "load");
    using model = typename detail::weights_of<std::remove_reference_t<Weights>>::model;
    std::error_code ignored;
    const bool is_folder = std::filesystem::is_directory(path, ignored);
    if constexpr (requires { model::architecture::family_configuration; }) {
      const auto file = io::open_family(path, model::architecture::family_configuration, table_of<model>());
      io::read_weights(*file, to, options, !is_folder);
    } else {
      if (!is_folder && io::is_gguf(path)) {
        if constexpr (requires { model::architecture::configuration; })
          return io::read_weights(*io::open_gguf(path, model::architecture::configuration, table_of<model>()), to, options, false);
        else
          fail(path.string(), ": is a GGUF file; expected a safetensors file, because the model was not made from a config");
      }
      if (!is_folder) return load(io::safetensors_file(path), to, options);
      if constexpr (requires { model::architecture::configuration; })
        io::check_transformers_config(model::architecture::configuration, path);
      io::read_weights(io::safetensors_folder(path), to, options, false);
    }
  }
}

}  // namespace fathom

#if !defined(FATHOM_KERNELS)
#include "fathom/io/weights.inl.hpp"
#endif
