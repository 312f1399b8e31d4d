// Files of packed weights: used where they lie, they give the same logits as the weights they were written from; the format is
// what io/packed_file.hpp says; and files of anything else are refused, each with its reason.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include <fathom/backend/cpu.hpp>
#include <fathom/core/crc32.hpp>
#include <fathom/io/load_any.hpp>
#include <fathom/io/model_files.hpp>
#include <fathom/io/packed_file.hpp>
#include <fathom/model/model.hpp>

#include "catch.hpp"
#include "fails_with.hpp"
#include "file_contents.hpp"
#include "json.hpp"
#include "some_weights.hpp"
#include "temporary_folder.hpp"

namespace {

using fathom::bf16, fathom::int4, fathom::symmetric_int4, fathom::grouped_int8;
using fathom::test::some_weights, fathom::test::some_tokens;

constexpr fathom::config gpt{.vocab = 19, .context = 12, .width = 36, .depth = 3, .heads = 4, .shortcut = {.depths = {1, 2}}};
constexpr fathom::config llama{.vocab = 19, .context = 12, .width = 32, .depth = 2, .heads = 4, .hidden = 70, .tied = false,
                               .family = fathom::family::llama, .kv_heads = 2};
using net = fathom::model<gpt>;

/// A file's bytes at a multiple of fathom::alignment, as in a program.
class in_memory {
 public:
  explicit in_memory(const std::string& file) : buffer_(file.size() + 1), size_(file.size()) {
    std::memcpy(buffer_.bytes().data(), file.data(), file.size());
  }
  [[nodiscard]] std::span<const std::byte> bytes() const { return buffer_.bytes().first(size_); }

 private:
  fathom::buffer buffer_;
  std::size_t size_;
};

/// What save_packed writes for weights packed as P.
template <class Net, class P>
std::string saved(const temporary_folder& folder) {
  fathom::save_packed(folder.path() / "saved.safetensors", fathom::pack<P>(*some_weights<Net>()));
  return folder.read("saved.safetensors");
}

/// The file with another header, padded as before.
std::string with_header(const std::string& file, const std::function<void(fathom::json&)>& edit) {
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), 8);
  fathom::json header = parsed(file.substr(8, length));
  edit(header);
  std::string text = header.dump();
  text.resize((text.size() + 8 + 63) / 64 * 64 - 8, ' ');
  return raw(text, file.substr(8 + length));
}
std::string with_entry(const std::string& file, const std::string& key, const std::string& value) {
  return with_header(file, [&](fathom::json& header) { header["__metadata__"][key] = fathom::json(value); });
}
std::string without_entry(const std::string& file, const std::string& key) {
  return with_header(file, [&](fathom::json& header) { header["__metadata__"].erase(key); });
}

/// Whether opening these bytes as weights of a model fails with these pieces in the message.
template <class Net, class P, class... Pieces>
bool refused(const std::string& file, const Pieces&... pieces) {
  const in_memory bytes(file);
  return fails_with([&] { fathom::packed_file<Net, P>(bytes.bytes(), "the program"); return 0; }, "the program: ", pieces...);
}

/// CRC-32 by its definition, a bit at a time.
std::uint32_t slow_crc32(const std::string& bytes) {
  std::uint32_t crc = ~0u;
  for (const char c : bytes) {
    crc ^= static_cast<unsigned char>(c);
    for (int i = 0; i < 8; ++i) crc = (crc >> 1) ^ (0xedb88320u & (0u - (crc & 1u)));
  }
  return ~crc;
}

}  // namespace

