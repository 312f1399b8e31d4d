"""Defines the experiments, performs their missing runs, and reports the results.

    paper.py EXPERIMENT ... [--jobs N] [--kinds KIND ...] [--quick]

EXPERIMENT is sweep, comparison, ablations, follow_up, scaling, looking_back, speed or look, which perform the runs they need and write
tables and figures; or report, which only writes tables and figures. Runs listed in results/runs.csv are not repeated; an
interrupted run resumes. run.sh installs and configures the requirements.
"""

import argparse
import concurrent.futures
import csv
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import report

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD = ROOT / "build/paper"  # data, runs
PROGRAMS = BUILD / "programs"  # where CMake was configured

# ---- The budgets, fixed before the first run ---------------------------------------------------------------------------

KINDS = ["characters", "music", "speech", "subwords"]  # by default; there is also speech_vq
RATES = [1e-3, 2e-3, 4e-3]  # for every variant; extended for all if the best of one is the first or last
MOST_RATES = 7
SEEDS = [1, 2, 3]
SWEEP_TOKENS = 1_000_000
COMPARISON_TOKENS = 4_000_000
ABLATION_TOKENS = 2_000_000
COMPARED = ["plain", "plain11", "shortcut", "zero"]
# In the first ablations `unit_live` was ahead of plain for two kinds. For one of them it gets the comparison's budget and seeds.
# So do plain and the shortcut with larger initial weights, to separate the effect of those from the shortcut's.
FOLLOW_UP = ["unit_live", "plain_unit", "all_unit"]
FOLLOWED_KINDS = ["music"]
ABLATED_KINDS = ["subwords", "music"]  # in characters, seeds differ by more than models do
SCALED_KINDS = ["subwords"]
ABLATIONS = ["plain", "zero", "unit", "unit_live", "shortcut", "dense", "linear", "identity", "hidden32", "hidden512", "replace",
             "replace_zero", "joint", "before", "depths_all", "depths_9", "depths_8", "depths_2", "depths_4", "depths_2_8",
             "depths_0_2_4_8", "depths_2_4_8_9"]
# All ablations run with seed 1. Those furthest ahead of plain, in the mean of both kinds, also get the other seeds, and so do
# `plain` and `zero`. (`unit_live`, the second, already has a follow-up. `identity` was third when they were chosen, by
# differences in music between runs of different arithmetic; with the same, it is behind `depths_2_4_8_9` and `depths_8`.)
LEADERS = ["plain", "zero", "dense", "linear", "identity"]
# For each size, a plain model and one with the shortcut.
SCALES = [("plain_xs", "zero_xs"), ("plain_s", "zero_s"), ("plain", "zero"), ("plain_l", "zero_l")]

# Looking back: bodies with rotary positions (README.md has the protocol). In this order, each group with all seeds.
BACK_KINDS = ["subwords", "speech"]
BACK_SWEPT = ["rotary_plain", "rotary_dense_former", "rotary_last3"]
BACK_RATES = [2e-3, 4e-3, 8e-3]  # extended as RATES; one rate for all: that with the lowest mean NLL of these three
BACK_GROUPS = [["rotary_plain", "rotary_plain13", "rotary_dense_former", "rotary_last3", "rotary_last3_own"],
               ["rotary_plain11", "rotary_last1", "rotary_last1_own", "rotary_normed"],
               ["rotary_values3", "rotary_values3_own", "rotary_value_residual", "rotary_scalars"],
               ["rotary_last3_differences", "rotary_mudd3", "rotary_paper"],
               ["rotary_delta_residuals", "rotary_attention_residuals", "rotary_hyper"]]

QUICK = False  # tiny runs on a part of the data, as a smoke test


@dataclasses.dataclass(frozen=True)
class Run:
    kind: str
    variant: str
    seed: int
    rate: float
    tokens: int  # a multiple of a step's 8 x 256

    @property
    def name(self):
        return f"{self.kind}-{self.variant}-{self.tokens}-{self.rate:g}-{self.seed}"


