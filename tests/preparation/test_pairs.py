"""Which image belongs to which mask."""

import pytest

from litemedsam_jax.imaging.errors import CaseError
from litemedsam_jax.preparation.pairs import find_sources


@pytest.fixture
def folders(tmp_path):
    """Makes two folders of empty files; returns what is found in them."""

    def make(images, masks, **options):
        for name, files in (("im", images), ("mk", masks)):
            for file in files:
                (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / name / file).touch()
        found = find_sources(tmp_path / "im", tmp_path / "mk", ".png", ".png", **options)
        pairs = {s.case: [path.name for path in s.masks] for s in found.cases}
        return pairs, found.without_image, found.without_mask

    return make


def test_objects_belong_to_the_longest_name_that_begins_theirs(folders):
    pairs, missing, alone = folders(
        ["img1.png", "img1_2.png"], ["img1_2_a.png", "img1_a.png"], per_object=True
    )
    assert pairs == {"img1": ["img1_a.png"], "img1_2": ["img1_2_a.png"]}
    assert not missing and not alone


def test_brackets_stars_and_question_marks_in_names_are_letters(folders):
    names = ["img[1]", "img2", "a*b", "c?d"]
    images = [f"{name}.png" for name in names]
    pairs, _, _ = folders(images, [f"{name}_1.png" for name in names], per_object=True)
    assert pairs == {name: [f"{name}_1.png"] for name in sorted(names)}


def test_images_without_masks_and_masks_without_images_are_named(folders):
    images, masks = ["a.png", "b.png", "c.png"], ["a_1.png", "d_1.png", "e/1.png"]
    pairs, missing, alone = folders(images, masks, per_object=True)
    assert list(pairs) == ["a"] and alone == ("b.png", "c.png")
    assert sorted(missing) == ["d_1.png", "e"]
    assert "no image in" in missing["e"] and "begins its name" in missing["e"]


def test_label_images_pair_by_name_and_hidden_files_are_left_alone(folders):
    images = ["a.png", "b.png", "._a.png"]
    pairs, missing, alone = folders(images, ["a.png", "._a.png", "x.png"])
    assert pairs == {"a": ["a.png"]} and alone == ("b.png",)
    assert "x.png" in missing["x"]


def test_one_folder_needs_endings_that_differ(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(CaseError, match="lie in one folder"):
        find_sources(tmp_path, tmp_path, ".png", ".png")
    (tmp_path / "a_mask.png").touch()
    found = find_sources(tmp_path, tmp_path, ".png", "_mask.png")
    assert [s.image.name for s in found.cases] == ["a.png"] and found.without_mask == ()
