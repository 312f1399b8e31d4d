// A page to look at attention with, token by token: one HTML file that needs no network, opened by a browser from
// anywhere. Needs no cairo; in CMake, link fathom::fathom.
//
//   auto map = fathom::attention_map<net>(*weights, tokens);
//   fathom::viz::save_page("attention.html", map);
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/json.hpp"
#include "fathom/core/types.hpp"
#include "fathom/io/file.hpp"
#include "fathom/model/attention_map.hpp"
#include "fathom/viz/check.hpp"
#include "fathom/viz/choices.hpp"
#include "fathom/viz/labels.hpp"
#include "fathom/viz/page_html.hpp"
#include "fathom/viz/utf8.hpp"

namespace fathom::viz {

// ---- What tokens stand for ----------------------------------------------------------------------------------------

/// Running text: the tokens' names, one after the other. They are bytes of UTF-8, and a character may be cut into
/// several tokens.
struct text {};

/// A note of a piano roll, and where in the input the token is that begins it.
struct note {
  index token = 0;
  double onset = 0, duration = 0;  // seconds, up to a day
  int pitch = 0;                   // of MIDI, 0 to 127; 60 is the middle C
};

/// Notes over time. Tokens without a note (ends of notes, time shifts, loudness) stand in a strip below them.
struct music {
  std::vector<note> notes{};
};

/// Where a token of speech stands: in which frame of the codec, and in which of its rows.
struct place {
  index token = 0, frame = 0, row = 0;
};

/// Frames of a codec over time, and the tokens of a frame one above the other. Tokens without a place stand in a strip.
struct speech {
  std::vector<std::string> rows{};  // what the tokens of a frame are: "vq 1", "vq 2", "energy", "pitch"
  double frame_seconds = 0;
  std::vector<place> places{};  // none: token i is in frame i / rows, row i % rows
  double start = 0;             // when frame 0 begins, in seconds
};

struct page_options {
  std::string title{};
  std::variant<text, music, speech> as{};  // .as = fathom::viz::music{.notes = notes}
  viz::labels labels{};                    // for text, the token's bytes
  std::vector<float> nll{};                // of each token after those before it, in nats; NaN where there is none
  viz::heads heads = viz::heads::all;      // mean: the heads by themselves are not in the file, which is smaller
  viz::measure measure = viz::measure::relative;  // what the colours stand for at first
};

namespace detail {

/// A page holds at most this many weights: 45 MB.
inline constexpr index most_page_weights = 1 << 24;

// ---- Text ---------------------------------------------------------------------------------------------------------

/// Whether a character cannot be seen, or turns the order of others around.
[[nodiscard]] constexpr bool is_invisible(std::uint32_t c) {
  return c == 0xad || c == 0x61c || (c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
         (c >= 0x2060 && c <= 0x206f) || c == 0xfeff || (c >= 0xfff9 && c <= 0xfffb) || (c >= 0xe0000 && c <= 0xe0fff);
}

/// Takes from the beginning of bytes what can be shown as one character, and gives it: itself, or \xff for a byte that
/// is no character of its own, \u{202e} for a character that cannot be seen.
[[nodiscard]] inline std::string take_character(std::string_view& bytes) {
  constexpr const char* digits = "0123456789abcdef";
  const std::size_t length = character_length(bytes);
  const std::string_view character = bytes.substr(0, std::max<std::size_t>(length, 1));
  bytes.remove_prefix(character.size());
  if (length == 0) {
    const auto byte = static_cast<unsigned char>(character[0]);
    if (byte == '\n' || byte == '\t') return std::string(character);
    return {'\\', 'x', digits[byte >> 4], digits[byte & 15]};
  }
  std::uint32_t number = code_point(character);
  if (!is_invisible(number)) return std::string(character);
  std::string hexadecimal;
  for (; number > 0; number >>= 4) hexadecimal.insert(hexadecimal.begin(), digits[number & 15]);
  return join("\\u{", hexadecimal, "}");
}

/// Bytes as characters that can be shown.
[[nodiscard]] inline std::string characters(std::string_view bytes) {
  std::string result;
  while (!bytes.empty()) result += take_character(bytes);
  return result;
}

/// What of running text stands at each token. A character that is cut into several tokens stands at the first.
[[nodiscard]] inline std::vector<std::string> running_text(std::span<const std::string> tokens) {
  std::string whole;
  std::vector<std::size_t> ends;
  for (const std::string& token : tokens) ends.push_back((whole += token).size());
  std::vector<std::string> result(tokens.size());
  std::size_t token = 0;
  for (std::string_view rest = whole; !rest.empty();) {
    while (ends[token] <= whole.size() - rest.size()) ++token;
    result[token] += take_character(rest);
  }
  return result;
}

/// Text inside of an HTML element.
[[nodiscard]] inline std::string html(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (c == '&')
      result += "&amp;";
    else if (c == '<')
      result += "&lt;";
    else
      result += c;
  }
  return result;
}

[[nodiscard]] inline std::string base64(std::span<const std::uint8_t> bytes) {
  constexpr const char* letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string result;
  result.reserve((bytes.size() + 2) / 3 * 4);
  for (; !bytes.empty(); bytes = bytes.subspan(std::min<std::size_t>(bytes.size(), 3))) {
    const auto byte = [&](std::size_t i) { return i < bytes.size() ? std::uint32_t{bytes[i]} : 0u; };
    const std::uint32_t three = byte(0) << 16 | byte(1) << 8 | byte(2);
    result += letters[three >> 18];
    result += letters[three >> 12 & 63];
    result += bytes.size() > 1 ? letters[three >> 6 & 63] : '=';
    result += bytes.size() > 2 ? letters[three & 63] : '=';
  }
  return result;
}

// ---- What is in the page ------------------------------------------------------------------------------------------

/// Weights as the page has them, [heads, queries, sources, keys up to the query]: square roots in 16 bits, low byte
/// first, times 65535. So a weight w is off by at most sqrt(w) / 65535, and small ones keep their digits.
[[nodiscard]] inline std::string packed_weights(const attention_weights_map& map, viz::heads heads) {
  const auto sources = static_cast<index>(map.sources.size());
  const index kept = heads == viz::heads::all ? map.heads : 1, each = map.heads / kept;
  const index count = kept * sources * (map.queries * (map.queries + 1) / 2);
  if (count > most_page_weights)
    fail("save_page: a page of ", count, " weights; expected at most ", most_page_weights,
         ": take fewer tokens, or heads::mean");
  std::vector<std::uint8_t> bytes;
  bytes.reserve(static_cast<std::size_t>(2 * count));
  for (index head = 0; head < kept; ++head)
    for (index query = 0; query < map.queries; ++query)
      for (index source = 0; source < sources; ++source)
        for (index key = 0; key <= query; ++key) {
          double sum = 0;
          for (index h = head * each; h < (head + 1) * each; ++h)
            sum += static_cast<double>(map(h, query, source, key));
          const double root = std::sqrt(std::min(1.0, sum / static_cast<double>(each)));
          const auto number = static_cast<std::uint16_t>(std::lround(65535 * root));
          bytes.push_back(static_cast<std::uint8_t>(number & 255));
          bytes.push_back(static_cast<std::uint8_t>(number >> 8));
        }
  return base64(bytes);
}

/// Notes the token of a note or a place. Fails when the input has no such token, or it has been noted before.
inline void take_token(std::vector<bool>& taken, index token, const char* what) {
  if (token < 0 || std::cmp_greater_equal(token, taken.size()))
    fail("save_page: a ", what, " of token ", token, "; expected 0 to ", taken.size() - 1, ", the input's tokens");
  if (taken[static_cast<std::size_t>(token)])
    fail("save_page: a second ", what, " of token ", token, "; expected one for a token at most");
  taken[static_cast<std::size_t>(token)] = true;
}

inline constexpr double day = 86400;

/// An object of JSON whose members are in this order: their keys, and their values as JSON.
[[nodiscard]] inline std::string object_text(std::initializer_list<std::pair<const char*, std::string>> members) {
  std::string result;
  for (const auto& [key, value] : members) result += join(result.empty() ? "{\"" : ",\"", key, "\":", value);
  return result + "}";
}
/// An array of strings.
[[nodiscard]] inline json strings(std::span<const std::string> texts) {
  json result = json::array();
  for (const std::string& text : texts) result.push_back(text);
  return result;
}

[[nodiscard]] inline std::string view(const text&, index) { return object_text({{"kind", "\"text\""}}); }

[[nodiscard]] inline std::string view(const music& m, index tokens) {
  std::vector<bool> taken(static_cast<std::size_t>(tokens));
  json notes = json::array();  // [token, onset, duration, pitch]
  for (const note& n : m.notes) {
    take_token(taken, n.token, "note");
    const auto is_time = [](double seconds) { return seconds >= 0 && seconds <= day; };  // a NaN is none
    if (!is_time(n.onset) || !is_time(n.duration))
      fail("save_page: the note of token ", n.token, " begins at ", n.onset, " s and lasts ", n.duration,
           " s; expected 0 to ", day, " for both");
    if (n.pitch < 0 || n.pitch > 127)
      fail("save_page: the note of token ", n.token, " has pitch ", n.pitch, "; expected 0 to 127");
    notes.push_back(json::array({n.token, n.onset, n.duration, n.pitch}));
  }
  return object_text({{"kind", "\"music\""}, {"notes", notes.dump()}});
}

[[nodiscard]] inline std::string view(const speech& s, index tokens) {
  constexpr index most_frames = 1'000'000;
  const auto rows = static_cast<index>(s.rows.size());
  if (rows == 0) fail("save_page: speech without rows; expected a name for each token of a frame");
  if (!(s.frame_seconds > 0 && s.frame_seconds <= day) || !(std::abs(s.start) <= day))
    fail("save_page: frames of ", s.frame_seconds, " s from ", s.start,
         " s on; expected a positive length, and at most ", day, " for both");
  std::vector<place> places = s.places;
  for (index i = 0; s.places.empty() && i < tokens; ++i) places.push_back({i, i / rows, i % rows});

  std::vector<bool> taken(static_cast<std::size_t>(tokens));
  std::vector<std::pair<index, index>> used;
  for (const place& p : places) {
    take_token(taken, p.token, "place");
    if (p.frame < 0 || p.frame >= most_frames || p.row < 0 || p.row >= rows)
      fail("save_page: the place of token ", p.token, " is frame ", p.frame, ", row ", p.row,
           "; expected frames below ", most_frames, " and rows below ", rows);
    used.emplace_back(p.frame, p.row);
  }
  std::sort(used.begin(), used.end());
  if (const auto twice = std::adjacent_find(used.begin(), used.end()); twice != used.end())
    fail("save_page: two tokens in frame ", twice->first, ", row ", twice->second, "; expected one at most");

  json shown = json::array();  // [token, frame, row]
  for (const place& p : places) shown.push_back(json::array({p.token, p.frame, p.row}));
  json names = json::array();
  for (const std::string& row : s.rows) names.push_back(characters(row));
  return object_text({{"kind", "\"speech\""},
                      {"rows", names.dump()},
                      {"frame_seconds", json(s.frame_seconds).dump()},
                      {"start", json(s.start).dump()},
                      {"places", shown.dump()}});
}

/// All that the page's script knows, as JSON.
[[nodiscard]] inline std::string page_data(const attention_weights_map& map, const page_options& options) {
  if (!options.nll.empty() && std::cmp_not_equal(options.nll.size(), map.queries))
    fail("save_page: ", options.nll.size(), " NLLs of ", map.queries, " tokens; expected one for each");
  std::vector<std::string> bytes;
  for (const token t : map.tokens) bytes.push_back(options.labels(t, map.vocab));

  const bool runs = std::holds_alternative<text>(options.as);
  std::vector<std::string> texts = runs ? running_text(bytes) : std::vector<std::string>{};
  std::string names;  // of tokens by themselves, where they differ from the text
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    std::string name = characters(bytes[i]);
    if (!runs)
      texts.push_back(std::move(name));
    else if (name != texts[i])
      names += join(names.empty() ? "\"" : ",\"", i, "\":", json(std::move(name)).dump());
  }
  json nll = json::array();
  for (const float nats : options.nll) {
    if (nats < 0 || std::isinf(nats)) fail("save_page: an NLL of ", nats, "; expected 0 or more, or a NaN for none");
    nll.push_back(std::isnan(nats) ? json() : json(nats));
  }
  json ids = json::array();
  for (const token t : map.tokens) ids.push_back(t);
  json sources = json::array();
  for (const std::string& source : map.sources) sources.push_back(characters(source));
  return object_text({{"title", json(characters(options.title)).dump()},
                      {"view", std::visit([&](const auto& as) { return view(as, map.queries); }, options.as)},
                      {"measure", options.measure == measure::relative ? "\"relative\"" : "\"weight\""},
                      {"heads", json(map.heads).dump()},
                      {"each_head", json(options.heads == heads::all).dump()},
                      {"sources", sources.dump()},
                      {"ids", ids.dump()},
                      {"texts", strings(texts).dump()},
                      {"names", "{" + names + "}"},
                      {"nll", nll.dump()},
                      {"weights", json(packed_weights(map, options.heads)).dump()}});
}

}  // namespace detail

