// Vocabularies and merges: the files of a folder, and three texts in memory.
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include <fathom/data/bpe.hpp>
#include <fathom/io/named_files.hpp>

#include "tokenizer.hpp"

namespace fuzz::tokenizer_files {

void read(bytes input) {
  std::vector<fathom::io::file_in_memory> files;
  for (const auto& [name, contents] : parts_of(input)) files.push_back({name, contents});
  if (files.size() >= 2) {
    try {
      use(fathom::data::bpe::from_memory(text_of(files[0].bytes), text_of(files[1].bytes), files.size() > 2 ? text_of(files[2].bytes) : ""));
    } catch (const fathom::error&) {
    }
  }
  use(fathom::data::bpe(fathom::io::named_files(std::move(files), "input")));
}

void make_seeds(seeds& to) {
  const std::filesystem::path golden(FATHOM_TESTS "/golden");
  to.add(part("vocab.json", seeds::read(golden / "bpe/small/vocab.json")) + part("merges.txt", seeds::read(golden / "bpe/small/merges.txt")));
  to.add(part("encoder.json", seeds::read(golden / "bpe/large/encoder.json")) + part("vocab.bpe", seeds::read(golden / "bpe/large/vocab.bpe")));
  to.add(part("vocab.json", R"({"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3})") + part("merges.txt", "#version: 0.2\na b\n") +
         part("added_tokens.json", R"({"<s>": 4})") +
         part("tokenizer_config.json", R"({"tokenizer_class": "GPT2Tokenizer", "bos_token": "<s>", "eos_token": {"content": "<|endoftext|>"},
           "add_bos_token": true, "added_tokens_decoder": {"4": {"content": "<s>", "special": true}}})") +
         part("special_tokens_map.json", R"({"unk_token": "<s>"})"));
  for (const char* name : {"gemma", "llama2", "llama3", "qwen2", "smollm2"})
    to.add(part("tokenizer.json", seeds::read(golden / "tokenizers" / name / "tokenizer.json")) +
           part("tokenizer_config.json", R"({"add_bos_token": false, "eos_token": "</s>"})"));
}

const harness it("tokenizer_files", read, make_seeds);

}  // namespace fuzz::tokenizer_files
