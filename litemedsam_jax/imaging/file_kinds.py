"""What a file is and what its case is called, from its name."""

from pathlib import Path

VOLUME_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
SUFFIXES = (".npz", *VOLUME_SUFFIXES, *PICTURE_SUFFIXES, ".dcm")


def suffix_of(path: str | Path) -> str:
    """The suffix in lower case, `.nii.gz` as one; empty for what is none of ours."""
    name = Path(path).name.lower()
    return next((s for s in SUFFIXES if name.endswith(s) and name != s), "")


def stem_of(path: str | Path) -> str:
    """The name without its suffix: `a/CT.1_0000.nii.gz` is `CT.1_0000`."""
    name = Path(path).name
    return name[: len(name) - len(suffix_of(path))]


def kind_of(path: str | Path) -> str | None:
    """`npz`, `volume`, `picture` or `dicom` (a file, or a folder with a series); None: unknown."""
    path = Path(path)
    suffix = suffix_of(path)
    if path.is_dir():
        try:
            files = sorted(path.iterdir())[:5]
        except OSError:  # not ours to read: no case, but no reason to leave its neighbours
            return None
        return "dicom" if any(map(looks_like_dicom, files)) else None
    if suffix in VOLUME_SUFFIXES:
        return "volume"
    if suffix in PICTURE_SUFFIXES:
        return "picture"
    if suffix == ".npz":
        return "npz"
    return "dicom" if suffix == ".dcm" or looks_like_dicom(path) else None


def looks_like_dicom(path: Path) -> bool:
    """Whether the file bears DICOM's mark; such files often have no suffix."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:  # whoever opens it because of its suffix will tell
        return False


def cases_in(folder: str | Path) -> list[Path]:
    """The files (and DICOM folders) of a folder that hold an image, sorted by name.

    A folder that itself is a DICOM series is its own single case. Raises FileNotFoundError.
    """
    folder = Path(folder)
    if not folder.exists():
        raise FileNotFoundError(f"{folder}: there is no such file or folder")
    if folder.is_file() or kind_of(folder) == "dicom":
        return [folder]
    found = (p for p in folder.iterdir() if not p.name.startswith("."))
    return sorted(p for p in found if kind_of(p) is not None)


def modality_of(case: str) -> str:
    """`CT` of `3DBox_CT_liver_1` and of `CT_Abd_liver_1`; `other` where the name tells nothing."""
    words = stem_of(case).split("_")
    if words[0][:2].upper() in ("2D", "3D") and len(words) > 1:
        words = words[1:]
    return words[0] if len(words) > 1 and words[0].isalpha() else "other"
