"""Scores every candidate on every case of a folder; python -m benchmarks.accuracy.measure --help"""

import argparse
import csv
import hashlib
from pathlib import Path

import numpy as np

from benchmarks.accuracy.candidates import PICTURES, VOLUMES, settings
from litemedsam_jax.evaluation.metrics import score_case
from litemedsam_jax.inference.predictor import LiteMedSAM

RESULTS = Path(__file__).with_name("results.csv")
COLUMNS = ("case", "source", "candidate", "dsc", "nsd", "passes", "prompts")


class CachingEngine:
    """Encodes and decodes the same thing once, so that candidates cost what is new in them.

    `passes` and `prompts` count what was asked, answered from memory or not.
    """

    def __init__(self, engine):
        self._engine = engine
        self.forget()

    def forget(self) -> None:
        """Between cases."""
        self._embeddings, self._logits = {}, {}
        self.passes = self.prompts = 0

    def prepare(self, box_count: int) -> None:
        """Nothing is to be prepared."""

    def encode(self, image: np.ndarray) -> bytes:
        self.passes += 1
        key = hashlib.sha1(image.tobytes()).digest()
        if key not in self._embeddings:
            self._embeddings[key] = self._engine.encode(image)
        return key

    def decode(self, embedding: bytes, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.prompts += len(boxes)
        keys = [(embedding, box.tobytes()) for box in boxes]
        new = [k for k, key in enumerate(keys) if key not in self._logits]
        if new:
            logits, _ = self._engine.decode(self._embeddings[embedding], boxes[new])
            for k, one in zip(new, logits, strict=True):
                self._logits[keys[k]] = one.astype(np.float16)
        found = np.stack([self._logits[key] for key in keys]).astype(np.float32)
        return found, np.ones(len(boxes), np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=Path, required=True, help="folder with imgs/ and gts/")
    parser.add_argument("--sources", type=Path, help="a TSV whose columns case and source key tell")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--results", type=Path, default=RESULTS, help="CSV that is added to")
    args = parser.parse_args()
    sources = _sources(args.sources)
    done = set()
    if args.results.exists():
        done = {(r["case"], r["candidate"]) for r in csv.DictReader(args.results.open())}
    else:
        _append(args.results, COLUMNS)
    model = LiteMedSAM.from_pretrained(device="cpu")
    model.engine = CachingEngine(model.engine)  # type: ignore[assignment]
    for path in case_files(args.cases, args.only):
        _measure(model, path, sources.get(path.stem, path.stem), done, args.results)


def case_files(cases: Path, only: str, prefix: str = "") -> list[Path]:
    """The images of a collection whose names hold a text."""
    files = sorted((cases / "imgs").glob(f"{prefix}*.npz"))
    return [path for path in files if only in path.stem]


def _sources(table: Path | None) -> dict[str, str]:
    if table is None:
        return {}
    rows = csv.DictReader(table.open(encoding="utf-8"), delimiter="\t")
    return {row["case"]: row["source key"] for row in rows}


def _measure(model: LiteMedSAM, path: Path, source: str, done: set, results: Path) -> None:
    case = np.load(path)
    gts = np.load(path.parents[1] / "gts" / path.name)["gts"]
    image, boxes = case["imgs"], case["boxes"]
    volume = boxes.shape[1] == 6
    spacing = case["spacing"] if volume and "spacing" in case else None
    engine = model.engine
    engine.forget()
    segment = model.segment_volume if volume else model.segment_image
    for candidate in VOLUMES if volume else PICTURES:
        if (path.stem, candidate.name) in done:
            continue
        engine.passes = engine.prompts = 0
        with settings(candidate):
            segs = segment(image, boxes, candidate.strategy)
        score = score_case(gts, segs, spacing)
        row = (path.stem, source, candidate.name, f"{score.dsc:.4f}", f"{score.nsd:.4f}")
        _append(results, (*row, engine.passes, engine.prompts))
        print(*row, engine.passes, engine.prompts, flush=True)


def _append(path: Path, row: tuple) -> None:
    with path.open("a", newline="", encoding="utf-8") as out:
        csv.writer(out, lineterminator="\n").writerow(row)


if __name__ == "__main__":
    main()
