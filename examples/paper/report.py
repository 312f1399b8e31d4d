"""Makes tables and figures of all finished runs from results/*.csv, in the same folder. paper.py calls it."""

import csv
import dataclasses
import itertools
import statistics
from collections import defaultdict

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from scipy import stats

COLOURS = {"plain": "0.2", "plain11": "0.6", "zero": "C0", "shortcut": "C1", "unit_live": "C2", "plain_unit": "C3",
           "all_unit": "C4"}
NAMES = {"plain": "plain", "plain11": "plain, 11 blocks", "zero": "shortcut, from zero", "shortcut": "shortcut",
         "unit_live": "shortcut, larger initial features", "plain_unit": "plain, larger initial weights",
         "all_unit": "shortcut, larger initial weights"}
CONTROLS = {"all_unit": "plain_unit"}  # baselines of variants not compared with plain
# What the variants of ablations and scaling change in `zero`.
ABLATED = {
    "plain": "plain GPT-2",
    "zero": "shortcut from zero: depths 2, 4, 8, mlp features of hidden width 128",
    "shortcut": "initialised as all else",
    "unit": "features that keep the scale",
    "unit_live": "the same, initialised as all else",
    "dense": "no attention: a learned sum of all earlier outputs",
    "linear": "linear features",
    "identity": "no features: outputs as they are",
    "hidden32": "hidden width 32",
    "hidden512": "hidden width 512",
    "depths_2": "depth 2",
    "depths_4": "depth 4",
    "depths_8": "depth 8",
    "depths_2_8": "depths 2, 8",
    "depths_0_2_4_8": "depths 0, 2, 4, 8",
    "depths_all": "depths 1 to 9",
    "depths_9": "depth 9 (the block's own input)",
    "depths_2_4_8_9": "depths 2, 4, 8, 9",
    "replace": "in place of self-attention, not from zero",
    "replace_zero": "in place of self-attention",
    "joint": "jointly with self-attention, not from zero",
    "before": "before self-attention",
}


# The variants of looking_back: what they are, and their control of equal cost, or of the same module.
BACK = {
    "plain": ("Llama's blocks", None),
    "plain11": ("one more block", None),
    "plain13": ("three more blocks", None),
    "normed": ("norms of queries and keys", None),
    "dense_former": ("DenseFormer: an average of all depths after each block", None),
    "scalars": ("multiples of the embedding before each block, and backout of depth 6", None),
    "mudd3": ("MUDD's averages after the last three blocks, into the residual", None),
    "attention_residuals": ("sublayers read a softmax over depths", None),
    "delta_residuals": ("the same, added to the stream", None),
    "hyper": ("hyper-connections, four streams", None),
    "value_residual": ("the first block's values added to those of all others", None),
    "paper": ("the paper's form in the last block, from zero", "plain11"),
    "last1": ("attention to depths in the last block", "plain11"),
    "last1_own": ("the same, reading its block's input", "plain11"),
    "last3": ("attention to depths in the last three blocks", "plain13"),
    "last3_differences": ("the same, of differences between depths", "plain13"),
    "last3_own": ("the same, reading its block's input", "plain13"),
    "values3": ("depths added to the values of the last three blocks, at the same token", None),
    "values3_own": ("the same, reading its block's input", None),
}
OWN = {"last1": "last1_own", "last3": "last3_own", "last3_differences": "last3_own", "values3": "values3_own"}


