// Pages of attention, read back: contents, hostile text, and errors. viz_page_browser.py opens them in a browser.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <iterator>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include <fathom/viz/page.hpp>

#include "catch.hpp"
#include "fails_with.hpp"
#include "json.hpp"
#include "temporary_folder.hpp"

namespace {

using fathom::attention_weights_map;
using fathom::token;
using fathom::viz::heads;
using fathom::viz::music;
using fathom::viz::page_options;
using fathom::viz::speech;
using fathom::json;

/// Weights 1, 2, 3, ... for a query's visible keys, divided by their sum.
attention_weights_map some_map(fathom::index head_count, const std::vector<token>& tokens,
                               const std::vector<std::string>& sources = {"depth 1", "depth 3"}, fathom::index vocab = 256) {
  const auto count = static_cast<fathom::index>(tokens.size());
  attention_weights_map map{head_count, count, sources, count, tokens, vocab, {}};
  for (fathom::index head = 0; head < head_count; ++head)
    for (fathom::index query = 0; query < count; ++query) {
      const fathom::index seen = (query + 1) * static_cast<fathom::index>(sources.size());
      const auto sum = static_cast<float>(seen * (seen + 1) / 2);
      fathom::index next = head;  // heads differ
      for (std::size_t source = 0; source < sources.size(); ++source)
        for (fathom::index key = 0; key < count; ++key)
          map.weights.push_back(key <= query ? static_cast<float>(1 + next++ % seen) / sum : 0);
    }
  return map;
}
attention_weights_map some_map(fathom::index head_count, fathom::index tokens) {
  return some_map(head_count, std::vector<token>(static_cast<std::size_t>(tokens), 'a'));
}

std::string page(const attention_weights_map& map, const page_options& options = {}) {
  const temporary_folder folder;
  fathom::viz::save_page(folder.path() / "a.html", map, options);
  return folder.read("a.html");
}

std::size_t occurrences(const std::string& text, const std::string& of) {
  std::size_t found = 0;
  for (std::size_t at = 0; (at = text.find(of, at)) != text.npos; ++at) ++found;
  return found;
}

/// The text between the page's data tags.
std::string data_text(const std::string& file) {
  const std::string tag = "<script type=\"application/json\" id=\"data\">";
  const std::size_t begin = file.find(tag);
  REQUIRE(begin != file.npos);
  return file.substr(begin + tag.size(), file.find("</script", begin) - begin - tag.size());
}
json data(const std::string& file) { return parsed(data_text(file)); }

/// The 2-byte numbers in base64 text.
std::vector<int> numbers(const std::string& text) {
  const std::string letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::vector<int> bytes, result;
  std::uint32_t bits = 0;
  int count = 0;
  for (const char letter : text) {
    if (letter == '=') break;
    const std::size_t value = letters.find(letter);
    REQUIRE(value != letters.npos);
    bits = (bits << 6 | static_cast<std::uint32_t>(value)) & 0xffff;
    count += 6;
    if (count >= 8) bytes.push_back(static_cast<int>(bits >> (count -= 8) & 255));
  }
  for (std::size_t i = 0; i + 1 < bytes.size(); i += 2) result.push_back(bytes[i] | bytes[i + 1] << 8);
  return result;
}

std::vector<token> bytes(const std::string& text) {
  std::vector<token> tokens;
  for (const char c : text) tokens.push_back(static_cast<unsigned char>(c));
  return tokens;
}

}  // namespace

