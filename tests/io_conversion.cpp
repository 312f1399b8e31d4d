// Weights in files as bf16 and int8: the file's contents, that they equal packed weights, and invalid int8 files from
// other writers.
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <fathom/backend/cpu.hpp>
#include <fathom/backend/reference.hpp>
#include <fathom/core/random.hpp>
#include <fathom/io/weights.hpp>
#include <fathom/model/model.hpp>

#include "catch.hpp"
#include "fails_with.hpp"
#include "file_contents.hpp"
#include "temporary_folder.hpp"

namespace {

using fathom::bf16;
using fathom::join;

constexpr fathom::config tied{
    .vocab = 19, .context = 5, .width = 12, .depth = 2, .heads = 2, .shortcut = {.depths = {1}, .hidden = 3}};
constexpr fathom::config untied{.vocab = 19, .context = 5, .width = 12, .depth = 1, .heads = 2, .tied = false};

/// Weights of all magnitudes of float: normally distributed, times a power of two for the column and one for
/// the row; some of them zeros.
template <class Net>
auto wild_weights(std::uint64_t seed) {
  auto weights = fathom::make<typename Net::parameters>();
  Net::visit(
      [&](std::string_view name, fathom::initial, auto& tensor) {
        fathom::random numbers(seed, fathom::stream_of(name));
        const fathom::index columns = tensor.shape[tensor.rank - 1];
        const auto exponents = [&](fathom::index count) {
          std::vector<int> found;
          for (; count > 0; --count) found.push_back(static_cast<int>(numbers.below(130)) - 70);
          return found;
        };
        const std::vector<int> by_column = exponents(columns), by_row = exponents(tensor.size / columns);
        for (fathom::index i = 0; i < tensor.size; ++i) {
          const int exponent = by_column[static_cast<std::size_t>(i % columns)] + by_row[static_cast<std::size_t>(i / columns)];
          const double x = numbers.below(9) > 0 ? std::ldexp(numbers.normal(), exponent) : -0.0;
          tensor.data()[i] = static_cast<typename Net::scalar>(x);
        }
      },
      *weights);
  return weights;
}

/// Weights as fathom saves them as P.
template <class P, class Parameters>
std::string saved_as(const temporary_folder& folder, const Parameters& weights) {
  fathom::save<P>(folder.path() / "saved.safetensors", weights);
  return folder.read("saved.safetensors");
}

template <class T>
T number_at(const std::string& bytes, std::size_t i) {
  T value;
  REQUIRE((i + 1) * sizeof value <= bytes.size());
  std::memcpy(&value, bytes.data() + i * sizeof value, sizeof value);
  return value;
}

}  // namespace

TEMPLATE_TEST_CASE("packing what was saved and loaded is packing the weights", "[io]", float, bf16, std::int8_t) {
  const temporary_folder folder;
  const auto check = [&]<class Net>(Net, std::uint64_t seed) {
    const auto weights = wild_weights<Net>(seed);
    const auto path = folder.path() / "a.safetensors";
    fathom::save<TestType>(path, *weights);
    const auto loaded = fathom::make<typename Net::parameters>();
    fathom::load(path, *loaded);
    const auto expected = fathom::pack<TestType>(*weights), found = fathom::pack<TestType>(*loaded);
    CHECK(std::memcmp(expected.get(), found.get(), sizeof *found) == 0);
    // Rounded weights are saved as the same bytes.
    fathom::save<TestType>(folder.path() / "b.safetensors", *loaded);
    CHECK((folder.read("a.safetensors") == folder.read("b.safetensors")));
  };
  for (const std::uint64_t seed : {1u, 2u, 3u, 4u}) {
    check(fathom::model<tied>(), seed);
    check(fathom::model<untied>(), seed);
  }
}

