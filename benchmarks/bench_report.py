"""The table of benchmarks/inference.py."""

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles

from bench_readme import short_table
from measuring import OURS, OURS_FLOAT32, REPOSITORY, Pair

TITLES = {
    "cold-2d": "cold, 2D, 1 box, 700x700",
    "cold-3d-1": "cold, 3D, 1 box x 20 slices of 512x512",
    "cold-3d-8": "cold, 3D, 8 boxes, 20 slices of 512x512",
    "encoder": "warm encoder, 1 slice",
    "cold-2d-bfloat16": "cold, 2D, 1 box, 700x700, bfloat16",
    "cold-3d-8-bfloat16": "cold, 3D, 8 boxes, 20 slices of 512x512, bfloat16",
    "encoder-bfloat16": "warm encoder, 1 slice, bfloat16",
    "decoder-1": "warm decoder, 1 box",
    "decoder-8": "warm decoder, 8 boxes",
    "decoder-32": "warm decoder, 32 boxes",
    "decoder-125": "warm decoder, 125 boxes",
    "memory-volume": "600x512x512, 20 boxes (18 of 3 slices, two of 200 that overlap by half)",
    "memory-picture": "3000x4000, 241 boxes",
}
# At most, for 2 threads: ratio ours / other, and MB.
TARGETS = {
    ("encoder", "OpenVINO"): 0.95,
    ("encoder-bfloat16", "OpenVINO, its default precision"): 1.0,
    ("encoder-bfloat16", OURS_FLOAT32): 0.45,
    ("cold-2d-bfloat16", "OpenVINO, its default precision"): 0.8,
    ("cold-3d-8-bfloat16", "OpenVINO, its default precision"): 0.9,
    ("encoder", "torch alone"): 0.45,
    ("cold-2d", "reference script"): 0.22,
    ("cold-2d", "torch alone"): 0.40,
    ("cold-2d", "OpenVINO"): 1.0,
    ("cold-3d-8", "reference script"): 0.06,
    ("cold-3d-8", "reference script (scaled)"): 0.06,
    ("cold-3d-8", "torch, cached"): 0.4,
}
MEMORY_TARGETS = {
    "cold-2d": 500,
    "cold-3d-1": 1500,
    "cold-3d-8": 1500,
    "cold-2d-bfloat16": 500,
    "cold-3d-8-bfloat16": 600,
    "memory-volume": 1500,
    "memory-picture": 1500,
}
ENOUGH = 3  # pairs; a verdict on fewer gets a question mark
PACKAGES = ("jaxlib", "torch", "onnxruntime", "openvino", "numpy", "opencv-python-headless")


