"""NIfTI files in and out: NIfTI-1 and NIfTI-2, single files and pairs, packed by gzip or not.

A header can place the voxels twice, by its sform and its qform. The sform counts where its code is
above 0, as in nibabel, FSL and SPM; what is written for an image repeats both. nibabel interprets
headers; nothing in a header is believed before it is compared with the file's length. Source of the
layout: https://nifti.nimh.nih.gov.
"""

import contextlib
import gzip
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import nibabel
import numpy as np

from litemedsam_jax.files import replacing
from litemedsam_jax.imaging.geometry import Geometry

SUFFIXES = (".nii.gz", ".nii", ".hdr", ".img")
# Axes this far from orthogonal are rounding of the header: voxels of the grid's corner that lie
# closer than this part of a voxel to where straight axes put them.
_STRAIGHT = 0.5
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # between NIfTI's RAS and DICOM's LPS
_RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
_MAX_DEFLATE = 1032  # zlib cannot expand a byte to more than this
_CHUNK = 1 << 24


@dataclass(frozen=True)
class NiftiImage:
    """array: (D, H, W) or (D, H, W, 3) in the file's values; notes: what its reader should know."""

    array: np.ndarray
    geometry: Geometry
    notes: tuple[str, ...] = ()


def read_nifti(path: Path) -> NiftiImage:
    """Reads one volume; NaN and infinities stay what they are.

    Args:
        path: A .nii, .nii.gz, .hdr or .img (a pair's other file lies beside it).

    Raises:
        ValueError: The file is damaged, truncated, of a kind that is no volume, or its header does
            not say where its voxels lie.
    """
    about, data = _pair(path)
    try:
        with _opened(about) as (file, _):
            raw = file.read(540)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: is truncated or damaged ({error}); copy it again") from None
    header = _parsed(raw, path)
    size, flat = _size(header, path)
    geometry, notes = _place(header, size, flat, path)
    array = _values(header, size, data, path)
    return NiftiImage(array, replace(geometry, nifti=bytes(header.binaryblock)), notes)


def write_nifti(path: str | Path, array: np.ndarray, geometry: Geometry) -> None:
    """Writes (D, H, W) or (D, H, W, 3) as NIfTI, packed if the path ends so.

    Where the grid was read from a NIfTI file, its sform and qform, with their codes, are repeated.
    """
    header = _header_like(geometry)
    if array.ndim == 4:
        array = np.ascontiguousarray(array).view(_RGB)[..., 0]
    header.set_data_dtype(array.dtype)
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["cal_min"] = header["cal_max"] = 0
    start = 352 if header.sizeof_hdr == 348 else 544
    header["vox_offset"] = start
    head = header.binaryblock.ljust(start, b"\0")
    with replacing(Path(path)) as beside, beside.open("wb") as raw:
        # Without name and time: equal masks are equal files.
        packed = gzip.GzipFile("", "wb", 6, raw, mtime=0) if str(path).endswith(".gz") else None
        with packed or contextlib.nullcontext(raw) as stream:
            stream.write(head)
            for part in array.astype(array.dtype.newbyteorder("<"), copy=False):
                stream.write(np.ascontiguousarray(part).data)


def _pair(path: Path) -> tuple[Path, Path]:
    """The files of header and values."""
    if path.suffix.lower() not in (".hdr", ".img"):
        return path, path
    upper = path.suffix.isupper()
    about, data = (path.with_suffix(s.upper() if upper else s) for s in (".hdr", ".img"))
    for one in (about, data):
        if not one.is_file():
            raise ValueError(f"{path}: its other half, {one.name}, does not lie beside it")
    return about, data


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """The unpacked content, and the most bytes that it can hold.

    Whether it is packed is seen in the file, not in its name.
    """
    length = path.stat().st_size
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if packed:
            with gzip.open(raw) as file:
                yield file, length * _MAX_DEFLATE  # type: ignore[misc]
        else:
            yield raw, length


def _parsed(raw: bytes, path: Path) -> Any:
    single = path.suffix.lower() not in (".hdr", ".img")
    for order in ("<", ">"):
        sizeof = int(np.frombuffer(raw[:4], f"{order}i4")[0]) if len(raw) >= 4 else 0
        if sizeof == 348 and raw[344:347] in (b"n+1", b"ni1") and len(raw) >= 348:
            known = nibabel.Nifti1Header if single else nibabel.nifti1.Nifti1PairHeader
            return known(raw[:348], order, check=False)
        if sizeof == 540 and raw[4:7] in (b"n+2", b"ni2") and len(raw) >= 540:
            known = nibabel.Nifti2Header if single else nibabel.nifti2.Nifti2PairHeader
            return known(raw[:540], order, check=False)
        if sizeof == 348 and not single:
            raise ValueError(
                f"{path}: is an Analyze file, which does not say which side is left; convert it "
                "to NIfTI with the program that wrote it"
            )
    raise ValueError(
        f"{path}: cannot be read as a volume (it does not begin with a NIfTI header: damaged, or "
        "another kind of file under this name)"
    )