TEMPLATE_TEST_CASE("weights used where they lie give the same logits, bit for bit", "[packed_file]", float, bf16, std::int8_t, int4,
                   symmetric_int4, grouped_int8) {
  const temporary_folder folder;
  const auto check = [&]<class Net>(Net*) {
    const auto ready = fathom::pack<TestType>(*some_weights<Net>());
    const auto path = folder.path() / "a.safetensors";
    fathom::save_packed(path, ready);  // or *ready
    const auto logits_of = [](const auto& weights) {
      typename Net::cache cache(1);
      const auto span = Net::prefill(weights, some_tokens(9, 3), cache);
      return std::vector<float>(span.begin(), span.end());
    };
    const std::vector<float> expected = logits_of(*ready);
    CHECK(std::any_of(expected.begin(), expected.end(), [](float x) { return x != 0; }));

    const fathom::packed_file<Net, TestType> mapped(path);
    CHECK(logits_of(*mapped) == expected);
    CHECK(std::memcmp(&*mapped, ready.get(), sizeof *ready) == 0);
    mapped.verify();

    const in_memory file(folder.read("a.safetensors"));
    const fathom::packed_file<Net, TestType> held(file.bytes(), "the program");
    const auto* const at = reinterpret_cast<const std::byte*>(&*held);
    CHECK(at > file.bytes().data());  // the weights are those bytes, not a copy
    CHECK(at + sizeof *held == file.bytes().data() + file.bytes().size());
    CHECK(logits_of(*held) == expected);
    held.verify();
    CHECK(logits_of(*fathom::copy(*held)) == expected);
  };
  check(static_cast<net*>(nullptr));
  check(static_cast<fathom::model<llama>*>(nullptr));
}

TEST_CASE("models that compute in double", "[packed_file]") {
  const temporary_folder folder;
  using exact = fathom::model<gpt, fathom::backend::cpu<double>>;
  const std::string file = saved<exact, double>(folder);
  const in_memory bytes(file);
  const fathom::packed_file<exact, double> held(bytes.bytes(), "the program");
  CHECK(held->out.ln_f.weight.values[0] == some_weights<exact>()->out.ln_f.weight.values[0]);
  CHECK(refused<net, float>(file, "has weights packed as \"double\"; expected \"float\""));
  CHECK(refused<exact, double>(with_entry(file, "fathom.packed.scalar", "float"), "of a model that computes in \"float\"; expected \"double\""));
}

TEST_CASE("a mapped file may be replaced", "[packed_file]") {
  const temporary_folder folder;
  const auto path = folder.path() / "a.safetensors";
  auto weights = some_weights<net>();
  fathom::save_packed(path, fathom::pack<float>(*weights));
  const fathom::packed_file<net, float> before(path);
  const float first = before->out.ln_f.weight.values[0];
  weights->out.ln_f.weight.values[0] = first + 1;
  fathom::save_packed(path, fathom::pack<float>(*weights));
  const fathom::packed_file<net, float> after(path);
  CHECK(before->out.ln_f.weight.values[0] == first);
  CHECK(after->out.ln_f.weight.values[0] == first + 1);
  before.verify();
  after.verify();
}

TEST_CASE("the format is that of the documentation", "[packed_file]") {
  const temporary_folder folder;
  const std::string file = saved<net, std::int8_t>(folder);
  CHECK(saved<net, std::int8_t>(folder) == file);  // the same weights are the same bytes
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), 8);
  CHECK((8 + length) % 64 == 0);
  const contents all(file);
  const std::string data = file.substr(8 + length);
  CHECK(data.size() == net::weight_bytes<std::int8_t>);
  CHECK(all.metadata.size() == 7);
  CHECK(all.metadata.at("fathom.packed") == "1");
  CHECK(all.metadata.at("fathom.packed.endian") == "little");
  CHECK(all.metadata.at("fathom.packed.type") == "int8");
  CHECK(all.metadata.at("fathom.packed.scalar") == "float");
  CHECK(all.metadata.at("fathom.packed.layout") == "1");
  char crc[9];
  std::snprintf(crc, sizeof crc, "%08x", static_cast<unsigned>(slow_crc32(data)));
  CHECK(all.metadata.at("fathom.packed.crc32") == crc);
  CHECK(parsed(all.metadata.at("fathom.config"))["width"].as<int>() == 36);

  // A vector is floats at the beginning of its bytes, zeros behind.
  const auto weights = some_weights<net>();
  const entry& gain = all.tensors.at("ln_f.weight");
  CHECK(gain.type == "U8");
  CHECK(gain.shape == std::vector<std::uint64_t>{192});  // 36 floats, to a multiple of 64
  CHECK(std::memcmp(gain.bytes.data(), weights->out.ln_f.weight.data(), 36 * 4) == 0);
  CHECK(gain.bytes.substr(36 * 4) == std::string(48, '\0'));
  std::size_t sum = 0;
  net::visit([&](std::string_view name, auto, const auto&) { sum += all.tensors.at(std::string(name)).bytes.size(); }, net::tensors);
  CHECK(sum == data.size());

  const std::string digits = "123456789";
  CHECK(fathom::crc32(std::as_bytes(std::span(digits))) == 0xcbf43926);
  for (std::size_t n = 0; n < 40; ++n) CHECK(fathom::crc32(std::as_bytes(std::span(data).subspan(3, n))) == slow_crc32(data.substr(3, n)));
}

