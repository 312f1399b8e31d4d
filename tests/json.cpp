// The JSON reader and values. json_python.py compares both with Python on thousands of texts.
#include <chrono>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include <fathom/core/json.hpp>

#include "catch.hpp"
#include "fails_with.hpp"
#include "json.hpp"

using fathom::json;
using fathom::json_event;
using fathom::json_reader;

namespace {

/// Whether a text is JSON, at compile time.
constexpr bool is_json(std::string_view text) {
  json_reader reader(text);
  while (reader.next() < json_event::end) {
  }
  return reader.last() == json_event::end;
}
/// The number that is the whole text.
constexpr double number(std::string_view text) {
  json_reader reader(text);
  static_cast<void>(reader.next());
  return reader.number();
}
constexpr bool is_string(std::string_view text, std::string_view expected) {
  json_reader reader(text);
  return reader.next() == json_event::string && reader.is(expected);
}

static_assert(is_json(R"( {"a": [1, -2.5e3, true, false, null, "x\n\u00e9\ud83d\ude00é"], "b": {}, "c": []} )"));
static_assert(is_json("\xEF\xBB\xBF{}") && !is_json("\xEF\xBB{}") && !is_json(""));
static_assert(!is_json("{") && !is_json("[1,]") && !is_json("{\"a\":1,}") && !is_json("{\"a\" 1}") && !is_json("{1:2}") && !is_json("[}"));
static_assert(!is_json("01") && !is_json("1.") && !is_json(".5") && !is_json("+1") && !is_json("1e") && !is_json("-") && !is_json("NaN"));
static_assert(!is_json("\"\\ud800\"") && !is_json("\"\\udc00\"") && !is_json("\"\\ud800\\u0041\"") && !is_json("\"\\u00g0\"") && !is_json("\"\\x\""));
static_assert(!is_json("\"\xC0\x80\"") && !is_json("\"\xED\xA0\x80\"") && !is_json("\"\xF4\x90\x80\x80\"") && !is_json("\"\x01\"") && !is_json("\"\xC3"));
static_assert(!is_json("{} {}") && !is_json(std::string_view("{}\0", 3)) && !is_json(std::string_view("\"\0\"", 3)) && is_json("\"\x7F\""));
static_assert(number("1e-05") == 1e-5 && number("0.00001") == 1e-5 && number("-12.50") == -12.5 && number("3E+2") == 300 && number("123") == 123);
static_assert(is_string(R"("a\u0062\ud83d\ude00\"")", "ab\U0001F600\"") && !is_string(R"("a\u0062")", "a") && !is_string(R"("a\u0062")", "abc"));

}  // namespace

TEST_CASE("integers are exact, and other numbers doubles", "[json]") {
  CHECK(parsed("18446744073709551615").as<std::uint64_t>() == ~std::uint64_t{0});
  CHECK(parsed("-9223372036854775808").as<std::int64_t>() == std::numeric_limits<std::int64_t>::min());
  CHECK_FALSE(parsed("18446744073709551616").is_integer());
  CHECK_FALSE(parsed("-9223372036854775809").is_integer());
  CHECK(parsed("-0").is_unsigned());
  CHECK(std::signbit(parsed("-0.0").as<double>()));
  CHECK(parsed("127").as<std::int8_t>() == 127);
  CHECK(parsed("-128").as<std::int8_t>() == -128);
  for (const char* text : {"128", "-129", "1.0", "\"1\"", "true", "null", "18446744073709551615"})
    CHECK(fails_with([&] { return parsed(text).as<std::int8_t>(); }, "fathom::json: expected an integer of its type, found "));
  CHECK(fails_with([&] { return parsed("-1").as<std::uint64_t>(); }, "an integer of its type, found an integer, -1"));
  CHECK(fails_with([&] { return parsed("[]").as<double>(); }, "expected a number, found an array"));
  CHECK(fails_with([&] { return parsed("1").as<bool>(); }, "expected true or false, found an integer, 1"));

  // Numbers too large for a double are refused, numbers too small are 0, however they are written.
  const std::string zeros(400, '0');
  for (const std::string& text : {std::string("1e400"), "-1" + zeros, "0.0001e" + zeros + "400", "1" + zeros + "e-1", "1e" + zeros + "999"})
    CHECK_FALSE(json::parse(text));
  for (const std::string& text : {std::string("1e-400"), "-0." + zeros + "1", "1000e-" + zeros + "500", std::string("0e999999999999999999999")})
    CHECK(parsed(text).as<double>() == 0);
  CHECK(parsed("1" + zeros + "e-400") == 1);
  CHECK(parsed("4.9e-324").as<double>() == std::numeric_limits<double>::denorm_min());
  CHECK(parsed("1.7976931348623157e308").as<double>() == std::numeric_limits<double>::max());
}

