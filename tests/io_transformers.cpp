// GPT-2 checkpoints in the layout of transformers. Those in golden/transformers are what save_pretrained wrote, and what
// transformers computed with them (transformers_checkpoints.py).
#include <algorithm>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include <fathom/backend/cpu.hpp>
#include <fathom/backend/reference.hpp>
#include <fathom/generate/generator.hpp>
#include <fathom/io/transformers.hpp>
#include <fathom/io/weights.hpp>
#include <fathom/model/initialize.hpp>
#include <fathom/model/model.hpp>

#include "catch.hpp"
#include "fails_with.hpp"
#include "golden.hpp"
#include "json.hpp"
#include "temporary_folder.hpp"

namespace {

using fathom::json;
namespace fs = std::filesystem;

// The last two are about the files: the reference backend, which compiles in no time, will do.
struct tied {
  static constexpr const char* name = "tied";
  using backend = fathom::backend::cpu<float>;
  static constexpr fathom::config c{.vocab = 97, .context = 208, .width = 32, .depth = 2, .heads = 4};
};
struct untied_inner {
  static constexpr const char* name = "untied_inner";
  using backend = fathom::backend::cpu<float>;
  static constexpr fathom::config c{
      .vocab = 61, .context = 224, .width = 24, .depth = 3, .heads = 3, .hidden = 40, .tied = false};
};
struct half_shards {  // F16, in five files
  static constexpr const char* name = "half_shards";
  using backend = fathom::backend::reference<float>;
  static constexpr fathom::config c{.vocab = 50, .context = 216, .width = 48, .depth = 1, .heads = 2};
};
struct bfloat16_one_head {
  static constexpr const char* name = "bfloat16_one_head";
  using backend = fathom::backend::reference<float>;
  static constexpr fathom::config c{.vocab = 128, .context = 256, .width = 16, .depth = 4, .heads = 1};
};

fs::path checkpoint(const std::string& name) { return fs::path(FATHOM_GOLDEN) / "transformers" / name; }

/// A copy of a checkpoint that a test may spoil.
fs::path copy_of(const std::string& name, const temporary_folder& folder) {
  fs::copy(checkpoint(name), folder.path() / name);
  return folder.path() / name;
}

/// Weights that are those of no file.
template <class Net>
auto other_weights() {
  auto weights = fathom::make<typename Net::parameters>();
  fathom::initialize<Net>(*weights, 99);
  return weights;
}
template <class Parameters>
std::string bytes_of(const Parameters& weights) {
  return {reinterpret_cast<const char*>(&weights), sizeof weights};
}

using small = fathom::model<half_shards::c, half_shards::backend>;  // for what is only about files

/// Whether loading fails with all these pieces in the message, and leaves the weights as they were.
template <class... Pieces>
bool refused(const fs::path& folder, const Pieces&... pieces) {
  const auto weights = other_weights<small>();
  const std::string before = bytes_of(*weights);
  const bool fails = fails_with([&] { fathom::load(folder, *weights); }, folder.string(), pieces...);
  return fails && bytes_of(*weights) == before;
}

json config_of(const std::string& name) { return parsed(fathom::io::whole_file(checkpoint(name) / "config.json").text()); }

}  // namespace

TEMPLATE_TEST_CASE("a checkpoint of transformers computes and writes what it does there", "[io]", tied, untied_inner,
                   half_shards, bfloat16_one_head) {
  using net = fathom::model<TestType::c, typename TestType::backend>;
  INFO("checkpoint " << TestType::name);
  auto weights = fathom::make<typename net::parameters>();
  fathom::load(checkpoint(TestType::name), *weights);

  const fathom::io::safetensors_file expected(checkpoint(TestType::name) / "expected.safetensors");
  const auto inputs = read<fathom::token>(expected, "inputs");
  const auto& shape = expected.at("inputs").shape;
  typename net::tape tape(shape[0], shape[1]);
  net::forward(*weights, {inputs, {}, shape[0], shape[1]}, tape);
  CHECK(distance(tape.logits(), read<float>(expected, "logits")) < 1e-4);

  fathom::generator<net> writer(*weights, {.temperature = 0, .overflow = fathom::overflow::fails});
  std::vector<fathom::token> written;
  writer.write(read<fathom::token>(expected, "prompt"), 200, [&](fathom::token t) { return written.push_back(t), true; });
  CHECK(written == read<fathom::token>(expected, "written"));
}

