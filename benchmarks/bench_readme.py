"""The short form of the tables, for the README: all threads, one line a row and competitor."""

from collections.abc import Mapping
from statistics import median

from measuring import OURS, Pair


def short_table(pairs: list[Pair], titles: Mapping[str, str]) -> list[str]:
    """Lines of Markdown; titles: row -> what it is called, in the table's order."""
    threads = max((pair.threads for pair in pairs), default=0)
    chosen = [pair for pair in pairs if pair.threads == threads and not pair.huge]
    lines = [
        "| row | against | seconds, ours / theirs | ratio (min\u2013max) | pairs |",
        "|---|---|---|---|---|",
    ]
    for row, title in titles.items():
        name = title
        others = dict.fromkeys(p.other for p in chosen if p.row == row and p.other != OURS)
        for other in others:
            group = [pair for pair in chosen if (pair.row, pair.other) == (row, other)]
            lines.append(f"| {name} | {other} | {_cells(group)} |")
            name = ""
    return [*lines, "", _peaks(chosen, titles)]


def _cells(group: list[Pair]) -> str:
    ratios = sorted(pair.ours_s / pair.other_s for pair in group)
    ours, theirs = (median(getattr(p, name) for p in group) for name in ("ours_s", "other_s"))
    spread = f" ({ratios[0]:.2f}\u2013{ratios[-1]:.2f})" if len(ratios) > 1 else ""
    seconds = f"{_seconds(ours)} / {_seconds(theirs)}"
    return f"{seconds} | **{median(ratios):.2f}**{spread} | {len(ratios)}"


def _seconds(seconds: float) -> str:
    return (
        f"{seconds:.3f}"
        if seconds < 0.1
        else f"{seconds:.2f}"
        if seconds < 10
        else f"{seconds:.0f}"
    )


def _peaks(pairs: list[Pair], titles: Mapping[str, str]) -> str:
    """A sentence a row: the largest peak of each program."""
    told = []
    for row, title in titles.items():
        peaks: dict[str, float] = {}
        for pair in (pair for pair in pairs if pair.row == row):
            for who, peak in ((OURS, pair.ours_mb), (pair.other, pair.other_mb)):
                if peak:
                    peaks[who] = max(peak, peaks.get(who, 0))
        if peaks:
            told.append(f"{title}: " + ", ".join(f"{who} {mb:.0f}" for who, mb in peaks.items()))
    return "Peak memory, MB. " + "; ".join(told) + "."