def planned(kind, variant, seed, rate, tokens):
    if QUICK:
        tokens = 8 * 2048
    return Run(kind, variant, seed, rate, tokens // 2048 * 2048)


# ---- Finished runs -----------------------------------------------------------------------------------------------------


class Results:
    """runs.csv has a line for each run, curves.csv a line for each evaluation of a run."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.lock = threading.Lock()
        self.runs = {}  # Run -> row; the first, if run with several arithmetics
        self.with_compute = {}  # (Run, arithmetic) -> row
        for row in self.read("runs.csv"):
            self.remember(self.key(row), row)

    def remember(self, run, row):
        self.runs.setdefault(run, row)
        self.with_compute[run, row["compute"]] = row

    @staticmethod
    def key(row):
        return Run(row["kind"], row["variant"], int(row["seed"]), float(row["rate"]), int(row["tokens"]))

    def read(self, name):
        path = self.folder / name
        if not path.exists():
            return []
        with open(path, newline="") as file:
            return list(csv.DictReader(file))

    def append(self, name, rows):
        path = self.folder / name
        columns = list(rows[0])
        if path.exists():  # in its order, whatever that of the new rows
            with open(path, newline="") as file:
                columns = next(csv.reader(file))
        new = not path.exists()
        with open(path, "a", newline="") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerows(rows)

    def add(self, run, folder):
        """Adds a run's results from the program's folder."""
        result = json.loads((folder / "result.json").read_text())
        row = {**dataclasses.asdict(run)}
        for name, value in result.items():
            if name not in ("kind", "variant", "seed", "rate", "tokens"):
                row[name] = f"{value:.6g}" if isinstance(value, float) else value
        row |= {"commit": commit(), "machine": machine()}
        curve, losses = [], []
        where = {name: getattr(run, name) for name in ("kind", "variant", "seed", "rate")} | {"budget": run.tokens}
        with open(folder / "log.csv", newline="") as file:
            for line in csv.DictReader(file):
                losses.append(float(line["loss"]))
                if line["validation"]:
                    curve.append({**where, "step": line["step"], "training_nll": f"{sum(losses) / len(losses):.5f}",
                                  "validation_nll": f"{float(line['validation']):.5f}"})
                    losses = []
        curve.append({**where, "step": result["steps"], "training_nll": f"{sum(losses) / len(losses):.5f}" if losses else "",
                      "validation_nll": f"{result['last_validation_nll_on_curve']:.5f}"})
        with self.lock:
            self.append("curves.csv", curve)
            self.append("runs.csv", [row])
            self.remember(run, row)

    def value(self, run, name):
        return float(self.runs[run][name])


def commit():
    """The commit, with "-dirty" if files that affect results (not the results themselves) differ from it."""
    def git(*words):
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)

    number = git("rev-parse", "--short", "HEAD").stdout.strip()
    sources = ["include", "examples/paper", "cmake", "CMakeLists.txt", "CMakePresets.json", ":!examples/paper/results", ":!*.md"]
    return number + ("-dirty" if git("diff", "--quiet", "HEAD", "--", *sources).returncode else "") if number else "unknown"


def machine():
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return "unknown"


# ---- Running -----------------------------------------------------------------------------------------------------------


def build(targets):
    log = BUILD / "build.log"
    with open(log, "w") as file:
        done = subprocess.run(["cmake", "--build", str(PROGRAMS), "--target", *sorted(set(targets))], stdout=file,
                              stderr=subprocess.STDOUT)
    if done.returncode:
        sys.exit(f"paper.py: building failed; {log} says why")


def folder_of(run):
    return BUILD / ("quick-runs" if QUICK else "runs") / run.name


def perform(runs, results, jobs):
    """Performs the runs missing from the results: `jobs` at a time, each with one thread."""
    missing = [run for run in runs if run not in results.runs]
    missing = list(dict.fromkeys(missing))
    if not missing:
        return
    total = sum(run.tokens for run in missing)
    print(f"{len(missing)} of {len(set(runs))} runs to do, {total / 1e6:.1f} million tokens", flush=True)
    waiting, build_lock = list(missing), threading.Lock()
    start, done = time.monotonic(), 0

    def one(run):
        target = f"paper_train_{run.kind}_{run.variant}"
        with build_lock:
            build([target])
        folder = folder_of(run)
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "output", "w") as output:
            command = [PROGRAMS / "examples/paper" / target, data_of(run.kind), folder, "--tokens", str(run.tokens),
                       "--rate", f"{run.rate:g}", "--seed", str(run.seed)]
            code = subprocess.run([str(word) for word in command], stdout=output, stderr=subprocess.STDOUT,
                                  env=dict(os.environ, OMP_NUM_THREADS="1")).returncode
        if code:
            raise RuntimeError(f"{run.name}: failed with {code}; {folder / 'output'} says why")
        results.add(run, folder)
        return run

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(one, run) for run in waiting]
        try:
            for future in concurrent.futures.as_completed(futures):
                run = future.result()
                done += run.tokens
                elapsed = time.monotonic() - start
                print(f"{run.name}: validation {results.value(run, 'best_validation_nll'):.4f}; {done / 1e6:.1f} of "
                      f"{total / 1e6:.1f} million tokens, {elapsed / 60:.0f} min, about {elapsed * (total / done - 1) / 60:.0f} "
                      "to go", flush=True)
        except BaseException:
            for future in futures:
                future.cancel()
            raise


# ---- Data --------------------------------------------------------------------------------------------------------------

DOCUMENTS = {"characters": "text", "subwords": "text", "speech": "speech", "speech_vq": "speech", "music": "music"}
SUBWORDS = 2048  # as models.hpp says


def data_of(kind):
    return BUILD / ("quick-data" if QUICK else "data") / kind


def command(*words):
    try:
        subprocess.run([str(word) for word in words], check=True, env=dict(os.environ, OMP_NUM_THREADS="1"))
    except subprocess.CalledProcessError as error:
        sys.exit(f"paper.py: {Path(words[0]).name} {words[1]} failed with {error.returncode}")


def make_data(kind, source):
    """Makes the split documents, the tokens, and for sub-words a tokenizer from the training documents. Keeps what exists."""
    folder, documents = data_of(kind), data_of(DOCUMENTS[kind]).with_name("documents-" + DOCUMENTS[kind])
    if (folder / "data.json").exists():
        return
    if not documents.exists():
        command(sys.executable, HERE / "fetch.py", DOCUMENTS[kind], documents, "--cache", BUILD / "packages",
                *(["--source", source] if source else []), *(["--quick"] if QUICK else []))
    words = [PROGRAMS / "examples/paper/paper_prepare", kind, documents, folder]
    if kind == "subwords":
        command(sys.executable, HERE / "train_bpe.py", documents / "train", folder / "tokenizer", SUBWORDS)
        words += ["--tokenizer", folder / "tokenizer"]
    command(*words)


# ---- The experiments ---------------------------------------------------------------------------------------------------


def rates_of(results, kind):
    """The rates to sweep, given the results so far. While the lowest or highest rate is the best for any compared variant, half
    or twice that rate is added, for every variant."""
    def runs(variant):
        return [planned(kind, variant, SEEDS[0], rate, SWEEP_TOKENS) for rate in rates]

    rates = list(RATES)
    while 1 < len(rates) < MOST_RATES and all(run in results.runs for variant in COMPARED for run in runs(variant)):
        best = {min(runs(variant), key=lambda run: results.value(run, "best_validation_nll")).rate for variant in COMPARED}
        if rates[0] in best:
            rates.insert(0, rates[0] / 2)
        elif rates[-1] in best:
            rates.append(rates[-1] * 2)
        else:
            break
    return rates


def sweep_runs(results, kind, variants):
    return [planned(kind, variant, SEEDS[0], rate, SWEEP_TOKENS) for variant in variants for rate in rates_of(results, kind)]


def best_rate(results, kind, variant):
    """The rate with the lowest NLL on held-back data in the sweep."""
    return min(sweep_runs(results, kind, [variant]), key=lambda run: results.value(run, "best_validation_nll")).rate


def sweep(results, kinds, jobs):
    for kind in kinds:
        while any(run not in results.runs for run in sweep_runs(results, kind, COMPARED)):
            perform(sweep_runs(results, kind, COMPARED), results, jobs)


def compared(results, kind, rate, variants=None):
    return [planned(kind, variant, seed, rate, COMPARISON_TOKENS) for seed in SEEDS for variant in variants or COMPARED]


def mean_nll(results, runs):
    return statistics.fmean(results.value(run, "best_validation_nll") for run in runs)


def shared_rates(results, kind):
    """The rates at which every variant is compared: the sweep's best for plain, and another variant's best if the variant does
    better with it than with plain's. Sweeps are short, so plain may do better with it too."""
    first = best_rate(results, kind, "plain")
    rates = [first]
    for variant in COMPARED:
        own = best_rate(results, kind, variant)
        with_own, with_first = (compared(results, kind, rate, [variant]) for rate in (own, first))
        if own not in rates and all(run in results.runs for run in with_own + with_first):
            if mean_nll(results, with_own) < mean_nll(results, with_first):
                rates.append(own)
    return rates


def comparison_runs(results, kind):
    """Every variant at its own best rate of the sweep, and at the shared rates."""
    own = [run for variant in COMPARED for run in compared(results, kind, best_rate(results, kind, variant), [variant])]
    own.sort(key=lambda run: run.seed)
    shared = [run for rate in shared_rates(results, kind) for run in compared(results, kind, rate)]
    return own + [run for run in shared if run not in own]


def at_best_shared_rate(results, kind):
    """The runs at the shared rate that is best for plain."""
    plain = {rate: compared(results, kind, rate, ["plain"]) for rate in shared_rates(results, kind)}
    done = [rate for rate, runs in plain.items() if all(run in results.runs for run in runs)]
    rate = min(done, key=lambda rate: mean_nll(results, plain[rate])) if done else best_rate(results, kind, "plain")
    return compared(results, kind, rate)


def comparison(results, kinds, jobs):
    for kind in kinds:
        sweep(results, [kind], jobs)
        while any(run not in results.runs for run in comparison_runs(results, kind)):
            perform(comparison_runs(results, kind), results, jobs)


def ablation_runs(results, kind):
    """Every ablation, and plain, at the comparison's shared rate that is best for plain."""
    rate = at_best_shared_rate(results, kind)[0].rate
    return [planned(kind, variant, seed, rate, ABLATION_TOKENS) for seed in SEEDS
            for variant in (ABLATIONS if seed == SEEDS[0] else LEADERS)]


def by_seed(runs_of, results, kinds):
    """Sorts runs by seed, so that an interrupted experiment has results for every kind."""
    return sorted((run for kind in kinds for run in runs_of(results, kind)), key=lambda run: run.seed)


def ablations(results, kinds, jobs):
    kinds = [kind for kind in kinds if kind in ABLATED_KINDS]
    sweep(results, kinds, jobs)
    perform(by_seed(ablation_runs, results, kinds), results, jobs)


def follow_up_runs(results, kind):
    """The comparison's budget and seeds, at plain's best rate."""
    return compared(results, kind, at_best_shared_rate(results, kind)[0].rate, FOLLOW_UP) if kind in FOLLOWED_KINDS else []


def follow_up(results, kinds, jobs):
    for kind in kinds:
        sweep(results, [kind], jobs)
        perform(follow_up_runs(results, kind), results, jobs)


def rate_runs(results, kind, pair):
    """Both models of a size with the whole budget and the first seed, at the two rates of the sweep with the lowest mean NLL of
    both models. Two, because the best rate for short runs may not be the best for longer ones."""
    def swept(rate):
        return mean_nll(results, [planned(kind, variant, SEEDS[0], rate, SWEEP_TOKENS) for variant in pair])

    rates = sorted(rates_of(results, kind), key=swept)[:2]
    return [planned(kind, variant, SEEDS[0], rate, ABLATION_TOKENS) for rate in rates for variant in pair]


def rate_of_size(results, kind, pair):
    """The better of these two rates."""
    runs = rate_runs(results, kind, pair)
    return min((run.rate for run in runs), key=lambda rate: mean_nll(results, [run for run in runs if run.rate == rate]))


def scaling_runs(results, kind, pair):
    """Both models of a size at the same rate."""
    return [planned(kind, variant, seed, rate_of_size(results, kind, pair), ABLATION_TOKENS) for seed in SEEDS
            for variant in pair]


def scaling(results, kinds, jobs):
    kinds = [kind for kind in kinds if kind in SCALED_KINDS]
    sweep(results, kinds, jobs)
    for pair in SCALES:  # small models first, so that an interrupted experiment has some results
        for kind in kinds:
            perform(sweep_runs(results, kind, pair), results, jobs)
            perform(rate_runs(results, kind, pair), results, jobs)
            perform(scaling_runs(results, kind, pair), results, jobs)


def back_rates(results, kind):
    """The rates to sweep; while the lowest or highest has the lowest mean NLL, half or twice that as well."""
    rates = list(BACK_RATES)
    while len(rates) < MOST_RATES and all(run in results.runs for rate in rates for run in back_sweep(kind, rate)):
        best = min(rates, key=lambda rate: mean_nll(results, back_sweep(kind, rate)))
        if best == rates[0]:
            rates.insert(0, best / 2)
        elif best == rates[-1]:
            rates.append(best * 2)
        else:
            break
    return rates


def back_sweep(kind, rate):
    return [planned(kind, variant, SEEDS[0], rate, SWEEP_TOKENS) for variant in BACK_SWEPT]


def back_runs(results, kind):
    """All runs at the shared rate; none before that is known."""
    swept = [rate for rate in back_rates(results, kind) if all(run in results.runs for run in back_sweep(kind, rate))]
    if len(swept) < len(back_rates(results, kind)):
        return []
    rate = min(swept, key=lambda rate: mean_nll(results, back_sweep(kind, rate)))
    return [planned(kind, variant, seed, rate, COMPARISON_TOKENS) for group in BACK_GROUPS for seed in SEEDS for variant in group]


def looking_back(results, kinds, jobs):
    for kind in (kind for kind in BACK_KINDS if kind in kinds):
        while missing := [run for rate in back_rates(results, kind) for run in back_sweep(kind, rate) if run not in results.runs]:
            perform(missing, results, jobs)
        perform(back_runs(results, kind), results, jobs)


SPEED_ROUNDS = 5


def speed(results, kinds, jobs):
    """Tokens per second of each model on one thread, in turn. Needs an idle machine."""
    build([f"paper_train_{kind}_{variant}" for kind in kinds for variant in COMPARED])
    for kind in kinds:
        for turn in range(1 if QUICK else SPEED_ROUNDS):
            for variant in COMPARED:
                words = [PROGRAMS / "examples/paper" / f"paper_train_{kind}_{variant}", data_of(kind), "--speed",
                         "--tokens", 20 * 2048]
                done = subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True,
                                      env=dict(os.environ, OMP_NUM_THREADS="1"))
                result = json.loads(done.stdout)
                results.append("speed.csv", [{"kind": kind, "variant": variant, "round": turn + 1,
                                              "tokens_per_second": f"{result['tokens_per_second']:.0f}",
                                              "compute": result["compute"], "commit": commit(), "machine": machine()}])


