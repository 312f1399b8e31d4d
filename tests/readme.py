"""Compiles and runs the C++ blocks of the README and of the cookbook, examples/*.md, and checks the pages' links.

    readme.py make ROOT OUTPUT_FOLDER        writes readme_programs.cpp and readme_snippets.cpp
    readme.py run ROOT PROGRAMS FOLDER       runs the programs in FOLDER, in the order of the pages; PROGRAMS is readme_programs.cpp, compiled
    readme.py links ROOT                     finds links and anchors that lead nowhere; and a README that has grown too long

A comment in front of a block says what it is, without being seen:

    <!-- run: ARGUMENTS -->     a program, which is run with these arguments (of files that `run` provides, or that earlier programs wrote)
    <!-- given: PARAMETERS -->  statements that assume these names: the body of a function with these parameters
    <!-- given -->              declarations

The name of a program is that of its first line, `// NAME.cpp: ...`, or `program`. To save time, all programs are one unit, each in a
namespace of its own, and train two steps; snippets are another unit.
"""

import math
import pathlib
import random
import re
import struct
import subprocess
import sys
import wave

PREAMBLE = """#include <cstdio>
#include <iostream>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>
#include <fathom/fathom.hpp>
#include <fathom/data/model_tokenizer.hpp>
"""
# What snippets take for granted: the README's model, and what fathom_add_model makes.
TINY = """constexpr fathom::config tiny{.vocab = 256, .context = 128, .width = 128, .depth = 6, .heads = 4, .shortcut = {.depths = {2, 4}}};
using net = fathom::model<tiny>;
namespace story_model {
using generator = fathom::generator<net, fathom::bf16>;
const net::packed<fathom::bf16>& weights();
}
namespace chat_model {
using generator = story_model::generator;
const net::packed<fathom::bf16>& weights();
const fathom::data::bpe& tokenizer();
}
"""
# Headers that only exist with a library, and the macro that says whether it does.
NEEDS = {
    "<fathom/viz.hpp>": "FATHOM_README_VIZ",
    "<fathom/data/speech.hpp>": "FATHOM_README_SPEECH",
    "<benchmark/benchmark.h>": "FATHOM_README_BENCHMARK",
}
LONGEST_README = 150  # lines
FENCE = re.compile(r"(?:<!-- *(run|given)(:?)(.*?) *-->\n)?```cpp\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


def pages(root):
    return [root / "README.md", *sorted((root / "examples").glob("*.md"), key=lambda page: ORDER.get(page.stem, 9))]


ORDER = {"README": 0, "training": 1, "models": 2, "programs": 3, "architectures": 4}  # later programs read what earlier ones wrote


class Block:
    def __init__(self, page, kind, colon, argument, text):
        self.kind, self.argument = kind, argument.strip()
        self.needs = next((macro for header, macro in NEEDS.items() if header in text), None)
        self.includes = [line for line in re.findall(r"^#include .*?>", text, flags=re.MULTILINE) if "_model.hpp>" not in line]
        self.text = re.sub(r"^#include .*\n", "", text, flags=re.MULTILINE)
        named = re.match(r"// (\w+)\.cpp", text)
        self.name = named[1] if named else "program"
        is_program = re.search(r"^(int main|BENCHMARK_MAIN)\(", text, flags=re.MULTILINE) is not None
        if is_program != (kind == "run") or (kind == "given" and not colon and argument):
            sys.exit(f"tests/readme.py: {page}: expected <!-- run: ARGUMENTS --> in front of a program, <!-- given: PARAMETERS --> in front of "
                     f"statements, <!-- given --> in front of declarations; found <!-- {kind}{colon}{argument} --> in front of\n{text}")
        self.is_function = kind == "given" and colon == ":"

    def program(self):
        """The program as a function run_NAME: main is renamed, returns 0 at its end, and trains two steps."""
        text = self.text.replace("BENCHMARK_MAIN();", "int main(int count, char** arguments) {\n  benchmark::Initialize(&count, arguments);\n"
                                 "  benchmark::RunSpecifiedBenchmarks();\n}")
        text = re.sub(r"\.steps = [\d']+", ".steps = 2", text)
        before, after = re.split(r"^int main\(", text, maxsplit=1, flags=re.MULTILINE)
        after = re.sub(r"^}$", "  return 0;\n}", after, count=1, flags=re.MULTILINE)
        return f"namespace of_{self.name} {{\n{before}int run({after}}}\n"

    def guarded(self, code):
        return f"#ifdef {self.needs}\n{code}#endif\n" if self.needs else code


def blocks(root):
    found = []
    for page in pages(root):
        text = page.read_text()
        here = [Block(page, *match.groups(default="")) for match in FENCE.finditer(text)]
        if len(here) != text.count("\n```cpp\n"):
            sys.exit(f"tests/readme.py: {page}: {text.count(chr(10) + '```cpp' + chr(10))} C++ blocks, of which {len(here)} were understood")
        found += here
    names = [block.name for block in found if block.kind == "run"]
    if len(set(names)) != len(names):
        sys.exit(f"tests/readme.py: two programs have the same name: {names}")
    return found


def unit(some):
    """The beginning of a unit: what its blocks include."""
    optional, always = [], [PREAMBLE]
    for block in some:
        for line in block.includes:
            needs = next((macro for header, macro in NEEDS.items() if header in line), None)
            (optional if needs or block.needs else always).append(f"#ifdef {needs or block.needs}\n{line}\n#endif\n" if needs or block.needs else line + "\n")
    unused = "".join(f'#pragma GCC diagnostic ignored "-Wunused-{what}"\n' for what in ("variable", "but-set-variable", "parameter", "local-typedefs"))
    return "// Made from README.md and examples/*.md by tests/readme.py.\n" + "".join(dict.fromkeys(always + optional)) + unused


def make(root, folder):
    found = blocks(root)
    programs = [block for block in found if block.kind == "run"]
    snippets = [block for block in found if block.kind == "given"]
    code = unit(programs)
    for block in programs:
        code += "\n" + block.guarded(block.program())
    code += "\nint call(int run(), int, char**) { return run(); }\n"
    code += "int call(int run(int, char**), int count, char** arguments) { return run(count, arguments); }\n"
    code += "int main(int count, char** arguments) {\n  const std::string_view name = count > 1 ? arguments[1] : \"\";\n"
    for block in programs:
        code += block.guarded(f'  if (name == "{block.name}") return call(of_{block.name}::run, count - 1, arguments + 1);\n')
    code += "  return 77;\n}\n"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "readme_programs.cpp").write_text(code)

    code = unit(snippets) + TINY
    for number, block in enumerate(snippets):
        inside = f"void statements({block.argument}) {{\n{block.text}}}\n" if block.is_function else block.text
        code += "\n" + block.guarded(f"namespace block_{number} {{\n{inside}}}\n")
    (folder / "readme_snippets.cpp").write_text(code)


