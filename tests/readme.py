"""Turns the C++ blocks of README.md into files that compile: the program unchanged, the others inside functions that provide
the names that they assume.

    readme.py README.md OUTPUT_FOLDER
"""

import pathlib
import re
import sys

PREAMBLE = """// Made from README.md by tests/readme.py.
#include <cstdio>
#include <iostream>
#include <span>
#include <string>
#include <vector>
#include <fathom/fathom.hpp>
#include <fathom/data/bpe.hpp>
#include <fathom/data/performance.hpp>
#include <fathom/data/text.hpp>
#include <fathom/data/text_stream.hpp>
#include <fathom/data/token_files.hpp>
#ifdef FATHOM_README_VIZ
#include <fathom/viz.hpp>
#endif
#ifdef FATHOM_README_SPEECH
#include <fathom/data/codec_tokens.hpp>
#include <fathom/data/speech.hpp>
#endif
constexpr fathom::config tiny{.vocab = 256, .context = 128, .width = 128, .depth = 6, .heads = 4,
                              .shortcut = {.depths = {2, 4}}};
using net = fathom::model<tiny>;
"""

# For each block, a word that identifies it, and the code before and after it.
BLOCKS = {
    "int main": ("", ""),
    "optimizer.step": ("void by_hand(std::span<const fathom::token> tokens, std::span<const fathom::token> inputs) {\n",
                       "static_cast<void>(logits);\n}\n"),
    "fathom::pack": ("void decode(const fathom::owned<net::parameters>& weights, std::span<const fathom::token> prompt, "
                     "fathom::token next) {\n", "}\n"),
    "batch_generator": ("void many(const fathom::owned<net::parameters>& weights, std::span<const fathom::token> instructions,\n"
                        "          std::span<const fathom::token> question, std::span<const fathom::token> prompt,\n"
                        "          std::span<const fathom::token> ends) {\n", "}\n"),
    "oracle": ("", "static_assert(oracle::parameter_count > 0);\n"),
    ".resume": ("void resume(const fathom::owned<net::parameters>& weights) {\n", "static_cast<void>(trainer);\n}\n"),
    "fathom::muon": ("void another_optimizer() {\n", "static_cast<void>(tuned);\n}\n"),
    "save_adapter": ("void adapt(const fathom::data::corpus& corpus, fathom::owned<net::parameters>& weights) {\n", "}\n"),
    "load_any": ("void any_model() {\n", "}\n"),
    "save_transformers": ("void elsewhere() {\n", "}\n"),
    "smollm2": ("void of_today() {\n", "}\n"),
    "tokenizer.encode": ("void subwords(fathom::trainer<net>& trainer, fathom::generator<net>& writer) {\n", "}\n"),
    "data::token_files": ("void shards(fathom::trainer<net>& trainer) {\n", "}\n"),
    "data::music": ("void music(fathom::trainer<net>& trainer, fathom::generator<net>& writer) {\n", "}\n"),
    "save_png": ("#ifdef FATHOM_README_VIZ\n"
                 "void look(const fathom::owned<net::parameters>& weights, std::span<const fathom::token> tokens,\n"
                 "          const std::vector<float>& losses) {\n",
                 "}\n#endif\n"),
    "codec2": ("#ifdef FATHOM_README_SPEECH\n"
               "void speech(fathom::trainer<net>& trainer, std::span<const fathom::token> written) {\n", "}\n#endif\n"),
    "story_model": ("namespace story_model {  // as fathom_add_model makes it\n"
                    "using generator = fathom::generator<net, fathom::bf16>;\n"
                    "const net::packed<fathom::bf16>& weights();\n}\n"
                    "void tell() {\n", "}\n"),
    "using top2": ("namespace by_parts {\n", "static_assert(net::depth == 6 && edited::depth == 6 && local::depth == 6);\n}\n"),
    "struct bottleneck": ("", "static_assert(fathom::transformer<fathom::edit<fathom::gpt2<tiny>, fathom::last_block, "
                              "fathom::insert_after<\"mlp\", adapter>>>::parameter_count > net::parameter_count);\n"),
}


def main():
    readme, folder = pathlib.Path(sys.argv[1]).read_text(), pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    found = re.findall(r"^```cpp\n(.*?)^```$", readme, flags=re.MULTILINE | re.DOTALL)
    snippets, program = PREAMBLE, None
    for block in found:
        words = [word for word in BLOCKS if word in block]
        if len(words) != 1:
            sys.exit(f"tests/readme.py: README.md has a C++ block that it does not know:\n{block}")
        if words == ["int main"]:
            program = block
        else:
            before, after = BLOCKS[words[0]]
            snippets += f"\n{before}{block}{after}"
    if len(found) != len(BLOCKS):
        sys.exit(f"tests/readme.py: README.md has {len(found)} C++ blocks, expected {len(BLOCKS)}")
    (folder / "readme_program.cpp").write_text("// Made from README.md by tests/readme.py.\n#include <cstdio>\n" + program)
    (folder / "readme_snippets.cpp").write_text(snippets)


main()