LOOKED_AT = ["zero", "shortcut", "unit_live"]  # with seeds 1 to 3


def look(results, kinds, jobs):
    """What the models of the comparison and the follow-up attend to; needs their weights, which are in build/paper/runs."""
    for kind in kinds:
        runs = [run for run in at_best_shared_rate(results, kind) + follow_up_runs(results, kind) if run.variant in LOOKED_AT]
        build({f"paper_look_{kind}_{run.variant}" for run in runs})
        for run in runs:
            weights = folder_of(run) / "best.safetensors"
            if not weights.exists():
                print(f"{run.name}: its weights are not here; run it again to look at it")
                continue
            folder = BUILD / ("quick-look" if QUICK else "look") / run.name
            command(PROGRAMS / "examples/paper" / f"paper_look_{kind}_{run.variant}", data_of(kind), weights, folder,
                    "--windows", "4" if QUICK else "32",
                    *(["--tokenizer", data_of(kind) / "tokenizer"] if kind == "subwords" else []))
            report.add_look(results, run, folder)


def write_report(results, kinds):
    def when_swept(runs_of):
        def of(kind):
            swept = all(run in results.runs for run in sweep_runs(results, kind, COMPARED))
            return [run for run in runs_of(results, kind) if run in results.runs] if swept else []

        return of

    shown = COMPARED + FOLLOW_UP
    rows = report.comparison(results, when_swept(lambda *of: comparison_runs(*of) + follow_up_runs(*of)), kinds, shown)
    if rows:
        (results.folder / "comparison.md").write_text(report.markdown(rows))
    report.curves_figure(results, when_swept(lambda *of: at_best_shared_rate(*of) + follow_up_runs(*of)), kinds, shown)
    ablated = when_swept(ablation_runs)
    rows = report.differences(results, "ablations", {kind: ablated(kind) for kind in kinds},
                              lambda variant: None if variant == "plain" else "plain")
    if rows:
        (results.folder / "ablations.md").write_text(report.ablations_markdown(rows))

    report.looking_back(results, {kind: [run for run in back_runs(results, kind) if run in results.runs] for kind in BACK_KINDS})

    def has_rate(kind, pair):
        return all(run in results.runs for run in sweep_runs(results, kind, pair)) and \
            all(run in results.runs for run in rate_runs(results, kind, pair))

    scaled = {kind: [pair for pair in SCALES if has_rate(kind, pair)] for kind in SCALED_KINDS}
    partner_of = {with_shortcut: plain for plain, with_shortcut in SCALES}
    rows = report.differences(results, "scaling", {kind: [run for pair in pairs for run in scaling_runs(results, kind, pair)]
                                                   for kind, pairs in scaled.items()}, partner_of.get)
    if rows:
        report.scaling_figure(results, rows, dict(SCALES))