TEST_CASE("a page has the tokens, and every visible weight to within its rounding", "[viz_page]") {
  const auto map = some_map(3, bytes("And God"));
  const json all = data(page(map, {.title = "Genesis"}));
  CHECK(all["title"] == "Genesis");
  CHECK(all["heads"] == 3);
  CHECK(all["each_head"] == true);
  CHECK(all["measure"] == "relative");
  CHECK(all["sources"] == json::array({"depth 1", "depth 3"}));
  CHECK(all["ids"] == parsed("[65, 110, 100, 32, 71, 111, 100]"));
  CHECK(all["texts"] == json::array({"A", "n", "d", " ", "G", "o", "d"}));
  CHECK(all["names"] == json::object());
  CHECK(all["nll"] == json::array());
  CHECK(all["view"] == json::object({{"kind", "text"}}));

  const auto check = [&](const json& found, fathom::index head_count, const auto& weight) {
    const std::vector<int> packed = numbers(found["weights"].text());
    REQUIRE(packed.size() == static_cast<std::size_t>(head_count) * 2 * 28);
    auto next = packed.begin();
    for (fathom::index head = 0; head < head_count; ++head)
      for (fathom::index query = 0; query < 7; ++query)
        for (fathom::index source = 0; source < 2; ++source)
          for (fathom::index key = 0; key <= query; ++key) {
            const double root = *next++ / 65535.0, w = weight(head, query, source, key);
            CHECK(std::abs(root * root - w) <= std::sqrt(w) / 65535);
          }
  };
  check(all, 3, [&](fathom::index head, fathom::index query, fathom::index source, fathom::index key) {
    return static_cast<double>(map(head, query, source, key));
  });
  const json mean = data(page(map, {.heads = heads::mean, .measure = fathom::viz::measure::weight}));
  CHECK(mean["heads"] == 3);
  CHECK(mean["each_head"] == false);
  CHECK(mean["measure"] == "weight");
  check(mean, 1, [&](fathom::index, fathom::index query, fathom::index source, fathom::index key) {
    return static_cast<double>(map(0, query, source, key) + map(1, query, source, key) + map(2, query, source, key)) / 3;
  });
}

TEST_CASE("a page is small, and asks no network", "[viz_page]") {
  const std::string file = page(some_map(8, std::vector<token>(256, 'a'), {"depth 2", "depth 4", "depth 8"}));
  CHECK(file.size() < 2'200'000);
  for (const char* const address : {"://", " src=", " href=", "url(", "@import", "fetch(", "XMLHttpRequest", "import("})
    CHECK(occurrences(file, address) == 0);
  CHECK(occurrences(file, "default-src 'none'") == 1);
}

TEST_CASE("no text can break a page", "[viz_page]") {
  std::string every;
  for (int byte = 0; byte < 256; ++byte) every += static_cast<char>(byte);
  const std::vector<std::string> names{"</script>", "<!--", "<script>", "\"", "'", "\\", "</SCRIPT >", "]]>", "&lt;",
                                       "\u2028", every, ""};
  std::vector<token> tokens(names.size());
  std::iota(tokens.begin(), tokens.end(), token{});
  for (const std::string& hostile : names) {
    const auto map = some_map(1, tokens, {hostile, "depth 2"}, 12);
    const std::string file = page(map, {.title = hostile, .labels = names});
    CHECK(occurrences(file, "<script") == 2);
    CHECK(occurrences(file, "</script>") == 2);
    CHECK(occurrences(file, "</title>") == 1);
    CHECK(occurrences(file, "<!--") == 0);
    CHECK(occurrences(data_text(file), "<") == 0);
    CHECK(std::all_of(file.begin(), file.end(), [](char c) {  // no control characters
      const auto byte = static_cast<unsigned char>(c);
      return (byte >= 32 && byte != 127) || byte == '\n' || byte == '\t';
    }));
    const json found = data(file);
    CHECK(found["texts"].size() == names.size());
    CHECK(found["texts"][0] == "</script>");
    CHECK(found["texts"][9] == "\\u{2028}");
    CHECK(found["texts"][11] == "");
  }
  CHECK(page(some_map(1, 1), {.title = "a & b < c"}).find("<title>a &amp; b &lt; c</title>") != std::string::npos);
  CHECK(page(some_map(1, 1)).find("<title>Attention</title>") != std::string::npos);
}

