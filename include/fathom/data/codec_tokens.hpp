// What neural codecs of sound make (EnCodec, SoundStream, DAC and the like): numpy arrays of integers, one row for each
// codebook, as one run of tokens for a language model; and back.
#pragma once

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"
#include "fathom/data/corpus.hpp"
#include "fathom/data/files.hpp"
#include "fathom/data/frames.hpp"
#include "fathom/data/npy.hpp"
#include "fathom/model/batch.hpp"

namespace fathom::data {

/// The order of the entries of all codebooks in a token sequence; with 3 codebooks a, b, c and 4 frames:
enum class codebook_order {
  interleaved,  // frame by frame:                  a0 b0 c0  a1 b1 c1  a2 b2 c2  a3 b3 c3
  flattened,    // codebook after codebook:         a0 a1 a2 a3  b0 b1 b2 b3  c0 c1 c2 c3
  delayed,      // each one frame after the last:   a0  a1 b0  a2 b1 c0  a3 b2 c1  b3 c2  c3
};  // (MusicGen's pattern, Copet et al., arXiv 2306.05284, without padding, which a single sequence does not need)

/// The arrays of a codec. The codebooks have consecutive ranges of the vocabulary.
struct codebooks {
  index count = 8;       // EnCodec: 8 at 24 kHz and 6 kbit/s
  index entries = 1024;  // per codebook
  codebook_order order = codebook_order::interleaved;
  bool frames_first = false;  // arrays are [frames, codebooks], not [codebooks, frames]

  [[nodiscard]] index vocab() const { return count * entries; }
  /// The codebook and the entry of a token.
  [[nodiscard]] field_value classify(token t) const {
    check();
    check_tokens({&t, 1}, 0, vocab(), "codebooks");
    return {t / entries, static_cast<token>(t % entries)};
  }
  /// "codebook 2: 17"; codebooks are counted from 0.
  [[nodiscard]] std::string name(token t) const {
    const auto [book, entry] = classify(t);
    return join("codebook ", book, ": ", entry);
  }

  /// Entries [codebooks, frames] as tokens. The delayed order needs more than one frame.
  [[nodiscard]] std::vector<token> flatten(std::span<const token> array) const {
    check();
    check_tokens(array, 0, entries, "codebooks::flatten");
    if (array.size() % static_cast<std::size_t>(count) != 0)
      fail("codebooks::flatten: ", array.size(), " entries; expected the same number for each of ", count,
           " codebooks");
    const index frames = std::ssize(array) / count;
    std::vector<token> tokens;
    tokens.reserve(array.size());
    const auto put = [&](index book, index frame) {
      tokens.push_back(static_cast<token>(book * entries + array[static_cast<std::size_t>(book * frames + frame)]));
    };
    if (order == codebook_order::flattened) {
      for (index book = 0; book < count; ++book)
        for (index frame = 0; frame < frames; ++frame) put(book, frame);
      return tokens;
    }
    const index delay = order == codebook_order::delayed;
    if (delay == 1 && frames == 1 && count > 1)
      fail("codebooks::flatten: 1 frame; expected at least 2 to delay: where one ends could not be told again");
    for (index step = 0; frames > 0 && step < frames + delay * (count - 1); ++step)
      for (index book = 0; book < count; ++book) {
        const index frame = step - delay * book;
        if (frame >= 0 && frame < frames) put(book, frame);
      }
    return tokens;
  }

  /// The frames of tokens, well-formed or not, as values [frames, codebooks]. Interleaved and delayed: a token whose
  /// codebook is not after the previous one begins the next step; delayed ends with the last frame that all codebooks
  /// reach. Flattened: the entries of each codebook in order, as many as the first one has. Missing values are taken
  /// from the previous frame; frames are dropped until every codebook has had a value. Fails on a token outside of the
  /// vocabulary.
  [[nodiscard]] framed frames(std::span<const token> tokens) const {
    check();
    std::vector<index> begins;
    for (index book = 0; book <= count; ++book) begins.push_back(book * entries);
    const auto books = static_cast<std::size_t>(count);
    if (order == codebook_order::flattened) {
      check_tokens(tokens, 0, vocab(), "codebooks::frames");
      std::vector<std::size_t> next(books);  // the frame of the next entry of each codebook
      for (const token t : tokens) next[0] += t < entries;
      std::vector<token> rows(next[0] * books, -1);
      const std::size_t length = std::exchange(next[0], 0);
      index surplus = 0;
      for (const token t : tokens) {
        const auto [book, entry] = detail::field_of(t, begins);
        const std::size_t frame = next[static_cast<std::size_t>(book)]++;
        if (frame < length) rows[frame * books + static_cast<std::size_t>(book)] = entry;
        surplus += frame >= length;
      }
      framed result = detail::hold(std::move(rows), books);
      result.dropped += surplus;
      return result;
    }
    std::vector<token> rows = detail::rows_of(tokens, begins, "codebooks::frames");  // [steps, codebooks]
    if (order == codebook_order::delayed) {
      const std::size_t steps = rows.size() / books;
      const std::size_t length = steps < books ? 0 : steps - books + 1;
      for (std::size_t frame = 0; frame < length; ++frame)
        for (std::size_t book = 1; book < books; ++book)
          rows[frame * books + book] = rows[(frame + book) * books + book];
      rows.resize(length * books);
    }
    return detail::hold(std::move(rows), books);
  }