def write_report(pairs: list[Pair], cases, work: Path, path: Path, note: str) -> str:
    """Writes the tables.

    Args:
        cases: the module bench_cases, for the number of encoder passes.
        work: holds the cases and, if it was measured, the profile.
        path: of the report; the profile's name follows from it.
    """
    pairs = [*pairs, *_scaled(pairs, cases, work / "cases")]
    lines = ["# Inference benchmark", "", *_header(pairs, note), ""]
    lines += [
        "| row | threads | against | ours s | other s | ratio | quartiles | min-max | of fastest "
        "| pairs | DSC | target |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    timed = [pair for pair in pairs if pair.other != OURS]
    lines += [_timing(key, group) for key, group in _grouped(timed)]
    lines += ["", "| row | threads | program | peak MB | target |", "|---|---|---|---|---|"]
    lines += _memory(pairs)
    if (profile := profile_path(work, path)).exists():
        told = profile.read_text(encoding="utf-8").strip()
        lines += ["", "## Our cold 2D case by stage", "", told]
    lines += ["", "## For the README", "", *short_table(pairs, TITLES)]
    text = "\n".join(lines) + "\n"
    path.write_text(text, encoding="utf-8")
    return text


def profile_path(work: Path, report: Path) -> Path:
    """Where our own cold case by stage is kept for a report."""
    return work / f"profile_{report.stem}.md"


def _grouped(pairs: Iterable[Pair]) -> list[tuple[tuple, list[Pair]]]:
    order = list(TITLES)
    groups: dict[tuple, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault((pair.row, pair.threads, pair.other, pair.huge), []).append(pair)
    return sorted(groups.items(), key=lambda item: (-item[0][1], order.index(item[0][0])))


def _timing(key: tuple, group: list[Pair]) -> str:
    row, threads, other, huge = key
    ratios = sorted(pair.ours_s / pair.other_s for pair in group)
    low, _, high = quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    target = TARGETS.get((row, other)) if threads == 2 and not huge else None
    met = ""
    if target is not None:
        doubt = "" if len(group) >= ENOUGH else "?"
        met = f"{target:.2f} {'met' if median(ratios) <= target else 'MISSED'}{doubt}"
    cells = [
        TITLES[row],
        str(threads),
        other + (" with huge pages" if huge else ""),
        _seconds(median(pair.ours_s for pair in group)),
        _seconds(median(pair.other_s for pair in group)),
        f"**{median(ratios):.3f}**",
        f"{low:.3f}-{high:.3f}",
        f"{ratios[0]:.3f}-{ratios[-1]:.3f}",
        f"{min(p.ours_s for p in group) / min(p.other_s for p in group):.3f}",
        str(len(group)),
        f"{min(pair.dsc for pair in group):.4f}",
        met,
    ]
    return f"| {' | '.join(cells)} |"


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f}" if seconds < 10 else f"{seconds:.1f}"


def _memory(pairs: list[Pair]) -> list[str]:
    peaks: dict[tuple[str, int, str], float] = {}
    for pair in pairs:
        for who, peak in ((OURS, pair.ours_mb), (pair.other, pair.other_mb)):
            if peak and not pair.huge:
                key = (pair.row, pair.threads, who)
                peaks[key] = max(peak, peaks.get(key, 0))
    order = list(TITLES)
    lines = []
    for (row, threads, who), peak in sorted(
        peaks.items(), key=lambda item: (-item[0][1], order.index(item[0][0]), item[1])
    ):
        limit = MEMORY_TARGETS[row]
        met = "" if who != OURS else f"{limit} {'met' if peak <= limit else 'MISSED'}"
        lines.append(f"| {TITLES[row]} | {threads} | {who} | {peak:.0f} | {met} |")
    return lines


def _scaled(pairs: list[Pair], cases, folder: Path) -> list[Pair]:
    """The reference's algorithm on 8 boxes, from its runs on 1: it costs by encoder passes."""
    sources = [p for p in pairs if (p.row, p.other) == ("cold-3d-1", "reference script")]
    if any((p.row, p.other) == ("cold-3d-8", "reference script") for p in pairs) or not sources:
        return []
    one, eight = (
        cases.encoder_passes(cases.write(f"volume_{name}", folder)) for name in ("1_box", "8_boxes")
    )
    made = []
    for threads in {p.threads for p in sources}:
        ours = [p.ours_s for p in pairs if p.row == "cold-3d-8" and p.threads == threads]
        for source in (p for p in sources if p.threads == threads and ours):
            seconds = source.other_s + source.segment * (eight / one - 1)
            name = "reference script (scaled)"
            made.append(Pair("cold-3d-8", threads, name, median(ours), seconds))
    return made


def _header(pairs: list[Pair], note: str) -> list[str]:
    commit = subprocess.run(
        ["git", "describe", "--always"], cwd=REPOSITORY, capture_output=True, text=True
    ).stdout.strip()
    versions = ", ".join(filter(None, map(_version, PACKAGES)))
    lines = [
        f"`python benchmarks/inference.py`, {datetime.now(UTC):%Y-%m-%d}, commit {commit}. "
        f"{_processor()}, {os.cpu_count()} CPUs; Python {platform.python_version()}, {versions}.",
    ]
    if note:
        lines += ["", note]
    lines += [
        "",
        "Pairs of adjacent runs on the same CPUs with the same weights, in float32 "
        "where no row says bfloat16; ratio is ours / "
        "other, the median over the pairs; 'of fastest' is our fastest run over the other's "
        "fastest, which noise disturbs least. Cold: one fresh process from its start to the "
        "written mask. Ours is `predict.sh` with stored programs; OpenVINO has its model cache, "
        "ONNX Runtime its optimised graph; both and 'torch, cached' encode a slice once, and both "
        "decode its boxes together (PyTorch, not faster so, one by one). 'Reference script' is the "
        "reference's algorithm (encoder per slice and box) with the imports of its script "
        "(matplotlib, pandas), but without timm, overlays and progress bar. DSC: the smallest of "
        "any label against ours. The second table is peak resident memory, the largest of all "
        "runs. A verdict with a question mark rests on fewer than 3 pairs.",
    ]
    if any(pair.other.endswith("(scaled)") for pair in pairs):
        lines += [
            "",
            "(scaled): measured with 1 box, all of its slices, and scaled by the number of encoder "
            "passes; `--full` measures it.",
        ]
    return lines


def _version(package: str) -> str:
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return ""


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
