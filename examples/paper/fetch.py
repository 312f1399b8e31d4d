"""Gathers the documents of a kind of data, and splits them by whole documents into training, validation and test:

    fetch.py KIND FOLDER [--source FILE_OR_FOLDER] [--quick]

makes FOLDER/train, FOLDER/validation and FOLDER/test. KIND is text (for characters and sub-words), speech or music. Without
--source, the documents come from Debian packages, which are downloaded and unpacked, not installed:

    text    sword-comm-tdavid: Spurgeon's "Treasury of David", a document for each psalm (mod2imp of libsword-utils reads it)
    speech  festvox-ru and asterisk-core-sounds-en-wav: WAV, a document for each recording
    music   simutrans-data, openttd-openmsx, planetblupi-music-midi, freedink-data, pianobooster, freedoom: a document for each
            MIDI file; duplicate files are used once

With --source, every file below a folder is a document; a single text file is cut into pieces. --quick takes a part of
one package. The split depends only on the names and sizes of a source's documents.
"""

import argparse
import gzip
import hashlib
import html
import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

PACKAGES = {
    "text": ["sword-comm-tdavid"],
    "speech": ["festvox-ru", "asterisk-core-sounds-en-wav"],
    "music": ["simutrans-data", "openttd-openmsx", "planetblupi-music-midi", "freedink-data", "pianobooster", "freedoom"],
}
SMALLEST = {"text": "sword-comm-tdavid", "speech": "asterisk-core-sounds-en-wav", "music": "planetblupi-music-midi"}
SUFFIXES = {
    "text": None,  # any
    "speech": {".wav", ".flac", ".ogg", ".oga"},
    "music": {".mid", ".midi"},
}
QUICK_DOCUMENTS = {"text": 12, "speech": 120, "music": 12}  # of the smallest package
HELD_BACK = {"text": 0.05, "speech": 0.1, "music": 0.1}  # fraction for validation, and again for test