TEST_CASE("files of bf16 and int8 hold what they are said to", "[io]") {
  const temporary_folder folder;
  using net = fathom::model<untied, fathom::backend::reference<float>>;
  const auto weights = wild_weights<net>(7);

  const auto check = [&](const std::string& file, const std::map<std::string, std::string>& types) {
    const contents c(file);
    CHECK(c.tensors.size() == types.size());
    for (const auto& [name, expected] : types) {
      INFO(name);
      REQUIRE(c.tensors.contains(name));
      std::string shape;
      for (const auto extent : c.tensors.at(name).shape) shape += join(' ', extent);
      CHECK(join(c.tensors.at(name).type, shape) == expected);
    }
    CHECK(c.metadata.at("format") == "pt");
    CHECK(parsed(c.metadata.at("fathom.config"))["width"] == 12);
    return c;
  };
  std::map<std::string, std::string> types{
      {"h.0.ln_1.weight", "F32 12"},      {"h.0.ln_1.bias", "F32 12"},         {"h.0.ln_2.weight", "F32 12"},
      {"h.0.ln_2.bias", "F32 12"},        {"h.0.attn.c_attn.bias", "F32 36"},  {"h.0.attn.c_proj.bias", "F32 12"},
      {"h.0.mlp.c_fc.bias", "F32 48"},    {"h.0.mlp.c_proj.bias", "F32 12"},   {"ln_f.weight", "F32 12"},
      {"ln_f.bias", "F32 12"},            {"wte.weight", "BF16 19 12"},        {"wpe.weight", "BF16 5 12"},
      {"lm_head.weight", "BF16 19 12"},   {"h.0.attn.c_attn.weight", "BF16 12 36"},
      {"h.0.mlp.c_fc.weight", "BF16 12 48"}, {"h.0.attn.c_proj.weight", "BF16 12 12"},
      {"h.0.mlp.c_proj.weight", "BF16 48 12"}};
  {
    const contents c = check(saved_as<bf16>(folder, *weights), types);
    for (std::size_t i = 0; i < 12; ++i)
      CHECK(number_at<float>(c.tensors.at("ln_f.bias").bytes, i) == weights->out.ln_f.bias.data()[i]);
    for (std::size_t i = 0; i < 60; ++i) {
      // No other number of 8 significant bits is nearer.
      const double exact = static_cast<double>(weights->embed.wpe.data()[i]);
      const auto bits = number_at<std::uint16_t>(c.tensors.at("wpe.weight").bytes, i);
      const auto distance = [&](int other) {
        return std::abs(static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(other) << 16)) - exact);
      };
      INFO(exact << " as " << bits);
      CHECK(distance(bits) <= distance(bits + 1));
      if ((bits & 0x7fff) != 0) CHECK(distance(bits) <= distance(bits - 1));
    }
  }
  for (const char* name : {"h.0.attn.c_attn", "h.0.attn.c_proj", "h.0.mlp.c_fc", "h.0.mlp.c_proj", "lm_head"}) {
    // A scale for each output: a column of a matrix, a token of the head.
    std::string& type = types.at(join(name, ".weight"));
    const std::string shape = type.substr(4);
    const bool by_row = std::string_view(name) == "lm_head";
    types[join(name, ".weight.scale")] =
        join("F32", by_row ? shape.substr(0, shape.rfind(' ')) : shape.substr(shape.rfind(' ')));
    type = join("I8", shape);
  }
  CHECK(types.at("h.0.mlp.c_fc.weight.scale") == "F32 48");
  CHECK(types.at("lm_head.weight.scale") == "F32 19");
  const std::string file = saved_as<std::int8_t>(folder, *weights);
  const contents c = check(file, types);
  const auto& bytes = c.tensors.at("lm_head.weight").bytes;
  for (std::size_t row = 0; row < 19; ++row) {
    const double scale = static_cast<double>(number_at<float>(c.tensors.at("lm_head.weight.scale").bytes, row));
    double largest = 0;
    for (std::size_t j = 0; j < 12; ++j) {
      const double exact = static_cast<double>(weights->out.lm_head.data()[row * 12 + j]);
      largest = std::max(largest, std::abs(exact));
      INFO("row " << row << ", column " << j);
      if (scale > 0) CHECK(std::abs(scale * number_at<std::int8_t>(bytes, row * 12 + j) - exact) <= 0.500001 * scale);
      if (scale == 0) CHECK(number_at<std::int8_t>(bytes, row * 12 + j) == 0);
    }
    if (scale > 0) CHECK(scale * 127 == Approx(largest).epsilon(1e-6));
    if (scale == 0) CHECK(largest < 127 * static_cast<double>(std::numeric_limits<float>::min()));
  }
  // Numbers are aligned, so that a reader that maps the file can use them in place.
  const fathom::io::safetensors_file mapped(folder.path() / "saved.safetensors");
  for (const auto& [name, tensor] : mapped.tensors()) {
    INFO(name);
    CHECK(tensor.begin % fathom::io::bytes_of_type(tensor.type) == 0);
  }
}

