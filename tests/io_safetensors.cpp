// Files of weights: saved weights load bit for bit, mismatched files are refused as a whole with all differences named,
// and nothing in a file is trusted.
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <vector>

#include <fathom/backend/reference.hpp>
#include <fathom/core/random.hpp>
#include <fathom/io/config.hpp>
#include <fathom/io/file.hpp>
#include <fathom/io/safetensors.hpp>
#include <fathom/io/weights.hpp>
#include <fathom/model/initialize.hpp>
#include <fathom/model/model.hpp>

#include "catch.hpp"
#include "fails_with.hpp"
#include "file_contents.hpp"
#include "json.hpp"
#include "temporary_folder.hpp"

namespace {

using fathom::io::safetensors_file;
using fathom::json;

template <fathom::config C, class T = float>
using net = fathom::model<C, fathom::backend::reference<T>>;

constexpr fathom::config plain{.vocab = 7, .context = 5, .width = 4, .depth = 2, .heads = 2};
constexpr fathom::config with_shortcut{
    .vocab = 7, .context = 5, .width = 4, .depth = 2, .heads = 2, .shortcut = {.depths = {1}, .hidden = 3}};
constexpr fathom::config untied{.vocab = 7, .context = 5, .width = 4, .depth = 2, .heads = 2, .tied = false};
constexpr fathom::config one_head{.vocab = 7, .context = 5, .width = 4, .depth = 2, .heads = 1};

/// All bytes of some weights.
template <class Parameters>
std::string bytes_of(const Parameters& weights) {
  return {reinterpret_cast<const char*>(&weights), sizeof weights};
}

/// Weights that differ from those of all files here.
template <class Net>
auto other_weights() {
  auto weights = fathom::make<typename Net::parameters>();
  fathom::initialize<Net>(*weights, 99);
  return weights;
}

/// The weights of a seed as fathom saves them.
template <class Net>
std::string saved(const temporary_folder& folder, std::uint64_t seed = 1) {
  auto weights = fathom::make<typename Net::parameters>();
  fathom::initialize<Net>(*weights, seed);
  fathom::save(folder.path() / "saved.safetensors", *weights);
  return folder.read("saved.safetensors");
}

/// Whether loading a file fails with all these pieces in the message, and leaves the weights as they were.
template <class Net, class... Pieces>
bool refused(const temporary_folder& folder, const std::string& file, const fathom::load_options& options,
             const Pieces&... pieces) {
  const auto path = folder.write("a.safetensors", file);
  const auto weights = other_weights<Net>();
  const std::string before = bytes_of(*weights);
  const bool fails = fails_with([&] { fathom::load(path, *weights, options); }, path.string(), pieces...);
  return fails && bytes_of(*weights) == before;
}

/// Whether reading a file as safetensors fails for this reason.
bool invalid(const temporary_folder& folder, const std::string& file, const std::string& reason) {
  const auto path = folder.write("a.safetensors", file);
  return fails_with([&] { return safetensors_file(path); }, path.string() + ": is not a valid safetensors file",
                    reason);
}

}  // namespace

// ---- Weights --------------------------------------------------------------------------------------------------------

TEMPLATE_TEST_CASE("what is saved comes back bit for bit, and is saved as the same bytes", "[io]", float, double) {
  using model = net<with_shortcut, TestType>;
  const temporary_folder folder;
  const auto path = folder.path() / "a.safetensors";
  auto weights = fathom::make<typename model::parameters>();
  fathom::initialize<model>(*weights, 1);
  using limits = std::numeric_limits<TestType>;
  TestType* const first = weights->embed.wte.data();
  first[0] = -TestType(0), first[1] = limits::denorm_min(), first[2] = limits::infinity();
  first[3] = limits::quiet_NaN(), first[4] = limits::max(), first[5] = limits::lowest();
  fathom::save(path, *weights);

  const auto loaded = other_weights<model>();
  fathom::load(path, *loaded);
  model::visit(
      [](std::string_view name, fathom::initial, const auto& a, const auto& b) {
        INFO(name);
        CHECK(std::memcmp(a.data(), b.data(), a.span().size_bytes()) == 0);
      },
      *weights, *loaded);
  fathom::save(folder.path() / "b.safetensors", *loaded);
  CHECK((folder.read("a.safetensors") == folder.read("b.safetensors")));

  const std::string file = folder.read("a.safetensors");
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), 8);
  CHECK(length % 8 == 0);  // the data is aligned for mapping
  CHECK(file[8] == '{');

  const contents c(file);
  const std::string type = sizeof(TestType) == 4 ? "F32" : "F64";
  using shape = std::vector<std::uint64_t>;
  const std::map<std::string, shape> block{
      {"ln_1.weight", {4}},       {"ln_1.bias", {4}},       {"attn.c_attn.weight", {4, 12}},
      {"attn.c_attn.bias", {12}}, {"ln_2.bias", {4}},       {"attn.c_proj.weight", {4, 4}},
      {"attn.c_proj.bias", {4}},  {"ln_2.weight", {4}},     {"mlp.c_fc.weight", {4, 16}},
      {"mlp.c_fc.bias", {16}},    {"mlp.c_proj.bias", {4}}, {"mlp.c_proj.weight", {16, 4}}};
  std::map<std::string, shape> expected{{"wte.weight", {7, 4}},
                                        {"wpe.weight", {5, 4}},
                                        {"ln_f.weight", {4}},
                                        {"ln_f.bias", {4}},
                                        {"shortcut.ln.weight", {4}},
                                        {"shortcut.ln.bias", {4}},
                                        {"shortcut.features.1.ln.weight", {4}},
                                        {"shortcut.features.1.ln.bias", {4}},
                                        {"shortcut.features.1.c_fc.weight", {4, 3}},
                                        {"shortcut.features.1.c_fc.bias", {3}},
                                        {"shortcut.features.1.c_proj.weight", {3, 4}},
                                        {"shortcut.features.1.c_proj.bias", {4}},
                                        {"shortcut.attn.c_q.weight", {4, 4}},
                                        {"shortcut.attn.c_q.bias", {4}},
                                        {"shortcut.attn.c_kv.weight", {4, 8}},
                                        {"shortcut.attn.c_kv.bias", {8}},
                                        {"shortcut.attn.c_proj.weight", {4, 4}},
                                        {"shortcut.attn.c_proj.bias", {4}}};
  for (const auto& [name, extents] : block)
    for (const char* prefix : {"h.0.", "h.1."}) expected[prefix + name] = extents;
  CHECK(c.tensors.size() == expected.size());
  for (const auto& [name, extents] : expected) {
    INFO(name);
    REQUIRE(c.tensors.contains(name));
    CHECK(c.tensors.at(name).shape == extents);
    CHECK(c.tensors.at(name).type == type);
  }
  CHECK(std::memcmp(c.tensors.at("wte.weight").bytes.data(), first, 28 * sizeof(TestType)) == 0);
  CHECK(parsed(c.metadata.at("fathom.config")) == parsed(R"({
    "vocab": 7, "context": 5, "width": 4, "depth": 2, "heads": 2, "mlp_ratio": 4, "tied": true, "layer_norm_eps": 1e-5,
    "shortcut": {"depths": [1], "features": "mlp", "hidden": 3, "placement": "after_self_attention"}})"));
}