TEMPLATE_TEST_CASE("what is saved for transformers is what transformers saves", "[io]", tied, untied_inner) {
  using net = fathom::model<TestType::c, fathom::backend::reference<float>>;
  const temporary_folder folder;
  auto weights = fathom::make<typename net::parameters>(), again = other_weights<net>();
  const auto original = checkpoint(TestType::name), saved = folder.path() / "some" / "where";
  fathom::load(original, *weights);
  fathom::save_transformers(saved, *weights);

  // The same tensors under the same names, with the same bytes.
  const fathom::io::safetensors_file theirs(original / "model.safetensors"), ours(saved / "model.safetensors");
  CHECK(ours.metadata().at("format") == "pt");  // without it transformers does not take the file
  CHECK(ours.tensors().size() == theirs.tensors().size());
  for (const auto& [name, tensor] : theirs.tensors()) {
    INFO(name);
    REQUIRE(ours.tensors().contains(name));
    CHECK(ours.at(name).describe() == tensor.describe());
    CHECK((tensor.bytes() == ours.at(name).bytes()));
  }
  // Every key that they write and that we do says the same; what only training and generation ask for may differ.
  const json config = parsed(folder.read("some/where/config.json")), original_config = config_of(TestType::name);
  for (const char* key : {"architectures", "model_type", "vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "n_inner",
                          "tie_word_embeddings", "layer_norm_epsilon", "activation_function", "scale_attn_weights",
                          "scale_attn_by_inverse_layer_idx", "add_cross_attention", "dtype", "bos_token_id", "eos_token_id"}) {
    INFO(key);
    CHECK(config[key] == original_config[key]);
  }

  fathom::load(saved, *again);
  CHECK((bytes_of(*again) == bytes_of(*weights)));
  fathom::initialize<net>(*weights, 1);
  fathom::load(saved / "model.safetensors", *weights);  // the file alone, too
  CHECK((bytes_of(*again) == bytes_of(*weights)));
  CHECK(std::distance(fs::directory_iterator(saved), fs::directory_iterator()) == 2);  // nothing half-written left
}

TEST_CASE("what cannot be saved for transformers changes nothing", "[io]") {
  const temporary_folder folder;
  const auto weights = other_weights<small>();
  const auto file = folder.write("file", "in the way");
  CHECK(fails_with([&] { fathom::save_transformers(file, *weights); }, file.string(), "cannot be made"));
  CHECK(folder.read("file") == "in the way");
  const auto before = folder.write("folder/config.json", "old");
  fs::create_directory(folder.path() / "folder" / "model.safetensors");
  CHECK(fails_with([&] { fathom::save_transformers(folder.path() / "folder", *weights); }, "model.safetensors"));
  CHECK(folder.read("folder/config.json") == "old");
  CHECK(std::distance(fs::directory_iterator(before.parent_path()), fs::directory_iterator()) == 2);
}

