// Packs the weights of a model for decoding. fathom_add_model (fathom-add-model.cmake) builds one such program for each model
// and type, for the machine that compiles, also where the program is for another one.
//
//   fathom-pack MODEL OUTPUT [TEXT]
//
// MODEL is what fathom::load reads: a GGUF file, a folder of `transformers`, a safetensors file. OUTPUT is the file of packed
// weights (io/packed_file.hpp). TEXT gets what else is in a GGUF file: its metadata, with the tokenizer, and no tensors.
//
// FATHOM_PACK_CONFIG is a header with NAME::config; FATHOM_PACK_NAME is that NAME, FATHOM_PACK_NUMBER the type.
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <string>

#include <fathom/backend/cpu.hpp>
#include <fathom/core/bf16.hpp>
#include <fathom/core/grouped.hpp>
#include <fathom/core/memory.hpp>
#include <fathom/io/gguf.hpp>
#include <fathom/io/packed_file.hpp>
#include <fathom/io/weights.hpp>
#include <fathom/model/model.hpp>

#include FATHOM_PACK_CONFIG

int main(int count, char** arguments) {
  if (count != 3 && count != 4) return std::fputs("fathom-pack MODEL OUTPUT [TEXT]\n", stderr), 2;
  try {
    using net = fathom::model<FATHOM_PACK_NAME::config>;
    const std::filesystem::path model = arguments[1];
    if (count == 4) {
      const fathom::io::gguf_file file(model);
      fathom::io::gguf_metadata text;
      for (const fathom::io::gguf_entry& entry : file.metadata()) text.emplace_back(std::string(entry.key), entry.value);
      fathom::io::write_gguf(arguments[3], text, {});
    }
    const auto packed = fathom::make<net::packed<FATHOM_PACK_NUMBER>>();
    fathom::load(model, *packed);
    fathom::save_packed(arguments[2], *packed);
  } catch (const std::exception& problem) {
    return std::fprintf(stderr, "%s\n", problem.what()), 1;
  }
}
