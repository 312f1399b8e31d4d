// Recordings of speech as a corpus of tokens. Needs libsndfile, libsamplerate and libcodec2; link fathom::audio and
// fathom::codec2.
#pragma once

#include <filesystem>
#include <system_error>

#include "fathom/data/audio.hpp"
#include "fathom/data/codec2.hpp"
#include "fathom/data/corpus.hpp"
#include "fathom/data/files.hpp"

namespace fathom::data {

/// The recordings below a folder (file_options in files.hpp; extensions in sound_endings) as tokens of a codec (codec2,
/// codec2_shapes). Each is a document, and whole documents are held out (split_documents in corpus.hpp), so that no
/// recording is in two parts. Or one recording, the end of which is held out.
template <class Codec = codec2>
[[nodiscard]] corpus speech(const std::filesystem::path& path, const split& parts = {},
                            const file_options& files = {}) {
  const auto encode = [](const std::filesystem::path& file) {
    return Codec::encode(read_audio(file, Codec::rate).samples);
  };
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) return corpus(encode(path), Codec::vocab, parts, path.string());
  return detail::corpus_of(
      detail::read_documents(detail::files_below(path, sound_endings, files), files, "has no samples", encode),
      Codec::vocab, parts);
}

}  // namespace fathom::data
