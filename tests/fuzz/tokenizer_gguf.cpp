// Tokenizers in GGUF files, the tokens that end an answer, and the chat template.
#include <string>
#include <vector>

#include <fathom/data/model_tokenizer.hpp>
#include <fathom/io/gguf.hpp>

#include "tokenizer.hpp"

namespace fuzz::tokenizer_gguf {

void read(bytes input) {
  const fathom::io::model_files model({{"input.gguf", input}}, "input");
  const fathom::data::bpe tokenizer = fathom::data::read_bpe(model);
  use(tokenizer);
  for (const fathom::token t : fathom::data::end_tokens(model, tokenizer)) expect(t >= 0 && t < tokenizer.size(), "an end is a token");
  static_cast<void>(fathom::data::chat_template(model));
}

void make_seeds(seeds& to) {
  const auto path = to.scratch() / "a.gguf";
  for (const char* name : {"gemma", "llama2", "llama3", "qwen2", "smollm2"}) {
    const std::string text = seeds::read(std::string(FATHOM_TESTS "/golden/tokenizers/") + name + "/tokenizer.json");
    try {
      auto metadata = fathom::data::gguf_metadata_of(fathom::data::bpe::from_memory(text));
      metadata.emplace_back("tokenizer.chat_template", "{{ messages }}");
      metadata.emplace_back("tokenizer.ggml.eot_token_id", std::uint32_t{2});
      fathom::io::write_gguf(path, metadata, {});
      to.add(seeds::read(path));
    } catch (const fathom::error&) {  // not one that such files can name
    }
  }
  fathom::io::write_gguf(path, {{"tokenizer.ggml.model", "gpt2"},
                                {"tokenizer.ggml.pre", "gpt-2"},
                                {"tokenizer.ggml.tokens", std::vector<std::string>{"a", "b", "ab", "<s>"}},
                                {"tokenizer.ggml.token_type", std::vector<std::int32_t>{1, 1, 1, 3}},
                                {"tokenizer.ggml.merges", std::vector<std::string>{"a b"}},
                                {"tokenizer.ggml.add_bos_token", true},
                                {"tokenizer.ggml.bos_token_id", std::uint32_t{3}}}, {});
  to.add(seeds::read(path));
  fathom::io::write_gguf(path, {{"tokenizer.ggml.model", "llama"},
                                {"tokenizer.ggml.tokens", std::vector<std::string>{"<unk>", "<0x41>", "a", "b", "ab"}},
                                {"tokenizer.ggml.token_type", std::vector<std::int32_t>{2, 6, 1, 1, 1}},
                                {"tokenizer.ggml.scores", std::vector<float>{0, 0, -2, -3, -1}}}, {});
  to.add(seeds::read(path));
}

const harness it("tokenizer_gguf", read, make_seeds);

}  // namespace fuzz::tokenizer_gguf