TEST_CASE("an untied model saves its own projection, a plain one no shortcut", "[io]") {
  const temporary_folder folder;
  const contents c(saved<net<untied>>(folder));
  REQUIRE(c.tensors.contains("lm_head.weight"));
  CHECK(c.tensors.at("lm_head.weight").shape == std::vector<std::uint64_t>{7, 4});
  CHECK(parsed(c.metadata.at("fathom.config"))["tied"] == false);
  CHECK(parsed(c.metadata.at("fathom.config"))["shortcut"].is_null());
  CHECK_FALSE(contents(saved<net<plain>>(folder)).tensors.contains("lm_head.weight"));
}

TEST_CASE("load converts F64, BF16 and F16", "[io]") {
  // Numbers and their bits, from the definitions of the formats.
  const std::map<double, std::uint16_t> as_f16{{1, 0x3c00},          {-2, 0xc000},         {0.5, 0x3800},
                                               {65504, 0x7bff},      {0x1p-24, 0x0001},    {-0x1p-14, 0x8400},
                                               {0x1.554p-2, 0x3555}, {0x1.ff8p-15, 0x03ff}};
  const std::map<double, std::uint16_t> as_bf16{{1, 0x3f80},        {-2, 0xc000},        {3.140625, 0x4049},
                                                {0x1p-133, 0x0001}, {-0x1p-126, 0x8080}, {0x1.fep127, 0x7f7f}};
  const temporary_folder folder;
  const auto read = [&]<class T>(const std::string& type, const auto& numbers, T) {
    // wte.weight holds the numbers, one after the other; everything else is 0.
    contents c(saved<net<plain, T>>(folder));
    std::vector<double> expected;
    for (auto& [name, tensor] : c.tensors) {
      const std::size_t count = tensor.bytes.size() / sizeof(T);
      tensor.type = type;
      tensor.bytes.clear();
      auto next = numbers.begin();
      for (std::size_t i = 0; i < count; ++i) {
        const bool used = name == "wte.weight" && next != numbers.end();
        const auto bits = used ? (next++)->second : 0;
        tensor.bytes.append(reinterpret_cast<const char*>(&bits),
                            sizeof(typename std::decay_t<decltype(numbers)>::mapped_type));
      }
    }
    const auto weights = other_weights<net<plain, T>>();
    fathom::load(folder.write("a.safetensors", c.file()), *weights);
    std::size_t i = 0;
    for (const auto& [number, bits] : numbers) {
      INFO(type << " with bits " << bits);
      CHECK(weights->embed.wte.data()[i++] == static_cast<T>(number));
    }
    CHECK(weights->embed.wte.data()[i] == 0);
    CHECK(weights->out.ln_f.weight.data()[0] == 0);
  };
  read("F16", as_f16, float());
  read("F16", as_f16, double());
  read("BF16", as_bf16, float());
  read("BF16", as_bf16, double());
  const std::map<double, std::uint64_t> as_f64{{1, 0x3ff0000000000000u}, {0.1, 0x3fb999999999999au}};
  read("F64", as_f64, float());
  read("F64", as_f64, double());
  const std::map<double, std::uint32_t> as_f32{{1, 0x3f800000u}, {-0x1.99999ap-4, 0xbdcccccdu}};
  read("F32", as_f32, float());
  read("F32", as_f32, double());

  float special[3];
  const std::string bits("\x00\x7c\x00\xfc\x01\x7e", 6);  // infinity, -infinity, NaN
  const fathom::io::input_file memory(std::as_bytes(std::span(bits)), "bits");
  fathom::io::copy_numbers({"F16", {3}, &memory, 0, 6}, special);
  CHECK(special[0] == std::numeric_limits<float>::infinity());
  CHECK(special[1] == -std::numeric_limits<float>::infinity());
  CHECK(std::isnan(special[2]));
}

TEST_CASE("load reads GPT-2 checkpoints as transformers writes them", "[io]") {
  const temporary_folder folder;
  contents c(saved<net<plain>>(folder));
  const auto expected = other_weights<net<plain>>();
  fathom::load(folder.path() / "saved.safetensors", *expected);

  c.metadata = {{"format", "pt"}};  // without fathom's config
  for (const char* name : {"h.0.attn.bias", "h.1.attn.bias"})
    c.tensors[name] = {"U8", {1, 1, 5, 5}, std::string(25, 1)};
  c.tensors["h.0.attn.masked_bias"] = {"F32", {}, std::string(4, 0)};
  SECTION("without a prefix") {}
  SECTION("with the prefix transformer.") {
    contents prefixed;
    prefixed.metadata = c.metadata;
    for (const auto& [name, tensor] : c.tensors) prefixed.tensors["transformer." + name] = tensor;
    c = prefixed;
  }
  SECTION("with the tied projection a second time") { c.tensors["lm_head.weight"] = c.tensors["wte.weight"]; }
  SECTION("with the prefix, but for the projection") {
    contents prefixed;
    for (const auto& [name, tensor] : c.tensors) prefixed.tensors["transformer." + name] = tensor;
    prefixed.tensors["lm_head.weight"] = c.tensors["wte.weight"];
    c = prefixed;
  }
  const auto weights = other_weights<net<plain>>();
  fathom::load(folder.write("a.safetensors", c.file()), *weights);
  CHECK((bytes_of(*weights) == bytes_of(*expected)));
}

TEST_CASE("a projection that is not the embedding does not fit a tied model", "[io]") {
  const temporary_folder folder;
  const std::string file = saved<net<plain>>(folder);
  contents c(file);
  c.tensors["lm_head.weight"] = c.tensors["wte.weight"];
  c.tensors["lm_head.weight"].bytes[40] ^= 1;
  CHECK(refused<net<plain>>(folder, c.file(), {}, "lm_head.weight", "differs from wte.weight"));
  c.tensors["lm_head.weight"].shape = {28};
  CHECK(refused<net<plain>>(folder, c.file(), {}, "lm_head.weight", "differs from wte.weight"));
}