def write(path, rows):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def interval(values, confidence=0.95):
    """Mean and half the t interval of some values; NaN for a single value."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, float("nan")
    return mean, stats.t.ppf((1 + confidence) / 2, len(values) - 1) * stats.sem(values)


def deviation(values):
    return statistics.stdev(values) if len(values) > 1 else float("nan")


def reached(curve, nll):
    """The step at which a curve [(step, nll), ...] first reaches nll, by linear interpolation; None if it never does."""
    before = None
    for step, value in curve:
        if value <= nll:
            if before is None or before[1] == value:
                return step
            return before[0] + (step - before[0]) * (before[1] - nll) / (before[1] - value)
        before = (step, value)
    return None


def curves_of(results):
    """(kind, variant, seed, rate, budget) -> [(step, training NLL, validation NLL), ...]"""
    curves = defaultdict(list)
    for row in results.read("curves.csv"):
        key = row["kind"], row["variant"], int(row["seed"]), float(row["rate"]), int(row["budget"])
        curves[key].append((int(row["step"]), float(row["training_nll"] or "nan"), float(row["validation_nll"])))
    return curves


def speeds_of(results):
    """(kind, variant) -> tokens per second on one thread, medians over rounds"""
    rounds = defaultdict(list)
    for row in results.read("speed.csv"):
        rounds[row["kind"], row["variant"]].append(float(row["tokens_per_second"]))
    return {key: statistics.median(values) for key, values in rounds.items()}


def number(value, digits=4):
    return "" if value is None or value != value else f"{value:.{digits}f}"


def comparison(results, runs_of, kinds, variants):
    """A row for each kind, variant and rate that was run; paired differences are to `plain` (or the variant in CONTROLS) of the
    same seed, at the same rate if there is such a run."""
    curves, speeds, rows = curves_of(results), speeds_of(results), []
    for kind in kinds:
        done = runs_of(kind)
        controls = defaultdict(lambda: defaultdict(dict))
        for run in done:
            controls[run.variant][run.rate][run.seed] = run
        order = sorted({(variants.index(run.variant), run.rate) for run in done})
        for variant, rate in ((variants[n], rate) for n, rate in order):
            runs = {run.seed: run for run in done if (run.variant, run.rate) == (variant, rate)}
            plain_at = controls[CONTROLS.get(variant, "plain")]
            plain = plain_at.get(rate) or next(iter(plain_at.values()), {})
            some = results.runs[next(iter(runs.values()))]
            validation = [results.value(run, "best_validation_nll") for run in runs.values()]
            test = [results.value(run, "test_nll") for run in runs.values()]
            pairs = [seed for seed in runs if seed in plain]
            paired = {}
            for name, column in ("validation", "best_validation_nll"), ("test", "test_nll"):
                differences = [results.value(runs[s], column) - results.value(plain[s], column) for s in pairs]
                paired[name] = interval(differences) if differences and variant != "plain" else (float("nan"),) * 2
            steps = []
            for seed in pairs:
                curve, target = ([(step, nll) for step, _, nll in curves[kind, run.variant, run.seed, run.rate, run.tokens]]
                                 for run in (runs[seed], plain[seed]))
                steps.append(reached(curve, target[-1][1]))
            steps = [step for step in steps if step is not None]
            tokens = statistics.fmean(steps) * 2048 if steps else None
            speed = speeds.get((kind, variant))
            rows.append({
                "kind": kind,
                "variant": variant,
                "parameters": some["parameters"],
                "training_flops_per_token": f"{float(some['flops_per_token']):.0f}",
                "rate": f"{rate:g}",
                "seeds": len(runs),
                "validation_nll": number(statistics.fmean(validation)),
                "validation_sd": number(deviation(validation)),
                "validation_minus_plain": number(paired["validation"][0]),
                "validation_minus_plain_ci95": number(paired["validation"][1]),
                "test_nll": number(statistics.fmean(test)),
                "test_sd": number(deviation(test)),
                "test_minus_plain": number(paired["test"][0]),
                "test_minus_plain_ci95": number(paired["test"][1]),
                "tokens_per_second": number(speed, 0),
                "seeds_that_reach_plain": f"{len(steps)} of {len(pairs)}",
                "tokens_to_plain": number(tokens, 0),  # mean over those seeds
                "seconds_to_plain": number(tokens / speed, 0) if tokens and speed else "",
                "flops_to_plain": f"{tokens * float(some['flops_per_token']):.3g}" if tokens else "",
            })
    if rows:
        write(results.folder / "comparison.csv", rows)
    return rows


def differences(results, name, runs_of, partner_of):
    """A row for each run of an experiment, with the difference to its partner of the same kind, seed and arithmetic: `partner_of`
    names the partner's variant, if any. A run with other arithmetic is a different run: rounding alone changes the result."""
    rows = []
    for kind, runs in runs_of.items():
        for run, compute in (both for both in results.with_compute if both[0] in runs):
            nll = float(results.with_compute[run, compute]["best_validation_nll"])
            partner = results.with_compute.get((dataclasses.replace(run, variant=partner_of(run.variant)), compute))
            rows.append({"kind": kind, "variant": run.variant,
                         "parameters": results.with_compute[run, compute]["parameters"], "rate": f"{run.rate:g}",
                         "seed": run.seed, "compute": compute, "validation_nll": number(nll),
                         "minus_plain": number(nll - float(partner["best_validation_nll"])) if partner else ""})
    if rows:
        write(results.folder / f"{name}.csv", rows)
    return rows


