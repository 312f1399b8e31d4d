// Weights of one of several models: the file says of which, and a file of none of them is told what there is.
#include <cstring>
#include <filesystem>
#include <string>
#include <type_traits>
#include <variant>

#include <fathom/backend/reference.hpp>
#include <fathom/io/load_any.hpp>
#include <fathom/model/initialize.hpp>
#include <fathom/model/model.hpp>

#include "catch.hpp"
#include "fails_with.hpp"
#include "file_contents.hpp"
#include "temporary_folder.hpp"

namespace {

template <fathom::config C>
using net = fathom::model<C, fathom::backend::reference<float>>;

constexpr fathom::config base{.vocab = 7, .context = 5, .width = 4, .depth = 2, .heads = 2};
constexpr fathom::config with_heads(int heads) {
  fathom::config c = base;
  c.heads = heads;
  return c;
}
constexpr fathom::config with(fathom::shortcut shortcut) {
  fathom::config c = base;
  c.shortcut = shortcut;
  return c;
}

using plain = net<base>;
using other_heads = net<with_heads(1)>;  // the same tensors
using shortcut = net<with({.depths = {1}})>;
using joint = net<with({.depths = {1}, .placement = fathom::placement::joint})>;
using unknown = net<with({.depths = {0}})>;

/// What fathom saves for some weights.
template <class Net>
std::string saved(const temporary_folder& folder) {
  auto weights = fathom::make<typename Net::parameters>();
  fathom::initialize<Net>(*weights, 3);
  fathom::save(folder.path() / "a.safetensors", *weights);
  return folder.read("a.safetensors");
}

auto load(const std::filesystem::path& path, const std::filesystem::path& config = {}) {
  return fathom::load_any<plain, other_heads, shortcut, joint>(path, config);
}

/// Whether load_any found the model, and all that saved() wrote.
template <class Net>
bool has(const fathom::any_weights<plain, other_heads, shortcut, joint>& any) {
  return std::visit(
      [](const auto& weights) {
        using found = typename std::remove_cvref_t<decltype(*weights)>::model;
        if constexpr (std::is_same_v<found, Net>) {
          auto expected = fathom::make<typename Net::parameters>();
          fathom::initialize<Net>(*expected, 3);
          return std::memcmp(expected.get(), weights.get(), sizeof *expected) == 0;
        } else {
          return false;
        }
      },
      any);
}

}  // namespace

TEST_CASE("the config of a file decides which model it is of", "[io]") {
  const temporary_folder folder;
  const auto path = folder.path() / "a.safetensors";
  saved<plain>(folder);
  CHECK(has<plain>(load(path)));
  saved<other_heads>(folder);
  CHECK(has<other_heads>(load(path)));
  saved<shortcut>(folder);
  CHECK(has<shortcut>(load(path)));
  contents c(saved<joint>(folder));
  CHECK(has<joint>(load(path)));

  // Whatever the order of its keys, and whatever else there is in it.
  auto config = nlohmann::ordered_json::parse(backwards(c.metadata.at("fathom.config")));
  config["comment"] = "mine";
  REQUIRE(config.dump().find("width") < config.dump().find("context"));
  c.metadata["fathom.config"] = config.dump();
  CHECK(has<joint>(load(folder.write("b.safetensors", c.file()))));
}

TEST_CASE("a config file decides for files without a config", "[io]") {
  const temporary_folder folder;
  contents c(saved<other_heads>(folder));
  const std::string config = c.metadata.at("fathom.config");
  c.metadata.clear();
  const auto path = folder.write("b.safetensors", c.file());
  CHECK(fails_with([&] { return load(path); }, "b.safetensors: has no metadata entry fathom.config"));
  CHECK(has<other_heads>(load(path, folder.write("config.json", config))));

  // It does not overrule what the file says, nor make the tensors fit.
  const auto two = folder.write("two.json", contents(saved<plain>(folder)).metadata.at("fathom.config"));
  CHECK(std::get<0>(load(path, two)));
  saved<other_heads>(folder);
  CHECK(fails_with([&] { return load(folder.path() / "a.safetensors", two); }, "config heads: expected 2, found 1"));
  const auto joint_file = folder.write("joint.json", contents(saved<joint>(folder)).metadata.at("fathom.config"));
  CHECK(fails_with([&] { return load(path, joint_file); }, "b.safetensors: does not fit the model",
                   "shortcut.attn.c_kv.weight: missing"));

  for (const char* text : {"", "{", "[]", "3", "\"heads\"", "null"}) {
    INFO("config " << text);
    CHECK(fails_with([&] { return load(path, folder.write("bad.json", text)); }, "bad.json: is not a JSON object"));
  }
  CHECK(fails_with([&] { return load(path, folder.path() / "none.json"); }, "none.json", "No such file"));
}

TEST_CASE("a file of no known model is told which there are, and what differs", "[io]") {
  const temporary_folder folder;
  contents c(saved<unknown>(folder));
  CHECK(fails_with([&] { return load(folder.path() / "a.safetensors"); },
                   "a.safetensors: metadata fathom.config: is of none of the 4 models that this program knows:\n"
                   " {\"context\":5,\"depth\":2,\"heads\":2,",
                   "\n  config shortcut: expected null, found {", "\n  config heads: expected 1, found 2",
                   "\n  config shortcut.depths: expected [1], found [0]",
                   "\n  config shortcut.placement: expected \"joint\", found \"after_self_attention\""));
  for (const char* text : {"", "[]", "{\"heads\": 2", "2"}) {
    INFO("config " << text);
    c.metadata["fathom.config"] = text;
    CHECK(fails_with([&] { return load(folder.write("b.safetensors", c.file())); }, "b.safetensors: metadata fathom.config",
                     "is not a JSON object"));
  }
  const std::string deep = std::string(200'000, '[') + std::string(200'000, ']');  // must not overflow the stack
  c.metadata["fathom.config"] = "{\"shortcut\": " + deep + "}";
  CHECK(fails_with([&] { return load(folder.write("b.safetensors", c.file())); }, "is of none of the 4 models",
                   "config heads: expected 1, found nothing"));
}
