"""Vocabularies of byte-level BPE, and their encodings by other software.

    pip install tokenizers==0.23.3 tiktoken==0.14.0
    python tests/make_bpe.py golden                               # makes tests/golden/bpe
    python tests/make_bpe.py compare build/release/tests/bpe_lines [--gpt2 FOLDER] [--texts FILE ...] [--random N]

`golden` trains two vocabularies with Hugging Face's tokenizers on the sentences below, and writes the tokens of the cases
below. `compare` encodes with fathom, tokenizers and tiktoken, and reports differences: the same cases, all code points in
several contexts, N random texts, whole files; with the vocabularies of tests/golden/bpe and, with --gpt2, encoder.json
and vocab.bpe of a folder; and, without tiktoken, with all forms of tokenizer.json.

For text that is not well-formed UTF-8 there is no reference, because both libraries take Python's strings. Here each byte outside
of well-formed sequences is U+FFFD when text is split into pieces, and itself when pieces are merged.
"""

import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile

import tiktoken
import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

GOLDEN = pathlib.Path(__file__).parent / "golden" / "bpe"
PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""  # from tiktoken_ext for gpt2

SENTENCES = """\
The river is wide, and the old bridge doesn't reach the other side; they'll build a new one in 2031, I've heard.
We're told that it's cold in winter, that she'd rather stay, and that I'm late. "Don't worry," he said, "it's only rain."
Der Fluss ist breit, und die alte Brücke reicht nicht ans andere Ufer. Schöne Grüße aus Köln!
La rivière est large et le vieux pont n'atteint pas l'autre rive ; à bientôt, chère amie.
El río es ancho, y el puente viejo no llega a la otra orilla. ¿Mañana? ¡Sí, señor!
Rzeka jest szeroka, a stary most nie sięga drugiego brzegu. Źdźbło trawy, żółty liść.
Řeka je široká a starý most nedosáhne na druhý břeh. Příliš žluťoučký kůň.
Nehir geniş ve eski köprü karşı kıyıya ulaşmıyor. İyi günler, ığdır.
Con sông rộng, và cây cầu cũ không tới được bờ bên kia.
Река широкая, и старый мост не достаёт до другого берега. Мы построим новый мост.
Ріка широка, а старий міст не сягає іншого берега; з'явиться новий.
Ο ποταμός είναι πλατύς και η παλιά γέφυρα δεν φτάνει στην άλλη όχθη.
הנהר רחב, והגשר הישן אינו מגיע לגדה השנייה. שָׁלוֹם
النهر واسع والجسر القديم لا يصل إلى الضفة الأخرى. مَرْحَبًا ٢٠٣١
नदी चौड़ी है और पुराना पुल दूसरे किनारे तक नहीं पहुँचता। १२३
ನದಿ ಅಗಲವಾಗಿದೆ. ஆறு அகலமானது. నది వెడల్పుగా ఉంది. নদীটি চওড়া।
แม่น้ำกว้างและสะพานเก่าไปไม่ถึงอีกฝั่ง
河很宽,旧桥到不了对岸。我们明年要建一座新桥。
川は広く、古い橋は向こう岸に届きません。カタカナ、ひらがな、漢字。
강은 넓고 낡은 다리는 건너편에 닿지 않는다. 새 다리를 놓자.
Ճանապարհը երկար է։ გზა გრძელია. መንገዱ ረጅም ነው።
for (int i = 0; i < 10; ++i) {\n    if (values[i] == 0x1F) return i;\n\t\t// a comment\n}\n
def area(width, height=2.5):\n    return width * height  # square metres\n\n\nprint(area(3))\r\n
https://example.org/a/b?c=d&e=%20f#top   me@example.org   3.14159   1,000,000   50 %   €20   £3   ½ ² Ⅷ
🙂 🙂🙂 👍🏽 👩‍👩‍👧 🇩🇪 ☺️ — … “quoted” ‘words’ «mots» → ← ∑∫√ ♥ ========== ---------- ..........
"""