TEST_CASE("a file that does not fit is refused with everything that is wrong in it", "[io]") {
  const temporary_folder folder;
  contents c(saved<net<with_shortcut>>(folder));
  c.tensors.erase("ln_f.bias");
  c.rename("shortcut.attn.c_q.bias", "shortcut.attn.c_query.bias");
  c.tensors["h.0.mlp.c_fc.weight"].shape = {16, 4};
  c.tensors["h.1.ln_1.weight"].shape = {4, 1};
  c.tensors["wpe.weight"].type = "I32";
  c.tensors["h.2.ln_1.bias"] = {"BF16", {4}, std::string(8, 0)};
  c.tensors["transformer.h.0.ln_2.bias"] = c.tensors["h.0.ln_2.bias"];
  c.set_config("/heads", 4);
  c.set_config("/shortcut/placement", "joint");
  CHECK(refused<net<with_shortcut>>(folder, c.file(), {}, "ln_f.bias: missing; expected F32, F64, BF16 or F16 [4]",
                                    "shortcut.attn.c_q.bias: missing; expected F32, F64, BF16 or F16 [4]",
                                    "shortcut.attn.c_query.bias: not part of the model; found F32 [4]",
                                    "h.0.mlp.c_fc.weight: expected F32, F64, BF16, F16 or I8 [4, 16], found F32 [16, 4]",
                                    "h.1.ln_1.weight: expected F32, F64, BF16 or F16 [4], found F32 [4, 1]",
                                    "wpe.weight: expected F32, F64, BF16 or F16 [5, 4], found I32 [5, 4]",
                                    "h.2.ln_1.bias: not part of the model; found BF16 [4]",
                                    "h.0.ln_2.bias: is there twice", "config heads: expected 2, found 4",
                                    "config shortcut.placement: expected \"after_self_attention\", found \"joint\""));
  // And does not mention what is right.
  try {
    fathom::load(folder.path() / "a.safetensors", *other_weights<net<with_shortcut>>());
  } catch (const fathom::error& error) {
    const std::string message = error.what();
    CHECK(std::count(message.begin(), message.end(), '\n') == 10);
    CHECK(message.find("wte.weight") == std::string::npos);
    CHECK(message.find("vocab") == std::string::npos);
  }
}

TEST_CASE("tensors that the file lacks stay as they are where that is wanted", "[io]") {
  const temporary_folder folder;
  const std::string file = saved<net<plain>>(folder);
  CHECK(refused<net<with_shortcut>>(folder, file, {}, "shortcut.attn.c_kv.weight: missing",
                                    "config shortcut: expected {\"depths\":[1]", "found null"));

  const auto before = other_weights<net<with_shortcut>>(), weights = other_weights<net<with_shortcut>>();
  const auto from_file = other_weights<net<plain>>();
  fathom::load(folder.write("a.safetensors", file), *from_file);
  fathom::load(folder.path() / "a.safetensors", *weights, {.missing = fathom::missing::keep});
  CHECK(std::memcmp(&weights->embed, &from_file->embed, sizeof weights->embed) == 0);
  CHECK(std::memcmp(&weights->out, &from_file->out, sizeof weights->out) == 0);
  std::map<std::string, std::string> expected;
  const auto list = [&](std::string_view name, fathom::initial, const auto& tensor) {
    expected[std::string(name)] = {reinterpret_cast<const char*>(tensor.data()), tensor.span().size_bytes()};
  };
  net<with_shortcut>::visit(list, *before);
  net<plain>::visit(list, *from_file);
  net<with_shortcut>::visit(
      [&](std::string_view name, fathom::initial, const auto& tensor) {
        INFO(name);
        CHECK(expected.at(std::string(name)) ==
              std::string(reinterpret_cast<const char*>(tensor.data()), tensor.span().size_bytes()));
      },
      *weights);

  SECTION("but not tensors of another shape, unknown ones, or another config") {
    constexpr fathom::load_options keep{.missing = fathom::missing::keep};
    contents c(file);
    c.tensors["h.0.mlp.c_fc.bias"].shape = {4, 4};
    CHECK(
        refused<net<with_shortcut>>(folder, c.file(), keep, "h.0.mlp.c_fc.bias: expected F32, F64, BF16 or F16 [16]"));
    c = contents(file);
    c.tensors["h.0.mlp.c_fc.bias"].type = "U32";
    CHECK(refused<net<with_shortcut>>(folder, c.file(), keep, "h.0.mlp.c_fc.bias", "found U32 [16]"));
    c = contents(file);
    c.rename("ln_f.bias", "ln.bias");
    CHECK(refused<net<with_shortcut>>(folder, c.file(), keep, "ln.bias: not part of the model"));
    CHECK(refused<net<with_shortcut>>(folder, saved<net<one_head>>(folder), keep, "config heads: expected 2, found 1"));
    c = contents(saved<net<with_shortcut>>(folder));
    c.set_config("/shortcut/placement", "joint");
    CHECK(refused<net<with_shortcut>>(folder, c.file(), keep, "config shortcut.placement"));
    // Conversely nothing is missing, but there are extra tensors.
    CHECK(refused<net<plain>>(folder, saved<net<with_shortcut>>(folder), keep,
                              "shortcut.ln.bias: not part of the model", "config shortcut: expected null"));
  }
}

