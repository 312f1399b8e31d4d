// What is done with a tokenizer that was read.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <fathom/data/bpe.hpp>

#include "fuzz.hpp"

namespace fuzz {

inline void use(const fathom::data::bpe& tokenizer) {
  using fathom::data::ends, fathom::data::special;
  expect(tokenizer.size() > 0, "a tokenizer has tokens");
  const std::string_view texts[] = {"", " ", "In the  beginning, 12 na\xc3\xafve cats\n\n", "\xff\xc3\xed\xa0\x80<|im_end|><s>e\xcc\x81\t'll"};
  for (const std::string_view text : texts)
    for (const auto spelled : {special::as_text, special::as_tokens})
      for (const auto around : {ends::bare, ends::marked}) {
        std::vector<fathom::token> tokens;
        try {
          tokens = tokenizer.encode(text, spelled, around);
        } catch (const fathom::error&) {  // a byte without a token, or ends that no file names
          continue;
        }
        for (const fathom::token t : tokens) expect(t >= 0 && t < tokenizer.size(), "a text's tokens are in the vocabulary");
        static_cast<void>(tokenizer.decode(tokens));
      }
  for (fathom::token t = 0; t < std::min<fathom::token>(static_cast<fathom::token>(tokenizer.size()), 1000); ++t)
    static_cast<void>(tokenizer.bytes(t).size() + tokenizer.is_special(t));
  static_cast<void>(tokenizer.to_gguf());
}

}  // namespace fuzz