# ---- What the programs read -----------------------------------------------------------------------------------------------

def write_midi(path, numbers):
    track = b""
    for _ in range(60):
        pitch = numbers.randrange(48, 72)
        track += bytes([0, 0x90, pitch, numbers.randrange(40, 100), 60, 0x80, pitch, 64])
    track += bytes([0, 0xFF, 0x2F, 0])
    path.write_bytes(b"MThd" + struct.pack(">IHHH", 6, 0, 1, 96) + b"MTrk" + struct.pack(">I", len(track)) + track)


def write_tone(path, pitch):
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(16000)
        sound.writeframes(b"".join(struct.pack("<h", int(8000 * math.sin(2 * math.pi * pitch * t / 16000))) for t in range(6 * 16000)))


def run(root, program, folder):
    numbers = random.Random(1)
    for name in ("music", "recordings"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for piece in range(4):
            if name == "music":
                write_midi(folder / name / f"{piece}.mid", numbers)
            else:
                write_tone(folder / name / f"{piece}.wav", 110 * (piece + 1))
    (folder / "text.txt").write_text((root / "include/fathom/README.md").read_text()[:12_000])
    failed = []
    for block in blocks(root):
        if block.kind != "run":
            continue
        done = subprocess.run([program, block.name, *block.argument.split()], cwd=folder, capture_output=True)
        print(f"== {block.name} {block.argument}: " + {0: "ok", 77: "not in this build"}.get(done.returncode, f"returns {done.returncode}"))
        print(done.stdout.decode(errors="replace")[:600], done.stderr.decode(errors="replace")[:600], flush=True)
        if done.returncode not in (0, 77):
            failed.append(block.name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


# ---- Links ----------------------------------------------------------------------------------------------------------------

def anchors(page):
    """Those that GitHub gives to headings: lower case, without punctuation, hyphens for spaces."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)}


def links(root):
    wrong = []
    for page in [root / "README.md", *(page for folder in ("bench", "cmake", "examples", "include", "tests") for page in (root / folder).rglob("*.md"))]:
        text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"\w+:", target):
                continue
            path, _, anchor = target.partition("#")
            there = page.parent / path if path else page
            if not there.exists():
                wrong.append(f"{page}: {target}: there is no such file")
            elif anchor and there.is_file() and anchor not in anchors(there):
                wrong.append(f"{page}: {target}: there is no such heading")
    lines = (root / "README.md").read_text().count("\n")
    if lines > LONGEST_README:
        wrong.append(f"README.md: {lines} lines; expected at most {LONGEST_README}: what else there is to say belongs into examples/*.md")
    if wrong:
        sys.exit("\n".join(wrong))


def main():
    what, root, *more = sys.argv[1], *(pathlib.Path(argument).resolve() for argument in sys.argv[2:])
    {"make": make, "run": run, "links": links}[what](root, *more)


main()