def _size(header: Any, path: Path) -> tuple[tuple[int, int, int], bool]:
    """Voxels along x, y, z; whether the file itself is two-dimensional."""
    rank, *sides = header["dim"].tolist()
    if not 1 <= rank <= 7 or min(sides[:rank]) < 1:
        raise ValueError(
            f"{path}: its header is damaged ({rank} axes of {_times(sides)} voxels); export it "
            "again from where it came"
        )
    sides = sides[:rank]
    while len(sides) > 3 and sides[-1] == 1:
        sides.pop()
    if len(sides) > 3:
        last = ", 0" * (len(sides) - 4)
        raise ValueError(
            f"{path}: is {len(sides)}D, {_times(sides)} voxels; expected one 3D volume. Write the "
            'time point or channel you mean to a file of its own: python -c "import nibabel as n; '
            f"n.save(n.load('{path.name}').slicer[:, :, :, 0{last}], 'volume.nii.gz')\""
        )
    x, y, z = sides + [1] * (3 - len(sides))
    return (x, y, z), len(sides) < 3


def _values(header: Any, size: tuple[int, int, int], data: Path, path: Path) -> np.ndarray:
    dtype = _dtype(header, path)
    wanted = math.prod(size) * dtype.itemsize
    start = _start(header, path)
    try:
        with _opened(data) as (file, most):
            if start + wanted > most:
                raise EOFError(f"its header speaks of {wanted} bytes of values")
            file.seek(start)
            content = np.empty(wanted, np.uint8)
            at = 0
            while at < wanted and (count := file.readinto(content.data[at : at + _CHUNK])):  # type: ignore[attr-defined]
                at += count
            if at < wanted:
                raise EOFError(f"{at} of {wanted} bytes of values")
            file.read(1)  # at its end a packed file's checksum is compared
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: is truncated or damaged ({error}); copy it again") from None
    array = content.view(dtype).reshape(size[::-1])
    if dtype == _RGB:
        return content.reshape(*size[::-1], 3)
    return _scaled(array.astype(dtype.newbyteorder("="), copy=False), header)


def _dtype(header: Any, path: Path) -> np.dtype:
    try:
        dtype = header.get_data_dtype()
    except nibabel.spatialimages.HeaderDataError:
        dtype = np.dtype("V1")
    if dtype.kind == "c":
        raise ValueError(f"{path}: holds complex numbers; write their magnitude to a file first")
    if dtype == _RGB or (dtype.kind in "iuf" and dtype.itemsize <= 8):
        return dtype
    raise ValueError(
        f"{path}: holds values of NIfTI's type {int(header['datatype'])}; expected whole numbers, "
        "float32, float64 or RGB of 8 bits"
    )


def _start(header: Any, path: Path) -> int:
    """Where the values begin; NIfTI says that too small a number stands for the header's end."""
    start = float(header["vox_offset"])
    if not math.isfinite(start) or start < 0 or start != int(start) or start > 2**40:
        raise ValueError(
            f"{path}: its header is damaged (values begin at byte {start:g}); export it again from "
            "where it came"
        )
    least = {348: 352, 540: 544}[header.sizeof_hdr]
    return max(int(start), 0 if path.suffix.lower() in (".hdr", ".img") else least)


def _scaled(array: np.ndarray, header: Any) -> np.ndarray:
    slope, shift = header.get_slope_inter()
    if slope is None or (slope, shift) == (1, 0) or array.dtype.kind not in "iuf":
        return array
    wide = np.float64 if array.dtype.itemsize > 2 and array.dtype.kind != "f" else np.float32
    scaled = array.astype(wide if array.dtype.kind != "f" else array.dtype)
    scaled *= slope
    scaled += shift
    return scaled


