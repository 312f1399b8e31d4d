// The fathom half of interop_python.py: writes files for Python, and reads Python's files.
//
//   interop save float|double TO     weights whose values follow from their names (value() below)
//   interop resave FROM TO [TYPE]    weights of any type, as float, or as bf16 or int8
//   interop tokens FROM VOCAB TO     tokens, from .bin or .npy to .bin or .npy
//   interop codes FROM COUNT TO      an array of COUNT codebooks, of 1024 entries each, as tokens and back
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>

#include <fathom/backend/reference.hpp>
#include <fathom/data/codec_tokens.hpp>
#include <fathom/data/tokens.hpp>
#include <fathom/io/weights.hpp>
#include <fathom/model/model.hpp>

namespace {

// The same config as in interop_python.py.
constexpr fathom::config c{.vocab = 13,
                           .context = 6,
                           .width = 8,
                           .depth = 3,
                           .heads = 2,
                           .tied = false,
                           .shortcut = {.depths = {2, 0}, .hidden = 5}};
template <class T>
using net = fathom::model<c, fathom::backend::reference<T>>;

/// Element i of the tensor with this name. Exact in float.
double value(std::string_view name, fathom::index i) {
  int sum = 0;
  for (const char letter : name) sum += letter;
  return sum + static_cast<double>(i) / 1024;
}

template <class T>
void save(const char* to) {
  auto weights = fathom::make<typename net<T>::parameters>();
  net<T>::visit(
      [](std::string_view name, fathom::initial, auto& tensor) {
        for (fathom::index i = 0; i < tensor.size; ++i) tensor.data()[i] = static_cast<T>(value(name, i));
      },
      *weights);
  fathom::save(to, *weights);
}

void run(int argc, char** argv) {
  const std::string command = argc > 1 ? argv[1] : "";
  if (command == "save" && argc == 4) {
    std::string(argv[2]) == "double" ? save<double>(argv[3]) : save<float>(argv[3]);
  } else if (command == "resave" && (argc == 4 || argc == 5)) {
    const std::string type = argc == 5 ? argv[4] : "float";
    auto weights = fathom::make<net<float>::parameters>();
    fathom::load(argv[2], *weights);
    if (type == "float") fathom::save(argv[3], *weights);
    if (type == "bf16") fathom::save<fathom::bf16>(argv[3], *weights);
    if (type == "int8") fathom::save<std::int8_t>(argv[3], *weights);
  } else if (command == "tokens" && argc == 5) {
    const auto read = fathom::data::tokens(argv[2], std::atoll(argv[3]), {.validation = 0});
    const std::filesystem::path to = argv[4];
    to.extension() == ".bin" ? fathom::data::write_bin(to, read.all()) : fathom::data::write_npy(to, read.all());
  } else if (command == "codes" && argc == 5) {
    const fathom::data::codebooks books{.count = std::atoll(argv[3]), .order = fathom::data::codebook_order::delayed};
    fathom::data::write_codec_npy(argv[4], fathom::data::read_codec_npy(argv[2], books), books);
  } else {
    fathom::fail("interop: expected save float|double TO, resave FROM TO [float|bf16|int8], tokens FROM VOCAB TO, or "
                 "codes FROM COUNT TO");
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run(argc, argv);
  } catch (const fathom::error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
