// Packed weights in files, and in programs, used where they lie: nothing is converted, and nothing copied.
//
//   fathom::save_packed("model.int8.safetensors", *fathom::pack<std::int8_t>(weights));
//   const fathom::packed_file<net, std::int8_t> file("model.int8.safetensors");    // maps it
//   auto logits = net::prefill(*file, prompt, cache);
//
// The format, version 1. The container is safetensors (safetensors.hpp), so that its tools list what a file holds:
//
//   8 bytes   the number of bytes of the header, little-endian
//   header    JSON, padded with spaces so that the data begins at a multiple of 64 bytes
//   data      the struct model::packed<P>, byte for byte as it lies in memory
//
// Every tensor of the model is an entry under its name (../README.md), of type U8 and shape [bytes], in the order of memory.
// Its first byte is that of the tensor in the struct, a multiple of 64; its last one is that before the next tensor, so that
// the padding between two tensors, zeros, belongs to the first. Metadata, all of it text:
//
//   fathom.packed             "1", the version of this format
//   fathom.packed.endian      "little", the order of the bytes of a number
//   fathom.packed.type        P: "float", "double", "bf16", "int8", "int4", "symmetric_int4" or "grouped_int8"
//   fathom.packed.scalar      the scalar of the model, and the type of biases and gains: "float" or "double"
//   fathom.packed.layout      "1", the version of how the numbers of a matrix lie (core/packed_layout.hpp)
//   fathom.packed.crc32       the CRC-32 of the data (core/crc32.hpp), eight hexadecimal digits
//   fathom.config             the description of the model, as in all files of fathom (description.hpp)
//
// Opening a file compares all of these but the checksum with what the program expects, and every place of a tensor. It reads
// no data: a start takes no longer with a larger model. verify() computes the checksum. The numbers themselves are not
// checked; whatever they are, they only decide which numbers come out.
#pragma once

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

#include "fathom/core/bf16.hpp"
#include "fathom/core/compiled.hpp"
#include "fathom/core/copy.hpp"
#include "fathom/core/grouped.hpp"
#include "fathom/core/memory.hpp"
#include "fathom/core/types.hpp"
#include "fathom/io/description.hpp"
#include "fathom/io/file.hpp"

namespace fathom {

namespace io {

/// What files call a type of numbers; empty for types that they do not hold.
template <class P>
inline constexpr std::string_view packed_type_name = {};
template <>
inline constexpr std::string_view packed_type_name<float> = "float";
template <>
inline constexpr std::string_view packed_type_name<double> = "double";
template <>
inline constexpr std::string_view packed_type_name<bf16> = "bf16";
template <>
inline constexpr std::string_view packed_type_name<std::int8_t> = "int8";
template <>
inline constexpr std::string_view packed_type_name<int4> = "int4";
template <>
inline constexpr std::string_view packed_type_name<symmetric_int4> = "symmetric_int4";
template <>
inline constexpr std::string_view packed_type_name<grouped_int8> = "grouped_int8";

/// A tensor of packed weights.
struct packed_tensor {
  std::string name;
  std::size_t begin = 0, size = 0;  // bytes of the weights, with the padding behind the tensor