def unpack(package, folder):
    """The files of a Debian package, below a folder of that name."""
    target = folder / package
    if not target.exists():
        part = folder / (package + ".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        # If the download user, _apt, may not write here, apt downloads as the caller, and prints a warning.
        subprocess.run(["apt-get", "download", "-qq", package], cwd=part, check=True, stderr=subprocess.DEVNULL)
        (archive,) = part.glob("*.deb")
        subprocess.run(["dpkg", "-x", archive.name, "."], cwd=part, check=True)
        archive.unlink()
        part.rename(target)
    return target


def psalms(package):
    """The prose of the Treasury of David, by psalm."""
    environment = dict(os.environ, SWORD_PATH=str(package / "usr/share/sword"))
    entries = subprocess.run(["mod2imp", "TDavid"], env=environment, check=True, capture_output=True).stdout.decode()
    documents = {}
    for entry in re.split(r"^\$\$\$", entries, flags=re.M)[1:]:
        key, _, body = entry.partition("\n")
        chapter = re.fullmatch(r"Psalms (\d+):\d+", key.strip())
        if chapter:
            body = re.sub(r"<(?:div|lb|title|p)\b[^>]*>", "\n", body)
            body = html.unescape(re.sub(r"<[^>]*>", "", body))
            lines = (re.sub(r"\s+", " ", line).strip() for line in body.split("\n"))
            name = f"psalm-{int(chapter[1]):03}.txt"
            documents[name] = documents.get(name, "") + "".join(line + "\n" for line in lines if line)
    return [(name, text.encode()) for name, text in sorted(documents.items()) if text]


def midi_lumps(path):
    """The MIDI files inside a WAD of Doom: a header, and a directory of positions, sizes and names."""
    data = path.read_bytes()
    magic, count, directory = struct.unpack_from("<4sii", data)
    if magic not in (b"IWAD", b"PWAD"):
        raise SystemExit(f"{path}: is not a WAD")
    for n in range(count):
        at, size, name = struct.unpack_from("<ii8s", data, directory + 16 * n)
        if data[at : at + 4] == b"MThd":
            yield f"{path.stem}-{name.rstrip(bytes(1)).decode('ascii').lower()}.mid", data[at : at + size]


def files_below(folder, suffixes, named_by=0):
    """Files named after the last `named_by` parts of their paths; 0: all parts."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and (suffixes is None or Path(path.name.removesuffix(".gz")).suffix.lower() in suffixes):
            name, data = "-".join(path.relative_to(folder).parts[-named_by:]), path.read_bytes()
            yield (name.removesuffix(".gz"), gzip.decompress(data)) if path.suffix == ".gz" else (name, data)


def packaged(kind, packages, cache):
    """The documents of each package: [[(name, bytes), ...], ...]"""
    for package in packages:
        folder = unpack(package, cache)
        if kind == "text":
            documents = psalms(folder)
        else:
            documents = list(files_below(folder, SUFFIXES[kind], named_by=2))
            for wad in sorted(folder.rglob("*.wad")) if kind == "music" else []:
                documents += midi_lumps(wad)
        yield [(f"{package}-{name}", data) for name, data in documents]


def own(kind, source):
    """The same for the user's own files: one source."""
    if source.is_dir():
        documents = list(files_below(source, SUFFIXES[kind]))
        if not documents:
            raise SystemExit(f"{source}: has no files of the kind {kind} below it")
        yield documents
    elif kind == "text":
        text = source.read_bytes()  # 40 pieces, of which a few are held back
        edges = [text.find(b" ", len(text) * n // 40) for n in range(40)] + [len(text)]
        edges[0] = 0
        yield [(f"{source.stem}-{n:02}.txt", text[edges[n] : edges[n + 1]]) for n in range(40)]
    else:
        raise SystemExit(f"{source}: expected a folder of files")


def split(documents, fraction):
    """Test and validation take documents, in the order of the hashes of their names, as long as they fit into their fraction of
    the bytes; and at least one each if there are three documents."""
    total = sum(len(data) for _, data in documents)
    rest = sorted(documents, key=lambda document: hashlib.sha256(document[0].encode()).digest())
    parts = {}
    for part in ("test", "validation"):
        taken, size = [], 0
        for document in list(rest):
            if size + len(document[1]) <= fraction * total:
                taken.append(document)
                size += len(document[1])
                rest.remove(document)
        if not taken and len(rest) > 2:
            smallest = min(rest, key=lambda document: len(document[1]))
            taken.append(smallest)
            rest.remove(smallest)
        parts[part] = taken
    parts["train"] = rest
    return parts


def main():
    parser = argparse.ArgumentParser(description="Gathers and splits the documents of a kind of data.")
    parser.add_argument("kind", choices=sorted(PACKAGES))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--source", type=Path)
    parser.add_argument("--cache", type=Path, default=Path("packages"), help="where packages are unpacked")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()

    seen = set()
    parts = {"train": [], "validation": [], "test": []}
    packages = [SMALLEST[options.kind]] if options.quick else PACKAGES[options.kind]
    for documents in own(options.kind, options.source) if options.source else packaged(options.kind, packages, options.cache):
        new = []
        for name, data in documents:
            digest = hashlib.sha256(data).digest()
            if digest not in seen:  # no file may be in both training and test data
                seen.add(digest)
                new.append((name, data))
        if options.quick:
            new = new[:QUICK_DOCUMENTS[options.kind]]
        for part, taken in split(new, HELD_BACK[options.kind]).items():
            parts[part] += taken

    if not all(parts.values()):
        raise SystemExit(f"{options.kind}: too few documents to hold some back for validation and for test")
    new = options.folder.with_name(options.folder.name + ".part")
    shutil.rmtree(new, ignore_errors=True)
    names = [name for documents in parts.values() for name, _ in documents]
    if len(names) != len(set(names)):
        raise SystemExit(f"{options.kind}: documents of the same name: {sorted(n for n in set(names) if names.count(n) > 1)}")
    for part, documents in parts.items():
        (new / part).mkdir(parents=True)
        for name, data in documents:
            (new / part / name).write_bytes(data)
        print(f"{options.kind}: {part}: {len(documents)} documents, {sum(len(data) for _, data in documents):,} bytes")
    shutil.rmtree(options.folder, ignore_errors=True)
    new.rename(options.folder)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"fetch.py: {' '.join(error.cmd)} failed")