TEST_CASE("other people's int8 is read as scale * number", "[io]") {
  const temporary_folder folder;
  const auto check = [&]<class Net>(Net) {
    contents c(saved_as<std::int8_t>(folder, *wild_weights<Net>(1)));
    auto& numbers = c.tensors.at("wte.weight").bytes;  // [19, 12], tied: one scale for each row
    auto& scales = c.tensors.at("wte.weight.scale").bytes;
    for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<char>(37 * i);  // -128 among them
    for (std::size_t row = 0; row < 19; ++row) {
      const float scale = row == 3 ? 0.0f : 0.1f * static_cast<float>(row);
      std::memcpy(scales.data() + row * sizeof scale, &scale, sizeof scale);
    }
    SECTION("under the names of fathom") {}
    SECTION("with the prefix transformer.") {
      for (const auto& [name, tensor] : contents(c).tensors) c.rename(name, join("transformer.", name));
    }
    const auto weights = fathom::make<typename Net::parameters>();
    fathom::load(folder.write("a.safetensors", c.file()), *weights);
    for (std::size_t i = 0; i < 19 * 12; ++i) {
      const float scale = i / 12 == 3 ? 0.0f : 0.1f * static_cast<float>(i / 12);
      const auto byte = static_cast<std::int8_t>(static_cast<std::uint8_t>(37 * i));
      CHECK(static_cast<double>(weights->embed.wte.data()[i]) == static_cast<double>(scale * static_cast<float>(byte)));
    }
  };
  check(fathom::model<tied, fathom::backend::reference<float>>());
  check(fathom::model<tied, fathom::backend::reference<double>>());
}

