"""From a slice to a sample: box, augmentation, flips."""

import numpy as np

from litemedsam_jax.training import samples
from litemedsam_jax.training.config import DataConfig


def test_a_sample_is_a_mask_with_a_box_around_it(catalog):
    data = DataConfig(("x",), bbox_shift=4)
    make = samples.FinetuneSample(data, 256)
    rng = np.random.default_rng(0)
    shifts = set()
    for _ in range(40):
        sample = make.random_map(catalog[0], rng)
        image, mask, box = sample["image"], sample["mask"], sample["box"]
        assert image.shape == (256, 256, 3) and image.dtype == np.float32
        assert image.min() >= 0 and image.max() <= 1 and set(np.unique(mask)) == {0, 1}
        rows, columns = np.nonzero(mask)
        tight = [columns.min(), rows.min(), columns.max(), rows.max()]
        grown = (box - tight) * [-1, -1, 1, 1]
        assert (grown >= 0).all() and (grown <= 4).all() and box.max() <= 255
        shifts.update(grown.tolist())
    assert shifts == {0, 1, 2, 3, 4}  # --bbox-shift is honoured
    assert {make.random_map(catalog[0], rng)["name"].item() for _ in range(20)} == {
        f"{catalog[0].entry.name} (label {label})" for label in (1, 2)
    }


def test_augmentation_keeps_image_and_mask_together(catalog):
    one = catalog[0]
    image = np.zeros((256, 256, 3), np.float32)
    mask = np.zeros((256, 256), np.uint8)
    mask[60:120, 30:90] = 1
    image[mask > 0] = 0.8
    rng = np.random.default_rng(0)
    for _ in range(10):
        bright, moved = samples.augment(image, mask, ("intensity", "scale"), rng)
        assert moved.any() and bright.dtype == np.float32 and 0 <= bright.min() <= bright.max() <= 1
        overlap = ((bright[..., 0] > 0.2) & (moved > 0)).sum() / moved.sum()
        assert overlap > 0.95
    assert samples.augment(image, mask, (), rng)[0] is image
    assert one.gts.any()


def test_distillation_flips_both_images_alike(catalog):
    data = DataConfig(("x",), flips=True)
    make = samples.DistillSample(data, 64, 128)
    for seed in range(8):
        sample = make.random_map(catalog[0], np.random.default_rng(seed))
        small, large = sample["image"][..., 0], sample["teacher_image"][::2, ::2, 0]
        assert np.corrcoef(small.ravel(), large.ravel())[0, 1] > 0.7
    squashed = samples.square_input(catalog[0].image, 64, "squash", 2)
    assert squashed[-1].any() and not samples.square_input(catalog[0].image, 64, "pad", 2)[-1].any()
