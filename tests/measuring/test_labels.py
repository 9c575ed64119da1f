"""Measurements of labels: known shapes, and SimpleITK's statistics of random ones."""

import numpy as np
import pytest
import SimpleITK as sitk

from litemedsam_jax.imaging.geometry import Geometry
from litemedsam_jax.measuring.labels import PERCENTILES, axial_axis, measure_labels

OBLIQUE = tuple(np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]]).ravel())
SPACING = (0.7, 0.9, 2.5)


def test_a_box_of_known_size():
    labels = np.zeros((20, 60, 50), np.uint8)
    labels[5:9, 10:40, 20:26] = 3
    (one,) = measure_labels(labels, None, SPACING)
    assert one.label == 3 and one.voxels == 4 * 30 * 6 and one.parts == 1
    assert one.ml == pytest.approx(4 * 30 * 6 * 0.7 * 0.9 * 2.5 / 1000)
    assert one.box == (20, 10, 5, 25, 39, 8)
    assert one.centroid == (22.5, 24.5, 6.5) and one.centroid_mm is None
    assert one.axial.longest.mm == pytest.approx(np.hypot(6 * 0.7, 30 * 0.9), rel=0.03)
    assert one.axial.index in range(5, 9) and one.intensities is None


def test_parts_are_counted_and_a_diameter_does_not_span_two():
    labels = np.zeros((4, 50, 100), np.uint8)
    labels[1, 10:20, 10:20] = 1
    labels[1, 10:20, 80:95] = 1
    (one,) = measure_labels(labels, None, (1, 1, 1))
    assert one.parts == 2
    assert one.axial.longest.mm == pytest.approx(np.hypot(10, 15), rel=0.05)
    assert one.largest.mm > 80  # in space it is the whole label's


def test_the_axial_plane_is_the_patients():
    sagittal = (0, 0, 1, 1, 0, 0, 0, 1, 0)  # the array's y runs along the patient's z
    assert axial_axis(None) == 0 and axial_axis(np.eye(3).ravel()) == 0
    assert axial_axis(sagittal) == 1
    labels = np.zeros((40, 30, 20), np.uint8)
    labels[5:35, 10, 4:8] = 1  # one axial slice: 30 voxels along x of the patient, 4 along y
    (one,) = measure_labels(labels, None, (2.0, 1.0, 0.5), direction=sagittal)
    assert (one.axial.axis, one.axial.index) == (1, 10)
    assert one.axial.longest.mm == pytest.approx(np.hypot(30 * 0.5, 4 * 2.0), rel=0.05)


def test_without_a_spacing_there_is_no_volume():
    labels = np.zeros((1, 30, 30), np.uint8)
    labels[0, 3:9, 4:14] = 1
    (one,) = measure_labels(labels, None, None)
    assert one.ml is None and one.axial.longest.mm == pytest.approx(np.hypot(10, 6), rel=0.05)


@pytest.fixture(scope="module")
def random_case():
    rng = np.random.default_rng(3)
    values = rng.normal(40, 100, (12, 40, 50)).astype(np.float32)
    image = sitk.SmoothingRecursiveGaussian(sitk.GetImageFromArray(values), 2)
    smooth = sitk.GetArrayFromImage(image)
    labels = np.digitize(smooth, np.quantile(smooth, [0.6, 0.75, 0.9])).astype(np.uint8)
    return values, labels


def test_volumes_places_and_intensities_are_simpleitks(random_case):
    values, labels = random_case
    geometry = Geometry((50, 40, 12), SPACING, (-20.0, 30.0, 5.0), OBLIQUE)
    images = [sitk.GetImageFromArray(array) for array in (values, labels)]
    for image in images:
        image.SetSpacing(SPACING)
        image.SetOrigin(geometry.origin)
        image.SetDirection(geometry.direction)
    shape, intensity = sitk.LabelShapeStatisticsImageFilter(), sitk.LabelStatisticsImageFilter()
    shape.Execute(images[1])
    intensity.Execute(*images)
    measured = measure_labels(labels, values, SPACING, geometry, geometry.direction)
    assert [one.label for one in measured] == list(shape.GetLabels())
    for one in measured:
        label, found = one.label, one.intensities
        assert one.voxels == shape.GetNumberOfPixels(label)
        assert one.ml * 1000 == pytest.approx(shape.GetPhysicalSize(label))
        np.testing.assert_allclose(one.centroid_mm, shape.GetCentroid(label))
        start, size = np.split(np.array(shape.GetBoundingBox(label)), 2)
        assert one.box == (*start, *(start + size - 1))
        assert found.mean == pytest.approx(intensity.GetMean(label), rel=1e-6)
        assert found.sd == pytest.approx(intensity.GetSigma(label), rel=1e-6)
        assert found.minimum == intensity.GetMinimum(label)
        assert found.maximum == intensity.GetMaximum(label)
        middle = PERCENTILES.index(50)
        assert found.percentiles[middle] == pytest.approx(np.median(values[labels == label]))


def test_the_largest_diameter_is_simpleitks_up_to_half_a_voxel_at_each_end(random_case):
    _, labels = random_case
    image = sitk.GetImageFromArray(labels)
    image.SetSpacing(SPACING)
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.ComputeFeretDiameterOn()
    shape.Execute(image)
    for one in measure_labels(labels, None, SPACING):
        # SimpleITK measures between voxels' centres.
        difference = one.largest.mm - shape.GetFeretDiameter(one.label)
        assert 0 <= difference <= np.linalg.norm(SPACING)