def bytes_to_unicode():
    """The spelling of bytes in GPT-2's files."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return {**{b: chr(b) for b in printable}, **{b: chr(256 + n) for n, b in enumerate(others)}}


SPELLING = bytes_to_unicode()
BYTE = {symbol: byte for byte, symbol in SPELLING.items()}


def train(size, repeat, specials):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator(SENTENCES.replace("\\n", "\n").replace("\\r", "\r").replace("\\t", "\t").split("\n") * repeat,
        trainers.BpeTrainer(vocab_size=size, min_frequency=2, special_tokens=specials, show_progress=False,
                            initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return tokenizer.model


class Vocabulary:
    """One vocabulary in each library."""

    def __init__(self, name, vocab_path, merges_path):
        self.name, self.paths = name, (vocab_path, merges_path)
        vocab = json.loads(vocab_path.read_text(encoding="utf-8"))
        lines = merges_path.read_text(encoding="utf-8").split("\n")
        merges = [tuple(line.split(" ")) for line in lines[1:] if line]
        made = set(SPELLING.values()) | {left + right for left, right in merges}
        specials = {token: i for token, i in vocab.items() if token not in made}
        self.special_spellings = list(specials)
        self.plain = Tokenizer(models.BPE(vocab, merges))
        self.plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        self.plain.decoder = decoders.ByteLevel()
        self.with_special = Tokenizer.from_str(self.plain.to_str())
        self.with_special.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in self.special_spellings])
        # tiktoken has no merges: it joins two symbols if their bytes together are a token, the lowest id first. So ids
        # must be in the order of the merges, which is checked here.
        self.ids = [vocab[SPELLING[b]] for b in range(256)] + [vocab[left + right] for left, right in merges]
        ranks = {bytes([b]): b for b in range(256)}
        ranks.update({bytes(BYTE[s] for s in left + right): 256 + n for n, (left, right) in enumerate(merges)})
        self.tiktoken = tiktoken.Encoding(name, pat_str=PATTERN, mergeable_ranks=ranks,
                                          special_tokens={s: len(ranks) + n for n, s in enumerate(self.special_spellings)})
        self.ids += [specials[s] for s in self.special_spellings]

    def reference(self, text, special=False):
        """The tokens of bytes, from tokenizers."""
        try:
            return (self.with_special if special else self.plain).encode(text.decode(), add_special_tokens=False).ids
        except UnicodeDecodeError:
            assert not special
            return self.pieces(text)

    def pieces(self, text):
        """The same, the pieces merged one by one: for every byte outside of well-formed UTF-8, text has U+FFFD."""
        symbols = text.decode(errors="surrogateescape")
        shown = "".join("\ufffd" if 0xDC80 <= ord(s) <= 0xDCFF else s for s in symbols)
        ids = []
        for _, (begin, end) in self.plain.pre_tokenizer.pre_tokenize_str(shown):
            piece = symbols[begin:end].encode(errors="surrogateescape")
            ids += [t.id for t in self.plain.model.tokenize("".join(SPELLING[b] for b in piece))]
        return ids

    def by_tiktoken(self, text, special=False):
        text = text.decode()
        ids = self.tiktoken.encode(text, allowed_special="all") if special else self.tiktoken.encode_ordinary(text)
        return [self.ids[i] for i in ids]


def cases():
    """Edge cases of the rules, as bytes."""
    texts = SENTENCES.splitlines() + [SENTENCES, SENTENCES.replace("\\n", "\n").replace("\\r", "\r").replace("\\t", "\t")]
    # Contractions: only small letters, only at the beginning of a piece.
    for end in ("s", "t", "re", "ve", "m", "ll", "d", "S", "LL", "r", "v", "l", "rex", "sd", "", "'s", "l l"):
        texts += [f"it'{end}", f"it '{end} so", f"it''{end}", f"'{end}", f"\n'{end}\n", f"1'{end}", f"é'{end}", f"it’{end}"]
    # White space of all kinds, alone, in runs, before and after words, numbers and punctuation, at the end.
    spaces = [chr(c) for c in (0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x20, 0x85, 0xA0, 0x1680, 0x2000, 0x2003, 0x200A, 0x2028, 0x2029,
                               0x202F, 0x205F, 0x3000)] + ["\r\n"]
    no_spaces = [chr(c) for c in (0x1C, 0x1D, 0x1E, 0x1F, 0x180E, 0x200B, 0x200D, 0x2060, 0xFEFF)]  # look like it, but are not
    for s in spaces + no_spaces:
        texts += [s, s + s, s + "a", "a" + s, f"a{s}b", f"a{s}{s}b", f"a {s}b", f"a{s} b", f"a{s}{s}", f"1{s}2", f"!{s} ?",
                  f"{s}{s}{s}'s", f"\u3042{s}\u3044"]
    texts += [" " * n + end for n in range(1, 9) for end in ("", "a", "1", "!", "'s", "\n", "\na")]
    texts += ["\n" * n + end for n in range(1, 5) for end in ("", "a", " a")]
    # Letters, numbers, marks, symbols side by side.
    texts += ["abc123", "123abc", "a1b2", "3.14", "1,000", "x²y³", "Ⅷ Ⅸ", "½kg", "٣٤٥", "①②", "五百", "e\u0301te\u0301", "\u0301",
              " \u0301a", "ठीक है", "ไทย", "a\u200db", "ﷺ", "ß", "ǅ", "ʰ", "ª º", "𝒜𝓑 𝟙𝟚", "𐍈", "\U00020000\U0003134f",
              "\U000e0041",
              "\U0010fffd", "\ue000", "\ufffd", "\uffff"]
    texts += ["👩‍👩‍👧 🇩🇪 👍🏽", "☺️", "a🙂b", "🙂 1", " 🙂", "\x00", "\x00\x00a\x00", "a\x7fb",
              "\x01\x02 \x03", "\x80\x9f", "snake_case __init__ a-b", "<|endoftext|>", "a<|endoftext|>b", " <|endoftext|> ",
              "<|endoftext|><|endoftext|>", "<|endoftext|", "<pad><|endoftext|>", "<|end<|endoftext|>", "", "a"]
    # Long runs, below and above the lengths at which algorithms change.
    for n in (31, 32, 33, 63, 64, 65, 127, 400):
        texts += ["a" * n, " " * n + "a", "ab" * n, "=" * n, "🙂" * (n // 4), "the" * n, "0" * n, "河" * (n // 3)]
    mixed = random.Random(1)
    texts += ["".join(mixed.choice("abcdehinorst") for _ in range(n)) for n in (60, 62, 64, 66, 70, 200, 1000)]
    texts = [text.encode() for text in texts]
    # Not well-formed: lone bytes, truncated and overlong sequences, surrogates, beyond U+10FFFF; within other text.
    for bad in (b"\x80", b"\xbf", b"\xc0\x80", b"\xc1\xbf", b"\xc3", b"\xe2\x82", b"\xe0\x80\x80", b"\xe0\x9f\xbf",
                b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xf0\x9f\x98", b"\xf0\x80\x80\x80", b"\xf0\x8f\xbf\xbf",
                b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xf8\x88\x80\x80\x80", b"\xfe", b"\xff", b"\xff\xfe",
                b"\xc3\xc3\xa9", b"\xe2\x82\xe2\x82\xac", b"\xf0\x9f\xf0\x9f\x98\x80"):
        texts += [bad, b"a" + bad, bad + b"a", b"a " + bad + b" b", b"  " + bad + bad, b"1" + bad + b"!", bad + b"\n",
                  bad + "é".encode(), bad + b"'s", b"\xe3\x80\x80" + bad]
    return texts + [bytes(range(256)), bytes(range(255, -1, -1)), bytes(range(128, 256)) * 3]


def random_text(numbers):
    """Random text of symbols that interact, or of bytes."""
    kind = numbers.random()
    if kind < 0.2:
        return bytes(numbers.randrange(256) for _ in range(numbers.randrange(1, 80)))
    pools = ["abcdefgh th", "'strevdlm' ", " \n\t\r\u00a0\u3000\u2028", "0123٣²½", ".,!?-=_#'\"", "éüßñ", "река", "ποτ",
             "םולש", "مرحبا", "नदीे", "แม่น้", "河川広", "カナ", "강물", "🙂👍🏽\u200d", "\u0301\u0308", "\x00\x01\x1f\x7f\x85",
             "\U00020000\U0003134f𝒜"]
    chosen = numbers.sample(pools, numbers.randrange(1, 6))
    symbols = [numbers.choice(numbers.choice(chosen)) for _ in range(numbers.randrange(1, 60))]
    if kind < 0.3:
        symbols.insert(numbers.randrange(len(symbols)), numbers.choice(chosen)[0] * numbers.randrange(1, 300))
    if kind > 0.9:
        codes = [numbers.randrange(0x110000) for _ in symbols]
        symbols = [chr(c) for c in codes if not 0xD800 <= c < 0xE000] or ["a"]
    text = "".join(symbols).encode()
    if kind > 0.8 and kind < 0.9:  # damaged
        text = bytearray(text)
        for _ in range(numbers.randrange(1, 4)):
            text[numbers.randrange(len(text))] = numbers.randrange(256)
        text = bytes(text)
    return text


def code_points():
    """All code points, in contexts that reveal their classes."""
    valid = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    for s in valid:
        yield f"a{s}b {s}1{s}2 !{s}? {s}\n{s}".encode()


def golden_vocabularies():
    small, large = GOLDEN / "small", GOLDEN / "large"
    return [Vocabulary("small", small / "vocab.json", small / "merges.txt"),
            Vocabulary("large", large / "encoder.json", large / "vocab.bpe")]


def write_golden():
    # One with its special token last, and one with two of them first; in both layouts.
    small, large = GOLDEN / "small", GOLDEN / "large"
    for folder in (small, large):
        folder.mkdir(parents=True, exist_ok=True)
    train(600, 2, []).save(str(small))
    vocab = json.loads((small / "vocab.json").read_text(encoding="utf-8"))
    vocab["<|endoftext|>"] = len(vocab)
    (small / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    train(1000, 2, ["<|endoftext|>", "<pad>"]).save(str(large))
    vocab = json.loads((large / "vocab.json").read_text(encoding="utf-8"))
    (large / "encoder.json").write_text(json.dumps(vocab), encoding="utf-8")  # with \u escapes, like GPT-2's own file
    (large / "vocab.json").unlink()
    (large / "merges.txt").rename(large / "vocab.bpe")

    texts, vocabularies = cases() + [random_text(random.Random(n)) for n in range(300)], golden_vocabularies()
    with open(GOLDEN / "expected.txt", "w") as file:
        for text in texts:
            ids = (" ".join(map(str, vocabulary.reference(text))) for vocabulary in vocabularies)
            file.write(f"{text.hex()}:{':'.join(ids)}\n")
    print(f"{len(texts)} texts, {sum(map(len, texts))} bytes")


def is_utf8(text):
    try:
        return text.decode() is not None
    except UnicodeDecodeError:
        return False


def compare(program, vocabulary, what, texts, special=False):
    """Encodes with all and prints the number of texts that differ."""
    texts = list(texts)
    run = subprocess.run([program, *vocabulary.paths, *["--special"] * special], input="".join(t.hex() + "\n" for t in texts),
                         stdout=subprocess.PIPE, text=True, check=True)
    found = [[int(t) for t in line.split()] for line in run.stdout.split("\n")[:-1]]
    assert len(found) == len(texts)
    differ, differ_tiktoken, by_pieces, well_formed, count = [], [], 0, 0, 0
    for text, tokens in zip(texts, found):
        count += len(tokens)
        valid = is_utf8(text)
        if special and not valid:
            continue
        if tokens != vocabulary.reference(text, special):
            differ.append(text)
        if valid:
            well_formed += 1
            if not special and len(text) < 5000 and vocabulary.pieces(text) != tokens:
                by_pieces += 1
            if tokens != vocabulary.by_tiktoken(text, special):
                differ_tiktoken.append(text)
    print(f"{vocabulary.name}, {what}: {len(texts)} texts, {sum(map(len, texts))} bytes, {count} tokens; differ from tokenizers: "
          f"{len(differ)}, from its pieces merged one by one: {by_pieces}; of {well_formed} well-formed, from tiktoken: "
          f"{len(differ_tiktoken)}", flush=True)
    for text in differ[:3]:
        print("   tokenizers:", text[:100])
    for text in differ_tiktoken[:3]:
        print("   tiktoken:", text[:100])
    return len(differ) + by_pieces


def tokenizer_files(vocabulary):
    """Contents of tokenizer.json: with other forms of merges and pieces, with added tokens of all kinds."""
    plain = json.loads(vocabulary.with_special.to_str())
    yield "as it is", plain
    old = json.loads(vocabulary.with_special.to_str())
    del old["model"]["type"]
    old["model"]["merges"] = [" ".join(pair) for pair in old["model"]["merges"]]
    yield "merges as text", old
    split = Tokenizer.from_str(json.dumps(plain))
    split.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(PATTERN), "isolated"),
                                                   pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    yield "pieces by Split", json.loads(split.to_str())
    added = Tokenizer.from_str(json.dumps(plain))
    added.add_tokens([AddedToken(s, normalized=n % 2 == 0) for n, s in enumerate(
        ("  ", "\n\n", "   ", "th", "the", "river", "r w", "'s", "1", "12", "🙂", "河川", "s<", "\u3000", "dt", "td", "ab", "ba", "|>"))])
    added.add_special_tokens([AddedToken(s, normalized=n % 2 == 0) for n, s in enumerate(
        ("<s>", "<s>a", "bc", "hb", "e1", " .", "!!", "d ", "¹²", "カ"))])
    yield "added tokens", json.loads(added.to_str())
    whole = json.loads(added.to_str())
    whole["model"]["ignore_merges"] = True
    whole["model"]["merges"] = [pair for n, pair in enumerate(whole["model"]["merges"]) if n < 100 or n % 3]
    known = set(SPELLING.values())
    whole["model"]["merges"] = [(l, r) for l, r in whole["model"]["merges"] if {l, r} <= known and (known.add(l + r) or True)]
    yield "pieces before merges", whole


def compare_files(program, vocabulary, texts):
    """The same with a folder that has only a tokenizer.json."""
    texts, differ = [text for text in texts if is_utf8(text)], 0
    for what, contents in tokenizer_files(vocabulary):
        reference = Tokenizer.from_str(json.dumps(contents))
        with tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder, "tokenizer.json").write_text(json.dumps(contents), encoding="utf-8")
            for special in (False, True):
                reference.encode_special_tokens = not special
                run = subprocess.run([program, folder, *["--special"] * special], input="".join(t.hex() + "\n" for t in texts),
                                     stdout=subprocess.PIPE, text=True, check=True)
                found = [[int(t) for t in line.split()] for line in run.stdout.split("\n")[:-1]]
                assert len(found) == len(texts)
                wrong = [t for t, ids in zip(texts, found) if reference.encode(t.decode(), add_special_tokens=False).ids != ids]
                print(f"{vocabulary.name}, tokenizer.json, {what}{', special tokens parsed' * special}: {len(texts)} texts, "
                      f"{sum(map(len, found))} tokens; differ from tokenizers: {len(wrong)}", flush=True)
                for text in wrong[:3]:
                    print("   tokenizers:", text[:100])
                differ += len(wrong)
    return differ


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["golden", "compare"])
    parser.add_argument("program", nargs="?", help="bpe_lines")
    parser.add_argument("--gpt2", type=pathlib.Path, help="a folder with encoder.json and vocab.bpe")
    parser.add_argument("--texts", type=pathlib.Path, nargs="*", default=[])
    parser.add_argument("--random", type=int, default=20000)
    arguments = parser.parse_args()
    if arguments.what == "golden":
        return write_golden()
    if not arguments.program:
        parser.error("compare needs the path of bpe_lines")
    print(f"tokenizers {tokenizers.__version__}, tiktoken {tiktoken.__version__}")
    chosen = golden_vocabularies()
    if arguments.gpt2:
        chosen.append(Vocabulary("gpt2", arguments.gpt2 / "encoder.json", arguments.gpt2 / "vocab.bpe"))
    differ = 0
    some = [random_text(random.Random(n)) for n in range(arguments.random)]
    for vocabulary in chosen:
        differ += compare(arguments.program, vocabulary, "cases", cases())
        differ += compare(arguments.program, vocabulary, "cases, special tokens parsed", cases(), special=True)
        differ += compare(arguments.program, vocabulary, "random", some)
        for path in arguments.texts:
            differ += compare(arguments.program, vocabulary, path.name, [path.read_bytes()])
        differ += compare_files(arguments.program, vocabulary, cases() + some)
    differ += compare(arguments.program, chosen[-1], "all code points", code_points())
    sys.exit(differ > 0)


main()
