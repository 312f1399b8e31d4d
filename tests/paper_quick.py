"""Tiny versions of the paper's experiments, from documents to tables:  paper_quick.py PROGRAMS FOLDER

PROGRAMS is the CMake build folder. The documents are the library's own source files, split like any others. Checks
that the tables agree with the programs' measurements, and that finished runs are not repeated."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

try:
    import matplotlib  # noqa: F401
    import scipy  # noqa: F401
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

SOURCE = Path(__file__).resolve().parent.parent
programs, folder = Path(sys.argv[1]), Path(sys.argv[2])
shutil.rmtree(folder, ignore_errors=True)
documents = folder / "documents"  # copied, because the split depends on names
shutil.copytree(SOURCE / "include/fathom/layer", documents)


def paper(*words):
    done = subprocess.run([sys.executable, SOURCE / "examples/paper/paper.py", *words, "--quick", "--kinds", "characters", "--text",
                           documents, "--build", folder, "--programs", programs], capture_output=True, text=True)
    print(done.stdout, done.stderr)
    if done.returncode:
        raise SystemExit(f"paper.py {' '.join(words)}: ended with {done.returncode}")
    return done.stdout


def rows(name):
    with open(folder / "quick-results" / name, newline="") as file:
        return list(csv.DictReader(file))


folder.mkdir(parents=True, exist_ok=True)
paper("comparison", "look")

parts = {part: sorted(path.name for path in (folder / "quick-data/documents-text" / part).iterdir())
         for part in ("train", "validation", "test")}
assert all(parts.values()) and len(set(sum(parts.values(), []))) == len(sum(parts.values(), [])), parts
about = json.loads((folder / "quick-data/characters/data.json").read_text())
assert about["vocab"] == 27 and all(about[part]["documents"] == len(parts[part]) for part in parts), about

runs = {row["variant"]: row for row in rows("runs.csv")}
assert runs.keys() == {"plain", "zero"}, runs
for variant, row in runs.items():
    # Below the 3.3 nats of 27 equally likely symbols: the model was trained on text.
    assert 2 < float(row["best_validation_nll"]) < 3.2 and 2 < float(row["test_nll"]) < 3.3, row
assert int(runs["zero"]["parameters"]) > int(runs["plain"]["parameters"])

plain, zero = sorted(rows("comparison.csv"), key=lambda row: row["variant"])
difference = float(runs["zero"]["best_validation_nll"]) - float(runs["plain"]["best_validation_nll"])
assert abs(float(zero["validation_minus_plain"]) - difference) < 2e-4, (zero, difference)
assert plain["validation_minus_plain"] == "", plain

probes = rows("probes.csv")
assert [row["depth"] for row in probes] == ["2", "4", "8"], probes
assert abs(sum(float(row["share"]) for row in probes) - 1) < 1e-3, probes
for row in probes:  # intact is the NLL from training
    assert abs(float(row["intact_nll"]) - float(runs["zero"]["best_validation_nll"])) < 1e-4, row
classes = {row["class"] for row in rows("attention.csv")}
assert classes == {"space", "start of word", "inside word"}, classes
for name in "attention.png", "attention.html", "tokens.csv":
    (found,) = (folder / "quick-look").glob(f"*/{name}")
    assert found.stat().st_size > 1000, found
assert (folder / "quick-results/curves.png").read_bytes().startswith(b"\x89PNG")

before = (folder / "quick-results/runs.csv").read_bytes()
assert "to do" not in paper("comparison"), "runs that are there were repeated"
assert (folder / "quick-results/runs.csv").read_bytes() == before