TEST_CASE("every key of config.json that disagrees is listed", "[io]") {
  const temporary_folder folder;
  const auto copy = copy_of("half_shards", folder);
  json config = config_of("half_shards");
  const auto write = [&] { folder.write("half_shards/config.json", config.dump()); };

  SECTION("sizes, with the config that would fit") {
    config["vocab_size"] = 51, config["n_positions"] = 8, config["n_embd"] = 32, config["n_layer"] = 3, config["n_head"] = 4;
    config["n_inner"] = 100, config["tie_word_embeddings"] = false;
    write();
    CHECK(refused(copy, "config.json: does not fit the model:\n",
                  "\n  the config that fits it: fathom::config{.vocab = 51, .context = 8, .width = 32, .depth = 3, .heads = 4, "
                  ".hidden = 100, .tied = false}",
                  "\n  vocab_size: expected 50, the model's vocab; found 51\n",
                  "\n  n_positions: expected 216, the model's context; found 8\n",
                  "\n  n_embd: expected 48, the model's width; found 32\n",
                  "\n  n_layer: expected 1, the model's depth; found 3\n", "\n  n_head: expected 2, the model's heads; found 4\n",
                  "\n  n_inner: expected null, the model's hidden; found 100\n",
                  "\n  tie_word_embeddings: expected true, the model's tied; found false\n"));
  }
  SECTION("what a config cannot express") {
    config["activation_function"] = "relu", config["layer_norm_epsilon"] = 1e-6, config["scale_attn_weights"] = false;
    config["scale_attn_by_inverse_layer_idx"] = true, config["add_cross_attention"] = true, config["model_type"] = "gpt_neo";
    config["quantization_config"]["bits"] = 8, config["n_head"] = 4;
    write();
    CHECK(refused(copy, "activation_function: expected \"gelu_new\"; found \"relu\", which a fathom::config cannot express",
                  "layer_norm_epsilon: expected 1e-05; found 1e-06", "scale_attn_weights: expected true; found false",
                  "scale_attn_by_inverse_layer_idx: expected false; found true",
                  "add_cross_attention: expected false; found true",
                  "model_type: expected \"gpt2\"; found \"gpt_neo\"", "quantization_config: expected null; found {\"bits\":8}",
                  "n_head: expected 2, the model's heads; found 4"));
    CHECK_FALSE(refused(copy, "the config that fits it"));
  }
  SECTION("keys that are not there mean what they mean to transformers") {
    for (const char* key : {"activation_function", "layer_norm_epsilon", "scale_attn_weights", "add_cross_attention", "n_inner",
                            "scale_attn_by_inverse_layer_idx", "tie_word_embeddings", "reorder_and_upcast_attn"})
      config.erase(key);
    write();
    fathom::load(copy, *other_weights<small>());
    config.erase("n_embd");
    config.erase("model_type");
    write();
    CHECK(refused(copy, "n_embd: expected 48, the model's width; found nothing, which means 768",
                  "model_type: expected \"gpt2\"; found nothing"));
  }
  SECTION("n_inner may say what null means, and gelu_new has other names") {
    config["n_inner"] = 192, config["activation_function"] = "gelu_new";
    write();
    fathom::load(copy, *other_weights<small>());
  }
  SECTION("values of any kind, and files that are not JSON") {
    for (const json& value : {json(), json("2"), json(2.5), json(-2), json(0), json(true), json::array({2}), json::object(),
                              json(std::uint64_t{1} << 63)}) {
      config["n_head"] = value;
      write();
      CHECK(refused(copy, "n_head: expected 2, the model's heads; found " + value.dump()));
    }
    // Brackets within brackets must not overflow the stack.
    const std::string deep = std::string(200'000, '[') + std::string(200'000, ']');
    folder.write("half_shards/config.json", "{\"n_head\": " + deep + "}");
    CHECK(refused(copy, "n_head: expected 2, the model's heads; found something nested too deeply"));
    for (const auto& text : {"{\"weight_map\": " + deep + "}", "{\"weight_map\": {\"a\": " + deep + "}}"}) {
      folder.write("half_shards/config.json", config_of("half_shards").dump());
      folder.write("half_shards/model.safetensors.index.json", text);
      CHECK(refused(copy, "index.json: expected an object weight_map"));
    }
    for (const char* text : {"", "{", "{} {}", "\xff"}) {
      folder.write("half_shards/config.json", text);
      CHECK(refused(copy, "config.json: is not JSON"));
    }
    for (const char* text : {"[]", "1", "null"}) {
      folder.write("half_shards/config.json", text);
      CHECK(refused(copy, "config.json: does not fit the model:\n  is not a JSON object"));
    }
    fs::remove(copy / "config.json");
    CHECK(refused(copy, "config.json: cannot be opened: No such file"));
  }
}

TEST_CASE("a checkpoint without a shortcut goes into a model with one where that is wanted", "[io]") {
  static constexpr fathom::config c{
      .vocab = 50, .context = 216, .width = 48, .depth = 1, .heads = 2, .shortcut = {.depths = {0}}};
  using net = fathom::model<c, fathom::backend::reference<float>>;
  const auto weights = other_weights<net>(), before = other_weights<net>();
  CHECK(fails_with([&] { fathom::load(checkpoint("half_shards"), *weights); }, "shortcut.attn.c_kv.weight: missing"));
  CHECK((bytes_of(*weights) == bytes_of(*before)));
  fathom::load(checkpoint("half_shards"), *weights, {.missing = fathom::missing::keep});
  const auto plain = other_weights<small>();
  fathom::load(checkpoint("half_shards"), *plain);
  CHECK(std::memcmp(&weights->embed, &plain->embed, sizeof plain->embed) == 0);
  CHECK(std::memcmp(&weights->out, &plain->out, sizeof plain->out) == 0);
}

TEST_CASE("shards that are not what their index says are refused", "[io]") {
  const temporary_folder folder;
  const auto copy = copy_of("half_shards", folder);
  const auto index_path = "half_shards/model.safetensors.index.json";
  json list = parsed(folder.read(index_path));
  const std::string first = "model-00001-of-00005.safetensors", second = "model-00002-of-00005.safetensors";
  const auto write = [&] { folder.write(index_path, list.dump()); };
  auto& map = list["weight_map"];

  SECTION("a shard is missing") {
    fs::remove(copy / second);
    CHECK(refused(copy, second + ": cannot be opened"));
  }
  SECTION("a shard is not a valid file") {
    fs::resize_file(copy / second, 1000);
    CHECK(refused(copy, second + ": is not a valid safetensors file"));
  }
  SECTION("a shard has more, less, or others") {
    map["transformer.wpe.weight"] = first;
    write();
    CHECK(refused(copy, first + ": has no tensor transformer.wpe.weight; ", "index.json says that it has"));
    map["transformer.wpe.weight"] = second;
    map["more"] = second;
    write();
    CHECK(refused(copy, second + ": has no tensor more; ", "index.json says that it has"));
  }
  SECTION("the index says nothing of the kind, or leads elsewhere") {
    for (const char* broken : {"null", "[]", "\"x\"", "{}", R"({"weight_map": 3})", R"({"weight_map": {"a": 1}})",
                               R"({"weight_map": {"a": "/etc/passwd"}})", R"({"weight_map": {"a": "../half_shards/x"}})"}) {
      folder.write(index_path, broken);
      CHECK(refused(copy, "index.json: expected an object weight_map"));
    }
    for (const char* name : {"", ".", ".."}) {
      folder.write(index_path, std::string(R"({"weight_map": {"a": ")") + name + "\"}}");
      CHECK(refused(copy, "is not a file"));
    }
    folder.write(index_path, "{");
    CHECK(refused(copy, "index.json: is not JSON"));
  }
  SECTION("no tensors at all") {
    folder.write(index_path, R"({"weight_map": {}})");
    CHECK(refused(copy, "wte.weight: missing", "h.0.attn.c_attn.weight: missing"));
    fs::remove(copy / "model.safetensors.index.json");
    CHECK(refused(copy, "has neither model.safetensors nor model.safetensors.index.json"));
    fs::create_symlink("../blobs/gone", copy / "model.safetensors");
    CHECK(refused(copy, "model.safetensors: cannot be opened: No such file"));
    fs::remove(copy / "model.safetensors");
    fs::create_symlink("../blobs/gone", copy / "model.safetensors.index.json");
    CHECK(refused(copy, "model.safetensors.index.json: cannot be opened: No such file"));
    fs::remove(copy / "model.safetensors.index.json");
    fs::create_directory(copy / "model.safetensors.index.json");
    CHECK(refused(copy, "model.safetensors.index.json: is not a file, but a folder"));
    fs::remove(copy / "model.safetensors.index.json");
    folder.write(index_path, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
    CHECK(refused(copy, "model.safetensors.index.json: is not JSON, but a Git LFS pointer"));
    fs::remove(copy / "model.safetensors.index.json");
    folder.write("half_shards/pytorch_model.bin", "");
    CHECK(refused(copy, "save_pretrained of today's transformers writes it"));
  }
  SECTION("one file goes before the shards, as with transformers") {
    folder.write("half_shards/model.safetensors", "not one");
    CHECK(refused(copy, "model.safetensors: is not a valid safetensors file"));
  }
}
