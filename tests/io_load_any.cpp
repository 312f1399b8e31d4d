// Weights of one of several models: the file selects the model, and the error for an unknown one lists the models.
#include <cstring>
#include <filesystem>
#include <string>
#include <type_traits>
#include <variant>
#include <vector>

#include <fathom/backend/reference.hpp>
#include <fathom/io/load_any.hpp>
#include <fathom/model/initialize.hpp>
#include <fathom/model/model.hpp>
#include <fathom/model/transformer.hpp>
#include <fathom/train/trainer.hpp>

#include "catch.hpp"
#include "fails_with.hpp"
#include "small_chat_model.hpp"
#include "file_contents.hpp"
#include "json.hpp"
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

/// Weights as fathom saves them.
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

/// Whether load_any found the model and everything from saved().
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

  // With any order of keys, and with further keys.
  std::string config = backwards(c.metadata.at("fathom.config"));
  config.insert(1, "\"comment\":\"mine\",");
  REQUIRE(config.find("width") < config.find("context"));
  c.metadata["fathom.config"] = config;
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

  // It neither overrides the file's own config nor makes mismatched tensors fit.
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

namespace {

// User architectures, which describe themselves.
template <int Window>
struct windowed : plain::architecture {
  static std::string description() {
    return R"({"kind":"windowed","layers":[{"attention":{"window":)" + std::to_string(Window) + R"(}},"mlp"],"vocab":7})";
  }
};
struct more : windowed<2> {
  static constexpr const char* description() { return R"({"kind":"windowed","layers":[{"attention":{"window":2}},"mlp"],"vocab":7,"norm":{"eps":1e-05}})"; }
};
struct says_nothing : plain::architecture {
  static std::string description() { return "windowed"; }
};
template <class Architecture>
using made_of = fathom::transformer<Architecture, fathom::backend::reference<float>>;

template <class Net>
auto load_into(const std::filesystem::path& path, const fathom::load_options& options = {}) {
  auto weights = fathom::make<typename Net::parameters>();
  fathom::load(path, *weights, options);
  return weights;
}

}  // namespace

TEST_CASE("an architecture of one's own is saved with its description, and told by it", "[io]") {
  const temporary_folder folder;
  const contents narrow(saved<made_of<windowed<2>>>(folder));
  CHECK(narrow.metadata.at("fathom.config") == windowed<2>::description());
  const auto path = folder.write("narrow.safetensors", narrow.file());
  load_into<made_of<windowed<2>>>(path);
  CHECK(fails_with([&] { return load_into<made_of<windowed<3>>>(path); }, "narrow.safetensors: does not fit the model:",
                   R"(config layers: expected [{"attention":{"window":3}},"mlp"], found something nested too deeply)"));

  // Keys that only one of them has count as differences, at any depth.
  CHECK(fails_with([&] { return load_into<made_of<more>>(path); }, "config norm: expected {\"eps\":1e-05}, found nothing"));
  const auto more_path = folder.write("more.safetensors", saved<made_of<more>>(folder));
  CHECK(fails_with([&] { return load_into<made_of<windowed<2>>>(more_path); }, "config norm: expected nothing, found {\"eps\":1e-05}"));
  CHECK(fails_with([&] { return load_into<made_of<windowed<2>>>(more_path, {.missing = fathom::missing::keep}); }, "config norm: expected nothing"));
  contents deeper(saved<made_of<more>>(folder));
  deeper.set_config("/norm/gain", true);
  CHECK(fails_with([&] { return load_into<made_of<more>>(folder.write("deeper.safetensors", deeper.file())); },
                   "config norm.gain: expected nothing, found true"));
  // A config is a different description; and a file with a config matches none of these.
  CHECK(fails_with([&] { return load_into<plain>(path); }, "config width: expected 4, found nothing"));
  const auto plain_path = folder.write("plain.safetensors", saved<plain>(folder));
  CHECK(fails_with([&] { return load_into<made_of<more>>(plain_path); }, "config kind: expected \"windowed\", found nothing"));

  using any = fathom::any_weights<plain, made_of<windowed<3>>, made_of<more>, made_of<windowed<2>>>;
  const auto which = [](const std::filesystem::path& file) {
    const any found = fathom::load_any<plain, made_of<windowed<3>>, made_of<more>, made_of<windowed<2>>>(file);
    return found.index();
  };
  CHECK(which(plain_path) == 0);
  CHECK(which(more_path) == 2);
  CHECK(which(path) == 3);
  CHECK(fails_with([&] { return which(folder.write("deeper.safetensors", deeper.file())); }, "is of none of the 4 models"));

  CHECK(fails_with([&] { return saved<made_of<says_nothing>>(folder); },
                   "the description of an architecture is not an object of JSON: windowed"));
}