TEST_CASE("files of something else are refused with the reason", "[packed_file]") {
  const temporary_folder folder;
  const std::string file = saved<net, std::int8_t>(folder);
  using P = std::int8_t;
  CHECK(refused<net, P>("", "is not a valid safetensors file"));
  CHECK(refused<net, P>("GGUF" + std::string(100, '\0'), "is not a valid safetensors file"));
  fathom::save(folder.path() / "plain.safetensors", *some_weights<net>());
  CHECK(refused<net, P>(folder.read("plain.safetensors"), "has no metadata entry fathom.packed; expected packed weights, as fathom::save_packed writes them"));
  CHECK(refused<net, P>(with_entry(file, "fathom.packed", "2"), "has the format of packed weights of version \"2\"; expected \"1\""));
  CHECK(refused<net, P>(with_entry(file, "fathom.packed.endian", "big"), "order of bytes is \"big\"; expected \"little\""));
  CHECK(refused<net, bf16>(file, "has weights packed as \"int8\"; expected \"bf16\""));
  CHECK(refused<net, grouped_int8>(file, "has weights packed as \"int8\"; expected \"grouped_int8\""));
  CHECK(refused<net, P>(with_entry(file, "fathom.packed.layout", "2"), "lie in the layout of version \"2\"; expected \"1\""));
  for (const char* key : {"endian", "type", "scalar", "layout", "crc32"}) {
    const std::string full = std::string("fathom.packed.") + key;
    CHECK(refused<net, P>(without_entry(file, full), "has no metadata entry " + full));
  }
  CHECK(refused<net, P>(without_entry(file, "fathom.config"), "has no metadata entry fathom.config"));
  CHECK(refused<net, P>(with_entry(file, "fathom.config", "no json"), "has packed weights of another model"));

  // Another model, by its description and, where that does not tell, by its tensors.
  static constexpr fathom::config deeper = [] {
    fathom::config c = gpt;
    c.depth = 4;
    return c;
  }();
  using deep = fathom::model<deeper>;
  CHECK(refused<deep, P>(file, "has packed weights of another model", "depth: expected 4, found 3"));
  const std::string other = saved<deep, P>(folder);
  const std::string as_net = with_entry(other, "fathom.config", contents(file).metadata.at("fathom.config"));
  CHECK(refused<net, P>(as_net, "bytes of packed weights; expected " + std::to_string(net::weight_bytes<P>)));
  const std::string renamed = with_header(file, [](fathom::json& header) {
    header["ln_f.gain"] = header["ln_f.weight"];
    header.erase("ln_f.weight");
  });
  CHECK(refused<net, P>(renamed, "has other tensors than the model's packed weights: ln_f.gain, bytes ", "; expected ln_f.weight, bytes "));
  const std::string joined = with_header(file, [](fathom::json& header) {  // a tensor fewer
    const std::size_t begin = header["ln_f.bias"]["data_offsets"][0].as<std::size_t>(), end = header["ln_f.weight"]["data_offsets"][0].as<std::size_t>();
    fathom::json& grown = begin < end ? header["ln_f.bias"] : header["ln_f.weight"];
    fathom::json& lost = begin < end ? header["ln_f.weight"] : header["ln_f.bias"];
    const std::size_t from = grown["data_offsets"][0].as<std::size_t>(), to = lost["data_offsets"][1].as<std::size_t>();
    grown = parsed("{\"dtype\":\"U8\",\"shape\":[" + std::to_string(to - from) + "],\"data_offsets\":[" + std::to_string(from) + "," +
                   std::to_string(to) + "]}");
    header.erase(begin < end ? "ln_f.weight" : "ln_f.bias");
  });
  CHECK(refused<net, P>(joined, "has other tensors than the model's packed weights"));

  // Bytes that are not where numbers can be.
  fathom::buffer room(file.size() + 64);
  std::memcpy(room.bytes().data() + 4, file.data(), file.size());
  const auto shifted = room.bytes().subspan(4, file.size());
  CHECK(fails_with([&] { fathom::packed_file<net, P>(shifted, "the program"); return 0; }, "the program: its packed weights begin at byte ",
                   "not at a multiple of 64 bytes of memory"));
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), 8);
  const std::string unpadded = raw(file.substr(8, length) + "        ", file.substr(8 + length));
  CHECK(refused<net, P>(unpadded, "not at a multiple of 64 bytes of memory"));
  CHECK(fails_with([&] { fathom::packed_file<net, P>(folder.path() / "nothing"); return 0; }, "nothing: cannot be opened"));
  CHECK(fails_with([&] { fathom::packed_file<net, P>(folder.path()); return 0; }, "is not a file, but a folder"));
}