def ablations_markdown(rows):
    """The ablations as a Markdown table: three columns for each kind of data. Seeds after the first are separate, because the
    first decided which variants get them. A first seed that was run with two arithmetics has two NLLs."""
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    of = defaultdict(list)
    for row in rows:
        of[row["kind"], row["variant"]].append(row)
    lines = ["| variant | | " + " | ".join(f"{kind}: NLL | minus plain | further seeds" for kind in kinds) + " |",
             "| --- | --- |" + " ---: | ---: | ---: |" * len(kinds)]
    for variant, what in ABLATED.items():
        cells = []
        for kind in kinds:
            differences = {row["seed"]: f"{float(row['minus_plain']):+.4f}" for row in of[kind, variant] if row["minus_plain"]}
            first = [row["validation_nll"] for row in of[kind, variant] if row["seed"] == 1]
            cells += [", ".join(first), differences.pop(1, ""),
                      ", ".join(differences[seed] for seed in sorted(differences))]
        if any(cells):
            lines.append(f"| `{variant}` | {what} | " + " | ".join(cells) + " |")
    first = {kind: {variant: float(row["minus_plain"]) for (of_kind, variant), of_variant in of.items() for row in of_variant
                    if of_kind == kind and row["seed"] == 1 and row["minus_plain"]} for kind in kinds}
    for one, other in itertools.combinations(kinds, 2):
        both = [variant for variant in first[one] if variant in first[other]]
        if len(both) >= 10:  # with fewer, a rank correlation is meaningless
            found = stats.spearmanr([first[one][variant] for variant in both], [first[other][variant] for variant in both])
            lines += ["", f"Rank correlation (Spearman) of `minus plain` between {one} and {other}, {len(both)} variants, seed 1: "
                          f"{found.statistic:.2f}, p = {found.pvalue:.2f}."]
    return "\n".join(lines) + "\n"


def scaling_figure(results, rows, partners):
    """NLL against parameters, means over the seeds; below it, for each seed, the shortcut's difference to the plain model of
    its size."""
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    figure, axes = plt.subplots(2, len(kinds), figsize=(4.8 * len(kinds), 6), height_ratios=(2, 1), sharex="col", squeeze=False,
                                layout="constrained")
    for column, kind in enumerate(kinds):
        above, below = axes[:, column]
        of = defaultdict(list)
        for row in rows:
            if row["kind"] == kind:
                of[row["variant"]].append(row)
        sizes = {variant: int(some[0]["parameters"]) for variant, some in of.items()}
        for variants, name in (list(partners), "plain"), (list(partners.values()), "zero"):
            there = [variant for variant in variants if variant in of]
            above.plot([sizes[variant] for variant in there],
                       [statistics.fmean(float(row["validation_nll"]) for row in of[variant]) for variant in there], "o-",
                       color=COLOURS[name], label=NAMES[name])
        for variant in partners.values():
            found = [float(row["minus_plain"]) for row in of[variant] if row["minus_plain"]]
            below.plot([sizes.get(variant)] * len(found), found, "o", color=COLOURS["zero"], fillstyle="none")
        below.axhline(0, color=COLOURS["plain"], lw=1)
        above.set_title(kind)
        below.set_xscale("log")
        ticks = [sizes[variant] for variant in partners if variant in of]
        below.set_xticks(ticks, [f"{size / 1e6:.2g} M" for size in ticks])
        below.minorticks_off()
        below.set_xlabel("parameters")
        for some in (above, below):
            some.grid(alpha=0.3)
    axes[0, 0].set_ylabel("validation NLL, nats a token")
    axes[1, 0].set_ylabel("minus plain, each seed")
    axes[0, 0].legend(fontsize=8)
    figure.savefig(results.folder / "scaling.png", dpi=110)
    plt.close(figure)


