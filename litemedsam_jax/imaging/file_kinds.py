"""What a file is and what its case is called: from its name; DICOM, from how it begins."""

from pathlib import Path

NIFTI_SUFFIXES = (".nii.gz", ".nii", ".hdr", ".img")
VOLUME_SUFFIXES = (*NIFTI_SUFFIXES, ".nrrd", ".nhdr", ".mha", ".mhd")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
_SEGMENTATION = b"1.2.840.10008.5.1.4.1.1.66.4"
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
    """`npz`, `volume`, `image_2d` or `dicom` (a file, or a folder with a series); None: unknown."""
    path = Path(path)
    suffix = suffix_of(path)
    if path.is_dir():
        return "dicom" if _holds_series(path) else None
    if suffix in VOLUME_SUFFIXES:
        return "volume"
    if suffix in PICTURE_SUFFIXES:
        return "image_2d"
    if suffix == ".npz":
        return "npz"
    return "dicom" if suffix == ".dcm" or looks_like_dicom(path) else None


def _holds_series(folder: Path) -> bool:
    """Whether a folder is a DICOM series, or a CD of one, rather than a folder of cases.

    Viewers, notes, 2D images and labels may lie beside the slices, but no more than there are.
    """
    try:
        files = [path for path in folder.iterdir() if path.is_file()]
    except OSError:  # not ours to read: no case, but no reason to leave its neighbours
        return False
    kinds = [suffix_of(path) for path in files]
    others = sum(kind not in ("", ".dcm") for kind in kinds)
    slices = 0
    for path, kind in zip(files, kinds, strict=True):
        slices += kind in ("", ".dcm") and looks_like_dicom(path) and not _is_segmentation(path)
        if slices > others:
            return True
    return False


def _is_segmentation(path: Path) -> bool:
    """Whether a DICOM file's own header names it a SEG object; several are several cases."""
    with path.open("rb") as file:
        return _SEGMENTATION in file.read(512)


def looks_like_dicom(path: Path) -> bool:
    """Whether the file begins as DICOM does, with its mark or without; many have no suffix."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            head = file.read(132)
    except OSError:  # whoever opens it because of its suffix will tell
        return False
    return head[128:] == b"DICM" or _begins_with_data_element(head)


def _begins_with_data_element(head: bytes) -> bool:
    """A file without preamble begins with its first data element: (0002,xxxx) or (0008,xxxx)."""
    if len(head) < 16 or head[:2] not in (b"\x02\x00", b"\x08\x00"):
        return False
    element = int.from_bytes(head[2:4], "little")
    if element > 0x18:
        return False
    explicit = head[4:6] in (b"UL", b"OB", b"UI", b"CS", b"SH", b"DA", b"TM", b"AE")
    return explicit or int.from_bytes(head[4:8], "little") <= 128


def cases_in(folder: str | Path) -> list[Path]:
    """The files (and DICOM folders) of a folder that hold an image, sorted by name.

    A folder that itself is a DICOM series is its own single case. Raises FileNotFoundError.
    """
    folder = Path(folder)
    if not folder.exists():
        raise FileNotFoundError(f"{folder}: there is no such file or folder")
    if folder.is_file() or kind_of(folder) == "dicom":
        return [folder]
    entries = {path for path in folder.iterdir() if not path.name.startswith(".")}
    halves = {path for path in entries if path.name.endswith(".img")}  # of a .hdr
    entries -= {path for path in halves if path.with_suffix(".hdr") in entries}
    return sorted(path for path in entries if kind_of(path) is not None)


def modality_of(case: str) -> str:
    """`CT` of `3DBox_CT_liver_1` and of `CT_Abd_liver_1`; `other` where the name tells nothing."""
    words = stem_of(case).split("_")
    if words[0][:2].upper() in ("2D", "3D") and len(words) > 1:
        words = words[1:]
    return words[0] if len(words) > 1 and words[0].isalpha() else "other"
