"""Scores as tables: CSV files, a summary by modality, text for the terminal."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, median

from litemedsam_jax.evaluation.metrics import CaseScore
from litemedsam_jax.files import replacing
from litemedsam_jax.imaging.file_kinds import modality_of

Row = Sequence[object]


def write_csv(path: str | Path, header: Sequence[str], rows: Sequence[Row]) -> None:
    """Writes a CSV in one move; floats get 4 decimals, NaN is written `nan`."""
    with replacing(path) as beside, beside.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([_cell(value) for value in row] for row in rows)


def case_rows(scores: Mapping[str, CaseScore], columns: Sequence[str]) -> list[Row]:
    """case, then the asked columns (dsc, nsd, hd95): the reference's metrics.csv."""
    return [(case, *(getattr(s, c) for c in columns)) for case, s in sorted(scores.items())]


def label_rows(scores: Mapping[str, CaseScore], columns: Sequence[str]) -> list[Row]:
    """case, label, then the asked columns."""
    return [
        (case, label.label, *(getattr(label, c) for c in columns))
        for case, score in sorted(scores.items())
        for label in score.labels
    ]


def summary_rows(scores: Mapping[str, CaseScore], columns: Sequence[str]) -> list[Row]:
    """modality, cases, then mean and median of each column; `all` last.

    Cases without a score (NaN) are left out of that column's numbers; the note of such a case is
    printed when it is scored.
    """
    groups: dict[str, list[CaseScore]] = {}
    for case, score in sorted(scores.items()):
        groups.setdefault(modality_of(case), []).append(score)
    groups = dict(sorted(groups.items()))
    if len(groups) != 1:
        groups["all"] = list(scores.values())
    rows: list[Row] = []
    for name, members in groups.items():
        row: list[object] = [name, len(members)]
        for column in columns:
            values = [v for m in members if not math.isnan(v := getattr(m, column))]
            row += [fmean(values), median(values)] if values else [math.nan, math.nan]
        rows.append(row)
    return rows


def summary_header(columns: Sequence[str]) -> list[str]:
    """The header of `summary_rows`."""
    return ["modality", "cases", *(f"{c} {kind}" for c in columns for kind in ("mean", "median"))]


def as_text(header: Sequence[str], rows: Sequence[Row]) -> str:
    """Columns lined up: names to the left, numbers to the right."""
    cells = [[str(h) for h in header]] + [[_cell(v) for v in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0])]
            + [c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)]
        )
        for row in cells
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines)


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    # As pandas writes a column rounded to 4 decimals: 0.969, not 0.9690.
    return str(round(value, 4))