/// Writes a page that shows what fathom::attention_map found. Point at a token, click it or go there with the arrow
/// keys, and see what it attends to: in each source, for each head or their mean, as numbers and as colours, and which
/// share each source gets. Tokens are shown as text, as notes or as frames of speech (`as`).
///
/// The file has everything in it and asks no network for anything. Weights are in it in 16 bits: a weight w is off by
/// at most sqrt(w) / 65535. There are 2.7 bytes for each head, source, query and key that it sees: 2.2 MB for 8 heads,
/// 3 sources and 256 tokens, and at most 45 MB. Bytes of names that are not UTF-8, control characters and those that
/// cannot be seen are written out. The file appears when it is complete. Fails on a map that is empty or has weights
/// outside of 0 to 1; on notes, places or NLLs that do not fit the tokens; when the page would be too large; and when
/// the file cannot be written.
inline void save_page(const std::filesystem::path& path, const attention_weights_map& map,
                      const page_options& options = {}) {
  detail::check(map);
  const std::string title = options.title.empty() ? "Attention" : detail::characters(options.title);
  std::string numbers = detail::page_data(map, options);
  // Inside of a script element only a "<" can end it, or begin a comment. Here all are in strings.
  for (std::size_t at = 0; (at = numbers.find('<', at)) != std::string::npos;) numbers.replace(at, 1, "\\u003c");
  io::atomic_file file(path);
  file.write(detail::page_begin);
  file.write("<title>" + detail::html(title) + "</title>\n<style>");
  file.write(detail::page_style);
  file.write("</style>\n</head>\n");
  file.write(detail::page_body);
  file.write("<script type=\"application/json\" id=\"data\">");
  file.write(numbers);
  file.write("</script>\n<script>");
  file.write(detail::page_script);
  file.write("</script>\n</body>\n</html>\n");
  file.commit();
}

}  // namespace fathom::viz
