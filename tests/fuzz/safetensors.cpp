// Safetensors files: all tensors are listed, described and converted.
#include <string>
#include <vector>

#include <fathom/io/safetensors.hpp>

#include "fuzz.hpp"

namespace fuzz::safetensors {

void read(bytes input) {
  const fathom::io::safetensors_file file(input, "input");
  std::size_t letters = file.metadata().size();
  for (const auto& [name, tensor] : file.tensors()) {
    letters += name.size() + tensor.describe().size();
    expect(tensor.begin <= tensor.end && tensor.end <= input.size(), "a tensor lies in its file");
    if (fathom::io::is_floating_point(tensor.type)) {
      const auto size = static_cast<std::size_t>(tensor.size());
      std::vector<float> numbers(size);
      copy_numbers(tensor, numbers.data());
      std::vector<double> more(size);
      copy_numbers(tensor, more.data());
    } else {
      letters += tensor.bytes().size();
    }
  }
  static_cast<void>(letters);
  static_cast<void>(file.at("wte.weight"));
}

void make_seeds(seeds& to) {
  to.add_files("golden", "weights.safetensors", 30000);
  to.add_files("families", "model.safetensors", 24000);
  to.add(std::string("\x02\0\0\0\0\0\0\0{}", 10));
  to.add_files("golden", "model-00001-of-00005.safetensors");
  std::vector<std::byte> data(2048);
  std::vector<fathom::io::tensor_to_write> all;
  for (const char* type : {"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL", "F8_E4M3", "U64"})
    all.push_back({type, type, {2, 3}, std::span(data).first(6 * fathom::io::bytes_of_type(type))});
  fathom::io::write_safetensors(to.scratch() / "a", all, {{"format", "pt"}, {"fathom.config", "{}"}});
  to.add(seeds::read(to.scratch() / "a"));
}

const harness it("safetensors", read, make_seeds, [](std::string& input) { repair_safetensors(input); });

}  // namespace fuzz::safetensors