def curves_figure(results, runs_of, kinds, variants):
    """The paper's Figure 2: NLL of held-back data against tokens, and below it the difference to plain; all at plain's rate."""
    curves = curves_of(results)
    kinds = [kind for kind in kinds if runs_of(kind)]
    if not kinds:
        return
    figure, axes = plt.subplots(2, len(kinds), figsize=(4.2 * len(kinds), 6), height_ratios=(2, 1), sharex="col", squeeze=False,
                                layout="constrained")
    for column, kind in enumerate(kinds):
        above, below = axes[:, column]
        means = {}
        for variant in variants:
            of_seed = [np.array([(step, nll) for step, _, nll in curves[kind, run.variant, run.seed, run.rate, run.tokens]])
                       for run in runs_of(kind) if run.variant == variant]
            if not of_seed:
                continue
            tokens = of_seed[0][:, 0] * 2048 / 1e6
            nll = np.array([curve[:, 1] for curve in of_seed])
            means[variant] = {run.seed: curve for run, curve in zip(
                [r for r in runs_of(kind) if r.variant == variant], nll)}
            above.plot(tokens, nll.mean(0), color=COLOURS[variant], label=NAMES[variant])
            if variant != "plain" and "plain" in means:
                shared = [seed for seed in means[variant] if seed in means["plain"]]
                if shared:
                    differences = np.array([means[variant][s] - means["plain"][s] for s in shared])
                    below.plot(tokens, differences.mean(0), color=COLOURS[variant])
                    below.fill_between(tokens, differences.min(0), differences.max(0), color=COLOURS[variant], alpha=0.2, lw=0)
        late = [curve[len(curve) // 5:] for by_seed in means.values() for curve in by_seed.values()]
        if late:
            low, high = min(c.min() for c in late), max(c.max() for c in late)
            above.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
        above.set_title(kind)
        below.axhline(0, color=COLOURS["plain"], lw=1)
        below.set_ylim(-0.06, 0.06)
        below.set_xlabel("million tokens")
        for some in (above, below):
            some.grid(alpha=0.3)
    axes[0, 0].set_ylabel("validation NLL, nats a token")
    axes[1, 0].set_ylabel("minus plain, same seed\n(band: lowest to highest)")
    axes[0, 0].legend(fontsize=8)
    figure.savefig(results.folder / "curves.png", dpi=110)
    plt.close(figure)


def looking_back(results, runs_of):
    """looking_back.csv and .md: for each variant the NLL of held-back data, and differences to the same seed of plain, DenseFormer,
    the control of equal cost and the same module without depths, all of the same arithmetic, with t intervals of 95%."""
    rows, lines = [], []
    for kind, runs in runs_of.items():
        if not runs:
            continue
        of = defaultdict(dict)  # (variant, arithmetic) -> seed -> row
        for run, compute in results.with_compute:
            if run in runs:
                of[run.variant.removeprefix("rotary_"), compute][run.seed] = results.with_compute[run, compute]
        lines += [f"{kind}, rate {runs[0].rate:g}, {runs[0].tokens:,} tokens:", "",
                  "| variant | | parameters | FLOPs a token | seeds | NLL | minus plain | minus DenseFormer | minus more blocks | "
                  "minus own input |", "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]
        for variant, (what, equal_cost) in BACK.items():
            for (name, compute), by_seed in of.items():
                if name != variant:
                    continue
                nll = {seed: float(row["best_validation_nll"]) for seed, row in by_seed.items()}
                some = next(iter(by_seed.values()))
                row = {"kind": kind, "variant": variant, "parameters": some["parameters"],
                       "training_flops_per_token": f"{float(some['flops_per_token']):.0f}", "rate": some["rate"], "compute": compute,
                       "seeds": " ".join(str(seed) for seed in sorted(nll)), "validation_nll": number(statistics.fmean(nll.values()))}
                cells = []
                for column, control in ("plain", "plain"), ("dense_former", "dense_former"), ("more_blocks", equal_cost), \
                                       ("own_input", OWN.get(variant)):
                    other = of.get((control, compute), {}) if control and control != variant else {}
                    pairs = [nll[seed] - float(other[seed]["best_validation_nll"]) for seed in nll if seed in other]
                    mean, half = interval(pairs) if pairs else (float("nan"),) * 2
                    row |= {f"minus_{column}": number(mean), f"minus_{column}_ci95": number(half)}
                    cells.append("" if mean != mean else f"{mean:+.4f}" + (f" ± {half:.4f}" if half == half else ""))
                rows.append(row)
                lines.append(f"| `{variant}` | {what} | {int(row['parameters']):,} | {int(row['training_flops_per_token']):,} | "
                             f"{row['seeds']} | {row['validation_nll']} | {' | '.join(cells)} |")
        lines.append("")
    if rows:
        write(results.folder / "looking_back.csv", rows)
        (results.folder / "looking_back.md").write_text("\n".join(lines[:-1]) + "\n")


def replace_rows(results, name, run, rows):
    """Replaces a run's rows."""
    def other(row):
        return (row["kind"], row["variant"], row["seed"]) != (run.kind, run.variant, str(run.seed))

    rows = [{"kind": run.kind, "variant": run.variant, "seed": run.seed, **row} for row in rows]
    write(results.folder / name, [row for row in results.read(name) if other(row)] + rows)


def add_look(results, run, folder):
    """Adds the results of look.cpp from a folder: attention.csv by class of token, and probes.csv."""
    with open(folder / "tokens.csv", newline="") as file:
        tokens = list(csv.DictReader(file))
    with open(folder / "probes.csv", newline="") as file:
        probes = {row["depth"]: row for row in csv.DictReader(file)}
    nll = np.array([float(row["nll"]) for row in tokens])
    windows = np.array([int(row["window"]) for row in tokens])
    classes = np.array([row["class"] for row in tokens])
    depths = [name.removeprefix("depth_") for name in tokens[0] if name.startswith("depth_")]
    attention, use = [], []
    for depth in depths:
        share = np.array([float(row["depth_" + depth]) for row in tokens])
        for name in sorted(set(classes)):
            of = classes == name
            attention.append({"class": name, "tokens": int(of.sum()), "nll_of_next": f"{nll[of].mean():.4f}", "depth": depth,
                              "share": f"{share[of].mean():.4f}", "sd_over_tokens": f"{share[of].std():.4f}"})
        means = [share[windows == w].mean() for w in sorted(set(windows))]
        probe = probes[depth]
        use.append({"depth": depth, "share": f"{share.mean():.4f}", "sd_over_tokens": f"{share.std():.4f}",
                    "sd_over_windows": f"{statistics.pstdev(means):.4f}",
                    "spearman_with_nll": f"{stats.spearmanr(share, nll).statistic:.3f}",
                    "intact_nll": probe["intact"],
                    "masked_costs": f"{float(probe['masked']) - float(probe['intact']):.5f}",
                    "mean_costs": f"{float(probe['mean']) - float(probe['intact']):.5f}"})
    replace_rows(results, "attention.csv", run, attention)
    replace_rows(results, "probes.csv", run, use)


def markdown(rows):
    """The comparison as a Markdown table."""
    lines = ["| data | model | parameters | tokens/s | rate | validation NLL | minus plain | test NLL | minus plain | "
             "seeds that reach plain's last NLL, and tokens they take |",
             "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]

    def difference(row, part):
        value, half = row[f"{part}_minus_plain"], row[f"{part}_minus_plain_ci95"]
        return "" if not value else f"{float(value):+.4f}" + (f" ± {float(half):.4f}" if half else "")

    for row in rows:
        tokens = row["tokens_to_plain"]
        spread = f" ± {row['validation_sd']}" if row["validation_sd"] else ""
        speed = f"{int(row['tokens_per_second']):,}" if row["tokens_per_second"] else ""
        lines.append(f"| {row['kind']} | {NAMES[row['variant']]} | {int(row['parameters']):,} | {speed} | {row['rate']} | "
                     f"{row['validation_nll']}{spread} | {difference(row, 'validation')} | {row['test_nll']} | "
                     f"{difference(row, 'test')} | {row['seeds_that_reach_plain']}"
                     f"{f': {float(tokens) / 1e6:.2f} M' if tokens else ''} |")
    return "\n".join(lines) + "\n"
