"""Tables and the plot of docs/accuracy.md from the measured scores.

python -m benchmarks.accuracy.report > tables.md
"""

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import numpy as np

from benchmarks.accuracy.candidates import PICTURES, VOLUMES
from benchmarks.accuracy.measure import RESULTS

# Passes through the encoder that a strategy may take, in those of the reference, on average.
MOST_PASSES = 3.0
PLOT = Path("docs/accuracy/cases.png")


class Scores:
    """DSC and NSD of each candidate, case by case, in percent points."""

    def __init__(self, path: Path, prefix: str):
        rows = [r for r in csv.DictReader(path.open()) if r["case"].startswith(prefix)]
        self.cases = sorted({row["case"] for row in rows})
        self.source = {row["case"]: row["source"] for row in rows}
        self._rows = {(row["candidate"], row["case"]): row for row in rows}
        known = [one.name for one in (PICTURES if prefix == "2D" else VOLUMES)]
        self.candidates = [
            name for name in known if all((name, case) in self._rows for case in self.cases)
        ]

    def of(self, candidate: str, what: str = "dsc") -> np.ndarray:
        factor = 1 if what in ("passes", "prompts") else 100
        return np.array([float(self._rows[candidate, c][what]) * factor for c in self.cases])

    def gain(self, candidate: str, what: str = "dsc") -> np.ndarray:
        return self.of(candidate, what) - self.of("reference", what)

    def cost(self, candidate: str) -> float:
        return float((self.of(candidate, "passes") / self.of("reference", "passes")).mean())

    def groups(self) -> dict[str, np.ndarray]:
        """Indices of each source's cases."""
        found = defaultdict(list)
        for index, case in enumerate(self.cases):
            found[self.source[case]].append(index)
        return {source: np.array(indices) for source, indices in found.items()}


def interval(gains: np.ndarray, groups: dict[str, np.ndarray]) -> tuple[float, float]:
    """95 % bootstrap interval of the mean: sources are drawn, and then cases within them."""
    random = np.random.default_rng(0)
    names, means = list(groups), []
    for _ in range(4000):
        drawn = [groups[names[k]] for k in random.integers(len(names), size=len(names))]
        picked = np.concatenate([random.choice(one, len(one)) for one in drawn])
        means.append(gains[picked].mean())
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def held_out(scores: Scores) -> tuple[np.ndarray, dict[str, str]]:
    """Each case's gain by the candidate that the other sources choose, and what was chosen."""
    affordable = [name for name in scores.candidates if scores.cost(name) <= MOST_PASSES]
    gains, chosen = np.zeros(len(scores.cases)), {}
    for source, inside in scores.groups().items():
        others = np.setdiff1d(np.arange(len(gains)), inside)
        chosen[source] = max(affordable, key=lambda name: scores.gain(name)[others].mean())
        gains[inside] = scores.gain(chosen[source])[inside]
    return gains, chosen


def print_candidates(scores: Scores) -> None:
    groups = scores.groups()
    print("| strategy | DSC | gain (95 %) | smallest | NSD gain | passes, most | prompts |")
    print("|---|---|---|---|---|---|---|")
    for name in scores.candidates:
        gain = scores.gain(name)
        low, high = interval(gain, groups)
        shown = "" if name == "reference" else f"{gain.mean():+.1f} ({low:+.1f} to {high:+.1f})"
        lost = "" if name == "reference" else f"{gain.min():+.1f}"
        prompts = (scores.of(name, "prompts") / scores.of("reference", "prompts")).mean()
        nsd = "" if name == "reference" else f"{scores.gain(name, 'nsd').mean():+.1f}"
        most = (scores.of(name, "passes") / scores.of("reference", "passes")).max()
        print(
            f"| {name} | {scores.of(name).mean():.1f} | {shown} | {lost} | {nsd} | "
            f"{scores.cost(name):.1f}, {most:.0f} | {prompts:.1f} |"
        )


def print_held_out(scores: Scores) -> None:
    gains, chosen = held_out(scores)
    low, high = interval(gains, scores.groups())
    print("\n| source left out | chosen by the others | cases | gain of the left out |")
    print("|---|---|---|---|")
    for source, inside in scores.groups().items():
        print(f"| {source} | {chosen[source]} | {len(inside)} | {gains[inside].mean():+.1f} |")
    print(f"| all | | {len(gains)} | {gains.mean():+.1f} ({low:+.1f} to {high:+.1f}) |")