EXPERIMENTS = {"sweep": sweep, "comparison": comparison, "ablations": ablations, "follow_up": follow_up, "scaling": scaling,
               "looking_back": looking_back, "look": look, "speed": speed}


def main():
    global QUICK, BUILD, PROGRAMS, COMPARED, LOOKED_AT, RATES, SEEDS
    parser = argparse.ArgumentParser(description="Runs the paper's experiments.")
    parser.add_argument("experiments", nargs="+", choices=[*EXPERIMENTS, "report"])
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="number of parallel runs, each with one thread")
    parser.add_argument("--kinds", nargs="+", choices=list(DOCUMENTS), default=KINDS)
    parser.add_argument("--quick", action="store_true", help="tiny runs, as a smoke test")
    parser.add_argument("--build", type=Path, default=BUILD, help="folder for data and runs")
    parser.add_argument("--programs", type=Path, help="CMake build folder; default BUILD/programs")
    for documents in sorted(set(DOCUMENTS.values())):
        parser.add_argument(f"--{documents}", type=Path, metavar="PATH", help="your own documents")
    options = parser.parse_args()
    BUILD = options.build.absolute()
    PROGRAMS = (options.programs or options.build / "programs").absolute()
    QUICK = options.quick
    if QUICK:
        COMPARED, LOOKED_AT, RATES, SEEDS = ["plain", "zero"], ["zero"], RATES[:1], SEEDS[:1]
    results = Results(BUILD / "quick-results" if QUICK else HERE / "results")
    if options.experiments != ["report"]:
        build(["paper_prepare"] + [f"paper_{program}_{kind}_{variant}" for kind in options.kinds if QUICK
                                   for program, variants in (("train", COMPARED), ("look", LOOKED_AT)) for variant in variants])
        for kind in options.kinds:
            make_data(kind, getattr(options, DOCUMENTS[kind]))
    try:
        for name in options.experiments:
            if name != "report":
                EXPERIMENTS[name](results, options.kinds, options.jobs)
    except RuntimeError as error:
        sys.exit(f"paper.py: {error}")
    finally:
        write_report(results, list(DOCUMENTS))


if __name__ == "__main__":
    main()
