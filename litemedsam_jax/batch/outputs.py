"""Where each case's files go, and which cases would overwrite another one's, or an original."""

import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from litemedsam_jax.batch.one_case import BatchOptions, is_npz, masks_name
from litemedsam_jax.imaging.file_kinds import kind_of, stem_of


def conflicts(paths: Sequence[Path], options: BatchOptions) -> dict[Path, str]:
    """The cases that cannot be run beside the others, since files would be overwritten.

    Names that differ by case alone count as one: on Windows and macOS they are.

    Args:
        paths: all cases of the folder, those of other shards too.
        options: where masks and overlays go.

    Returns:
        A sentence by case.
    """
    originals = _keys(paths) | _keys(_box_files(options))
    writers: dict[str, list[Path]] = {}
    for path in paths:
        for target in _targets(path, options):
            writers.setdefault(_key(target), []).append(path)
    reasons: dict[Path, str] = {}
    for path in paths:
        for target in _targets(path, options):
            others = [other for other in writers[_key(target)] if other != path]
            if others:
                names = " and ".join(sorted({path.name, *(other.name for other in others)}))
                reasons[path] = f"{names} would both be written to {target}; rename one of them"
            elif len(writers[_key(target)]) > 1:
                reasons[path] = (
                    f"its masks and its overlay would both be written to {target}; give another "
                    "--overlay"
                )
            elif _key(target) in originals:
                reasons[path] = (
                    f"{target} is an original, which the masks would replace; give another -o"
                )
    return reasons


def _targets(path: Path, options: BatchOptions) -> list[Path]:
    """The files that a case's masks and overlay are written to."""
    targets = [options.outputs / masks_name(path)]
    if options.overlays is not None:
        name = path.stem if is_npz(path) else stem_of(path)
        targets.append(options.overlays / f"{name}.{options.overlay_format}")
    if options.files is not None and options.files.dicom_seg and kind_of(path) == "dicom":
        targets.append(options.outputs / f"{stem_of(path)}.dcm")
    return targets


def _box_files(options: BatchOptions) -> list[Path]:
    if options.files is None:
        return []
    boxes = options.files.boxes
    return list(boxes.iterdir()) if boxes.is_dir() else [boxes]


def _keys(paths: Iterable[Path]) -> set[str]:
    return {_key(path) for path in paths}


def _key(path: Path) -> str:
    # Of a link the link itself would be replaced, not what it points to.
    target = Path(os.path.realpath(path.parent), path.name)
    return unicodedata.normalize("NFC", str(target)).casefold()
