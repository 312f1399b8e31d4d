// tokenizer.json.
#include <string>

#include <fathom/data/bpe.hpp>

#include "tokenizer.hpp"

namespace fuzz::tokenizer_json {

void read(bytes input) { use(fathom::data::bpe::from_memory(text_of(input))); }

/// The file with few of its tokens, so that more of them are tried in a second.
void make_seeds(seeds& to) {
  to.add_files("golden/tokenizers", "tokenizer.json");
  to.add(R"({"added_tokens": [{"id": 3, "content": "<s>", "special": true, "normalized": false}], "normalizer": null,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
    "post_processor": null, "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}})");
}

const harness it("tokenizer_json", read, make_seeds);

}  // namespace fuzz::tokenizer_json
