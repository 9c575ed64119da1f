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


def test_prompts_of_use_are_tight_loose_shifted_and_what_strategies_ask(catalog):
    index = next(i for i, e in enumerate(catalog.entries) if e.position == 0)
    one = catalog[index]
    known = np.array([[5, 6, 80, 70]])
    boxes = {(one.entry.case, label, 0): known for label in one.entry.labels}
    data = DataConfig(("x",), bbox_shift=2, prompts="use", flips=True)
    make = samples.FinetuneSample(data, 256, use_boxes=boxes)
    rng = np.random.default_rng(0)
    inside = covers = volumes = 0
    for _ in range(200):
        sample = make.random_map(one, rng)
        mask, box = sample["mask"], sample["box"]
        assert box.dtype == np.float32 and box.min() >= 0 and box.max() <= 255
        assert box[0] <= box[2] and box[1] <= box[3]
        tight = samples.tight_box(mask)
        grown = (box - tight) * [-1, -1, 1, 1]
        covers += bool((grown >= 0).all())
        inside += bool((grown < -0.5).any())  # moved aside: a side cuts the object
        width = (80 - 5 + 1) * 256 / 96 - 1
        volumes += bool(width - 0.1 < box[2] - box[0] < width + 4.1)
    assert covers > 80 and inside > 15 and 70 < volumes < 140


def test_a_flipped_box_encloses_the_flipped_mask():
    mask = np.zeros((32, 32), np.uint8)
    mask[3:9, 20:27] = 1
    box = samples.tight_box(mask)
    for lr, ud in ((0, 0), (1, 0), (0, 1), (1, 1)):
        flipped = samples.flip(mask, lr, ud)
        np.testing.assert_array_equal(samples.tight_box(flipped), samples.flip_box(box, lr, ud, 32))


def test_a_sample_of_a_frozen_encoder_has_the_embedding_of_its_own_flip(catalog):
    class Means:
        def read(self, image):
            assert image.flags.c_contiguous
            return image.mean(axis=(1, 2))

    data = DataConfig(("x",), flips=True)
    plain, cached = samples.FinetuneSample(data, 64), samples.FinetuneSample(data, 64, Means())
    for seed in range(6):
        image = plain.random_map(catalog[0], np.random.default_rng(seed))
        other = cached.random_map(catalog[0], np.random.default_rng(seed))
        assert "image" not in other
        np.testing.assert_array_equal(other["embedding"], image["image"].mean(axis=(1, 2)))
        np.testing.assert_array_equal(other["box"], image["box"])