TEST_CASE("what the shapes do not show is checked in the config of the file", "[io]") {
  const temporary_folder folder;
  CHECK(refused<net<plain>>(folder, saved<net<one_head>>(folder), {}, "config heads: expected 2, found 1"));
  const contents valid(saved<net<with_shortcut>>(folder));
  const auto with = [&](const std::string& pointer, const json& value) {
    contents c = valid;
    c.set_config(pointer, value);
    return c.file();
  };
  using model = net<with_shortcut>;
  CHECK(
      refused<model>(folder, with("/layer_norm_eps", 1e-6), {}, "config layer_norm_eps: expected 1e-05, found 1e-06"));
  CHECK(refused<model>(folder, with("/shortcut/depths", json::array({0})), {}, "config shortcut.depths: expected [1], found [0]"));
  CHECK(
      refused<model>(folder, with("/shortcut/features", 7), {}, "config shortcut.features: expected \"mlp\", found 7"));
  CHECK(refused<model>(folder, with("/shortcut", "none"), {}, "config shortcut: expected {", "found \"none\""));
  CHECK(refused<model>(folder, with("/heads", "2"), {}, "config heads: expected 2, found \"2\""));

  const auto with_text = [&](const std::string& text) {
    contents c = valid;
    c.metadata["fathom.config"] = text;
    return c.file();
  };
  CHECK(refused<model>(folder, with_text("{}"), {}, "config heads: expected 2, found nothing"));
  for (const char* text : {"", "{", "[1", "{\"heads\": 2", "3", "[]", "null", "\"heads\""}) {
    INFO("config " << text);
    CHECK(refused<model>(folder, with_text(text), {}, "metadata fathom.config"));
  }
  // Nested brackets must not overflow the stack, anywhere in the file.
  const std::string deep = std::string(200'000, '[') + std::string(200'000, ']');
  CHECK(refused<model>(folder, with_text("{\"heads\": " + deep + "}"), {}, "config heads: expected 2"));
  CHECK(refused<model>(folder, with_text(deep), {}, "metadata fathom.config"));
  CHECK(refused<model>(folder, with_text("{\"shortcut\": {\"depths\": " + deep + "}}"), {}, "config shortcut.depths"));

  SECTION("a file without a config, or with another order of its keys, is fine") {
    contents c = valid;
    c.metadata.clear();
    fathom::load(folder.write("a.safetensors", c.file()), *other_weights<model>());
    c.metadata["fathom.config"] = backwards(valid.metadata.at("fathom.config"));
    REQUIRE(c.metadata != valid.metadata);
    fathom::load(folder.write("a.safetensors", c.file()), *other_weights<model>());
  }
}

TEST_CASE("equal architectures have equal configs as JSON", "[io]") {
  const auto to_json = [](const fathom::config& c) { return parsed(fathom::io::to_json(c)); };
  constexpr fathom::config c{.vocab = 7, .context = 5, .width = 4, .depth = 3, .heads = 2};
  constexpr auto with = [](fathom::config base, fathom::shortcut s) {
    base.shortcut = s;
    return base;
  };
  CHECK(to_json(with(c, {.depths = {2, 1}})) == to_json(with(c, {.depths = fathom::all_depths, .hidden = 4})));
  CHECK(to_json(with(c, {.depths = {1}, .zero_init = true})) == to_json(with(c, {.depths = {1}})));
  CHECK(to_json(with(c, {.hidden = 9})) == to_json(c));
  CHECK_FALSE(
      to_json(with(c, {.depths = {1}, .features = fathom::feature_map::linear}))["shortcut"].contains("hidden"));
  fathom::config wide = c;
  wide.hidden = 16;
  CHECK(to_json(wide) == to_json(c));
  wide.hidden = 10;
  CHECK(to_json(wide)["mlp_hidden"] == 10);
  CHECK(fathom::io::differences(wide, fathom::io::to_json(c)) == "\n  config mlp_hidden: expected 10, found nothing");
  CHECK(fathom::io::differences(c, fathom::io::to_json(wide)) == "\n  config mlp_ratio: expected 4, found nothing");
  CHECK(fathom::io::differences(wide, fathom::io::to_json(wide)).empty());
}

// ---- Hostile files --------------------------------------------------------------------------------------------------

TEST_CASE("a file that cannot be read is an error with its path", "[io]") {
  const temporary_folder folder;
  const auto cannot = [&](const std::filesystem::path& path, const std::string& reason) {
    return fails_with([&] { return safetensors_file(path); }, path.string(), reason) &&
           fails_with([&] { fathom::load(path, *other_weights<net<plain>>()); }, path.string(), reason);
  };
  CHECK(cannot(folder.path() / "none.safetensors", "No such file"));
  CHECK(fails_with([&] { return safetensors_file(folder.path()); }, folder.path().string() + ": is not a file"));
  CHECK(cannot("", "No such file"));
  const auto pipe = folder.path() / "pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  CHECK(cannot(pipe, "is not a file"));  // and does not wait for a writer
  std::filesystem::create_symlink("nowhere", folder.path() / "link");
  CHECK(cannot(folder.path() / "link", "No such file"));

  const auto secret = folder.write("secret.safetensors", "secret");
  REQUIRE(::chmod(secret.c_str(), 0) == 0);
  // root may read everything, so then this runs as nobody.
  const bool root = ::geteuid() == 0;
  if (root) REQUIRE(::seteuid(65534) == 0);
  const bool denied = fails_with([&] { return safetensors_file(secret); }, secret.string(), "Permission denied");
  if (root) REQUIRE(::seteuid(0) == 0);
  CHECK(denied);
}

TEST_CASE("a file cut short anywhere, or with something behind it, is refused", "[io]") {
  const temporary_folder folder;
  const std::string valid = raw(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"__metadata__":{"k":"v"}})",
                                std::string("\0\0\x80?\0\0\0@", 8));
  {
    const safetensors_file file(folder.write("a.safetensors", valid));
    CHECK(file.metadata().at("k") == "v");
    CHECK(file.at("a").describe() == "F32 [2]");
    float numbers[2];
    fathom::io::copy_numbers(file.at("a"), numbers);
    CHECK((numbers[0] == 1 && numbers[1] == 2));
    CHECK(fails_with([&] { return file.at("b"); }, "a.safetensors", "no tensor b"));
  }
  for (std::size_t length = 0; length < valid.size(); ++length) {
    INFO(length << " bytes");
    CHECK(invalid(folder, valid.substr(0, length),
                  length < 8                  ? "expected at least 8"
                  : length < valid.size() - 8 ? "its header is said to have"
                                              : "a is said to lie at 0 to 8"));
  }
  CHECK(invalid(folder, valid + '\0', "its tensors end at byte 8 of 9"));
}

TEST_CASE("lengths of the header that cannot be", "[io]") {
  const temporary_folder folder;
  for (const std::uint64_t length :
       {std::uint64_t{1} << 63, ~std::uint64_t{0}, ~std::uint64_t{0} - 7, ~std::uint64_t{0} - 8,
        std::uint64_t{99'000'000}, std::uint64_t{100'000'001}, std::uint64_t{3}}) {
    INFO("length " << length);
    CHECK(invalid(folder, with_length("{}", "", length), "its header is said to have " + std::to_string(length)));
  }
  CHECK(invalid(folder, with_length("{}", "", 1), "not JSON"));
  CHECK(invalid(folder, with_length("{}", "", 0), "not JSON"));
  CHECK(safetensors_file(folder.write("a.safetensors", raw("{}"))).tensors().empty());

  // Larger than the largest header, in a file that really has that size (a sparse one).
  const auto path = folder.write("large.safetensors", with_length("{}", "", 100'000'001));
  std::filesystem::resize_file(path, 100'000'009);
  CHECK(fails_with([&] { return safetensors_file(path); }, "a header at most 100000000"));
}