  /// Fails when the numbers are not valid for a codec.
  void check() const {
    constexpr index largest = std::numeric_limits<token>::max();
    if (count < 1 || entries < 1 || count > largest / entries)
      fail("codebooks: count = ", count, ", entries = ", entries,
           "; expected at least 1 of each, and a product of at most ", largest);
  }
};

/// The tokens of a .npy file with an integer array [codebooks, frames] (or [frames, codebooks]). Leading dimensions of
/// 1, such as a batch, are allowed. With one codebook, [frames] is enough. Fails on any other shape, and on an entry
/// out of range.
[[nodiscard]] inline std::vector<token> read_codec_npy(const std::filesystem::path& path, const codebooks& books) {
  books.check();
  std::vector<index> shape;
  std::vector<token> array = detail::read_npy(path, books.entries, &shape);
  std::string found;
  for (const index extent : shape) found += join(found.empty() ? "" : ", ", extent);
  while (shape.size() > 2 && shape.front() == 1) shape.erase(shape.begin());
  if (shape.size() == 1 && books.count == 1) return books.flatten(array);
  const std::size_t axis = books.frames_first ? 1 : 0;
  if (shape.size() != 2 || shape[axis] != books.count)
    fail(path.string(), ": has the shape [", found, "]; expected ", books.count, " codebooks, ",
         books.frames_first ? join("[frames, ", books.count, "]") : join("[", books.count, ", frames]"),
         ", with dimensions of 1 before it or not (codebooks::count, codebooks::frames_first)");
  if (!books.frames_first) return books.flatten(array);
  const auto count = static_cast<std::size_t>(books.count), frames = array.size() / count;
  std::vector<token> turned(array.size());  // [codebooks, frames]
  for (std::size_t i = 0; i < array.size(); ++i) turned[i % count * frames + i / count] = array[i];
  return books.flatten(turned);
}

/// Writes tokens as the array that a codec decodes, [codebooks, frames] (or [frames, codebooks]), of type '<i4',
/// atomically (io/file.hpp). Tokens may be malformed: see codebooks::frames. Fails when they have no whole frame.
inline void write_codec_npy(const std::filesystem::path& path, std::span<const token> tokens, const codebooks& books) {
  const std::vector<token> values = books.frames(tokens).values;  // [frames, codebooks]
  const auto count = static_cast<std::size_t>(books.count), frames = values.size() / count;
  if (frames == 0) fail(path.string(), ": cannot be written: the ", tokens.size(), " tokens have no whole frame");
  if (books.frames_first) return detail::write_npy(path, values, join("(", frames, ", ", count, ")"));
  std::vector<token> turned(values.size());  // [codebooks, frames]
  for (std::size_t i = 0; i < values.size(); ++i) turned[i % count * frames + i / count] = values[i];
  detail::write_npy(path, turned, join("(", count, ", ", frames, ")"));
}

/// The .npy files below a folder (file_options in files.hpp); each is a document, and whole documents are held out
/// (split_documents in corpus.hpp). Or one such file, the end of which is held out.
[[nodiscard]] inline corpus codec_tokens(const std::filesystem::path& path, const codebooks& books,
                                         const split& parts = {}, const file_options& files = {}) {
  books.check();
  std::error_code error;
  if (!std::filesystem::is_directory(path, error))
    return corpus(read_codec_npy(path, books), books.vocab(), parts, path.string());
  constexpr std::string_view endings[] = {".npy"};
  const auto read = [&](const std::filesystem::path& file) { return read_codec_npy(file, books); };
  return detail::corpus_of(
      detail::read_documents(detail::files_below(path, endings, files), files, "has no entries", read), books.vocab(),
      parts);
}

}  // namespace fathom::data
