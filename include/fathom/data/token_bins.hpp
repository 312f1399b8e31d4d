// Tokens from and to .bin files: plain 16-bit numbers, as nanoGPT writes them, and the files of llm.c, which have a
// header. Trusts nothing in a file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"
#include "fathom/data/files.hpp"
#include "fathom/data/token_numbers.hpp"
#include "fathom/io/file.hpp"
#include "fathom/model/batch.hpp"

namespace fathom::data {

namespace detail {
/// The header of llm.c's token files (dev/data/data_common.py there): 256 numbers of 32 bits. The first three are a
/// magic number that tells the kind of file, its version, and the number of tokens that follow.
struct llmc_header {
  static constexpr std::size_t size = 256 * sizeof(std::int32_t);
  std::int32_t magic = 0, version = 0, count = 0;

  explicit llmc_header(std::span<const std::byte> bytes) {
    if (bytes.size() >= sizeof magic) std::memcpy(&magic, bytes.data(), sizeof magic);
    if (bytes.size() < size) return;
    std::memcpy(&version, bytes.data() + 4, sizeof version);
    std::memcpy(&count, bytes.data() + 8, sizeof count);
  }
  /// The kind of file in llm.c with this magic number; nullptr if there is none.
  [[nodiscard]] const char* kind() const {
    switch (magic) {
      case 20240520:
        return "16-bit tokens";
      case 20240801:
        return "32-bit tokens";
      case 20240522:
        return "multiple-choice examples";
      case 20240328:
        return "a tokenizer";
      case 20240326:
      case 20240803:
        return "a model";
      case 20240327:
        return "a debugging state";
      case 20240527:
        return "an optimizer's state";
      default:
        return nullptr;
    }
  }
};

/// The tokens of an llm.c file with a header.
[[nodiscard]] inline stored_numbers numbers_of_llmc(std::span<const std::byte> bytes, const llmc_header& header, const std::string& name) {
  const auto is = [&](std::int32_t magic, std::int32_t version) {
    return header.magic == magic && header.version == version;
  };
  const bool narrow = is(20240520, 1), wide = is(20240801, 7);
  if (bytes.size() < llmc_header::size)
    fail(name, ": is not a valid file of llm.c: it begins with the magic number ", header.magic, " (", header.kind(),
         "), and ends within its header of ", llmc_header::size, " bytes");
  if (!narrow && !wide)
    fail(name, ": is a file of llm.c with the magic number ", header.magic, " (", header.kind(), "), version ",
         header.version, "; expected 20240520, version 1, or 20240801, version 7");
  bytes = bytes.subspan(llmc_header::size);
  const std::size_t width = narrow ? 2 : 4;
  if (bytes.size() % width != 0 || std::cmp_not_equal(header.count, bytes.size() / width))
    fail(name, ": is not a valid file of llm.c: its header announces ", header.count, " tokens of ", width,
         " bytes, and ", bytes.size(), " bytes follow");
  if (header.count == 0) fail(name, ": has no tokens");
  return {.bytes = bytes, .width = width};
}

/// The tokens of a .bin file.
[[nodiscard]] inline stored_numbers numbers_of_bin(std::span<const std::byte> bytes, const std::string& name) {
  if (const llmc_header header(bytes); header.kind()) return numbers_of_llmc(bytes, header, name);
  // Files of other formats could be read as tokens, too.
  if (const std::string other = but_is(bytes, true); !bytes.empty() && !other.empty())
    fail(name, ": is not a file of tokens", other);
  if (bytes.empty() || bytes.size() % 2 != 0)
    fail(name, ": has ", bytes.size(), " bytes; expected 16-bit tokens, a positive even number");
  return {.bytes = bytes, .width = 2};
}
[[nodiscard]] inline std::vector<token> read_bin(const std::filesystem::path& path, index vocab) {
  const io::whole_file file(path);
  return numbers_of_bin(file.bytes(), path.string()).tokens(vocab, path.string());
}
}  // namespace detail

/// Writes tokens as 16-bit little-endian numbers, atomically (io/file.hpp). Fails when a token needs more than 16 bits.
inline void write_bin(const std::filesystem::path& path, std::span<const token> tokens) {
  check_tokens(tokens, 0, 65536, path.c_str());
  const std::vector<std::uint16_t> numbers(tokens.begin(), tokens.end());
  io::atomic_file file(path);
  file.write(std::as_bytes(std::span(numbers)));
  file.commit();
}

}  // namespace fathom::data