TEST_CASE("characters that are cut into tokens stand at the first", "[viz_page]") {
  using fathom::viz::detail::characters;
  const json found = data(page(some_map(1, bytes("\u00e9\u4e16\x80!\n\xe4\xb8"))));
  CHECK(found["texts"] == json::array({"\u00e9", "", "\u4e16", "", "", "\\x80", "!", "\n", "\\xe4", "\\xb8"}));
  CHECK(found["names"] == json::object({{"0", "\\xc3"}, {"1", "\\xa9"}, {"2", "\\xe4"}, {"3", "\\xb8"}, {"4", "\\x96"}}));

  // Sub-words, one of which ends a character and starts more text.
  const std::vector<std::string> names{"a\xe4", "", "\xb8", "\x96" "b", "c"};
  const json words = data(page(some_map(1, {0, 1, 2, 3, 4}, {"depth 1"}, 5), {.labels = names}));
  CHECK(words["texts"] == json::array({"a\u4e16", "", "", "b", "c"}));
  CHECK(words["names"] == json::object({{"0", "a\\xe4"}, {"2", "\\xb8"}, {"3", "\\x96" "b"}}));
  // Names of notes and frames are not merged.
  const json apart = data(page(some_map(1, {0, 2, 3}, {"depth 1"}, 5), {.as = music{}, .labels = names}));
  CHECK(apart["texts"] == json::array({"a\\xe4", "\\xb8", "\\x96" "b"}));

  CHECK(characters("tab\tline\nend") == "tab\tline\nend");
  CHECK(characters(std::string("\0\x1b\x7f", 3)) == "\\x00\\x1b\\x7f");
  CHECK(characters("a\u200bb\u202ec\ufeff\U000e0041") == "a\\u{200b}b\\u{202e}c\\u{feff}\\u{e0041}");
  CHECK(characters("\xf0\x9f\x98\x80 \u05d0") == "\U0001f600 \u05d0");
  CHECK(characters("\xed\xa0\x80\xc0\x80") == "\\xed\\xa0\\x80\\xc0\\x80");  // a surrogate; longer than need be
}

TEST_CASE("base64 is that of RFC 4648", "[viz_page]") {
  const auto encode = [](const std::string& text) {
    return fathom::viz::detail::base64(std::vector<std::uint8_t>(text.begin(), text.end()));
  };
  CHECK(encode("") == "");
  CHECK(encode("f") == "Zg==");
  CHECK(encode("fo") == "Zm8=");
  CHECK(encode("foo") == "Zm9v");
  CHECK(encode("foobar") == "Zm9vYmFy");
  CHECK(encode("\xfb\xff\xbf") == "+/+/");
}

TEST_CASE("notes, frames and NLLs are in the page", "[viz_page]") {
  const float none = std::numeric_limits<float>::quiet_NaN();
  const json notes = data(page(some_map(1, 4), {.as = music{.notes = {{3, 0.5, 0.25, 60}, {1, 0, 1, 127}}},
                                                .nll = {none, 0, 1.5f, 2}}));
  CHECK(notes["view"] == parsed(R"({"kind": "music", "notes": [[3, 0.5, 0.25, 60], [1, 0, 1, 127]]})"));
  CHECK(notes["nll"] == json::array({nullptr, 0.0, 1.5, 2.0}));

  // Without places, tokens fill frame after frame.
  const json frames = data(page(some_map(1, 5), {.as = speech{.rows = {"vq", "\xff"}, .frame_seconds = 0.04}}));
  CHECK(frames["view"]["rows"] == json::array({"vq", "\\xff"}));
  CHECK(frames["view"]["frame_seconds"] == 0.04);
  CHECK(frames["view"]["places"] == parsed("[[0, 0, 0], [1, 0, 1], [2, 1, 0], [3, 1, 1], [4, 2, 0]]"));
  const json placed = data(page(some_map(1, 3), {.as = speech{.rows = {"vq"}, .frame_seconds = 1, .places = {{2, 7, 0}}}}));
  CHECK(placed["view"]["places"] == parsed("[[2, 7, 0]]"));
}

