"""Where work begins, and what saving writes: on the image's own grid, beside what is the user's."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from litemedsam_jax.annotation import edits, project, saving
from litemedsam_jax.annotation.operations import PutLayer
from litemedsam_jax.annotation.run_lengths import encode_cropped
from litemedsam_jax.imaging.case import read_case
from litemedsam_jax.imaging.npz import read_npz, write_npz
from litemedsam_jax.imaging.opened_image import open_image
from litemedsam_jax.measuring.cases import measure_case


@pytest.fixture
def open_editor(closed_later):
    def start(image, folder):
        editor, notes = project.open_editor(image, folder)
        return closed_later(editor), notes

    return start


def draw(editor, z=2, box=(3.0, 4.0, 8.0, 9.0), label=1):
    mask = np.zeros(editor.document.shape[1:], bool)
    mask[int(box[1]) : int(box[3]) + 1, int(box[0]) : int(box[2]) + 1] = True
    layer = edits.box_layer(
        editor.document, editor.next_number(), label=label, z=z, box=box, mask=encode_cropped(mask)
    )
    editor.do(PutLayer(layer))


@pytest.mark.parametrize("suffix", ["nii.gz", "nrrd", "mha"])
def test_masks_lie_where_the_image_lies(open_editor, suffix, oblique, anatomy, tmp_path):
    path = tmp_path / f"scan.{suffix}"
    source = oblique(anatomy)
    sitk.WriteImage(source, str(path))
    image = open_image(path)
    np.testing.assert_array_equal(image.values, anatomy)
    editor, _ = open_editor(image, tmp_path / "out")
    draw(editor)
    original = path.read_bytes()
    assert project.progress(path, tmp_path / "out") == "edited"
    files = {file.name for file in saving.save(image, editor.document, tmp_path / "out")}
    others = {"scan.boxes.json", "scan.measurements.csv", "scan.labels.json"}
    assert files == {f"scan.{suffix}", *others}
    table = (tmp_path / "out" / "scan.measurements.csv").read_text().splitlines()
    names, values = table[0].split(","), table[1].split(",")
    row = dict(zip(names, values, strict=True))
    assert row["voxels"] == "36" and row["volume_ml"] == f"{36 * 0.7 * 0.8 * 3 / 1000:.6g}"
    assert (row["name"], row["first_slice"], row["last_slice"]) == ("label 1", "2", "2")
    measured = measure_case(tmp_path / "out" / f"scan.{suffix}", path).measurements[0].axial
    assert row["unit"] == "mm" and row["axial_slice"] == str(measured.index)
    lengths = measured.longest.mm, measured.perpendicular.mm
    assert (row["longest_axial"], row["perpendicular_axial"]) == tuple(f"{v:.6g}" for v in lengths)
    assert project.progress(path, tmp_path / "out") == "saved" and path.read_bytes() == original
    saved = sitk.ReadImage(str(tmp_path / "out" / f"scan.{suffix}"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(saved), editor.document.voxels)
    for what in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(saved, what)(), getattr(source, what)(), atol=1e-4)
    boxes = json.loads((tmp_path / "out" / "scan.boxes.json").read_text())
    assert boxes["boxes"] == [[3, 4, 2, 8, 9, 2]]


def test_a_dicom_series_also_gets_a_segmentation_object(open_editor, series, tmp_path):
    import highdicom
    import pydicom

    image = open_image(series(tmp_path / "series"))
    editor, _ = open_editor(image, tmp_path / "out")
    draw(editor)
    saving.save(image, editor.document, tmp_path / "out")
    seg = highdicom.seg.Segmentation.from_dataset(pydicom.dcmread(tmp_path / "out" / "series.dcm"))
    volume = seg.get_volume(combine_segments=True)
    assert volume.array.sum() == editor.document.voxels.sum() == 36
    labels = sitk.ReadImage(str(tmp_path / "out" / "series.nii.gz"))
    indices = np.argwhere(volume.array)
    place = volume.map_indices_to_reference(indices)
    expected = [
        labels.TransformIndexToPhysicalPoint([int(x), int(y), int(z)])
        for z, y, x in np.argwhere(sitk.GetArrayFromImage(labels))
    ]
    np.testing.assert_allclose(
        np.array(sorted(map(tuple, place.round(3)))), np.array(sorted(expected)).round(3), atol=2e-3
    )


def test_a_mask_beside_the_image_is_the_start_and_stays_as_it_is(
    open_editor, anatomy, organs, tmp_path
):
    for name, array in (("scan", anatomy), ("scan_mask", organs)):
        sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / f"{name}.nii.gz"))
    image = open_image(tmp_path / "scan.nii.gz")
    editor, notes = open_editor(image, tmp_path / "out")
    np.testing.assert_array_equal(editor.document.voxels, organs)
    assert notes == ["begins with scan_mask.nii.gz"] and list(editor.document.labels) == [1, 2, 5]
    draw(editor, z=0)
    editor.close()
    # The journal goes on from what it began with, whatever became of that file since.
    (tmp_path / "scan_mask.nii.gz").unlink()
    again, _ = open_editor(image, tmp_path / "out")
    assert (again.document.voxels[0] > 0).sum() == 36
    np.testing.assert_array_equal(again.document.voxels[1:], organs[1:])


def test_a_case_of_the_challenge_reads_as_one(open_editor, oblique, anatomy, tmp_path):
    sitk.WriteImage(oblique(anatomy), str(tmp_path / "scan.nii.gz"))
    image = open_image(tmp_path / "scan.nii.gz")
    editor, _ = open_editor(image, tmp_path / "out")
    with pytest.raises(ValueError, match="needs a box"):
        saving.save_case(image, editor.document, tmp_path / "out")
    draw(editor)
    path = saving.save_case(image, editor.document, tmp_path / "out")
    case = read_case(path)
    assert case.boxes.tolist() == [[3, 4, 2, 8, 9, 2]] and not case.warnings
    np.testing.assert_array_equal(case.image, image.network_image())
    np.testing.assert_array_equal(read_npz(path, ("gts",))["gts"], editor.document.voxels)


def test_saved_masks_are_the_start_where_the_journal_is_gone(open_editor, tmp_path):
    write_npz(
        tmp_path / "case.npz",
        imgs=np.arange(2000, dtype=np.int64).reshape(5, 20, 20).astype(np.uint8),
    )
    image = open_image(tmp_path / "case.npz")
    editor, _ = open_editor(image, tmp_path / "out")
    draw(editor)
    saving.save(image, editor.document, tmp_path / "out")
    editor.close()
    for file in (tmp_path / "out" / ".annotation").iterdir():
        file.unlink()
    again, notes = open_editor(image, tmp_path / "out")
    np.testing.assert_array_equal(again.document.voxels, editor.document.voxels)
    assert notes == ["goes on from the saved case.npz"]


def test_an_image_is_never_replaced(open_editor, tmp_path):
    write_npz(
        tmp_path / "case.npz",
        imgs=np.arange(2000, dtype=np.int64).reshape(5, 20, 20).astype(np.uint8),
    )
    image = open_image(tmp_path / "case.npz")
    editor, _ = open_editor(image, tmp_path)
    draw(editor)
    before = (tmp_path / "case.npz").read_bytes()
    with pytest.raises(ValueError, match="replace the image"):
        saving.save(image, editor.document, tmp_path)
    assert (tmp_path / "case.npz").read_bytes() == before


def test_masks_of_another_grid_are_not_loaded_but_said(open_editor, anatomy, tmp_path):
    image, mask = (sitk.GetImageFromArray(a) for a in (anatomy, np.ones((3, 4, 5), np.uint8)))
    mask.SetSpacing((1.5, 1.5, 1.5))
    sitk.WriteImage(image, str(tmp_path / "scan.nrrd"))
    sitk.WriteImage(mask, str(tmp_path / "scan_mask.nrrd"))
    editor, notes = open_editor(open_image(tmp_path / "scan.nrrd"), tmp_path / "out")
    assert not editor.document.voxels.any() and "was not loaded" in notes[0]