TEST_CASE("values are compared, changed and written", "[json]") {
  CHECK(json(1) == json(1.0));
  CHECK(json(-1) == json(-1.0));
  CHECK_FALSE(json(1) == json(-1));
  CHECK_FALSE(json(1) == json(true));
  CHECK_FALSE(json(0) == json());
  CHECK_FALSE(json(std::nan("")) == json(std::nan("")));
  CHECK(json(~std::uint64_t{0}) == parsed("18446744073709551615"));
  CHECK(parsed(R"({"a": [1, {"b": null}], "c": "x"})") == parsed(R"({"c":"x","a":[1.0,{"b":null}]})"));
  CHECK_FALSE(parsed(R"({"a": [1, {"b": null}]})") == parsed(R"({"a": [1, {"b": 0}]})"));
  CHECK(parsed(R"({"a": 1, "b": 2, "a": {"c": 3}, "a": [4]})").dump() == R"({"a":[4],"b":2})");

  json value;
  value["z"]["y"].push_back(1);
  value["a"] = "\"\\/\b\f\n\r\t\x01\x1f\x7f\u00e9\xff\xC3";
  CHECK(value.dump() == "{\"a\":\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\u00e9\xEF\xBF\xBD\xEF\xBF\xBD\",\"z\":{\"y\":[1]}}");
  const json copy = value;
  value.erase("a");
  value["z"]["y"][0] = json::object();
  CHECK(value.dump(2) == "{\n  \"z\": {\n    \"y\": [\n      {}\n    ]\n  }\n}");
  CHECK(copy["z"]["y"][0] == 1);
  CHECK(copy["none"]["of"].is_null());
  CHECK(copy.find("none") == nullptr);
  CHECK(json::array({nullptr, false, -3, 2.5, 100.0, 1e15, 123456789012345.0, 1e-4, 1e-5, std::nan(""), json::array()}).dump() ==
        "[null,false,-3,2.5,100.0,1e+15,123456789012345.0,0.0001,1e-05,null,[]]");
  CHECK(fails_with([&] { return copy["z"][std::size_t{0}]; }, "fathom::json: expected an array, found an object"));
  CHECK(fails_with([&] { return copy["z"]["y"][1]; }, "fathom::json: element 1 of an array of 1"));
  CHECK(fails_with([&] { return copy["a"].elements(); }, "fathom::json: expected an array, found a string"));
}

TEST_CASE("texts nested without end overflow nothing, and take no longer than others", "[json]") {
  const std::size_t depth = 1'000'000;
  const std::string open(depth, '['), close(depth, ']');
  std::string objects, ends(depth, '}');
  for (std::size_t i = 0; i < depth; ++i) objects += "{\"a\":";
  const auto seconds = [](const auto& f) {
    const auto begin = std::chrono::steady_clock::now();
    f();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  };
  CHECK(seconds([&] { CHECK(json::parse(open + close)); }) < 5);
  CHECK(seconds([&] { CHECK(json::parse(objects + "1" + ends)); }) < 5);
  CHECK_FALSE(json::parse(open + close.substr(1)));
  CHECK_FALSE(json::parse(open));
  std::string wrong = close;
  wrong[depth - 100] = '}';
  CHECK_FALSE(json::parse(open + wrong));
  wrong[depth - 100] = ']';
  wrong[100] = '}';
  CHECK_FALSE(json::parse(open + wrong));
  // 64 levels are built in; without the caller's memory they are the reader's limit.
  for (const std::size_t n : {1u, 63u, 64u, 65u, 200u}) {
    const std::string text = open.substr(0, n) + close.substr(0, n);
    CHECK(is_json(text) == (n <= 64));
    CHECK(parsed(text).dump() == (n <= 64 ? text : open.substr(0, 64) + "null" + close.substr(0, 64)));
  }
  // Many members, and many times the same.
  std::string many = "{";
  for (int i = 0; i < 300'000; ++i) many += "\"" + std::to_string(i % 200'000) + "\":" + std::to_string(i) + ",";
  CHECK(seconds([&] {
          const json value = parsed(many + "\"end\":[]}");
          CHECK(value.size() == 200'001);
          CHECK(value["7"] == 200'007);
        }) < 5);
}