  friend bool operator==(const packed_tensor&, const packed_tensor&) = default;
};

/// What a file of packed weights is of.
struct packed_kind {
  std::string_view type, scalar;
  std::string layout, description;  // no description: the model has none
  std::size_t size;                 // of the weights in bytes
};
template <class Packed>
[[nodiscard]] packed_kind kind_of() {
  using model = typename Packed::model;
  using P = typename Packed::number;
  static_assert(std::is_trivially_default_constructible_v<Packed> && std::is_trivially_destructible_v<Packed>,
                "fathom: packed weights are plain numbers, which the bytes of a file can be");
  if constexpr (!is_on_host<Packed> || !requires { model::backend::packed_layout; }) {
    static_assert(fathom::detail::never<Packed>, "fathom: packed weights of this backend have no form in a file; those of backend::cpu have");
    return {};
  } else {
    static_assert(!packed_type_name<P>.empty() && !packed_type_name<typename model::scalar>.empty());
    return {packed_type_name<P>, packed_type_name<typename model::scalar>, std::to_string(model::backend::packed_layout),
            description_of<model>(), sizeof(Packed)};
  }
}
/// Sorts tensors by where they begin, and sets their sizes.
void finish_tensors(std::vector<packed_tensor>& tensors, std::size_t size);
/// The tensors of packed weights, in the order of memory.
template <class Packed>
[[nodiscard]] std::vector<packed_tensor> tensors_of(const Packed& weights) {
  std::vector<packed_tensor> all;
  Packed::model::visit(
      [&](std::string_view name, auto, const auto& tensor) {
        const auto* const at = reinterpret_cast<const std::byte*>(&tensor);
        all.push_back({std::string(name), static_cast<std::size_t>(at - reinterpret_cast<const std::byte*>(&weights))});
      },
      weights);
  finish_tensors(all, sizeof weights);
  return all;
}

/// Writes such a file atomically. `weights` has kind.size bytes.
void write_packed(const std::filesystem::path& path, const packed_kind& kind, const std::vector<packed_tensor>& tensors,
                  std::span<const std::byte> weights);

/// An open file of packed weights.
struct packed_bytes {
  std::span<const std::byte> weights;  // aligned to fathom::alignment
  std::vector<packed_tensor> tensors;  // in the order of memory
  std::string crc32;                   // as the file says
};
/// Opens a file of packed weights. Fails, with one reason, when it is none, or damaged, or of another kind.
[[nodiscard]] packed_bytes read_packed(const mapped_file& file, const packed_kind& expected);
/// Fails when the tensors are not those expected.
void expect_tensors(const packed_bytes& found, const std::vector<packed_tensor>& expected, const std::string& name);
/// Fails unless the weights have the checksum that was written with them.
void verify_packed(const packed_bytes& found, const std::string& name);

}  // namespace io

/// Writes packed weights, or what owns them, to a file, in the format at the top of this file, for packed_file to map.
/// Writes atomically (io/file.hpp). Fails when the file cannot be written.
template <class Weights>
void save_packed(const std::filesystem::path& path, const Weights& weights) {
  if constexpr (!detail::stands_for_weights<Weights>) {
    static_assert(detail::never<Weights>, "fathom::save_packed: expected a path and packed weights, as fathom::pack<P>(weights) makes them");
  } else if constexpr (!requires { typename detail::weights_of<const Weights>::number; }) {
    static_assert(detail::never<Weights>, "fathom::save_packed: expected packed weights: save_packed(path, fathom::pack<P>(weights)); "
                                          "fathom::save writes parameters");
  } else {
    const auto& packed = detail::weights_in(weights, "save_packed");
    io::write_packed(path, io::kind_of<std::remove_cvref_t<decltype(packed)>>(), io::tensors_of(packed), std::as_bytes(std::span(&packed, 1)));
  }
}

/// The packed weights in a file that save_packed wrote, mapped into memory, or in memory already, as in a program that
/// contains them. *file are the weights, Model::packed<P>, where they lie; they end with this. The file may be replaced
/// meanwhile, as by save_packed, but must not be truncated (mapped_file in io/file.hpp).
template <class Model, class P>
class packed_file {
 public:
  using packed = typename Model::template packed<P>;

  /// Fails when the file cannot be mapped, is no file of packed weights, or has weights of another model, of another type,
  /// or in another version of the layout; the error says which, and what was expected.
  explicit packed_file(const std::filesystem::path& path) : file_(path) { open(); }
  /// The same for the bytes of a file in memory, which must outlive this and begin at a multiple of fathom::alignment.
  /// Errors call it `name`.
  packed_file(std::span<const std::byte> bytes, std::string name) : file_(bytes, std::move(name)) { open(); }

  [[nodiscard]] const packed& operator*() const {
    // The bytes are an object of this type: it has an implicit lifetime, and the file's tensors lie where its members do.
    return *std::launder(reinterpret_cast<const packed*>(bytes_.weights.data()));
  }
  [[nodiscard]] const packed* operator->() const { return &**this; }

  /// Fails unless the data has the checksum that was written with it. Reads all of it.
  void verify() const { io::verify_packed(bytes_, file_.name()); }

 private:
  void open() {
    bytes_ = io::read_packed(file_, io::kind_of<packed>());
    io::expect_tensors(bytes_, io::tensors_of(**this), file_.name());
  }

  io::mapped_file file_;
  io::packed_bytes bytes_;
};

}  // namespace fathom

#if !defined(FATHOM_KERNELS)
#include "fathom/io/packed_file.inl.hpp"
#endif
