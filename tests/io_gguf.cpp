// GGUF files: what llama.cpp's own package writes is read as it reads it, bit for bit; what is written are its bytes;
// and nothing that a file says is trusted. make_gguf.py makes the files.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fathom/core/error.hpp>
#include <fathom/core/ggml_blocks.hpp>
#include <fathom/io/file.hpp>
#include <fathom/io/gguf.hpp>
#include <fathom/io/safetensors.hpp>

#include "catch.hpp"
#include "fails_with.hpp"
#include "temporary_folder.hpp"

namespace {

namespace fs = std::filesystem;
namespace ggml = fathom::ggml;
using fathom::io::gguf_file;
using fathom::io::gguf_metadata;
using fathom::io::gguf_tensor;
using fathom::io::gguf_tensor_to_write;
using fathom::io::gguf_value;
using fathom::io::gguf_value_to_write;
using fathom::io::write_gguf;

const fs::path golden = fs::path(FATHOM_GOLDEN) / "gguf";

/// Bytes of their own, so that the address sanitizer sees what is read beyond them.
std::vector<std::byte> bytes_of(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}
std::string golden_bytes(const char* name) { return std::string(fathom::io::whole_file(golden / name).text()); }

std::vector<float> numbers_of(const gguf_tensor& tensor) {
  std::vector<float> numbers(static_cast<std::size_t>(tensor.size()));
  copy_numbers(tensor, numbers.data());
  return numbers;
}
bool is_same(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}
/// The numbers of a block of a type.
template <class Block>
std::vector<float> numbers_in(const Block& block) {
  std::vector<float> numbers(static_cast<std::size_t>(Block::numbers));
  dequantize(block, numbers.data());
  return numbers;
}

/// Looks at all that a file has.
std::size_t look_at_all(const gguf_file& file) {
  std::size_t sum = 0;
  const auto look = [&](const auto& self, const gguf_value& value) -> void {
    sum += value.describe().size() + static_cast<std::size_t>(value.as_integer().value_or(0));
    for (const char letter : value.as_text().value_or("")) sum += static_cast<unsigned char>(letter);
    sum += value.as_real().value_or(0) > 0 ? 1 : 0;
    for (const gguf_value& element : value.elements()) self(self, element);
  };
  for (const auto& [key, value] : file.metadata()) {
    sum += key.size() + (file.find(key) == &value ? 1 : 0);
    look(look, value);
  }
  for (const gguf_tensor& tensor : file.tensors()) {
    sum += tensor.describe().size() + (file.find_tensor(tensor.name) == &tensor ? 1 : 0);
    if (!ggml::find_type(tensor.type)->is_readable) continue;
    for (const float number : numbers_of(tensor)) sum += std::isfinite(number) ? 1 : 0;
  }
  return sum;
}
/// Whether a file in memory is read to its end or refused as it should be.
bool is_read_or_refused(std::string_view file, bool& is_read) {
  const std::vector<std::byte> bytes = bytes_of(file);
  is_read = false;
  try {
    const gguf_file read(bytes, "flipped");
    is_read = true;
    return look_at_all(read) > 0 || file.size() == 24;
  } catch (const fathom::error& error) {
    return std::string_view(error.what()).starts_with("flipped: is not a valid GGUF file: ");
  }
}

/// A GGUF file, put together without the library.
class handmade {
 public:
  handmade(std::uint64_t tensors, std::uint64_t entries, std::uint32_t version = 3) : bytes_("GGUF") {
    put(version).put(tensors).put(entries);
  }
  template <class T>
  handmade& put(T number) {
    bytes_.append(reinterpret_cast<const char*>(&number), sizeof number);
    return *this;
  }
  handmade& text(std::string_view text) {
    put(std::uint64_t{text.size()});
    bytes_ += text;
    return *this;
  }
  handmade& tensor(std::string_view name, std::vector<std::uint64_t> dimensions, std::uint32_t type,
                   std::uint64_t offset) {
    text(name).put(static_cast<std::uint32_t>(dimensions.size()));
    for (const std::uint64_t n : dimensions) put(n);
    return put(type).put(offset);
  }
  handmade& alignment(std::uint32_t bytes) { return text("general.alignment").put(std::uint32_t{4}).put(bytes); }
  /// Padding, and so many bytes of data.
  handmade& data(std::size_t count, std::size_t alignment = 32) {
    bytes_.resize((bytes_.size() + alignment - 1) / alignment * alignment + count, '\0');
    return *this;
  }
  [[nodiscard]] const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

/// Whether a file is refused for this reason.
template <class... Pieces>
bool invalid(const handmade& file, const Pieces&... reasons) {
  const std::vector<std::byte> bytes = bytes_of(file.bytes());
  return fails_with([&] { return gguf_file(bytes, "a.gguf"); }, "a.gguf: is not a valid GGUF file: ", reasons...);
}

constexpr std::uint32_t f32 = 0, q4_0 = 2;
constexpr std::uint64_t huge = std::numeric_limits<std::uint64_t>::max();

}  // namespace

// ---- Dequantisation -------------------------------------------------------------------------------------------------

TEST_CASE("every type is dequantised as gguf.quants does it, bit for bit", "[io]") {
  const fathom::io::safetensors_file expected(golden / "types.safetensors");
  const int version = GENERATE(2, 3);  // which differ in the number alone
  std::string text = golden_bytes("types.gguf");
  text[4] = static_cast<char>(version);
  const bool is_aligned = GENERATE(true, false);
  const std::vector<std::byte> bytes = bytes_of((is_aligned ? "" : " ") + text);
  const auto here = std::span<const std::byte>(bytes).subspan(is_aligned ? 0 : 1);
  const gguf_file file(here, "types.gguf");
  CHECK(file.version() == version);
  CHECK(file.alignment() == 32);
  CHECK(file.tensors().size() == expected.tensors().size() + 1);  // IQ4_NL
  for (const auto& [name, stored] : expected.tensors()) {
    INFO(name);
    const gguf_tensor& tensor = file.tensor(name);
    CHECK(ggml::find_type(tensor.type)->name == name);
    CHECK(tensor.rank == 2);
    CHECK(std::vector<fathom::index>{tensor.rows(), tensor.row_size()} == stored.shape);
    CHECK(tensor.row_bytes() * tensor.rows() == std::ssize(tensor.bytes));
    std::vector<float> numbers(static_cast<std::size_t>(stored.size()));
    fathom::io::copy_numbers(stored, numbers.data());
    CHECK(is_same(numbers_of(tensor), numbers));
    // Some of the rows.
    const fathom::index width = tensor.row_size();
    std::vector<float> two(static_cast<std::size_t>(2 * width));
    for (fathom::index first = 0; first < 2; ++first) {
      copy_rows(tensor, first, 2, two.data());
      CHECK(is_same(two, std::span(numbers).subspan(static_cast<std::size_t>(first * width), two.size())));
    }
    copy_rows(tensor, 3, 0, nullptr);
    const auto refuses = [&](fathom::index first, fathom::index count) {
      return fails_with([&] { return copy_rows(tensor, first, count, two.data()), 0; }, "types.gguf: ", tensor.name,
                        " of 3 rows");
    };
    CHECK(refuses(0, 4));
    CHECK(refuses(-1, 1));
    CHECK(refuses(4, 0));
    CHECK(refuses(1, -1));
    CHECK(refuses(3, 1));
    CHECK(refuses(1, PTRDIFF_MAX));
  }
}

TEST_CASE("a type that is not dequantised is listed, and named when its numbers are asked for", "[io]") {
  const gguf_file file(golden / "types.gguf");
  const gguf_tensor& tensor = file.tensor("IQ4_NL");
  CHECK(tensor.describe() == "IQ4_NL [32, 1]");
  CHECK(tensor.bytes.size() == 18);
  float numbers[32];
  CHECK(fails_with([&] { return copy_numbers(tensor, numbers), 0; }, (golden / "types.gguf").string(),
                   ": IQ4_NL is a tensor of type IQ4_NL, which is not dequantised; expected F32"));
}

TEST_CASE("blocks are seen as they lie in the file", "[io]") {
  const gguf_file file(golden / "types.gguf");
  const auto check = [&]<class Block>(const char* name, const Block&) {
    INFO(name);
    const gguf_tensor& tensor = file.tensor(name);
    const std::span<const Block> blocks = fathom::io::blocks_of<Block>(tensor);
    CHECK(static_cast<const void*>(blocks.data()) == tensor.bytes.data());
    CHECK(blocks.size_bytes() == tensor.bytes.size());
    std::vector<float> numbers;
    for (const Block& block : blocks)
      for (const float number : numbers_in(block)) numbers.push_back(number);
    CHECK(is_same(numbers, numbers_of(tensor)));
  };
  check("Q4_0", ggml::block_q4_0{});
  check("Q4_1", ggml::block_q4_1{});
  check("Q5_0", ggml::block_q5_0{});
  check("Q5_1", ggml::block_q5_1{});
  check("Q8_0", ggml::block_q8_0{});
  check("Q2_K", ggml::block_q2_k{});
  check("Q3_K", ggml::block_q3_k{});
  check("Q4_K", ggml::block_q4_k{});
  check("Q5_K", ggml::block_q5_k{});
  check("Q6_K", ggml::block_q6_k{});
  CHECK(fails_with([&] { return fathom::io::blocks_of<ggml::block_q4_1>(file.tensor("Q4_0")); },
                   ": Q4_0 is a tensor of type Q4_0; expected Q4_1"));
}

TEST_CASE("blocks of 32 mean what their comments say", "[io]") {
  ggml::block_q4_0 a{{0x00, 0x38}, {}};  // 0.5
  a.quants[3] = 0xf1;
  CHECK(numbers_in(a)[3] == -3.5f);
  CHECK(numbers_in(a)[19] == 3.5f);
  ggml::block_q4_1 b{{0x00, 0x40}, {0x00, 0xbc}, {}};  // 2, -1
  b.quants[0] = 0xf1;
  CHECK(numbers_in(b)[0] == 1.0f);
  CHECK(numbers_in(b)[16] == 29.0f);
  ggml::block_q8_0 c{{0x00, 0x3c}, {}};  // 1
  c.quants[31] = -128;
  CHECK(numbers_in(c)[31] == -128.0f);
}

// ---- Metadata -------------------------------------------------------------------------------------------------------

TEST_CASE("metadata of all types is read", "[io]") {
  const gguf_file file(golden / "metadata.gguf");
  CHECK(file.path() == (golden / "metadata.gguf").string());
  CHECK(file.alignment() == 64);
  CHECK(file.metadata().size() == 27);
  CHECK(file.metadata()[0].key == "general.architecture");
  CHECK(file.text("general.architecture") == "golden");
  CHECK(file.text("one.string") == "Grüße\n");
  CHECK(file.integer("one.uint8") == 255);
  CHECK(file.integer("one.int8") == -128);
  CHECK(file.integer("one.uint16") == 65535);
  CHECK(file.integer("one.int16") == -32768);
  CHECK(file.integer("one.uint32") == 4294967295);
  CHECK(file.integer("one.int32") == -2147483648);
  CHECK(file.integer("one.int64") == std::numeric_limits<std::int64_t>::min());
  CHECK(file.real("one.float32") == 1e-5f);
  CHECK(file.real("one.float64") == 0.1f);
  CHECK(file.boolean("one.bool"));
  CHECK(file.integers("many.uint8") == std::vector<fathom::index>{0, 255});
  CHECK(file.integers("many.int8") == std::vector<fathom::index>{-1, 1});
  CHECK(file.integers("many.uint16") == std::vector<fathom::index>{1, 2, 3});
  CHECK(file.integers("many.int16") == std::vector<fathom::index>{-4});
  CHECK(file.integers("many.uint32") == std::vector<fathom::index>{5, 6});
  CHECK(file.integers("many.int32") == std::vector<fathom::index>{3, -3, 3});
  CHECK(file.integers("many.uint64") == std::vector<fathom::index>{std::numeric_limits<std::int64_t>::max()});
  CHECK(file.integers("many.int64") == std::vector<fathom::index>{std::numeric_limits<std::int64_t>::min()});
  CHECK(file.reals("many.float32") == std::vector<float>{0.5f, -1e30f});
  CHECK(file.reals("many.float64")[0] == 0.1f);
  CHECK(file.booleans("many.bool") == std::vector<bool>{true, false, true});
  CHECK(file.texts("many.string") == std::vector<std::string_view>{"", "Ġ", "two words"});

  const gguf_value* const nested = file.find("many.array");
  REQUIRE(nested);
  CHECK(nested->describe() == "an array of 2 ARRAY");
  const auto outer = nested->elements();
  REQUIRE(outer.size() == 2);
  CHECK(outer[1].describe() == "an array of 1 ARRAY");
  const auto inner = outer[0].elements();
  REQUIRE(inner.size() == 2);
  const auto texts = inner[0].elements();
  REQUIRE(texts.size() == 2);
  CHECK(texts[1].as_text() == "b");
  CHECK(inner[1].elements()[0].as_text() == "");
  CHECK(texts[1].elements().empty());

  // Dimensions have the fastest first; numpy has it last.
  CHECK(file.tensor("one").describe() == "F32 [3]");
  CHECK(file.tensor("two").describe() == "F16 [3, 2]");
  CHECK(file.tensor("three").describe() == "F32 [2, 3, 4]");
  CHECK(file.tensor("three").rows() == 12);
  CHECK(file.tensor("four").describe() == "I16 [1, 2, 3, 4]");
  for (const gguf_tensor& tensor : file.tensors()) {
    const std::vector<float> numbers = numbers_of(tensor);
    for (std::size_t i = 0; i < numbers.size(); ++i) CHECK(numbers[i] == static_cast<float>(i));
  }
}

TEST_CASE("what is missing or of another type is named, with what was expected", "[io]") {
  gguf_file opened(golden / "metadata.gguf");
  const gguf_file file = std::move(opened);  // views stay valid
  const std::string path = file.path() + ": ";
  CHECK(file.find("nothing") == nullptr);
  CHECK(file.find_tensor("nothing") == nullptr);
  CHECK(fails_with([&] { return file.tensor("nothing"); }, path + "has no tensor nothing"));
  CHECK(fails_with([&] { return file.integer("a.b"); }, path + "has no metadata a.b; expected an integer"));
  CHECK(fails_with([&] { return file.texts("a.b"); }, path + "has no metadata a.b; expected an array of STRING"));
  CHECK(file.integer("a.b", 7) == 7);
  CHECK(file.real("a.b", 0.5f) == 0.5f);
  CHECK(file.boolean("a.b", true));
  CHECK(file.text("a.b", "c") == "c");
  const std::string says = path + "its metadata one.";
  CHECK(fails_with([&] { return file.integer("one.float32", 7); }, says + "float32 is FLOAT32; expected an integer"));
  CHECK(fails_with([&] { return file.integer("one.bool"); }, says + "bool is BOOL; expected an integer"));
  CHECK(fails_with([&] { return file.integer("one.uint64"); },
                   says + "uint64 is UINT64; expected an integer of 64 bits"));
  CHECK(fails_with([&] { return file.integer("many.int8"); },
                   path + "its metadata many.int8 is an array of 2 INT8; expected"));
  CHECK(fails_with([&] { return file.real("one.int32"); }, says + "int32 is INT32; expected FLOAT32 or FLOAT64"));
  CHECK(fails_with([&] { return file.boolean("one.int8"); }, says + "int8 is INT8; expected BOOL"));
  CHECK(fails_with([&] { return file.text("one.int8"); }, says + "int8 is INT8; expected STRING"));
  CHECK(fails_with([&] { return file.texts("one.string"); }, says + "string is STRING; expected an array of STRING"));
  CHECK(fails_with([&] { return file.texts("many.array"); },
                   "many.array is an array of 2 ARRAY; expected an array of STRING"));
  CHECK(fails_with([&] { return file.integers("many.float32"); },
                   "is an array of 2 FLOAT32; expected an array of integers"));
  CHECK(fails_with([&] { return file.reals("many.int8"); }, "is an array of 2 INT8; expected an array of FLOAT32"));
  CHECK(fails_with([&] { return file.booleans("many.int8"); }, "is an array of 2 INT8; expected an array of BOOL"));
}

// ---- Files that are not what they should be -------------------------------------------------------------------------

TEST_CASE("files of other kinds are named", "[io]") {
  const temporary_folder folder;
  const auto refused = [&](const std::string& contents, const std::string& reason) {
    const auto path = folder.write("a.gguf", contents);
    return fails_with([&] { return gguf_file(path); }, path.string() + ": is not a valid GGUF file: ", reason);
  };
  CHECK(refused("", "it is empty"));
  CHECK(refused("GGU", "it does not begin with \"GGUF\""));
  CHECK(refused("something else", "it does not begin with \"GGUF\""));
  CHECK(refused(std::string("PK\x03\x04") + std::string(30, ' '), "it is a zip archive"));
  CHECK(refused("version https://git-lfs.github.com/spec/v1\n", "it is a Git LFS pointer"));
  CHECK(fails_with([&] { return gguf_file(folder.path()); }, "is not a file, but a folder"));
  CHECK(fails_with([&] { return gguf_file(folder.path() / "nothing"); }, "cannot be opened"));
  CHECK(invalid(handmade(0, 0, 1), "it has version 1; expected 2 or 3"));
  CHECK(invalid(handmade(0, 0, 4), "it has version 4"));
  CHECK(invalid(handmade(0, 0, 0), "it has version 0"));
  CHECK(invalid(handmade(0, 0, 0x03000000), "it is big-endian"));
  const gguf_file nothing(folder.write("b.gguf", handmade(0, 0).bytes()));
  CHECK(nothing.metadata().empty());
  CHECK(nothing.tensors().empty());
}

TEST_CASE("a file that is cut anywhere is refused, unless only padding is lost", "[io]") {
  const char* const name = GENERATE("metadata.gguf", "types.gguf");
  const std::string whole = golden_bytes(name);
  const gguf_file file(golden / name);
  const auto& last = file.tensors().back().bytes;
  const auto end = static_cast<std::size_t>(last.data() + last.size() - file.tensors()[0].file->bytes().data());
  REQUIRE(end <= whole.size());
  for (std::size_t size = 0; size < whole.size(); ++size) {
    bool is_read = false;
    const bool is_good = is_read_or_refused(std::string_view(whole).substr(0, size), is_read);
    if (!is_good || is_read != (size >= end)) FAIL_CHECK(name << ", cut to " << size << " bytes");
  }
}

TEST_CASE("a file with any byte changed is read or refused", "[io]") {
  const char* const name = GENERATE("metadata.gguf", "types.gguf");
  const std::string whole = golden_bytes(name);
  const gguf_file file(golden / name);
  const auto header = static_cast<std::size_t>(file.tensors()[0].bytes.data() - file.tensors()[0].file->bytes().data());
  int read = 0, refused = 0;
  for (const int mask : {0x01, 0x08, 0x80, 0xff})
    for (std::size_t at = 0; at < (mask == 0xff ? whole.size() : header); ++at) {
      std::string changed = whole;
      changed[at] = static_cast<char>(changed[at] ^ mask);
      bool is_read = false;
      if (!is_read_or_refused(changed, is_read)) FAIL_CHECK(name << ", byte " << at << " ^ " << mask);
      is_read ? ++read : ++refused;
    }
  CHECK(read > 100);
  CHECK(refused > 100);
}

TEST_CASE("counts and lengths beyond the file are refused before anything is made of them", "[io]") {
  CHECK(invalid(handmade(0, huge), "its metadata is said to have 18446744073709551615 entries; only 0 bytes follow"));
  CHECK(invalid(handmade(huge, 0), "the list of tensors is said to have 18446744073709551615 entries"));
  CHECK(invalid(handmade(1, 0), "the list of tensors is said to have 1 entries; only 0 bytes follow"));
  CHECK(invalid(handmade(0, 1).put(huge).put(huge), "ends within its metadata"));
  CHECK(invalid(handmade(0, 1).text("key").put(std::uint32_t{8}).put(huge), "ends within the metadata key"));
  for (const std::uint32_t element : {0u, 4u, 8u, 9u, 12u})
    for (const std::uint64_t count : {huge, huge / 8 + 1, huge / 4 + 1, std::uint64_t{1} << 40}) {
      const handmade file = handmade(0, 1).text("key").put(std::uint32_t{9}).put(element).put(count).put(huge);
      CHECK(invalid(file, "the metadata key is said to have ", " elements; only 8 bytes follow"));
    }
  CHECK(invalid(handmade(0, 1).text("key").put(std::uint32_t{9}).put(std::uint32_t{4}).put(std::uint64_t{3}).put(huge),
                "the metadata key is said to have 3 elements; only 8 bytes follow"));
  CHECK(invalid(handmade(1, 0).put(huge).put(huge).put(huge), "ends within the list of tensors"));
  CHECK(invalid(handmade(1, 0).text("a").put(std::uint32_t{0xffffffff}).put(huge).put(huge),
                "the tensor a is said to have 4294967295 dimensions"));
}

TEST_CASE("metadata must be well-formed", "[io]") {
  constexpr std::uint32_t uint8 = 0, boolean = 7, array = 9;
  CHECK(invalid(handmade(0, 1).text("key").put(std::uint32_t{13}).put(huge),
                "the metadata key has a value of the unknown type 13"));
  CHECK(invalid(handmade(0, 1).text("key").put(array).put(std::uint32_t{99}).put(huge), "unknown type 99"));
  CHECK(invalid(handmade(0, 1).text("key").put(boolean).put(std::uint8_t{2}),
                "the metadata key has a BOOL 2; expected 0 or 1"));
  CHECK(invalid(handmade(0, 1).text("key").put(array).put(boolean).put(std::uint64_t{2}).put(std::uint16_t{0x0301}),
                "has a BOOL 3"));
  CHECK(invalid(handmade(0, 1).text("").put(uint8).put(huge), "a key of 0 bytes"));
  CHECK(invalid(handmade(0, 1).text(std::string(65536, 'a')).put(uint8).put(huge), "a key of 65536 bytes"));
  CHECK(invalid(handmade(0, 2).text("key").put(boolean).put(true).text("key").put(boolean).put(true),
                "its metadata has key twice"));
  CHECK(invalid(handmade(0, 1).alignment(0), "general.alignment is 0; expected a power of two"));
  CHECK(invalid(handmade(0, 1).alignment(48), "general.alignment is 48; expected a power of two"));
  CHECK(invalid(handmade(0, 1).text("general.alignment").put(std::uint32_t{11}).put(huge),
                "general.alignment is -1; expected"));
  CHECK(invalid(handmade(0, 1).text("general.alignment").put(std::uint32_t{8}).text("32"),
                "is STRING; expected an integer"));
  // Arrays in arrays, deeper than a stack.
  handmade deep(0, 1);
  deep.text("key").put(array);
  for (int i = 0; i < 100000; ++i) deep.put(array).put(std::uint64_t{1});
  CHECK(invalid(deep.put(uint8).put(huge), "the metadata key has arrays in arrays, more than 16 deep"));
}

TEST_CASE("tensors must have a size, a place of their own, and lie in the file", "[io]") {
  const auto one = [](std::vector<std::uint64_t> dimensions, std::uint32_t type = f32, std::uint64_t offset = 0) {
    return handmade(1, 0).tensor("a", std::move(dimensions), type, offset).data(4096);
  };
  const std::uint64_t half = std::uint64_t{1} << 32;
  CHECK(invalid(one({0}), "the tensor a has the dimensions [0]"));
  CHECK(invalid(one({32, 0}), "the tensor a has the dimensions [32, 0]"));
  CHECK(invalid(one({huge}), "[18446744073709551615]"));
  CHECK(invalid(one({half, half}), "fewer in all than memory has"));
  CHECK(invalid(one({half, half, half, half}), "fewer in all than memory has"));
  CHECK(invalid(one({half, half / 32}), "is said to have "));
  CHECK(invalid(one({1, 1, 1, 1, 1}), "is said to have 5 dimensions; expected at most 4"));
  CHECK(invalid(one({33}, q4_0), "the tensor a has the dimensions [33]", "a multiple of 32 numbers (Q4_0)"));
  CHECK(invalid(one({}, q4_0), "the tensor a has the dimensions []"));
  for (const std::uint32_t type : {4u, 5u, 31u, 33u, 36u, 42u, 0xffffffffu})
    CHECK(invalid(one({32}, type), "the tensor a has the unknown type ", std::to_string(type)));
  CHECK(
      invalid(one({1025}), "the tensor a is said to have 4100 bytes from byte 0 on; the file has 4096 bytes of data"));
  CHECK(invalid(one({1}, f32, 4096), "said to have 4 bytes from byte 4096 on"));
  for (const std::uint64_t numbers : {1u, 8u, 16u, 1024u})  // the end would be beyond 64 bits
    CHECK(invalid(one({numbers}, f32, huge - 31), "from byte 18446744073709551584 on"));
  CHECK(invalid(one({1}, f32, 8), "is said to begin at byte 8 of the data; expected a multiple of 32"));
  CHECK(invalid(handmade(1, 0).tensor("", {1}, f32, 0).data(4), "a tensor without a name"));
  CHECK(invalid(handmade(1, 0).tensor("a", {1}, f32, 0), "the file has 0 bytes of data"));
  CHECK(invalid(handmade(1, 1).alignment(1u << 31).tensor("a", {1}, f32, 0).data(64), "the file has 0 bytes of data"));
  CHECK(invalid(handmade(2, 0).tensor("a", {1}, f32, 0).tensor("a", {1}, f32, 32).data(64),
                "two tensors with the name a"));
  CHECK(invalid(handmade(2, 0).tensor("a", {1}, f32, 0).tensor("b", {1}, f32, 0).data(64), "share bytes"));
  CHECK(invalid(handmade(2, 0).tensor("a", {1}, f32, 32).tensor("b", {9}, f32, 0).data(64),
                "the tensors b and a share bytes"));
  const std::string name(200, 'x');
  CHECK(invalid(handmade(1, 0).tensor(name, {0}, f32, 0), "the tensor " + name.substr(0, 100) + "... has"));

  // In any order, with gaps, and a single number of no dimensions.
  const std::vector<std::byte> good =
      bytes_of(handmade(2, 0).tensor("a", {}, f32, 64).tensor("b", {8}, f32, 0).data(68).bytes());
  const gguf_file file(good, "good");
  CHECK(file.tensor("a").describe() == "F32 []");
  CHECK(file.tensor("a").size() == 1);
}

TEST_CASE("a file of very many entries and tensors is read", "[io]") {
  constexpr std::uint64_t count = 100000;
  handmade many(count, count);
  for (std::uint64_t i = 0; i < count; ++i)
    many.text(fathom::join("key", i * 7919 % count)).put(std::uint32_t{10}).put(i);
  for (std::uint64_t i = 0; i < count; ++i) many.tensor(fathom::join("t", i), {1}, f32, 32 * (count - 1 - i));
  many.data(32 * count);
  const gguf_file file(std::as_bytes(std::span(many.bytes())), "many");
  CHECK(file.integer("key7919") == 1);
  CHECK(numbers_of(file.tensor("t99999")) == std::vector<float>{0});
}

TEST_CASE("a mapped file stays what it was when it is replaced", "[io]") {
  const temporary_folder folder;
  const auto path = folder.path() / "a.gguf";
  const float one[] = {1, 2}, other[] = {3};
  write_gguf(path, {}, {{"a", ggml::type::f32, {2}, std::as_bytes(std::span(one))}});
  const gguf_file file(path);
  write_gguf(path, {}, {{"a", ggml::type::f32, {1}, std::as_bytes(std::span(other))}});
  CHECK(numbers_of(file.tensor("a")) == std::vector<float>{1, 2});
  CHECK(numbers_of(gguf_file(path).tensor("a")) == std::vector<float>{3});
}

// ---- Writing --------------------------------------------------------------------------------------------------------

TEST_CASE("what is read of the package's files is written as the same bytes", "[io]") {
  const char* const name = GENERATE("metadata.gguf", "types.gguf");
  const temporary_folder folder;
  const gguf_file file(golden / name);
  gguf_metadata metadata;
  for (const auto& [key, value] : file.metadata()) metadata.emplace_back(key, value);
  std::vector<gguf_tensor_to_write> tensors;
  for (const gguf_tensor& tensor : file.tensors())
    tensors.push_back({std::string(tensor.name), tensor.type,
                       {tensor.dimensions.begin(), tensor.dimensions.begin() + tensor.rank}, tensor.bytes});
  write_gguf(folder.path() / name, metadata, tensors);
  CHECK((folder.read(name) == golden_bytes(name)));
}

TEST_CASE("metadata of numbers and texts of C++ is written as the package writes it", "[io]") {
  const temporary_folder folder;
  const gguf_file file(golden / "metadata.gguf");
  const auto texts = [](std::vector<std::string> all) { return gguf_value_to_write(all); };
  const auto arrays = [](std::vector<gguf_value_to_write> all) { return gguf_value_to_write(all); };
  const gguf_metadata metadata = {
      {"general.architecture", "golden"},
      {"general.alignment", std::uint32_t{64}},
      {"one.uint8", std::uint8_t{255}},
      {"one.int8", std::int8_t{-128}},
      {"one.uint16", std::uint16_t{65535}},
      {"one.int16", std::int16_t{-32768}},
      {"one.uint32", std::uint32_t{4294967295}},
      {"one.int32", std::numeric_limits<std::int32_t>::min()},
      {"one.float32", 1e-5f},
      {"one.bool", true},
      {"one.string", "Grüße\n"},
      {"one.uint64", huge},
      {"one.int64", std::numeric_limits<std::int64_t>::min()},
      {"one.float64", 0.1},
      {"many.uint8", std::vector<std::uint8_t>{0, 255}},
      {"many.int8", std::vector<std::int8_t>{-1, 1}},
      {"many.uint16", std::vector<std::uint16_t>{1, 2, 3}},
      {"many.int16", std::vector<std::int16_t>{-4}},
      {"many.uint32", std::vector<std::uint32_t>{5, 6}},
      {"many.int32", std::vector<std::int32_t>{3, -3, 3}},
      {"many.float32", std::vector<float>{0.5f, -1e30f}},
      {"many.bool", std::vector<bool>{true, false, true}},
      {"many.string", texts({"", "Ġ", "two words"})},
      {"many.uint64", std::vector<std::uint64_t>{std::uint64_t{1} << 63}},
      {"many.int64", std::vector<std::int64_t>{std::numeric_limits<std::int64_t>::min()}},
      {"many.float64", std::vector<double>{0.1, 1e300}},
      {"many.array", arrays({arrays({texts({"a", "b"}), texts({""})}), arrays({texts({"c"})})})},
  };
  write_gguf(folder.path() / "a.gguf", metadata, {});
  const gguf_file written(folder.path() / "a.gguf");
  REQUIRE(written.metadata().size() == file.metadata().size());
  for (std::size_t i = 0; i < metadata.size(); ++i) {
    const auto &found = written.metadata()[i], &expected = file.metadata()[i];
    INFO(found.key);
    CHECK(found.key == expected.key);
    CHECK(found.value.describe() == expected.value.describe());
    if (found.key == "many.uint64") continue;  // one more here, so that it is no index
    CHECK(std::ranges::equal(found.value.bytes, expected.value.bytes));
  }
  CHECK(fails_with([&] { return written.integers("many.uint64"); }, "expected an array of integers"));
}

TEST_CASE("numbers of several types come back, aligned", "[io]") {
  const temporary_folder folder;
  const auto path = folder.path() / "a.gguf";
  const std::vector<float> numbers = {1, -2, 0.5f, 3, 0, 8};
  std::vector<fathom::bf16> halves;
  for (const float number : numbers) halves.emplace_back(number);
  ggml::block_q4_0 block{{0x00, 0x3c}, {}};
  block.quants[0] = 0x88;
  const std::uint32_t alignment = GENERATE(8u, 32u, 4096u);
  write_gguf(path, {{"general.architecture", "test"}, {"general.alignment", alignment}},
             {{"a", ggml::type::f32, {3, 2}, std::as_bytes(std::span(numbers))},
              {"b", ggml::type::bf16, {2, 3}, std::as_bytes(std::span(halves))},
              {"c", ggml::type::q4_0, {32}, std::as_bytes(std::span(&block, 1))}});
  const gguf_file file(path);
  CHECK(file.alignment() == static_cast<fathom::index>(alignment));
  CHECK(file.text("general.architecture") == "test");
  CHECK(numbers_of(file.tensor("a")) == numbers);
  CHECK(file.tensor("b").describe() == "BF16 [2, 3]");
  CHECK(numbers_of(file.tensor("b")) == numbers);
  CHECK(numbers_of(file.tensor("c"))[16] == 0);
  CHECK(numbers_of(file.tensor("c"))[1] == -8);
  for (const gguf_tensor& tensor : file.tensors())
    CHECK((tensor.bytes.data() - tensor.file->bytes().data()) % static_cast<fathom::index>(alignment) == 0);
  CHECK(fs::file_size(path) % alignment == 0);
}

TEST_CASE("what cannot be written is refused, and the file stays as it was", "[io]") {
  const temporary_folder folder;
  const auto path = folder.write("a.gguf", "before");
  const std::array<std::byte, 64> bytes{};
  const auto refused = [&](const gguf_metadata& metadata, const std::vector<gguf_tensor_to_write>& tensors,
                           const std::string& reason) {
    const bool fails = fails_with([&] { return write_gguf(path, metadata, tensors), 0; },
                                  path.string() + ": cannot be written: " + reason);
    return fails && folder.read("a.gguf") == "before" && std::distance(fs::directory_iterator(folder.path()), {}) == 1;
  };
  const auto some = [&](std::size_t count) { return std::span(bytes).first(count); };
  using enum ggml::type;
  CHECK(refused({{"a", 1}, {"a", 2}}, {}, "the metadata has a twice"));
  CHECK(refused({{"", 1}}, {}, "the metadata has a key of 0 bytes"));
  CHECK(refused({{std::string(65536, 'a'), 1}}, {}, "the metadata has a key of 65536 bytes"));
  CHECK(refused({{"general.alignment", std::uint32_t{33}}}, {}, "general.alignment must be UINT32 and a power of two"));
  CHECK(refused({{"general.alignment", 32}}, {}, "general.alignment must be UINT32 and a power of two"));
  CHECK(refused({}, {{"a", f32, {1}, some(4)}, {"a", f32, {1}, some(4)}}, "two tensors have the name a"));
  CHECK(refused({}, {{"", f32, {1}, some(4)}}, "a tensor has the name \"\" of 0 bytes"));
  CHECK(refused({}, {{std::string(64, 'a'), f32, {1}, some(4)}},
                "a tensor has the name \"" + std::string(64, 'a') + "\" of 64 bytes"));
  CHECK(refused({}, {{"a", f32, {3}, some(8)}}, "a has 8 bytes, which do not make up F32 [3]"));
  CHECK(refused({}, {{"a", q4_0, {16}, some(9)}}, "a has 9 bytes, which do not make up Q4_0 [16]"));
  CHECK(refused({}, {{"a", f32, {0}, some(0)}}, "a has 0 bytes, which do not make up F32 [0]"));
  CHECK(refused({}, {{"a", f32, {-1, -1}, some(4)}}, "a has 4 bytes, which do not make up F32 [-1, -1]"));
  CHECK(refused({}, {{"a", f32, {}, some(4)}}, "a has 0 dimensions"));
  CHECK(refused({}, {{"a", f32, {1, 1, 1, 1, 1}, some(4)}}, "a has 5 dimensions"));
  CHECK(refused({}, {{"a", static_cast<ggml::type>(4), {1}, some(4)}}, "a has the unknown type 4"));
  CHECK(fails_with(
      [&] {
        return gguf_value_to_write(std::vector<gguf_value_to_write>{1, 2.0});
      },
      "an array of INT32 and FLOAT64"));
}
