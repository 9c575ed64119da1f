"""Scores as a plot: every case a dot, by modality."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from litemedsam_jax.evaluation.metrics import CaseScore
from litemedsam_jax.files import replacing
from litemedsam_jax.imaging.file_kinds import modality_of

_TITLES = {"dsc": "DSC", "nsd": "NSD", "hd95": "HD95"}


def write_plot(path: str | Path, scores: Mapping[str, CaseScore], columns: Sequence[str]) -> None:
    """One panel a score; boxes are quartiles, the line is the median. PNG, SVG or PDF by suffix."""
    from matplotlib.figure import Figure  # not pyplot: no window system, no global state

    groups: dict[str, list[CaseScore]] = {}
    for case, score in sorted(scores.items()):
        groups.setdefault(modality_of(case), []).append(score)
    names = sorted(groups)
    width = max(3.2, 1.2 + 0.6 * len(names))
    figure = Figure((width * len(columns), 3.6), dpi=150, layout="constrained")
    for axis, column in zip(
        figure.subplots(1, len(columns), squeeze=False)[0], columns, strict=True
    ):
        for position, name in enumerate(names):
            values = [v for s in groups[name] if not math.isnan(v := getattr(s, column))]
            if not values:
                continue
            axis.boxplot(
                values, positions=[position], widths=0.5, showfliers=False,
                medianprops={"color": "#c62828"},
            )  # fmt: skip
            spread = [position + 0.08 * ((i % 5) - 2) for i in range(len(values))]
            axis.scatter(spread, values, s=12, alpha=0.7, color="#1565c0", linewidths=0, zorder=3)
        labels = [f"{name}\n({len(groups[name])})" for name in names]
        axis.set_xticks(range(len(names)), labels, fontsize=8)
        axis.set_title(_TITLES.get(column, column))
        axis.grid(axis="y", alpha=0.3)
        if column != "hd95":
            axis.set_ylim(-0.02, 1.02)
    with replacing(path) as beside:
        figure.savefig(beside)
