// GGUF files: all metadata and tensors are looked at, tensors dequantised; and the config of a model is read from them.
#include <algorithm>
#include <string>
#include <vector>

#include <fathom/io/config.hpp>
#include <fathom/io/gguf.hpp>
#include <fathom/io/gguf_models.hpp>
#include <fathom/io/model_files.hpp>
#include <fathom/io/save_gguf.hpp>

#include "fuzz.hpp"

namespace fuzz::gguf {

std::size_t look_at(const fathom::io::gguf_value& value) {
  std::size_t sum = value.describe().size() + value.as_integer().has_value() + value.as_real().has_value() + value.as_bool().value_or(false);
  if (const auto text = value.as_text()) sum += static_cast<std::size_t>(std::count(text->begin(), text->end(), 'a'));
  for (const fathom::io::gguf_value& element : value.elements()) sum += look_at(element);
  return sum;
}

void read(bytes input) {
  const fathom::io::gguf_file file(input, "input");
  std::size_t sum = 0;
  for (const auto& [key, value] : file.metadata()) {
    sum += key.size() + look_at(value);
    expect(file.find(key) != nullptr, "an entry is found by its key");
  }
  for (const fathom::io::gguf_tensor& tensor : file.tensors()) {
    sum += tensor.describe().size();
    expect(file.find_tensor(tensor.name) == &tensor, "a tensor is found by its name");
    expect(tensor.bytes.size() <= input.size(), "a tensor lies in its file");
    std::vector<float> numbers(static_cast<std::size_t>(tensor.size()));
    try {
      copy_numbers(tensor, numbers.data());
    } catch (const fathom::error&) {  // a type that is listed only
    }
  }
  static_cast<void>(sum);
  const fathom::config found = fathom::io::config_of(fathom::io::model_files({{"input.gguf", input}}, "input"));
  static_cast<void>(fathom::io::to_cpp(found));
}

void make_seeds(seeds& to) {
  to.add_files("golden", ".gguf");
  const auto path = to.scratch() / "a.gguf";
  for (const auto family : {fathom::family::gpt2, fathom::family::llama, fathom::family::qwen2, fathom::family::qwen3, fathom::family::gemma3,
                            fathom::family::gpt_neox, fathom::family::olmo2}) {
    const int window = family == fathom::family::gemma3 ? 4 : 0;
    const fathom::config c = fathom::normalized({.vocab = 5, .context = 16, .width = 8, .depth = 1, .heads = 2, .hidden = 4, .tied = true,
                                                 .shortcut = {}, .family = family, .window = window});
    const std::vector<float> table(static_cast<std::size_t>(c.vocab * c.width));
    fathom::io::write_gguf(path, fathom::io::metadata_of(c, {}),
                           {{"token_embd.weight", fathom::ggml::type::f32, {c.width, c.vocab}, std::as_bytes(std::span(table))}});
    to.add(seeds::read(path));
  }
}

const harness it("gguf", read, make_seeds);

}  // namespace fuzz::gguf
