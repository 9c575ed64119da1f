"""Two sets of masks of the same cases, case by case."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from litemedsam_jax.evaluation.metrics import CaseScore
from litemedsam_jax.imaging.errors import CaseError


@dataclass(frozen=True)
class Paired:
    """One case in both sets; NaN where a number does not exist."""

    case: str
    dsc: tuple[float, float]
    nsd: tuple[float, float]
    seconds: tuple[float, float]

    @property
    def gain(self) -> float:
        """DSC of B above A's."""
        return self.dsc[1] - self.dsc[0]


HEADER = ("case", "dsc A", "dsc B", "B-A", "nsd A", "nsd B", "B-A", "time A", "time B", "B/A")


def pair_up(
    a: Mapping[str, CaseScore],
    b: Mapping[str, CaseScore],
    times_a: Mapping[str, float],
    times_b: Mapping[str, float],
) -> list[Paired]:
    """The cases scored in both sets, sorted by name. Times are looked up by the npz's name."""
    return [
        Paired(
            case,
            (a[case].dsc, b[case].dsc),
            (a[case].nsd, b[case].nsd),
            (times_a.get(case, math.nan), times_b.get(case, math.nan)),
        )
        for case in sorted(a.keys() & b.keys())
    ]


def rows_of(pairs: Sequence[Paired]) -> list[tuple[object, ...]]:
    """Rows for `HEADER`."""
    return [
        (
            p.case,
            *p.dsc,
            p.gain,
            *p.nsd,
            p.nsd[1] - p.nsd[0],
            *p.seconds,
            p.seconds[1] / p.seconds[0] if p.seconds[0] else math.nan,
        )
        for p in pairs
    ]


def mean_row(pairs: Sequence[Paired]) -> tuple[object, ...]:
    """Means of the columns; of the time ratio, the geometric mean. NaN left out."""
    columns = list(zip(*(row[1:] for row in rows_of(pairs)), strict=True))
    kept = [[v for v in column if not math.isnan(v)] for column in columns]
    means = [fmean(values) if values else math.nan for values in kept]
    ratios = [v for v in kept[-1] if v > 0]
    means[-1] = math.exp(fmean(map(math.log, ratios))) if ratios else math.nan
    return ("mean", *means)


def verdict(pairs: Sequence[Paired]) -> str:
    """How often either is better, and Wilcoxon's signed-rank test on the DSC."""
    gains = np.array([p.gain for p in pairs if not math.isnan(p.gain)])
    better, worse = int((gains > 0).sum()), int((gains < 0).sum())
    text = f"DSC: B better in {better}, A better in {worse}, equal in {len(gains) - better - worse}"
    if better + worse < 6:
        return f"{text}; too few differences for a test"
    from scipy.stats import wilcoxon

    return f"{text}; Wilcoxon signed-rank p = {wilcoxon(gains).pvalue:.2g}"


def read_times(folder: Path) -> dict[str, float]:
    """Seconds by case from `efficiency.csv` beside the masks; empty if there is none.

    Raises:
        CaseError: the file is no such table.
    """
    path = folder / "efficiency.csv"
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as stream:
        try:
            return {row["case"]: float(row["time"]) for row in csv.DictReader(stream)}
        except (KeyError, TypeError, ValueError):
            raise CaseError("expected the columns case,time with seconds", path) from None


def panels_of_case(
    image: np.ndarray,
    boxes: np.ndarray | None,
    spacing: np.ndarray | None,
    masks: Mapping[str, np.ndarray],
    direction: np.ndarray | None = None,
) -> np.ndarray:
    """The case's middle slice with each set of masks in a panel of its own, RGB uint8.

    Args:
        image: (H, W), (H, W, 3), (D, H, W) or (D, H, W, 3), uint8.
        boxes: (N, 4) or (N, 6); None: none are drawn.
        spacing: (3,) x, y, z in mm; None: unknown.
        masks: name to labels on the image's grid, drawn in this order.
        direction: (9,) of a volume's axes, see `drawing.orientation`; None: unknown.

    Returns:
        (H', W', 3).
    """
    from litemedsam_jax.drawing import overlay, shown

    *_, last = masks.values()
    if not shown.is_volume(image, boxes, last):
        return overlay.panels(image, boxes, masks, shown.aspect(spacing))
    z = shown.middle_slice(image, boxes, last)
    upright = overlay.Upright(image, boxes, last, spacing, direction)
    turn, flat = upright.turn, shown.boxes_on_slice(upright.boxes, z)
    masks = {f"{name}, slice {z}": turn.array(labels)[z] for name, labels in masks.items()}
    return overlay.panels(upright.image[z], flat, masks, upright.ratio, sides=(turn.left, turn.top))
