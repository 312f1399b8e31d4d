// Recordings of speech as a corpus of tokens. Needs libsndfile, libsamplerate and libcodec2; link fathom::audio and
// fathom::codec2.
#pragma once

#include <filesystem>
#include <span>
#include <system_error>
#include <vector>

#include "fathom/core/types.hpp"
#include "fathom/data/audio.hpp"
#include "fathom/data/codec2.hpp"
#include "fathom/data/corpus.hpp"
#include "fathom/data/files.hpp"

namespace fathom::data {

/// The recordings below a folder, files whose names end in .wav, .flac, .ogg or .oga, in the tokens of a codec (codec2,
/// codec2_shapes). Each is a document, and whole documents are held back (split_documents in corpus.hpp), so that no
/// recording is in two parts. Of a single recording the end is held back.
template <class Codec = codec2>
[[nodiscard]] corpus speech(const std::filesystem::path& path, const split& parts = {}) {
  const auto encode = [](const std::filesystem::path& file) {
    return Codec::encode(read_audio(file, Codec::rate).samples);
  };
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) return corpus(encode(path), Codec::vocab, parts, path.string());
  std::vector<std::vector<token>> documents;
  for (const auto& file : detail::files_ending_in(path, {".wav", ".flac", ".ogg", ".oga"}))
    documents.push_back(encode(file));
  return split_documents(std::vector<std::span<const token>>(documents.begin(), documents.end()), Codec::vocab, parts);
}

}  // namespace fathom::data
