// What libFuzzer calls: the harness that FATHOM_FUZZ names.
//
//   fuzz_readers names            lists the harnesses
//   fuzz_readers seeds FOLDER     writes the seeds of the harness into an existing folder
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <string>
#include <string_view>

#include <fathom/core/error.hpp>

#include "fuzz.hpp"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most);

namespace {
const fuzz::harness* selected = nullptr;
}

extern "C" int LLVMFuzzerInitialize(int* count, char*** arguments) {
  const std::string_view first = *count > 1 ? (*arguments)[1] : "";
  const auto& all = fuzz::harness::all();
  if (first == "names") {
    for (const fuzz::harness* one : all) std::puts(one->name);
    std::exit(0);
  }
  const char* const name = std::getenv("FATHOM_FUZZ");
  const auto found = std::find_if(all.begin(), all.end(), [&](const fuzz::harness* one) { return name && std::string_view(one->name) == name; });
  if (found == all.end()) {
    std::fputs("fuzz_readers: FATHOM_FUZZ names no harness; `fuzz_readers names` lists them\n", stderr);
    std::exit(2);
  }
  selected = *found;
  if (first == "seeds" && *count == 3) {
    try {
      fuzz::seeds to((*arguments)[2]);
      selected->make_seeds(to);
      std::filesystem::remove_all(to.scratch());
    } catch (const std::exception& problem) {
      std::fprintf(stderr, "fuzz_readers: %s\n", problem.what());
      std::exit(1);
    }
    std::exit(0);
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    selected->read({reinterpret_cast<const std::byte*>(data), size});
  } catch (const fathom::error& refused) {
    // One clear error: some text, which is not as long as the file can make it.
    fuzz::expect(*refused.what() != '\0', "an error says something");
    fuzz::expect(std::string_view(refused.what()).size() < size + 65536, "an error is not much longer than what it is about");
  }
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed) {
  size = LLVMFuzzerMutate(data, size, most);
  if (!selected->repair || seed % 4 == 0) return size;
  std::string input(reinterpret_cast<const char*>(data), size);
  selected->repair(input);
  if (input.size() > most) return size;
  std::memcpy(data, input.data(), input.size());
  return input.size();
}