TEST_CASE("headers that are not what they should be", "[io]") {
  const temporary_folder folder;
  SECTION("not a JSON object") {
    for (const char* header :
         {"", " ", "nonsense", "{", "{]", "{\"a\":}", "{\"a\" 1}", "{} {}", "{}x", "{'a': 1}", "{\"a\": NaN}",
          "{\"a\": 01}", "{\"a\": 1e999}", "{,}", "\xef\xbb\xbf", "//\n{}", "{\"a\": \"\\ud800\"}"}) {
      INFO("header " << header);
      CHECK(invalid(folder, raw(header), "its header is not JSON"));
    }
    for (const char* header : {"[]", "[{}]", "1", "null", "true", "\"a\"", "[1]", "[[1], {\"a\": {\"dtype\": \"U8\"}}]"}) {
      INFO("header " << header);
      CHECK(invalid(folder, raw(header), "its header is not a JSON object"));
    }
    for (const std::size_t depth : {100'000u, 1'000'000u}) {
      CHECK(invalid(folder, raw(std::string(depth, '[')), "its header is not JSON"));
      CHECK(invalid(folder, raw(std::string(depth, '[') + std::string(depth, ']')), "its header is not a JSON object"));
      CHECK(
          invalid(folder, raw("{\"a\":" + std::string(depth, '[') + std::string(depth, ']') + "}"), "the entry of a"));
    }
    std::string objects;
    for (int i = 0; i < 100'000; ++i) objects += "{\"a\":";
    CHECK(invalid(folder, raw(objects + "1" + std::string(100'000, '}')), "the entry of a"));
  }
  SECTION("bytes that text cannot have") {
    CHECK(invalid(folder, raw("{\"\xff\": 1}"), "its header is not JSON"));
    CHECK(invalid(folder, raw("{\"__metadata__\": {\"a\": \"\xc0\xaf\"}}"), "its header is not JSON"));
    CHECK(invalid(folder, raw("{\"__metadata__\": {\"a\": \"\xed\xa0\x80\"}}"), "its header is not JSON"));
    CHECK(invalid(folder, raw(std::string("{\"a\0b\": 1}", 10)), "its header is not JSON"));
    // Bytes after a zero byte are not ignored.
    CHECK(invalid(folder, raw(std::string("{}\0", 3)), "its header is not JSON"));
    CHECK(invalid(folder, raw(std::string("{}\0{\"a\": 1}", 11)), "its header is not JSON"));
    CHECK(invalid(folder, raw(std::string("\0{}", 3)), "its header is not JSON"));
  }
  SECTION("a name twice") {
    const std::string a = R"({"dtype":"U8","shape":[1],"data_offsets":[0,1]})";
    const std::string b = R"({"dtype":"U8","shape":[1],"data_offsets":[1,2]})";
    CHECK(invalid(folder, raw("{\"a\":" + a + ",\"a\":" + b + "}", "12"), "has \"a\" twice"));
    CHECK(invalid(folder, raw("{\"a\":" + a + ",\"\\u0061\":" + b + "}", "12"), "has \"a\" twice"));
    CHECK(invalid(folder, raw("{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", "1"),
                  "has \"dtype\" twice"));
    CHECK(invalid(folder, raw(R"({"__metadata__":{"k":"1"},"__metadata__":{"k":"2"}})"), "has \"__metadata__\" twice"));
    CHECK(invalid(folder, raw(R"({"__metadata__":{"k":"1","k":"2"}})"), "has \"k\" twice"));
    CHECK(invalid(folder, raw(R"({"__metadata__":{"":"1","":"2"}})"), "has \"\" twice"));
    CHECK(invalid(folder, raw(R"({"a":{"more":[1,{"x":2,"x":3}],"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "1"), "has \"x\" twice"));
    const std::string more = R"({"a":{"more":[1,{"x":2,"y":3},null,"F32",[1.5]],"dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
    CHECK(safetensors_file(folder.write("a.safetensors", raw(more, "1"))).at("a").describe() == "U8 [1]");
  }
  SECTION("metadata other than strings") {
    for (const char* metadata :
         {"1", "[]", "\"x\"", "{\"a\": 1}", "{\"a\": null}", "{\"a\": {}}", "{\"a\": [\"b\"]}"}) {
      INFO("metadata " << metadata);
      CHECK(invalid(folder, raw(std::string("{\"__metadata__\":") + metadata + "}"), "__metadata__"));
    }
  }
  SECTION("entries that are not of the form") {
    for (const char* entry : {"1",
                              "null",
                              "[]",
                              "{}",
                              "\"F32\"",
                              R"({"dtype":"U8","shape":[1]})",
                              R"({"dtype":"U8","data_offsets":[0,1]})",
                              R"({"shape":[1],"data_offsets":[0,1]})",
                              R"({"dtype":8,"shape":[1],"data_offsets":[0,1]})",
                              R"({"dtype":null,"shape":[1],"data_offsets":[0,1]})",
                              R"({"dtype":["U8"],"shape":[1],"data_offsets":[0,1]})",
                              R"({"dtype":"U8","shape":1,"data_offsets":[0,1]})",
                              R"({"dtype":"U8","shape":{"0":1},"data_offsets":[0,1]})",
                              R"({"dtype":"U8","shape":null,"data_offsets":[0,1]})",
                              R"({"dtype":"U8","shape":[-1],"data_offsets":[0,1]})",
                              R"({"dtype":"U8","shape":[1.0],"data_offsets":[0,1]})",
                              R"({"dtype":"U8","shape":[1e0],"data_offsets":[0,1]})",
                              R"({"dtype":"U8","shape":["1"],"data_offsets":[0,1]})",
                              R"({"dtype":"U8","shape":[[1]],"data_offsets":[0,1]})",
                              R"({"dtype":"U8","shape":[[],1],"data_offsets":[0,1]})",
                              R"({"dtype":"U8","shape":[1,{}],"data_offsets":[0,1]})",
                              R"({"dtype":"U8","shape":[1,[]],"data_offsets":[0,1]})",
                              R"({"dtype":"U8","shape":[true],"data_offsets":[0,1]})",
                              R"({"dtype":"U8","shape":[null],"data_offsets":[0,1]})",
                              R"({"dtype":"U8","shape":[18446744073709551616],"data_offsets":[0,1]})",
                              R"({"dtype":"U8","shape":[1e300],"data_offsets":[0,1]})",
                              R"({"dtype":"U8","shape":[1],"data_offsets":[0]})",
                              R"({"dtype":"U8","shape":[1],"data_offsets":[0,1,1]})",
                              R"({"dtype":"U8","shape":[1],"data_offsets":[]})",
                              R"({"dtype":"U8","shape":[1],"data_offsets":1})",
                              R"({"dtype":"U8","shape":[1],"data_offsets":[-1,0]})",
                              R"({"dtype":"U8","shape":[1],"data_offsets":[0.0,1]})",
                              R"({"dtype":"U8","shape":[1],"data_offsets":["0","1"]})",
                              R"({"dtype":"U8","shape":[1],"data_offsets":[0,18446744073709551617]})",
                              R"({"dtype":"U8","shape":[1],"data_offsets":{"begin":0,"end":1}})"}) {
      INFO("entry " << entry);
      CHECK(invalid(folder, raw(std::string("{\"a\":") + entry + "}", "1"), "the entry of a is not of the form"));
    }
  }
}

TEST_CASE("places of tensors that cannot be", "[io]") {
  const temporary_folder folder;
  const auto tensor = [](const std::string& type, const std::string& shape, const std::string& begin,
                         const std::string& end) {
    return R"({"dtype":")" + type + R"(","shape":)" + shape + R"(,"data_offsets":[)" + begin + "," + end + "]}";
  };
  const auto one = [&](const std::string& entry, const std::string& data, const std::string& reason) {
    INFO("entry " << entry);
    return invalid(folder, raw("{\"a\":" + entry + "}", data), reason);
  };
  SECTION("out of the file, or the wrong way round") {
    CHECK(one(tensor("U8", "[2]", "0", "2"), "1", "a is said to lie at 0 to 2; the file has 1 bytes of data"));
    CHECK(one(tensor("U8", "[0]", "2", "2"), "1", "a is said to lie at 2 to 2"));
    CHECK(one(tensor("U8", "[1]", "1", "0"), "1", "a is said to lie at 1 to 0"));
    CHECK(one(tensor("U8", "[1]", "18446744073709551615", "0"), "1", "a is said to lie at 18446744073709551615 to 0"));
    CHECK(one(tensor("U8", "[1]", "9223372036854775808", "9223372036854775809"), "1", "a is said to lie at"));
    CHECK(one(tensor("U8", "[18446744073709551615]", "0", "18446744073709551615"), "1", "a is said to lie at"));
  }
  SECTION("bytes that do not make up the shape") {
    CHECK(one(tensor("F32", "[2]", "0", "7"), "1234567", "a has 7 bytes, which do not make up F32 [2]"));
    CHECK(one(tensor("F32", "[1]", "0", "8"), "12345678", "a has 8 bytes"));
    CHECK(one(tensor("F32", "[]", "0", "8"), "12345678", "a has 8 bytes"));
    CHECK(one(tensor("F32", "[]", "0", "0"), "", "a has 0 bytes"));
    CHECK(one(tensor("F32", "[2, 0]", "0", "8"), "12345678", "a has 8 bytes"));
    CHECK(one(tensor("F64", "[3]", "0", "8"), "12345678", "a has 8 bytes"));
    CHECK(one(tensor("BF16", "[3]", "0", "8"), "12345678", "a has 8 bytes"));
  }
  SECTION("shapes whose product overflows") {
    for (const char* shape :
         {"[4611686018427387904]", "[4611686018427387904, 4]", "[9223372036854775807]", "[9223372036854775808]",
          "[18446744073709551615]", "[4294967296, 4294967296]", "[2147483648, 2147483648, 4]",
          "[65536, 65536, 65536, 65536]", "[18446744073709551615, 18446744073709551615]"}) {
      CHECK(one(tensor("F32", shape, "0", "0"), "", "a has 0 bytes, which do not make up"));  // 0 = 2^64 mod 2^64
      CHECK(one(tensor("F32", shape, "0", "4"), "1234", "a has 4 bytes, which do not make up"));
    }
  }
  const auto two = [&](const std::string& a, const std::string& b, const std::string& data, const std::string& reason) {
    return invalid(folder, raw("{\"a\":" + a + ",\"b\":" + b + "}", data), reason);
  };
  SECTION("overlaps and holes") {
    CHECK(two(tensor("U8", "[2]", "0", "2"), tensor("U8", "[2]", "1", "3"), "123", "b begins at byte 1"));
    CHECK(two(tensor("U8", "[2]", "0", "2"), tensor("U8", "[2]", "0", "2"), "12", "begins at byte 0"));
    CHECK(two(tensor("U8", "[3]", "0", "3"), tensor("U8", "[1]", "1", "2"), "123", "b begins at byte 1"));
    CHECK(two(tensor("U8", "[3]", "0", "3"), tensor("U8", "[0]", "1", "1"), "123", "b begins at byte 1"));
    CHECK(two(tensor("U8", "[1]", "0", "1"), tensor("U8", "[1]", "2", "3"), "123",
              "b begins at byte 2; the tensor before it ends at 1"));
    CHECK(two(tensor("U8", "[1]", "1", "2"), tensor("U8", "[1]", "2", "3"), "123",
              "a begins at byte 1; the tensor before it ends at 0"));
    CHECK(two(tensor("U8", "[1]", "0", "1"), tensor("U8", "[1]", "1", "2"), "123", "its tensors end at byte 2 of 3"));
    CHECK(invalid(folder, raw("{}", "1"), "its tensors end at byte 0 of 1"));
  }
  SECTION("tensors without numbers and numbers without dimensions are fine") {
    const auto path = folder.write(
        "a.safetensors", raw("{\"e\":" + tensor("F32", "[0]", "0", "0") + ",\"a\":" + tensor("F32", "[]", "0", "4") +
                                 ",\"f\":" + tensor("F64", "[3, 0, 2]", "4", "4") + ",\"b\":" +
                                 tensor("U8", "[1, 1]", "4", "5") + ",\"g\":" + tensor("I64", "[0]", "5", "5") + "}",
                             std::string("\0\0\x80?x", 5)));
    const safetensors_file file(path);
    CHECK(file.tensors().size() == 5);
    CHECK(file.at("a").size() == 1);
    CHECK(file.at("a").describe() == "F32 []");
    CHECK(file.at("f").size() == 0);
    CHECK(file.at("f").describe() == "F64 [3, 0, 2]");
    float number = 0;
    fathom::io::copy_numbers(file.at("a"), &number);
    CHECK(number == 1);
    CHECK(fails_with([&] { fathom::io::copy_numbers(file.at("b"), &number); }, "U8", "expected F32, F64, BF16 or F16"));
  }
}

TEST_CASE("tensors of types that are not read can be listed, and are named when they are wanted", "[io]") {
  const temporary_folder folder;
  const auto tensor = [](const std::string& type, const std::string& shape, std::size_t bytes) {
    return R"({"dtype":")" + type + R"(","shape":)" + shape + R"(,"data_offsets":[0,)" + std::to_string(bytes) + "]}";
  };
  struct kind {
    std::string type, shape;
    std::size_t bytes;
  };
  const std::vector<kind> kinds{
      {"C64", "[3]", 24},   {"F8_E4M3", "[2, 3]", 6}, {"F8_E5M2", "[4]", 4}, {"F8_E8M0", "[4]", 4},      {"BOOL", "[2]", 2},
      {"U64", "[1]", 8},    {"F4", "[4]", 2},         {"F4", "[5]", 3},      {"F4", "[3, 3]", 6},        {"F6_E2M3", "[4]", 3},
      {"F6_E3M2", "[8]", 6}, {"F8_E4M3FNUZ", "[2]", 2}, {"I4", "[2]", 1},    {"F128", "[2]", 32},        {"", "[1]", 4},
      {"f32", "[1]", 4},    {"F32 ", "[1]", 4},       {"x\u00e4", "[7]", 0}, {"a new one", "[1, 2, 3]", 11}};
  for (const auto& [type, shape, bytes] : kinds) {
    INFO(type << " " << shape);
    const auto path = folder.write("a.safetensors", raw("{\"a\":" + tensor(type, shape, bytes) + "}", std::string(bytes, 1)));
    const safetensors_file file(path);
    REQUIRE(file.tensors().size() == 1);
    const auto& found = file.at("a");
    CHECK(found.describe() == parsed("\"" + type + "\"").text() + " " + shape);
    CHECK(found.bytes() == std::vector<std::byte>(bytes, std::byte{1}));
    double numbers[8];
    CHECK(fails_with([&] { fathom::io::copy_numbers(found, numbers); }, path.string(), "a is a tensor of type " + found.type + "; expected F32, F64, BF16 or F16"));
  }
  // Known types are still checked for their size.
  for (const char* type : {"C64", "F8_E4M3", "F8_E8M0"})
    CHECK(invalid(folder, raw("{\"a\":" + tensor(type, "[3]", 2) + "}", "12"), "a has 2 bytes, which do not make up"));
  CHECK(invalid(folder, raw("{\"a\":" + tensor("F4", "[9223372036854775807, 2]", 2) + "}", "12"), "a has 2 bytes, which do not"));
  CHECK(invalid(folder, raw("{\"a\":" + tensor("new", "[2]", 2) + "}", "123"), "its tensors end at byte 2 of 3"));

  // It is an error for a tensor of the model; another tensor is like any unknown one.
  contents c(saved<net<plain>>(folder));
  c.tensors["h.0.ln_1.weight"] = {"F8_E4M3", {4}, std::string(4, 1)};
  c.tensors["h.1.mlp.c_fc.weight"] = {"F4", {4, 16}, std::string(32, 1)};
  CHECK(refused<net<plain>>(folder, c.file(), {}, "h.0.ln_1.weight: expected F32, F64, BF16 or F16 [4], found F8_E4M3 [4]",
                            "h.1.mlp.c_fc.weight: expected F32, F64, BF16, F16 or I8 [4, 16], found F4 [4, 16]"));
  c = contents(saved<net<plain>>(folder));
  c.tensors["h.0.attn.bias"] = {"C64", {1, 1, 5, 5}, std::string(200, 1)};
  fathom::load(folder.write("a.safetensors", c.file()), *other_weights<net<plain>>());
}

TEST_CASE("metadata may be null", "[io]") {
  const temporary_folder folder;
  const std::string header = R"({"__metadata__":null,"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  const safetensors_file file(folder.write("a.safetensors", raw(header, "1234")));
  CHECK(file.metadata().empty());
  CHECK(file.tensors().size() == 1);
}

TEST_CASE("a header of very many tensors is read", "[io]") {
  // A reader with quadratic time in their number would take minutes.
  const temporary_folder folder;
  std::string header = "{\"__metadata__\":{";
  for (int i = 0; i < 20'000; ++i) header += (i ? ",\"m" : "\"m") + std::to_string(i) + "\":\"" + std::to_string(i) + "\"";
  header += "}";
  for (int i = 0; i < 40'000; ++i)
    header += ",\"t" + std::to_string(i) + R"(":{"dtype":"F32","shape":[1],"data_offsets":[)" + std::to_string(4 * i) + "," +
              std::to_string(4 * i + 4) + "]}";
  const safetensors_file file(folder.write("a.safetensors", raw(header + "}", std::string(160'000, 1))));
  CHECK(file.tensors().size() == 40'000);
  CHECK(file.at("t39999").begin == 8 + header.size() + 1 + 4 * 39'999);
  CHECK(file.metadata().size() == 20'000);
  CHECK(invalid(folder, raw(header + R"(,"t7":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}})", std::string(160'000, 1)),
                "has \"t7\" twice"));
}

TEST_CASE("a file that is something else is called what it is", "[io]") {
  const temporary_folder folder;
  using namespace std::literals;
  const auto is = [&](std::string_view bytes, const std::string& what) {
    return invalid(folder, std::string(bytes), "is not a valid safetensors file: it is " + what);
  };
  CHECK(is("version https://git-lfs.github.com/spec/v1\noid sha256:" + std::string(64, '0') + "\nsize 12345\n",
           "a Git LFS pointer, in place of the file that \"git lfs pull\" fetches"));
  CHECK(is("<!DOCTYPE html><html><head><title>Not Found</title></head></html>", "an HTML page"));
  CHECK(is("PK\x03\x04\x00\x00\x08\x08\x00\x00"sv, "a zip archive"));
  CHECK(is("\x80\x02\x8a\x0al\xfc\x9c\x46\xf9 j\xa8P\x19"sv, "a pickle of Python's"));
  CHECK(is("GGUF\x03\x00\x00\x00\x00\x00"sv, "a GGUF file"));
  CHECK(is("\x93NUMPY\x01\x00v\x00{'descr'"sv, "a numpy array"));
  CHECK(is("{\"weight_map\": {}}", "JSON"));
  CHECK(is(std::string(1000, '\0'), "nothing but zero bytes"));
  // This one begins like the length of a header, 559,903, and has enough bytes for it.
  CHECK(is("\x1f\x8b\x08\x00\x00\x00\x00\x00"s + std::string(600'000, 'x'), "compressed by gzip"));
  CHECK(invalid(folder, "", "it has 0 bytes"));
  CHECK(fails_with([&] { return safetensors_file(folder.path()); }, folder.path().string(), "is not a file, but a folder"));
}

TEST_CASE("a file that becomes shorter while it is read is an error, and not a crash", "[io]") {
  const temporary_folder folder;
  const std::string whole = saved<net<plain>>(folder);
  const auto path = folder.path() / "saved.safetensors";
  const safetensors_file open(path);
  std::filesystem::resize_file(path, whole.size() / 2);
  const auto weights = other_weights<net<plain>>();
  CHECK(fails_with([&] { fathom::load(open, *weights); }, path.string(), "has become shorter while it was read"));
  const auto packed = fathom::make<net<plain>::packed<float>>();
  CHECK(fails_with([&] { fathom::load(open, *packed); }, path.string(), "has become shorter while it was read"));
  folder.write("saved.safetensors", whole);
}

TEST_CASE("two tensors of one name are not written", "[io]") {
  const temporary_folder folder;
  const float number = 1;
  const auto tensor = [&](const char* name) {
    return fathom::io::tensor_to_write{name, "F32", {1}, std::as_bytes(std::span(&number, 1))};
  };
  CHECK(fails_with([&] { fathom::io::write_safetensors(folder.path() / "a", {tensor("x"), tensor("y"), tensor("x")}, {}); },
                   "two tensors have the name x"));
  CHECK(std::filesystem::is_empty(folder.path()));
}

TEST_CASE("weights are saved from, loaded into and copied between what owns them", "[io]") {
  using model = net<with_shortcut>;
  const temporary_folder folder;
  const auto path = folder.path() / "a.safetensors";
  const auto weights = other_weights<model>();
  fathom::save(path, weights);
  auto loaded = fathom::make<model::parameters>();
  fathom::load(path, loaded);
  CHECK((bytes_of(*loaded) == bytes_of(*weights)));
  auto packed = fathom::make<model::packed<fathom::bf16>>();
  fathom::load(path, packed);
  CHECK((bytes_of(*packed) == bytes_of(*fathom::pack<fathom::bf16>(*weights))));
  fathom::save_transformers(folder.path() / "folder", other_weights<net<plain>>());
  fathom::load(folder.path() / "folder", other_weights<net<plain>>());
  fathom::load(std::string_view(path.native()), loaded);
  fathom::load(path.c_str(), loaded);

  fathom::owned<model::parameters> nothing;
  CHECK(fails_with([&] { fathom::save(path, nothing); }, "save: a pointer to nothing"));
  CHECK(fails_with([&] { fathom::load(path, nothing); }, "load: a pointer to nothing"));
}

TEST_CASE("whatever happens to a file, it loads or is refused", "[io]") {
  using model = net<with_shortcut>;
  const temporary_folder folder;
  fathom::save<std::int8_t>(folder.path() / "int8.safetensors", *other_weights<model>());
  const std::string files[] = {saved<model>(folder), folder.read("int8.safetensors")};
  fathom::random numbers(2024, 7);
  const auto below = [&](std::size_t count) {
    return static_cast<std::size_t>(numbers.below(static_cast<fathom::index>(count)));
  };
  const auto weights = other_weights<model>();
  const std::string before = bytes_of(*weights);
  int loaded = 0, refusals = 0, changed = 0;
  const std::string digits = "0123456789-.,:[]{}\"eE\\ \n\xff";
  for (std::size_t round = 0; round < 4000; ++round) {
    const std::string& valid = files[round % 2];
    std::uint64_t header = 0;
    std::memcpy(&header, valid.data(), 8);
    std::string file = valid;
    for (std::size_t changes = 1 + below(2); changes > 0; --changes) {
      const std::size_t at = below(2) > 0 ? below(std::min<std::size_t>(8 + header, file.size())) : below(file.size());
      switch (below(6)) {
        case 0:
          file[at] = static_cast<char>(file[at] ^ (1 << below(8)));
          break;
        case 1:
          file[at] = digits[below(digits.size())];
          break;
        case 2:
          file.erase(at, 1 + below(16));
          break;
        case 3:
          file.insert(at, std::string(1 + below(4), digits[below(digits.size())]));
          break;
        case 4:
          file.insert(at, file.substr(below(file.size()), 1 + below(64)));
          break;
        case 5:
          file.replace(at, 1 + below(32), file.substr(below(file.size()), 1 + below(32)));
          break;
      }
      if (file.empty()) file = valid;
    }
    const auto path = folder.write("a.safetensors", file);
    try {
      fathom::load(path, *weights);
      ++loaded;
      std::memcpy(static_cast<void*>(weights.get()), before.data(), before.size());
    } catch (const fathom::error&) {  // anything else ends the test
      ++refusals;
      changed += bytes_of(*weights) != before;
    }
  }
  CHECK(changed == 0);
  // Only changes in the numbers themselves, in white space or in ignored parts are accepted.
  CHECK(loaded > 100);
  CHECK(refusals > 2000);
}

// ---- Writing --------------------------------------------------------------------------------------------------------

namespace {

/// The names in a folder.
std::vector<std::string> listing(const temporary_folder& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

/// During its lifetime, no file can grow beyond some bytes: writing more fails as on a full disk.
class small_disk {
 public:
  explicit small_disk(rlim_t bytes) {
    REQUIRE(::getrlimit(RLIMIT_FSIZE, &before_) == 0);
    handler_ = ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{bytes, before_.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &limit) == 0);
  }
  small_disk(const small_disk&) = delete;
  small_disk& operator=(const small_disk&) = delete;
  ~small_disk() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    ::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int) = nullptr;
};

}  // namespace

TEST_CASE("saving fails without a trace", "[io]") {
  const temporary_folder folder;
  const auto path = folder.path() / "a.safetensors";
  const auto weights = other_weights<net<plain>>();
  const auto save = [&](const std::filesystem::path& to) { return [&, to] { fathom::save(to, *weights); }; };

  SECTION("where there is no folder") {
    CHECK(fails_with(save(folder.path() / "none" / "a.safetensors"), "none/a.safetensors", "cannot be written",
                     "No such file"));
    CHECK(listing(folder).empty());
  }
  SECTION("where a folder has the name") {
    std::filesystem::create_directory(path);
    CHECK(fails_with(save(path), path.string(), "cannot be written"));
    CHECK(listing(folder) == std::vector<std::string>{"a.safetensors"});
    CHECK(std::filesystem::is_directory(path));
  }
  SECTION("where the way leads through a file") {
    folder.write("file", "x");
    CHECK(fails_with(save(folder.path() / "file" / "a.safetensors"), "file/a.safetensors", "cannot be written"));
    CHECK(listing(folder) == std::vector<std::string>{"file"});
  }
  SECTION("when the disk is full") {
    fathom::save(folder.path() / "whole.safetensors", *weights);
    const auto whole = std::filesystem::file_size(folder.path() / "whole.safetensors");
    std::filesystem::remove(folder.path() / "whole.safetensors");
    for (const auto room : {std::uintmax_t{0}, std::uintmax_t{5}, std::uintmax_t{100}, whole / 2, whole - 1}) {
      INFO("room for " << room << " of " << whole << " bytes");
      bool failed = false;
      {
        const small_disk disk(room);
        failed = fails_with(save(path), path.string(), "cannot be written", "File too large");
      }
      CHECK(failed);
      CHECK(listing(folder).empty());  // neither half a file under its name nor anything beside it
    }
    folder.write("a.safetensors", "what was there before");
    {
      const small_disk disk(whole - 1);
      CHECK(fails_with(save(path), path.string(), "cannot be written"));
    }
    CHECK(listing(folder) == std::vector<std::string>{"a.safetensors"});
    CHECK(folder.read("a.safetensors") == "what was there before");
    save(path)();
    CHECK(folder.read("a.safetensors").size() == whole);
  }
}

TEST_CASE("a file that somebody reads is replaced under their feet without harm", "[io]") {
  const temporary_folder folder;
  const std::string first = saved<net<plain>>(folder, 1);
  const safetensors_file open(folder.path() / "saved.safetensors");
  const std::string second = saved<net<plain>>(folder, 2);
  REQUIRE(first != second);
  const auto bytes = open.at("wte.weight").bytes();
  CHECK(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()) ==
        contents(first).tensors["wte.weight"].bytes);
  CHECK(listing(folder) == std::vector<std::string>{"saved.safetensors"});
}

TEST_CASE("an atomic_file appears when it is committed, and not before", "[io]") {
  const temporary_folder folder;
  const auto path = folder.path() / "a";
  folder.write("a", "old");
  {
    fathom::io::atomic_file given_up(path), kept(path);  // two at once do not conflict
    given_up.write("given up");
    kept.write("kept");
    CHECK(folder.read("a") == "old");
    kept.commit();
    CHECK(folder.read("a") == "kept");
  }
  CHECK(folder.read("a") == "kept");
  CHECK(listing(folder) == std::vector<std::string>{"a"});
  try {
    fathom::io::atomic_file file(path);
    file.write("half");
    throw 1;
  } catch (int) {
  }
  CHECK(folder.read("a") == "kept");
  CHECK(listing(folder) == std::vector<std::string>{"a"});

  // A name without a folder is in the current folder.
  const auto here = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  fathom::io::atomic_file file("b");
  file.write("");
  file.write("there");
  file.commit();
  std::filesystem::current_path(here);
  CHECK(folder.read("b") == "there");
}
