"""Boxes on one slice against full 3D boxes: python -m benchmarks.accuracy.slice_prompts --help

Prompts are simulated from the ground truth: the box of the slice where the object's area is
largest, exact and with each side moved by up to 5 % of the box's size; with its range of slices
known and without. Scored per object, against `best` with the full 3D box.
"""

import argparse
import csv
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.accuracy.measure import _sources, case_files
from benchmarks.accuracy.report import interval
from litemedsam_jax.imaging.slice_prompt import SliceBox, SlicePrompt
from litemedsam_jax.inference.encoded_image import EncodedVolume
from litemedsam_jax.inference.predictor import LiteMedSAM
from litemedsam_jax.inference.slice_propagation import propagate

RESULTS = Path(__file__).with_name("slice_prompts.csv")
NOISE = 0.05
BASELINES = ("reference", "best")
COLUMNS = ("case", "source", "label", "slices", "prompt", "dsc", "first", "last", "passes")


class EmbeddingCache:
    """An engine that encodes each slice once, whatever is asked of it."""

    def __init__(self, engine):
        self._engine = engine
        self.embeddings: dict[bytes, np.ndarray] = {}

    def encode(self, image: np.ndarray) -> np.ndarray:
        """The embedding, from memory if it was computed before."""
        key = hashlib.sha1(image.tobytes()).digest()
        if key not in self.embeddings:
            self.embeddings[key] = np.asarray(self._engine.encode(image))
        return self.embeddings[key]

    def decode(self, embedding: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As the engine does."""
        return self._engine.decode(embedding, boxes)


def prompts_of(mask: np.ndarray, seed: int) -> Iterator[tuple[str, SlicePrompt]]:
    """The simulated prompts of an object (D, H, W), by name."""
    areas = mask.sum(axis=(1, 2))
    index, present = int(areas.argmax()), np.flatnonzero(areas)
    rows, columns = (np.flatnonzero(mask[index].any(axis=axis)) for axis in (1, 0))
    exact = np.array([columns[0], rows[0], columns[-1], rows[-1]], float)
    size = np.tile(exact[2:] - exact[:2] + 1, 2)
    moved = exact + np.random.default_rng(seed).uniform(-NOISE, NOISE, 4) * size
    ends = int(present[0]), int(present[-1])
    for name, box in (("exact", exact), ("noise", np.round(moved))):
        drawn = SliceBox(index, tuple(np.maximum(box, 0).tolist()))
        yield f"{name}, range", SlicePrompt((drawn,), *ends)
        yield f"{name}, no range", SlicePrompt((drawn,))


def dsc(one: np.ndarray, other: np.ndarray) -> float:
    """Of two masks."""
    return float(2 * (one & other).sum() / max(1, one.sum() + other.sum()))


def measure(
    model: LiteMedSAM, path: Path, source: str, most: int, done: set[tuple[str, str]]
) -> Iterator[tuple]:
    """Rows of one case, an object and prompt each."""
    volume = np.load(path)["imgs"]
    gts = np.load(path.parents[1] / "gts" / path.name)["gts"]
    model.engine.embeddings.clear()  # type: ignore[attr-defined]
    labels = [int(one) for one in np.unique(gts[gts > 0])]
    if len(labels) > most:
        labels = [labels[int(k)] for k in np.linspace(0, len(labels) - 1, most)]
    for label in labels:
        if (path.stem, str(label)) in done:
            continue
        truth = gts == label
        present = np.flatnonzero(truth.any(axis=(1, 2)))
        about = (path.stem, source, label, len(present))
        for strategy in BASELINES:
            segs = model.segment_volume(volume, _box(truth), strategy) > 0
            yield (*about, strategy, f"{dsc(truth, segs):.4f}", 0, 0, len(present))
        for name, prompt in prompts_of(truth, label):
            encoded = EncodedVolume(model.engine, volume)
            segs = np.zeros(truth.shape, bool)
            ends = [prompt.boxes[0].index]
            for mask in propagate(encoded, prompt):
                region = mask.region
                segs[mask.index][region.rows, region.columns] = region.mask
                ends.append(mask.index)
            first, last = min(ends) - int(present[0]), max(ends) - int(present[-1])
            yield (*about, name, f"{dsc(truth, segs):.4f}", first, last, encoded.passes)


def _box(truth: np.ndarray) -> np.ndarray:
    found = [np.flatnonzero(truth.any(axis=axes)) for axes in ((0, 1), (0, 2), (1, 2))]
    return np.array([[one[0] for one in found] + [one[-1] for one in found]])


def report(results: Path) -> None:
    """Prints the table: means over cases, intervals over sources."""
    rows = list(csv.DictReader(results.open(encoding="utf-8")))
    measured = Counter((row["case"], row["label"]) for row in rows)
    complete = max(measured.values())  # an object may be under way
    rows = [row for row in rows if measured[row["case"], row["label"]] == complete]
    source = {row["case"]: row["source"] for row in rows}
    cases = sorted(source)
    names = list(dict.fromkeys(row["prompt"] for row in rows))
    groups = defaultdict(list)
    for k, case in enumerate(cases):
        groups[source[case]].append(k)
    by_source = {name: np.array(found) for name, found in groups.items()}

    def means(name: str) -> np.ndarray:
        values = defaultdict(list)
        for row in rows:
            if row["prompt"] == name:
                values[row["case"]].append(100 * float(row["dsc"]))
        return np.array([np.mean(values[case]) for case in cases])

    best = means("best")
    print(f"{len(cases)} volumes of {len(groups)} sources, {len(rows) // len(names)} objects\n")
    print("| prompt | DSC | against best (95 %) | of best | end off by (median) | passes |")
    print("|---|---|---|---|---|---|")
    for name in names:
        own = [row for row in rows if row["prompt"] == name]
        mean, gain = means(name), means(name) - best
        low, high = interval(gain, by_source)
        off = np.median([abs(int(row[end])) for row in own for end in ("first", "last")])
        passes, slices = (sum(int(row[key]) for row in own) for key in ("passes", "slices"))
        print(
            f"| {name} | {mean.mean():.1f} | {gain.mean():+.1f} ({low:+.1f} to {high:+.1f}) | "
            f"{mean.mean() / best.mean():.3f} | {off:g} | {passes / slices:.2f} |"
        )


def main() -> None:
    """Measures what the results lack, then prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=Path, help="folder with imgs/ and gts/")
    parser.add_argument("--sources", type=Path, help="a TSV whose columns case and source key tell")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--most", type=int, default=100, help="objects of a case, spread evenly")
    parser.add_argument("--results", type=Path, default=RESULTS, help="CSV that is added to")
    args = parser.parse_args()
    if args.cases:
        model = LiteMedSAM.from_pretrained(device="cpu")
        model.engine = EmbeddingCache(model.engine)  # type: ignore[assignment]
        run(model, args)
    report(args.results)


def run(model: LiteMedSAM, args: argparse.Namespace) -> None:
    """Adds rows to the results, case by case."""
    sources, done = _sources(args.sources), set()
    if args.results.exists():
        done = {(r["case"], r["label"]) for r in csv.DictReader(args.results.open())}
    with args.results.open("a", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, lineterminator="\n")
        if not done:
            writer.writerow(COLUMNS)
        for path in case_files(args.cases, args.only, "3D"):
            for row in measure(model, path, sources.get(path.stem, path.stem), args.most, done):
                writer.writerow(row)
                out.flush()
                print(*row, flush=True)


if __name__ == "__main__":
    main()
