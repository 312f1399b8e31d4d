// A corpus from a file of tokens, in one of the common formats (token_bins.hpp, npy.hpp).
#pragma once

#include <filesystem>
#include <string>

#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"
#include "fathom/data/corpus.hpp"
#include "fathom/data/files.hpp"
#include "fathom/data/npy.hpp"
#include "fathom/data/token_bins.hpp"

namespace fathom::data {

/// The tokens of a file. The extension selects the format:
///
/// - .bin: plain 16-bit little-endian numbers, as nanoGPT writes them; or an llm.c file with its header, of 16-bit
///   tokens (magic number 20240520, version 1) or 32-bit tokens (20240801, version 7)
/// - .npy: a numpy array of integers of any type, byte order and shape, in row-major order
///
/// Fails on a token outside of [0, vocab), and when the length of a file differs from what it announces.
[[nodiscard]] inline corpus tokens(const std::filesystem::path& path, index vocab, const split& parts = {}) {
  detail::check_vocab(vocab);
  const std::string ending = detail::ending_of(path);
  if (ending == ".bin") return corpus(detail::read_bin(path, vocab), vocab, parts, path.string());
  if (ending == ".npy") return corpus(detail::read_npy(path, vocab), vocab, parts, path.string());
  fail(path.string(), ": cannot tell the format; expected a name that ends in .bin or .npy");
}

}  // namespace fathom::data