TEST_CASE("int8 that does not fit is refused with everything that is wrong in it", "[io]") {
  using net = fathom::model<untied, fathom::backend::reference<float>>;
  const temporary_folder folder;
  const contents valid(saved_as<std::int8_t>(folder, *wild_weights<net>(1)));
  const auto refused = [&](const contents& c, const auto&... pieces) {
    const auto path = folder.write("a.safetensors", c.file());
    const auto weights = wild_weights<net>(2);
    std::string before(reinterpret_cast<const char*>(weights.get()), sizeof *weights);
    for (const auto when : {fathom::missing::fails, fathom::missing::keep})
      if (!fails_with([&] { fathom::load(path, *weights, {.missing = when}); }, path.string(), pieces...)) return false;
    return std::memcmp(before.data(), weights.get(), before.size()) == 0;
  };
  const auto with_scale = [&](std::size_t at, float scale) {
    contents c = valid;
    std::memcpy(c.tensors.at("h.0.mlp.c_fc.weight.scale").bytes.data() + at * sizeof scale, &scale, sizeof scale);
    return c;
  };
  using limits = std::numeric_limits<float>;
  CHECK(refused(with_scale(47, limits::quiet_NaN()),
                "h.0.mlp.c_fc.weight.scale: has nan at 47; expected finite scales, 0 or more"));
  CHECK(refused(with_scale(0, limits::infinity()), "h.0.mlp.c_fc.weight.scale: has inf at 0"));
  CHECK(refused(with_scale(1, -limits::infinity()), "h.0.mlp.c_fc.weight.scale: has -inf at 1"));
  CHECK(refused(with_scale(2, -limits::denorm_min()), "h.0.mlp.c_fc.weight.scale: has -1.4013e-45 at 2"));
  // Times 127 it is infinite.
  CHECK(refused(with_scale(3, limits::max()), "h.0.mlp.c_fc.weight.scale: has 3.40282e+38 at 3"));

  contents c = valid;
  c.tensors.erase("h.0.attn.c_attn.weight.scale");
  c.tensors["h.0.attn.c_proj.weight.scale"].shape = {1, 12};
  c.tensors["h.0.mlp.c_fc.weight.scale"] = {"F32", {12}, std::string(48, 0)};  // by row
  c.tensors["h.0.mlp.c_proj.weight.scale"] = {"BF16", {12}, std::string(24, 0)};
  c.tensors["lm_head.weight.scale"] = {"F32", {}, std::string(4, 0)};
  c.tensors["wpe.weight"] = {"I8", {5, 12}, std::string(60, 1)};
  c.tensors["wpe.weight.scale"] = {"F32", {12}, std::string(48, 0)};
  c.tensors["ln_f.weight"] = {"I8", {12}, std::string(12, 1)};
  CHECK(refused(c, "h.0.attn.c_attn.weight.scale: missing; expected F32 [36], because h.0.attn.c_attn.weight is I8",
                "h.0.attn.c_proj.weight.scale: expected F32 [12], found F32 [1, 12]",
                "h.0.mlp.c_fc.weight.scale: expected F32 [48], found F32 [12]",
                "h.0.mlp.c_proj.weight.scale: expected F32 [12], found BF16 [12]",
                "lm_head.weight.scale: expected F32 [19], found F32 []",
                "wpe.weight: expected F32, F64, BF16 or F16 [5, 12], found I8 [5, 12]",
                "wpe.weight.scale: not part of the model; found F32 [12]",
                "ln_f.weight: expected F32, F64, BF16 or F16 [12], found I8 [12]"));

  c = valid;
  c.tensors["h.0.mlp.c_fc.weight"].shape = {48, 12};
  CHECK(refused(c, "h.0.mlp.c_fc.weight: expected F32, F64, BF16, F16 or I8 [12, 48], found I8 [48, 12]"));
  c = valid;
  c.tensors["h.0.mlp.c_fc.weight"].type = "U8";
  CHECK(refused(c, "h.0.mlp.c_fc.weight: expected F32, F64, BF16, F16 or I8 [12, 48], found U8 [12, 48]",
                "h.0.mlp.c_fc.weight.scale: not part of the model; found F32 [48]"));
  c = valid;
  c.tensors["h.0.mlp.c_fc.weight"] = {"F16", {12, 48}, std::string(2 * 12 * 48, 0)};
  CHECK(refused(c, "h.0.mlp.c_fc.weight.scale: not part of the model; found F32 [48]"));
  c = valid;
  c.tensors["transformer.lm_head.weight.scale"] = c.tensors["lm_head.weight.scale"];
  CHECK(refused(c, "lm_head.weight.scale: is there twice"));
}

TEMPLATE_TEST_CASE("what is not finite has no int8, and leaves no file", "[io]", float, double) {
  using net = fathom::model<untied, fathom::backend::reference<TestType>>;
  const temporary_folder folder;
  const auto path = folder.path() / "a.safetensors";
  const auto weights = wild_weights<net>(1);
  weights->embed.wpe.data()[0] = std::numeric_limits<TestType>::infinity();  // saved as bf16, which can represent it
  fathom::save<std::int8_t>(path, *weights);
  std::filesystem::remove(path);
  for (const TestType bad : {std::numeric_limits<TestType>::quiet_NaN(), -std::numeric_limits<TestType>::infinity()}) {
    weights->out.lm_head.data()[2 * 12 + 5] = bad;
    CHECK(fails_with([&] { fathom::save<std::int8_t>(path, *weights); }, std::isnan(bad) ? "nan" : "-inf",
                     "lm_head.weight has ", "at [2, 5]", "as int8, all numbers must be finite"));
    CHECK(std::filesystem::is_empty(folder.path()));
  }
}
