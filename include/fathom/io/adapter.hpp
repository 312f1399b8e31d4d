// Files of adapters: what was trained of a model (model/train_only.hpp, model/low_rank.hpp), without the rest, its base.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "fathom/core/bf16.hpp"
#include "fathom/core/compiled.hpp"
#include "fathom/core/copy.hpp"
#include "fathom/core/memory.hpp"
#include "fathom/io/conversion.hpp"
#include "fathom/io/description.hpp"
#include "fathom/io/safetensors.hpp"
#include "fathom/io/weights.hpp"
#include "fathom/model/tensor_table.hpp"
#include "fathom/model/trained.hpp"

namespace fathom {

namespace io {

/// The metadata entry that says what an adapter is, as JSON: the names of the model's tensors that it changes, the identity of
/// its base, and rank and scale of low-rank additions.
inline constexpr const char* adapter_entry = "fathom.adapter";

/// How an adapter changes tensors.
struct adapter_kind {
  std::vector<std::string> changes;  // names of the model's tensors
  int rank = 0;                      // of low-rank additions; 0: the tensors are replaced
  double scale = 0;                  // of low-rank additions
};
/// The identity of an adapter's base: a CRC-32 of all numbers that the adapter does not change, but for the embeddings of
/// positions (wpe.weight), which are as many as the context.
[[nodiscard]] std::uint32_t base_identity(const model_numbers& weights, const std::vector<std::string>& changes);
/// Writes an adapter for these weights.
void write_adapter(const std::filesystem::path& path, const adapter_kind& kind, const model_numbers& adapter, written_as as,
                   const model_numbers& weights, std::string_view description);
/// Puts an adapter into weights in host memory.
void read_adapter(const std::filesystem::path& path, const model_numbers& weights, std::string_view description, std::byte* to);
/// Reads A and B of an adapter of low-rank additions, of this kind and for these weights: one tensor after the other, aligned.
void read_additions(const std::filesystem::path& path, const adapter_kind& kind, const model_numbers& weights, std::string_view description,
                    std::byte* to);

/// The kind of the adapter that a model trains.
template <class Model>
[[nodiscard]] adapter_kind kind_of_adapter() {
  adapter_kind kind;
  for (const tensor_row& row : Model::trained_table()) {
    if constexpr (requires { Model::rank; }) {
      constexpr std::string_view suffix = ".lora_a";
      if (row.name.ends_with(suffix)) kind.changes.push_back(row.name.substr(0, row.name.size() - suffix.size()));
    } else {
      kind.changes.push_back(row.name);
    }
  }
  if constexpr (requires { Model::rank; }) kind.rank = Model::rank, kind.scale = Model::scale;
  return kind;
}
/// The identity of the base of the adapter that a model trains.
template <class Model>
[[nodiscard]] std::uint32_t base_identity_of(const typename Model::parameters& weights) {
  const tensor_table table = table_of<Model>(weights);
  return base_identity({table, type_name<typename Model::scalar>, fathom::detail::address_of(weights)}, kind_of_adapter<Model>().changes);
}

}  // namespace io

/// Writes what a model trains to a safetensors file, atomically: save_adapter<adapter>("mine.safetensors", trainer.weights()),
/// where `adapter` is a train_only or a low_rank. save_adapter<adapter, fathom::bf16> writes matrices in bf16. The file carries
/// the model's description and an identity of the base: the CRC-32 of all weights that the adapter does not change, but for
/// embeddings of positions. Additions to all matrices leave only embeddings, norms, biases and the head for that. Fails if other
/// weights were loaded after additions were trained.
template <class Model, class P = void>
void save_adapter(const std::filesystem::path& path, const typename Model::parameters& weights) {
  constexpr bool is_known = std::is_void_v<P> || std::is_same_v<P, float> || std::is_same_v<P, bf16>;
  static_assert(is_known, "fathom::save_adapter: adapters are saved as they are, as float, or as fathom::bf16");
  if constexpr (!detail::is_partly_trained<Model>) {
    static_assert(detail::never<Model>, "fathom::save_adapter: expected a model that trains a part of itself: train_only or low_rank");
  } else {
    using T = typename Model::scalar;
    if constexpr (detail::has_additions<Model>)
      if (!Model::holds_additions(weights))
        fail(path.string(), ": not written: the weights were changed after their additions were trained, so they are another base");
    auto numbers = make<typename Model::trained>();
    Model::take(weights, *numbers);
    const tensor_table table = Model::trained_table(), whole = table_of<Model>(weights);
    constexpr auto as = std::is_void_v<P>           ? io::written_as::they_are
                        : std::is_same_v<P, bf16> ? io::written_as::bf16
                                                  : io::written_as::f32;
    io::write_adapter(path, io::kind_of_adapter<Model>(), {table, io::type_name<T>, detail::address_of(*numbers)}, as,
                      {whole, io::type_name<T>, detail::address_of(weights)}, io::description_of<Model>());
  }
}

/// Puts an adapter into the weights of its base: replaces tensors, or adds low-rank products to them. The model may have another
/// context than the one that the adapter was trained with. Fails, with nothing changed, when the file is not an adapter, when
/// it is one of another model or another base, and when it lacks tensors; the error says which. `weights` are parameters,
/// or own them; pack them afterwards. An adapter with additions is added again each time that it is loaded, except into the
/// weights of a low_rank: there it takes the place of their additions, and must have the same matrices, rank and scale.
template <class Weights>
void load_adapter(const std::filesystem::path& path, Weights&& weights) {
  if constexpr (!detail::stands_for_weights<Weights>) {
    static_assert(detail::never<Weights>, "fathom::load_adapter: expected a path and weights: *weights, weights or trainer.weights()");
  } else if constexpr (io::is_packed<detail::weights_of<std::remove_reference_t<Weights>>>) {
    static_assert(detail::never<Weights>, "fathom::load_adapter: an adapter goes into parameters, which are packed afterwards");
  } else {
    auto& to = detail::weights_in(weights, "load_adapter");
    using model = typename std::remove_cvref_t<decltype(to)>::model;
    if constexpr (requires { to.additions; }) {
      using adapter = typename std::remove_cvref_t<decltype(to.additions)>::model;
      auto numbers = make<typename adapter::trained>();
      const tensor_table table = table_of<model>(to);
      io::read_additions(path, io::kind_of_adapter<adapter>(), {table, io::type_name<typename model::scalar>, detail::address_of(to)},
                         io::description_of<model>(), detail::address_of(*numbers));
      adapter::put(*numbers, to);
      adapter::note_additions(to);
    } else {
      edit_on_host(to, [&](auto& here) {
        const tensor_table table = table_of<model>(here);
        io::read_adapter(path, {table, io::type_name<typename model::scalar>, detail::address_of(here)}, io::description_of<model>(),
                         detail::address_of(here));
      });
    }
  }
}

}  // namespace fathom

#if !defined(FATHOM_KERNELS)
#include "fathom/io/adapter.inl.hpp"
#endif