TEST_CASE("a run of an architecture of one's own is resumed by its description", "[io]") {
  const temporary_folder folder;
  const std::vector<fathom::token> data{1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4, 5};
  const auto run = [&]<class Net>(std::type_identity<Net>) {
    fathom::trainer<Net>({.batch = 1, .steps = 2, .checkpoint = folder.path() / "run.safetensors", .resume = true, .progress = false})
        .fit(data);
  };
  run(std::type_identity<made_of<windowed<2>>>());
  run(std::type_identity<made_of<windowed<2>>>());
  CHECK(fails_with([&] { run(std::type_identity<made_of<windowed<3>>>()); }, "run.safetensors: is the checkpoint of another run",
                   "config layers: expected"));
  CHECK(fails_with([&] { run(std::type_identity<made_of<more>>()); }, "config norm: expected"));
}

TEST_CASE("a folder or a GGUF file goes to the model that it is of", "[io]") {
  using fathom::config;
  constexpr config llama{.vocab = 61, .context = 256, .width = 16, .depth = 2, .heads = 4, .hidden = 20, .tied = true, .shortcut = {},
                         .family = fathom::family::llama, .kv_heads = 2, .rotary = {.base = 100'000}};
  constexpr config short_qwen3 = [] {
    config c = small_chat::config;
    c.context = 64;
    return c;
  }();
  static constexpr config gpt2{.vocab = 61, .context = 224, .width = 24, .depth = 3, .heads = 3, .hidden = 40, .tied = false};
  constexpr config with_shortcut = [] {
    config c = gpt2;
    c.shortcut = {.depths = {1}};
    return c;
  }();
  using net_llama = fathom::model<llama>;
  using net_qwen3 = fathom::model<short_qwen3>;
  using net_gpt2 = fathom::model<gpt2>;
  using net_shortcut = fathom::model<with_shortcut>;
  const temporary_folder folder;
  small_chat::write_folder(folder.path() / "model");
  small_chat::write_gguf(folder.path() / "model.gguf", folder.path() / "model");
  const auto any = [](const std::filesystem::path& path) { return fathom::load_any<net_shortcut, net_llama, net_qwen3, net_gpt2>(path); };
  const std::filesystem::path llama_folder = FATHOM_TESTS "/families/llama", gpt2_folder = FATHOM_GOLDEN "/transformers/untied_inner";
  const auto is = [](const auto& found, const auto& expected) { return std::memcmp(found.get(), expected.get(), sizeof *expected) == 0; };
  const auto expect = [&]<class Net>(const std::filesystem::path& path, std::size_t which) {
    const auto found = any(path);
    REQUIRE(found.index() == which);
    auto expected = fathom::make<typename Net::parameters>();
    fathom::load(path, *expected);
    CHECK(is(std::get<fathom::owned<typename Net::parameters>>(found), expected));
  };
  expect.operator()<net_llama>(llama_folder, 1);
  expect.operator()<net_qwen3>(folder.path() / "model", 2);
  expect.operator()<net_qwen3>(folder.path() / "model.gguf", 2);
  expect.operator()<net_gpt2>(gpt2_folder, 3);
  // Our own files of families carry their description.
  fathom::save(folder.path() / "ours.safetensors", *std::get<1>(any(llama_folder)));
  expect.operator()<net_llama>(folder.path() / "ours.safetensors", 1);

  CHECK(fails_with([&] { return any(FATHOM_TESTS "/families/mistral"); }, "mistral: is of none of the 4 models that this program knows:",
                   "fathom::config{.vocab = 61, .context = 224,", "family: the model has gpt2, the file mistral",
                   "family: the model has llama, the file mistral", "window: the model has 0, the file 16", "width: the model has 32, the file 16"));
  CHECK(fails_with([&] { return fathom::load_any<net_shortcut>(gpt2_folder); }, "shortcut: the model has one, the file none"));
  CHECK(fails_with([&] { return any(folder.path() / "nothing.gguf"); }, "there is no such file or folder"));
}