TEST_CASE("files that are cut short or damaged", "[packed_file]") {
  const temporary_folder folder;
  const std::string file = saved<net, std::int8_t>(folder);
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), 8);
  for (std::size_t size = 0; size < file.size(); size += size < 20 ? 1 : 997)
    CHECK(refused<net, std::int8_t>(file.substr(0, size), "is not a valid safetensors file"));
  CHECK(refused<net, std::int8_t>(file.substr(0, file.size() - 1), "is not a valid safetensors file"));
  CHECK(refused<net, std::int8_t>(file + '\0', "is not a valid safetensors file"));

  // Any damage of the header is an error, or changes nothing that matters: opening never reads beyond the bytes.
  fathom::random numbers(1, 0);
  int opened = 0;
  for (int i = 0; i < 3000; ++i) {
    std::string damaged = file;
    for (int n = 0; n < 1 + i % 3; ++n)
      damaged[static_cast<std::size_t>(numbers.below(static_cast<fathom::index>(8 + length)))] = static_cast<char>(numbers.below(256));
    const in_memory bytes(damaged);
    try {
      const fathom::packed_file<net, std::int8_t> held(bytes.bytes(), "the program");
      CHECK(std::memcmp(&*held, file.data() + 8 + length, sizeof *held) == 0);
      ++opened;
    } catch (const fathom::error&) {
    }
  }
  CHECK(opened < 1500);  // in the padding, in a value of the config with the same meaning

  // A bit of the data shows only in verify().
  for (const std::size_t place : {std::size_t{0}, sizeof(net::packed<std::int8_t>) / 2, sizeof(net::packed<std::int8_t>) - 1}) {
    std::string damaged = file;
    damaged[8 + length + place] = static_cast<char>(damaged[8 + length + place] ^ 4);
    const in_memory bytes(damaged);
    const fathom::packed_file<net, std::int8_t> held(bytes.bytes(), "the program");
    CHECK(fails_with([&] { held.verify(); return 0; }, "the program: its packed weights are damaged: their CRC-32 is ", "; expected "));
  }
}

TEST_CASE("packed weights are not loaded as others are", "[packed_file]") {
  const temporary_folder folder;
  const auto path = folder.path() / "a.safetensors";
  const auto check = [&]<class Net>(Net*) {
    fathom::save_packed(path, fathom::pack<bf16>(*some_weights<Net>()));
    const auto to = fathom::make<typename Net::parameters>();
    const auto packed = fathom::make<typename Net::template packed<bf16>>();
    const char* const problem = "a.safetensors: has packed weights (bf16), which are used where they lie, by fathom::packed_file";
    CHECK(fails_with([&] { fathom::load(path, to); return 0; }, problem));
    CHECK(fails_with([&] { fathom::load(path, packed); return 0; }, problem));
    CHECK(fails_with([&] { fathom::load(fathom::io::model_files(path), to); return 0; }, problem));
    CHECK(fails_with([&] { fathom::load(path, to, {.missing = fathom::missing::keep}); return 0; }, problem));
    CHECK(fails_with([&] { return fathom::load_any<Net>(path); }, problem));
  };
  check(static_cast<net*>(nullptr));
  check(static_cast<fathom::model<llama>*>(nullptr));
  fathom::save_packed(path, fathom::pack<bf16>(*some_weights<net>()));  // but tools tell what model it is of
  CHECK(fathom::io::config_of(fathom::io::model_files(path)) == fathom::normalized(gpt));
}