def print_cases(scores: Scores) -> None:
    shown = [name for name in ("best", "thorough") if name in scores.candidates]
    print("\n| case | reference | " + " | ".join(shown) + " | NSD | passes |")
    print("|---|---|" + "---|" * (len(shown) + 2))
    order = np.argsort(scores.gain("best"), kind="stable")
    for k in order:
        values = [f"{scores.of(name)[k]:.1f} ({scores.gain(name)[k]:+.1f})" for name in shown]
        passes = scores.of("best", "passes")[k] / scores.of("reference", "passes")[k]
        nsd = f"{scores.gain('best', 'nsd')[k]:+.1f}"
        cells = (scores.cases[k], f"{scores.of('reference')[k]:.1f}", *values, nsd, f"{passes:.1f}")
        print("| " + " | ".join(cells) + " |")


def print_sources(scores: Scores) -> None:
    print("\n| source | cases | reference | best | gain | smallest | NSD gain |")
    print("|---|---|---|---|---|---|---|")
    gain, nsd = scores.gain("best"), scores.gain("best", "nsd")
    by_gain = sorted(scores.groups().items(), key=lambda group: gain[group[1]].mean())
    for source, inside in by_gain:
        before, after = scores.of("reference")[inside].mean(), scores.of("best")[inside].mean()
        print(
            f"| {source} | {len(inside)} | {before:.1f} | {after:.1f} | {after - before:+.1f} | "
            f"{gain[inside].min():+.1f} | {nsd[inside].mean():+.1f} |"
        )
    means = np.array([gain[inside].mean() for _, inside in by_gain])
    print(f"| mean of {len(means)} sources | | | | {means.mean():+.1f} | {means.min():+.1f} | |")


def print_modalities(scores: Scores) -> None:
    modality = np.array([case.split("_")[1] for case in scores.cases])
    print("\n| modality | cases | reference | best | gain | NSD gain |")
    print("|---|---|---|---|---|---|")
    for one in sorted(set(modality)):
        inside = modality == one
        before, after = scores.of("reference")[inside].mean(), scores.of("best")[inside].mean()
        nsd = scores.gain("best", "nsd")[inside].mean()
        print(
            f"| {one} | {inside.sum()} | {before:.1f} | {after:.1f} | {after - before:+.1f} | "
            f"{nsd:+.1f} |"
        )


def plot(all_scores: list[Scores], path: Path) -> None:
    """One line a case, from the reference's DSC to that of `best`."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    heights = [len(scores.cases) for scores in all_scores]
    figure, axes = pyplot.subplots(
        len(heights), 1, figsize=(9, 0.28 * sum(heights) + 1.5), height_ratios=heights, sharex=True
    )
    for axis, scores in zip(np.atleast_1d(axes), all_scores, strict=True):
        before, after = scores.of("reference"), scores.of("best")
        order = np.argsort(after - before)
        for row, k in enumerate(order):
            colour = "tab:green" if after[k] >= before[k] else "tab:red"
            axis.annotate(
                "",
                (after[k], row),
                (before[k], row),
                arrowprops={"arrowstyle": "->", "color": colour},
            )
            axis.plot(before[k], row, "o", color="grey", markersize=4)
        axis.set_yticks(range(len(order)), [scores.cases[k] for k in order], fontsize=7)
        axis.grid(axis="x", alpha=0.3)
        axis.set_ylim(-0.7, len(order) - 0.3)
    np.atleast_1d(axes)[-1].set_xlabel(
        "DSC (%): the dot is the reference, the arrow's head is best"
    )
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--plot", type=Path, default=PLOT)
    args = parser.parse_args()
    found = []
    for prefix in ("3D", "2D"):
        scores = Scores(args.results, prefix)
        if not scores.cases:
            continue
        found.append(scores)
        print(f"\n## {prefix}\n")
        print_candidates(scores)
        print_held_out(scores)
        print_sources(scores)
        print_modalities(scores)
        print_cases(scores)
    plot(found, args.plot)


if __name__ == "__main__":
    main()