def _place(
    header: Any, size: tuple[int, int, int], flat: bool, path: Path
) -> tuple[Geometry, tuple[str, ...]]:
    """The grid, by the sform if its code is above 0, else by the qform; what is odd about it."""
    grids: dict[str, Geometry] = {}
    faults: dict[str, str] = {}
    for form in ("sform", "qform"):
        if int(header[f"{form}_code"]) > 0:
            try:
                affine = getattr(header, f"get_{form}")()
                grids[form] = _grid(affine, size, flat)
            except (ValueError, nibabel.spatialimages.HeaderDataError) as error:
                faults[form] = str(error)
    if grids:
        names = list(grids)
        notes = [f"its {form} {fault}; the {names[0]} counts" for form, fault in faults.items()]
        first, *others = grids.values()
        if others and not first.same_as(others[0]):
            apart = np.abs(first.corners() - others[0].corners()).max()
            notes.append(
                f"its sform and its qform differ by up to {apart:.3g} mm; the sform counts for "
                "millimetres and for placing masks, and the output has both"
            )
            first = replace(first, other=others[0])
        return first, tuple(notes)
    if faults:
        told = ", and ".join(f"its {form} {fault}" for form, fault in faults.items())
        raise ValueError(
            f"{path}: {told}, so it does not say where its voxels lie. Resample it onto straight "
            "axes (nibabel.processing.resample_to_output, or 3D Slicer's Resample), or export it "
            "again if its header is damaged"
        )
    return _unplaced(header, size, flat)


def _unplaced(
    header: Any, size: tuple[int, int, int], flat: bool
) -> tuple[Geometry, tuple[str, ...]]:
    """A header with neither form: the axes start at 0, straight, as in ITK."""
    sides = np.abs(header["pixdim"][1:4].astype(np.float64))
    usable = np.isfinite(sides) & (sides > 0)
    notes = () if usable.all() else ("its header gives no voxel size; taken as 1 mm",)
    x, y, z = np.where(usable, sides, 1.0).tolist()
    return Geometry(
        size, (x, y, z), (0.0, 0.0, 0.0), tuple(np.eye(3).ravel().tolist()), flat
    ), notes


def _grid(affine: np.ndarray, size: tuple[int, int, int], flat: bool) -> Geometry:
    """The grid of an affine in RAS; raises ValueError with what is wrong with it."""
    if not np.isfinite(affine).all():
        raise ValueError("holds NaN or infinity")
    lps = _LPS @ affine
    axes = lps[:3, :3]
    spacing = np.linalg.norm(axes, axis=0)
    if spacing.min() < 1e-6:
        raise ValueError("gives voxels of 0 mm")
    left, _, right = np.linalg.svd(axes / spacing)
    direction = left @ right  # the nearest straight axes
    x, y, z = spacing.tolist()
    grid = Geometry(
        size, (x, y, z), tuple(lps[:3, 3].tolist()), tuple(direction.ravel().tolist()), flat
    )
    far = np.array(list(np.ndindex(2, 2, 2))) * (np.array(size) - 1)
    if np.abs(far @ axes.T + lps[:3, 3] - grid.corners()).max() > _STRAIGHT * spacing.min():
        angles = np.degrees(np.arccos(np.clip((axes / spacing).T @ (axes / spacing), -1, 1)))
        worst = np.abs(angles[np.triu_indices(3, 1)] - 90).max()
        raise ValueError(f"is sheared (its axes are {worst:.2g} degrees from right angles)")
    return grid


def _header_like(geometry: Geometry) -> Any:
    """The header that the grid was read from, or a new one in scanner coordinates."""
    if geometry.nifti is not None:
        known = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}[len(geometry.nifti)]
        header = known(geometry.nifti, check=False).as_byteswapped("<")
        header["magic"] = known().structarr["magic"]  # of a pair's header
        _repair(header, geometry)
        return header
    header = nibabel.Nifti1Header()
    header.set_data_shape(geometry.size[: 2 if geometry.flat else 3])
    axes = np.reshape(geometry.direction, (3, 3)) * np.asarray(geometry.spacing)
    affine = _LPS @ np.vstack([np.column_stack([axes, geometry.origin]), [0, 0, 0, 1]])
    header.set_qform(affine, "scanner")
    header.set_sform(affine, "scanner")
    header.set_xyzt_units("mm")
    return header


def _repair(header: Any, geometry: Geometry) -> None:
    """What no viewer could use is not repeated: voxels of 0 mm, a form with NaN."""
    sides = header["pixdim"][1:4]
    broken = ~np.isfinite(sides) | (sides <= 0)
    header["pixdim"][1:4] = np.where(broken, np.abs(geometry.spacing), sides)
    if not np.isfinite(header.get_sform()).all():
        header["sform_code"] = 0
        for row in ("srow_x", "srow_y", "srow_z"):
            header[row] = 0


def _times(sides: Any) -> str:
    return "x".join(map(str, sides))
