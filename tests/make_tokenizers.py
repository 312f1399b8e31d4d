"""Small tokenizers of the kinds that models have, and what Hugging Face's tokenizers makes of texts with them.

    pip install tokenizers==0.23.3
    python tests/make_tokenizers.py golden                        # makes tests/golden/tokenizers
    python tests/make_tokenizers.py compare build/release/tests/bpe_lines [--random N] [--code-points] [FOLDER ...]
    python tests/make_tokenizers.py folders build/release/tests/bpe_lines    # needs transformers, too

`golden` trains a tokenizer for each of the rules on the sentences below, writes its tokenizer.json, and the tokens of the cases
below. `compare` encodes and decodes with fathom and with tokenizers, and says where they differ: the cases, N random texts and,
with --code-points, all code points in several surroundings; with these tokenizers, some of them changed, and with those in other
folders. `folders` reads folders of the families, whose files name a class and a model, with fathom and with transformers'
AutoTokenizer: fathom must refuse a folder, or read it as AutoTokenizer or as its tokenizer.json says.
"""

import argparse
import collections
import copy
import json
import pathlib
import random
import subprocess
import sys
import tempfile

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SPACE = "\u2581"  # as SentencePiece spells it
GOLDEN = pathlib.Path(__file__).parent / "golden" / "tokenizers"
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

SENTENCES = """\
The river is wide, and the old bridge doesn't reach the other side; they'll build a new one in 2031, I've heard.
WE'RE TOLD THAT IT'S COLD IN WINTER, THAT SHE'D RATHER STAY, AND THAT I'M LATE. "Don't worry," he said, "it's only rain."
Der Fluss ist breit, und die alte Brücke reicht nicht ans andere Ufer. Schöne Grüße aus Köln!
La rivière est large et le vieux pont n'atteint pas l'autre rive ; à bientôt, chère amie.
El río es ancho, y el puente viejo no llega a la otra orilla. ¿Mañana? ¡Sí, señor!
Rzeka jest szeroka, a stary most nie sięga drugiego brzegu. Źdźbło trawy, żółty liść.
Con sông rộng, và cây cầu cũ không tới được bờ bên kia.
Река широкая, и старый мост не достаёт до другого берега. Мы построим новый мост.
Ο ποταμός είναι πλατύς και η παλιά γέφυρα δεν φτάνει στην άλλη όχθη.
הנהר רחב, והגשר הישן אינו מגיע לגדה השנייה. שָׁלוֹם
النهر واسع والجسر القديم لا يصل إلى الضفة الأخرى. مَرْحَبًا ٢٠٣١
नदी चौड़ी है और पुराना पुल दूसरे किनारे तक नहीं पहुँचता। १२३
แม่น้ำกว้างและสะพานเก่าไปไม่ถึงอีกฝั่ง
河很宽,旧桥到不了对岸。我们明年要建一座新桥。
川は広く、古い橋は向こう岸に届きません。カタカナ、ひらがな、漢字。
강은 넓고 낡은 다리는 건너편에 닿지 않는다. 새 다리를 놓자.
for (int i = 0; i < 10; ++i) {\n    if (values[i] == 0x1F) return i;\n\t\t// a comment\n}\n
def area(width, height=2.5):\n    return width * height  # square metres\n\n\nprint(area(3))\r\n
https://example.org/a/b?c=d&e=%20f#top   me@example.org   3.14159   1,000,000   50 %   €20   ½ ² Ⅷ 2024 2025 12345 007
🙂 🙂🙂 👍🏽 👩‍👩‍👧 🇩🇪 ☺️ — … “quoted” ‘words’ → ← ∑∫√ ========== ----------
""".replace("\\n", "\n").replace("\\r", "\r").replace("\\t", "\t")


def byte_level(pieces, size, specials, added=(), normalizer=None, before=(), without=()):
    tokenizer = Tokenizer(models.BPE())
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pieces
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator([SENTENCES] * 3, trainers.BpeTrainer(vocab_size=size, min_frequency=2, show_progress=False,
                                  initial_alphabet=sorted({*pre_tokenizers.ByteLevel.alphabet()} - {*without})))
    tokenizer.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in specials])
    tokenizer.add_tokens([AddedToken(s, normalized=normalized) for s, normalized in added])
    if before:
        tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(
            single=f"{before} $A", special_tokens=[(before, tokenizer.token_to_id(before))])])
    return json.loads(tokenizer.to_str())