TEST_CASE("what cannot be a page is an error, and leaves what was there", "[viz_page]") {
  const temporary_folder folder;
  const auto good = some_map(2, 3);
  const auto saving = [&folder](const attention_weights_map& map, const page_options& options = {}) {
    return [&folder, map, options] { return fathom::viz::save_page(folder.path() / "a.html", map, options), 0; };
  };
  const float nan = std::numeric_limits<float>::quiet_NaN();
  auto broken = good;
  broken.weights[4] = nan;
  CHECK(fails_with(saving({}), "0 heads, 0 tokens and 0 sources"));
  CHECK(fails_with(saving(broken), "weight of", "nan"));
  CHECK(fails_with(saving(good, {.nll = {1, 2}}), "2 NLLs of 3 tokens", "one for each"));
  CHECK(fails_with(saving(good, {.nll = {1, 2, -1}}), "NLL of -1", "0 or more"));
  CHECK(fails_with(saving(good, {.nll = {1, 2, std::numeric_limits<float>::infinity()}}), "NLL of inf"));
  CHECK(fails_with(saving(good, {.labels = std::vector<std::string>{"a"}}), "token 97 has no name"));

  const auto note = [&](const fathom::viz::note& n) { return saving(good, {.as = music{.notes = {n}}}); };
  CHECK(fails_with(note({3, 0, 1, 60}), "a note of token 3", "0 to 2"));
  CHECK(fails_with(note({-1, 0, 1, 60}), "a note of token -1"));
  CHECK(fails_with(note({0, -1, 1, 60}), "token 0 begins at -1 s"));
  CHECK(fails_with(note({0, std::nan(""), 1, 60}), "expected 0 to 86400"));
  CHECK(fails_with(note({0, 1, 1e300, 60}), "lasts 1e+300 s"));
  CHECK(fails_with(note({0, 0, 1, 128}), "pitch 128", "0 to 127"));
  CHECK(fails_with(saving(good, {.as = music{.notes = {{1, 0, 1, 60}, {1, 2, 1, 60}}}}), "a second note of token 1"));

  const auto place = [&](const fathom::viz::place& p) {
    return saving(good, {.as = speech{.rows = {"a", "b"}, .frame_seconds = 0.04, .places = {p}}});
  };
  CHECK(fails_with(saving(good, {.as = speech{}}), "speech without rows"));
  CHECK(fails_with(saving(good, {.as = speech{.rows = {"a"}}}), "frames of 0 s", "positive length"));
  CHECK(fails_with(saving(good, {.as = speech{.rows = {"a"}, .frame_seconds = std::nan("")}}), "frames of", "positive length"));
  CHECK(fails_with(saving(good, {.as = speech{.rows = {"a"}, .frame_seconds = 1, .start = std::nan("")}}), "nan s on"));
  CHECK(fails_with(place({3, 0, 0}), "a place of token 3"));
  CHECK(fails_with(place({0, 0, 2}), "frame 0, row 2", "rows below 2"));
  CHECK(fails_with(place({0, -1, 0}), "frame -1"));
  CHECK(fails_with(place({0, 1'000'000, 0}), "frames below 1000000"));
  CHECK(fails_with(saving(good, {.as = speech{.rows = {"a"}, .frame_seconds = 1, .places = {{0, 5, 0}, {1, 5, 0}}}}),
                   "two tokens in frame 5, row 0"));

  // 2^24 weights and one more.
  CHECK(fails_with(saving(some_map((1 << 24) + 1, {1}, {"depth 1"})), "a page of 16777217 weights", "16777216", "heads::mean"));
  CHECK(std::filesystem::is_empty(folder.path()));

  CHECK(fails_with([&] { return fathom::viz::save_page(folder.path() / "none" / "a.html", good), 0; }, "none/a.html",
                   "cannot be written", "No such file"));
  fathom::viz::save_page(folder.path() / "a.html", good);
  const std::string before = folder.read("a.html");
  CHECK(before.starts_with("<!DOCTYPE html>\n"));
  CHECK(before.ends_with("</html>\n"));
  CHECK(fails_with(saving(broken), "weight of"));
  CHECK(folder.read("a.html") == before);
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);
}
