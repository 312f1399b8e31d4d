// A harness for each reader of foreign bytes, for libFuzzer. One program has all of them; FATHOM_FUZZ=NAME selects one
// (main.cpp). A harness is a file that defines an object of this type.
//
// An input may be read, or refused with a fathom::error. Anything else is a finding: another exception, a report of a
// sanitizer, too much time or memory, or a promise that does not hold (expect).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fathom/core/memory.hpp>

namespace fuzz {

using bytes = std::span<const std::byte>;
inline std::string_view text_of(bytes from) { return {reinterpret_cast<const char*>(from.data()), from.size()}; }
inline bytes bytes_of(std::string_view text) { return std::as_bytes(std::span(text.data(), text.size())); }

/// Valid files to begin with.
class seeds {
 public:
  explicit seeds(std::filesystem::path folder) : folder_(std::move(folder)) {}
  void add(std::string_view contents) {
    std::ofstream(folder_ / ("seed-" + std::to_string(count_++)), std::ios::binary)
        .write(contents.data(), static_cast<std::streamsize>(contents.size()));
  }
  /// Those of the tests below tests/, up to `most` bytes, with `prefix` before their contents.
  void add_files(const char* pattern_folder, std::string_view ending, std::size_t most = 1 << 16, const std::string& prefix = "") {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(std::filesystem::path(FATHOM_TESTS) / pattern_folder))
      if (entry.is_regular_file() && entry.path().string().ends_with(ending) && entry.file_size() <= most) add(prefix + read(entry.path()));
  }
  static std::string read(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  /// A folder for files that become seeds.
  [[nodiscard]] std::filesystem::path scratch() const {
    std::filesystem::create_directories(folder_.string() + ".scratch");
    return folder_.string() + ".scratch";
  }

 private:
  std::filesystem::path folder_;
  int count_ = 0;
};

struct harness {
  const char* name;
  void (*read)(bytes input);
  void (*make_seeds)(seeds& to);
  void (*repair)(std::string& input) = nullptr;  // what mutations break in nearly every input, such as lengths

  harness(const char* its_name, void (*its_read)(bytes), void (*its_seeds)(seeds&), void (*its_repair)(std::string&) = nullptr)
      : name(its_name), read(its_read), make_seeds(its_seeds), repair(its_repair) {
    all().push_back(this);
  }
  static std::vector<const harness*>& all() {
    static std::vector<const harness*> list;
    return list;
  }
};

/// Ends the program unless a promise holds.
inline void expect(bool holds, const char* what, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  if (holds) return;
  std::fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, what);
  std::abort();
}

/// The bytes as a file in the temporary folder, which fuzz.sh puts into memory, for readers of paths.
inline std::filesystem::path file(const char* name, bytes contents) {
  static const struct folder {
    std::filesystem::path path;
    folder() {
      std::string where = std::filesystem::temp_directory_path().string() + "/fathom-fuzz-XXXXXX";
      if (::mkdtemp(where.data()) == nullptr) std::abort();
      path = where;
    }
    ~folder() {
      std::error_code ignored;
      std::filesystem::remove_all(path, ignored);
    }
  } place;
  const auto path = place.path / name;
  std::FILE* const to = std::fopen(path.c_str(), "wb");
  if (!to || std::fwrite(contents.data(), 1, contents.size(), to) != contents.size() || std::fclose(to) != 0) std::abort();
  return path;
}

/// A copy aligned as a program's own data, and as a mapped file.
class aligned {
 public:
  explicit aligned(bytes from) : buffer_(from.size() + 1), size_(from.size()) {
    if (!from.empty()) std::memcpy(buffer_.bytes().data(), from.data(), from.size());
  }
  [[nodiscard]] bytes get() const { return buffer_.bytes().first(size_); }

 private:
  fathom::buffer buffer_;
  std::size_t size_;
};

/// Several files in one input: each begins with a line "=== NAME".
inline std::vector<std::pair<std::string_view, bytes>> parts_of(bytes input) {
  constexpr std::string_view mark = "\n=== ";
  std::vector<std::pair<std::string_view, bytes>> parts;
  std::string_view rest = text_of(input);
  while (rest.starts_with(mark)) {
    rest.remove_prefix(mark.size());
    const std::size_t end = rest.find('\n');
    if (end == rest.npos) break;
    const std::string_view name = rest.substr(0, end);
    rest.remove_prefix(end + 1);
    const std::size_t next = std::min(rest.find(mark), rest.size());
    parts.emplace_back(name, bytes_of(rest.substr(0, next)));
    rest.remove_prefix(next);
  }
  return parts;
}
inline std::string part(std::string_view name, std::string_view contents) {
  return "\n=== " + std::string(name) + "\n" + std::string(contents);
}

/// Sets the length of the header of a safetensors file: to the end of its first object.
inline void repair_safetensors(std::string& input, std::size_t begin = 0) {
  if (input.size() < begin + 8) return;
  int depth = 0;
  bool is_text = false;
  for (std::size_t i = begin + 8; i < input.size(); ++i) {
    const char c = input[i];
    if (c == '\\' && is_text) {
      ++i;
      continue;
    }
    if (c == '"') is_text = !is_text;
    if (is_text) continue;
    depth += (c == '{') - (c == '}');
    if (depth > 0) continue;
    std::uint64_t length = i + 1 - begin - 8;
    while (begin + 8 + length < input.size() && input[begin + 8 + length] == ' ') ++length;
    std::memcpy(input.data() + begin, &length, sizeof length);
    return;
  }
}

}  // namespace fuzz