def split(digits):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(WORDS % digits), "isolated"),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def make_llama3():
    made = byte_level(split(r"\p{N}{1,3}"), 560, ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"],
                      before="<|begin_of_text|>")
    made["model"]["ignore_merges"] = True
    return made


def make_qwen2():
    return byte_level(split(r"\p{N}"), 560, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
                      [("<tool_call>", False), ("  \n", False), ("Mộ", True), ("e\u0301", False)], normalizers.NFC())


def make_smollm2():
    return byte_level(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False)]),
                      560, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], without="ĄĆñòÀÿ")  # as SmolLM2's lacks bytes


def sentencepiece(size, specials, added, normalizer, strips, bos):
    """Merges of characters as SentencePiece makes them: within words, which begin with a space."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    counts = collections.Counter(SENTENCES)
    known = {symbol for symbol in sorted(counts, key=lambda s: (-counts[s], s))[:120]}  # all others become bytes
    tokenizer.train_from_iterator(["".join(s for s in SENTENCES if s in known)] * 3,
                                  trainers.BpeTrainer(vocab_size=size, min_frequency=2, show_progress=False))
    model = json.loads(tokenizer.to_str())["model"]
    learned = sorted(model["vocab"], key=model["vocab"].get)
    spelled = specials + [f"<0x{byte:02X}>" for byte in range(256)]
    runs = [SPACE * n for n in (2, 3, 4) if SPACE * n not in learned]
    tokens = spelled + learned + runs
    ids = {token: i for i, token in enumerate(tokens)}
    merges = []  # all pairs that make a token, as converters of SentencePiece's models write them
    for token in learned + runs:
        pairs = [(token[:n], token[n:]) for n in range(1, len(token))]
        merges += sorted((pair for pair in pairs if pair[0] in ids and pair[1] in ids), key=lambda p: (ids[p[0]], ids[p[1]]))
    made = Tokenizer(models.BPE(ids, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.normalizer = normalizer
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    made.decoder = decoders.Sequence(steps + [decoders.Strip(" ", 1, 0)] * strips)
    made.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in specials])
    made.add_tokens([AddedToken(s, normalized=normalized) for s, normalized in added])
    made.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, made.token_to_id(bos))])
    return json.loads(made.to_str())


def make_llama2():
    return sentencepiece(260, ["<unk>", "<s>", "</s>"], [("[INST]", True)],
                         normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)]), True, "<s>")


def make_gemma():
    made = sentencepiece(260, ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"],
                         [("\n\n", False), (SPACE * 3, False), ("<table>", False)],
                         normalizers.Replace(" ", SPACE), False, "<bos>")
    made["pre_tokenizer"] = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
    return made


MAKERS = {"llama3": make_llama3, "qwen2": make_qwen2, "smollm2": make_smollm2, "llama2": make_llama2, "gemma": make_gemma}


def cases():
    """Texts at the edges of the rules."""
    lines = SENTENCES.split("\n")
    texts = lines[:16] + [lines[-2], SENTENCES[1500:2000], ""]
    for end in ("s", "T", "Re", "VE", "m", "lL", "D", "r", "l", "\u017f", "sd", "'S"):
        texts += [f"it'{end}", f"IT '{end}x", f"\n'{end}1"]
    spaces = ["\t", "\n", "\r", "\r\n", "\x0b", " ", "\x85", "\xa0", "\u2003", "\u2028", "\u3000", "\x1c", "\u200b", "\ufeff"]
    for s in spaces:
        texts += [s, f"a{s}b", f"a{s}{s}b {s}1{s}{s}2", f"!{s}?{s} {s}", f"a \n{s} b"]
    texts += [" " * n + end for n in (1, 2, 3, 7) for end in ("", "a", "1", "!", "'s", "\na")]
    texts += ["abc123", "a1b2", "3.14 1,000 12345678", "x²y³ Ⅷ½", "٣٤٥६", "①②五百", "e\u0301te\u0301 é", "\u0301 \u0301a",
              "A\u030angstro\u0308m Ångström", "Mo\u0302\u0323 Mộx", "\u1100\u1161\u11a8 각", "q\u0323\u0307 q\u0307\u0323",
              "\u212b \u2126 \u0958",
              "\u0344 \u0f73\u0f71", "ठीक है", "ไทย", "a\u200db", "ß ǅ ʰ ª", "𝒜𝓑 𝟙𝟚", "\U00020000", "\ue000\ufffd\uffff",
              "👩‍👩‍👧 🇩🇪 👍🏽", "a🙂b 1🙂 🙂", "\x00\x01 \x1f\x7f", "a\x04b \x04! \x06=\x04=", "\x04" * 100,
              "snake_case __init__ a-b", "!\n\n?\r\n\r\n.a", "...\n  b",
              "▁a ▁▁ b▁", "<s>▁<s> ▁</s>  x", "[INST]a [INST] b[INST][INST]", "▁▁▁▁a   b", "\n\n\na<table> <table>",
              "a<bos> <eos>", "<0x41> <0x", "<|endoftext|>", "a <|im_start|> b<|im_end|>\n", "<|endoftext|><|endoftext|> ",
              "<|begin_of_text|>Hi<|eot_id|>", "<|end<|eot_id|>of", "<tool_call> x", "a  \n\nb", "<s>a</s> <s> b", "<unk></s>",
              "<start_of_turn>user\nHi<end_of_turn>\n"]
    for n in (31, 33, 64, 66, 130):
        texts += ["a" * n, " " * n + "a", "=" * n, "🙂" * (n // 4), "the" * (n // 3), "0" * n, "\n" * n, "河川" * (n // 6)]
    return texts


ADDED = ["<s>", "</s>", "<unk>", "<|endoftext|>", "<|im_start|>", "<tool_call>", "<|eot_id|>", "  \n", "Mộ", "Mo\u0302\u0323",
         "e\u0301", "<start_of_turn>", "\n\n", "[INST]", "▁", "▁▁▁", "<bos>", "<table>", "<0x41>"]


def random_text(numbers):
    """Text of symbols that like to meet."""
    pools = ["abcdefgh th", "'strevdlmSTREVDLM'\u017f", " \n\t\r\u00a0\u3000\u2028\x85", "  \n\r", "0123٣²½", ".,!?-=_#'\"▁",
             "éüßñ",
             "река", "ποτά", "םולש", "مرحبا", "नदीेक़", "แม่น้", "河川広", "カガナ", "강물\u1100\u1161\u11a8", "🙂👍🏽\u200d",
             "\u0301\u0308\u0323\u0345\u0334\u0327", "aeoAEO\u0301\u0308\u0323\u030a", "\x00\x01\x1f\x7f\x85",
             "\x04\x06!=-\x13 ", "\U00020000𝒜\U00045678"]
    chosen = numbers.sample(pools, numbers.randrange(1, 6))
    symbols = [numbers.choice(numbers.choice(chosen)) for _ in range(numbers.randrange(1, 60))]
    kind = numbers.random()
    if kind < 0.15:
        symbols.insert(numbers.randrange(len(symbols)), numbers.choice(chosen)[0] * numbers.randrange(1, 300))
    elif kind < 0.3:
        for _ in range(numbers.randrange(1, 4)):
            symbols.insert(numbers.randrange(len(symbols)), numbers.choice(ADDED))
    elif kind > 0.9:
        symbols = [chr(c) for c in (numbers.randrange(0x110000 if kind > 0.95 else 0x3000) for _ in symbols)
                   if not 0xD800 <= c < 0xE000] or ["a"]
    return "".join(symbols)


def code_points():
    for c in range(0x110000):
        if not 0xD800 <= c < 0xE000:
            s = chr(c)
            yield f"a{s}b {s}1{s}2 !{s}? {s}\n{s}'{s}"


def variants(folder):
    """A tokenizer, and changed ones."""
    contents = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    yield folder.name, contents
    if contents["model"]["byte_fallback"]:
        for scheme in ("first", "always", "never"):
            for split in (False, True):
                changed = copy.deepcopy(contents)
                changed["normalizer"] = None
                changed["pre_tokenizer"] = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": split}
                yield f"{folder.name}, Metaspace {scheme}{', split' * split}", changed
        changed = copy.deepcopy(contents)
        last = "".join(changed["model"]["merges"][-1])
        changed["model"]["vocab"][f"s{SPACE}"] = changed["model"]["vocab"].pop(last)
        changed["model"]["merges"] = [["s", SPACE]] + [p for p in changed["model"]["merges"] if "".join(p) != last]
        yield f"{folder.name}, with a merge of two words", changed
        changed = copy.deepcopy(contents)
        for token in changed["added_tokens"]:
            token["normalized"] = True
        yield f"{folder.name}, added tokens in normalised text", changed


MODES = {"p": [], "s": ["--special"], "m": ["--special", "--marked"]}


def reference(tokenizer, mode, text):
    """The tokens, and their text without special ones."""
    tokenizer.encode_special_tokens = mode == "p"
    ids = tokenizer.encode(text, add_special_tokens=mode == "m").ids
    return ids, tokenizer.decode(ids, skip_special_tokens=True)


def write_golden():
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for name, make in MAKERS.items():
        (GOLDEN / name).mkdir(exist_ok=True)
        (GOLDEN / name / "tokenizer.json").write_text(json.dumps(make(), ensure_ascii=False, separators=(",", ":")),
                                                      encoding="utf-8")
    made = [Tokenizer.from_file(str(GOLDEN / name / "tokenizer.json")) for name in MAKERS]
    lines = [" ".join(MAKERS)]
    for text in cases():
        for mode in "psm" if "<" in text or len(text) < 3 else "p":
            fields = []
            for tokenizer in made:
                ids, decoded = reference(tokenizer, mode, text)
                fields += [" ".join(map(str, ids)), "=" if decoded == text else decoded.encode().hex()]
            lines.append(":".join([mode, text.encode().hex(), *fields]))
    (GOLDEN / "expected.txt").write_text("\n".join(lines) + "\n")
    print(f"{len(lines) - 1} texts")


def compare(program, name, contents, what, texts):
    """Encodes and decodes with both and prints how many texts differ."""
    tokenizer, differ = Tokenizer.from_str(json.dumps(contents)), 0
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "tokenizer.json").write_text(json.dumps(contents), encoding="utf-8")
        for mode, options in MODES.items():
            run = subprocess.run([program, folder, "--decode", *options], input="".join(t.encode().hex() + "\n" for t in texts),
                                 stdout=subprocess.PIPE, text=True, check=True)
            found = [line.split(":") for line in run.stdout.split("\n")[:-1]]
            assert len(found) == len(texts)
            wrong = []
            for text, (ids, decoded) in zip(texts, found):
                expected = reference(tokenizer, mode, text)
                got = [int(t) for t in ids.split()], bytes.fromhex(decoded).decode(errors="replace")
                # tokenizers does not leave out special tokens that are normalised.
                if expected != got and (expected[0] != got[0] or not any(t["special"] and t["normalized"] for t in
                                                                         contents["added_tokens"])):
                    wrong.append((text, expected, got))
            print(f"{name}, {what}, {mode}: {len(texts)} texts; differ: {len(wrong)}", flush=True)
            for text, expected, got in sorted(wrong, key=lambda w: len(w[0]))[:3]:
                print("   ", ascii(text[:100]), str(expected)[:300], str(got)[:300])
            differ += len(wrong)
    return differ


FOLDERS = [(tokenizer, of, model) for tokenizer, classes, models in [
    ("llama3", ["PreTrainedTokenizerFast", "LlamaTokenizer", "LlamaTokenizerFast"], ["llama", "mistral", "qwen2", "qwen3", None]),
    ("llama3", ["GPT2Tokenizer", "GPT2TokenizerFast"], ["olmo2", "olmo3", "granite", "llama", "gpt_neox", None]),
    ("smollm2", ["GPT2Tokenizer"], ["llama", None]),
    ("pythia", ["GPTNeoXTokenizer", "GPTNeoXTokenizerFast", "PreTrainedTokenizerFast"], ["gpt_neox"]),
    ("qwen2", ["Qwen2Tokenizer", "PreTrainedTokenizerFast", "LlamaTokenizerFast"], ["qwen2", "qwen3", "llama"]),
    ("llama3", ["Qwen2Tokenizer", "GPTNeoXTokenizer"], ["qwen2", "qwen3", "gpt_neox"]),
    ("llama2", ["LlamaTokenizer", "LlamaTokenizerFast", "PreTrainedTokenizerFast", "GPT2Tokenizer"], ["llama", "mistral"]),
    ("gemma", ["GemmaTokenizer", "GemmaTokenizerFast"], ["gemma3_text", "gemma3"])] for of in classes for model in models]


def tokenizer_of(name):
    """The contents of a tokenizer.json."""
    contents = json.loads((GOLDEN / ("smollm2" if name == "pythia" else name) / "tokenizer.json").read_text(encoding="utf-8"))
    if name == "pythia":  # GPT-2's pieces of normalised text, and added tokens that are runs of spaces
        contents["normalizer"] = {"type": "NFC"}
        contents["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
        for n in range(5, 1, -1):
            contents["added_tokens"].append({"id": 563 + 5 - n, "content": " " * n, "single_word": False, "lstrip": False,
                                             "rstrip": False, "normalized": True, "special": False})
    return contents


def compare_folders(program):
    """Prints for each folder how fathom reads it, and returns how many it reads in its own way."""
    import transformers
    transformers.logging.set_verbosity_error()
    print(f"transformers {transformers.__version__}, tokenizers {tokenizers.__version__}")
    texts, wrong = cases() + [random_text(random.Random(n)) for n in range(300)], 0
    for name, of, model in FOLDERS:
        with tempfile.TemporaryDirectory() as folder:
            write = lambda file, what: pathlib.Path(folder, file).write_text(json.dumps(what), encoding="utf-8")
            write("tokenizer.json", tokenizer_of(name))
            write("tokenizer_config.json", {"tokenizer_class": of})
            if model:
                write("config.json", {"model_type": model})
            run = subprocess.run([program, folder, "--special", "--decode"], input="".join(t.encode().hex() + "\n" for t in texts),
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            auto = transformers.AutoTokenizer.from_pretrained(folder)
            by_auto = [auto.encode(t, add_special_tokens=False) for t in texts]
            file = Tokenizer.from_file(folder + "/tokenizer.json")
            by_file = [file.encode(t, add_special_tokens=False).ids for t in texts]
            found = [[int(i) for i in line.split(":")[0].split()] for line in run.stdout.split("\n")[:-1]]
            if run.returncode:
                said = "refused: " + run.stderr.strip().split("; ")[0].replace(folder, "")
            elif found == by_auto:
                said = "as AutoTokenizer" + ("" if found == by_file else ", not as tokenizer.json")
            else:
                wrong += found != by_file
                said = "as tokenizer.json, not as AutoTokenizer" if found == by_file else "IN ANOTHER WAY"
            print(f"{name:8} {of:24} {model!s:12} {type(auto).__name__:20} {said}", flush=True)
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["golden", "compare", "folders"])
    parser.add_argument("program", nargs="?", help="bpe_lines")
    parser.add_argument("folders", nargs="*", type=pathlib.Path)
    parser.add_argument("--random", type=int, default=5000)
    parser.add_argument("--code-points", action="store_true")
    arguments = parser.parse_args()
    if arguments.what == "golden":
        return write_golden()
    if not arguments.program:
        parser.error(f"{arguments.what} needs the path of bpe_lines")
    if arguments.what == "folders":
        sys.exit(compare_folders(arguments.program) > 0)
    print(f"tokenizers {tokenizers.__version__}")
    differ = 0
    texts = [random_text(random.Random(n)) for n in range(arguments.random)]
    for folder in [GOLDEN / name for name in MAKERS] + arguments.folders:
        for name, contents in variants(folder):
            differ += compare(arguments.program, name, contents, "cases", cases())
            differ += compare(arguments.program, name, contents, "random", texts)
            if arguments.code_points and name == folder.name:
                differ += compare(arguments.program, name, contents, "all code points", list(code_points()))
    sys.exit(differ > 0)


main()
