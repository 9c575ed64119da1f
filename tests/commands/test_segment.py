"""`infer.py`: flags, exit status, what is said."""

import json
import shutil
import sys

import numpy as np
import pytest

from litemedsam_jax import cli
from litemedsam_jax.batch import folder
from litemedsam_jax.inference.predictor import LiteMedSAM
from litemedsam_jax.inference.strategies import CLEAN, REFERENCE
from litemedsam_jax.weights import safetensors_file
from litemedsam_jax.weights.adaptation_note import KEY
from tests.support.fake_engine import FakeEngine
from tests.support.small_network import small_model

IMAGE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


@pytest.fixture
def folders(tmp_path):
    """A folder with a good case, and one for masks that is not there yet."""
    (tmp_path / "imgs").mkdir()
    np.savez(tmp_path / "imgs" / "good.npz", imgs=IMAGE, boxes=[[5, 6, 40, 50]])
    return tmp_path / "imgs", tmp_path / "segs"


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(
        LiteMedSAM, "from_pretrained", classmethod(lambda cls, *_, **__: cls(FakeEngine()))
    )


@pytest.fixture
def segment(folders, capsys):
    """Runs the command on the folders; exit status, stdout, stderr."""

    def run(*options: object, inputs=folders[0], outputs=folders[1]) -> tuple[int, str, str]:
        arguments = ["-i", inputs, "-o", outputs, *options]
        status = cli.main([str(argument) for argument in arguments], command="segment")
        return (status, *capsys.readouterr())

    return run


@pytest.fixture
def parsed(segment, monkeypatch):
    """The options that the command makes of its flags."""

    def options(*flags: object) -> folder.BatchOptions:
        seen = []
        with monkeypatch.context() as patch:
            patch.setattr(
                folder, "segment_folder", lambda o, **_: seen.append(o) or folder.Summary()
            )
            segment(*flags)
        return seen[0]

    return options


def test_all_good(segment, folders, fake):
    status, out, err = segment()
    assert (status, err) == (0, "")
    assert "1 segmented, 0 failed" in out and f"masks: {folders[1]}" in out
    assert (folders[1] / "good.npz").exists()


def test_failed_cases_give_status_1_and_a_summary(segment, folders, fake):
    (folders[0] / "bad.npz").write_bytes(b"")
    (folders[0] / "new\nline.npz").write_bytes(b"?")
    status, out, err = segment()
    assert status == 1 and "1 segmented, 2 failed" in out
    first, second = err.splitlines()
    assert first.startswith("failed: bad.npz: it is empty (0 bytes); expected")
    assert second.startswith("failed: new\\nline.npz: it is no intact npz file")


@pytest.mark.skipif(sys.platform != "linux", reason="file names are text elsewhere")
def test_a_name_that_is_no_text_is_printed(segment, folders, fake):
    shutil.copy(folders[0] / "good.npz", bytes(folders[0]) + b"/\xff.npz")
    status, out, _ = segment()
    assert status == 0 and "\\udcff.npz" in out
    assert "\\udcff.npz" in (folders[1] / "efficiency.csv").read_text()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda i, o: {"inputs": i / "missing"}, "no such folder"),
        (lambda i, o: {"inputs": _empty(i / "empty")}, "there are no cases"),
        (lambda i, o: {"outputs": i}, "would replace the cases"),
        (lambda i, o: {"outputs": i / "good.npz"}, "File exists"),
        (lambda i, o: {"outputs": i / "good.npz" / "segs"}, "Not a directory"),
    ],
)
def test_what_cannot_start_gives_status_2_and_a_sentence(segment, folders, fake, make, words):
    status, out, err = segment(**make(*folders))
    assert status == 2 and out == ""
    assert words in err and len(err.splitlines()) == 1 and err.startswith("litemedsam segment: /")


def _empty(folder):
    folder.mkdir()
    return folder


def test_a_table_that_is_a_folder(segment, folders, fake):
    (folders[1] / "efficiency.csv").mkdir(parents=True)
    status, _, err = segment()
    assert status == 2 and "efficiency.csv: Is a directory" in err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        (b"", "empty or truncated"),
        (b"these are no weights at all", "neither safetensors nor a PyTorch checkpoint"),
        (b"PK\x03\x04 this is no zip", "zip"),
    ],
)
def test_wrong_weights_give_status_2_and_a_sentence(segment, tmp_path, content, words):
    path = tmp_path / "weights"
    if content is not None:
        path.write_bytes(content)
    status, _, err = segment("--weights", path)
    assert status == 2 and words in err
    assert str(path) in err and len(err.splitlines()) == 1 and "Traceback" not in err


def test_defaults_are_the_challenges(parsed, folders):
    options = parsed()
    assert (options.inputs, options.outputs) == folders
    assert options.weights is None  # the default ones: see weights.default_weights
    assert options.prompts == "boxes" and options.strategy == REFERENCE
    assert options.overlays is None and not options.skip_existing and options.workers == 1


def test_the_references_spellings(parsed, tmp_path):
    options = parsed(
        "-lite_medsam_checkpoint_path", "x.pth", "-num_workers", 4, "--save_overlay",
        "-png_save_dir", tmp_path, "-device", "cuda:0",
    )  # fmt: skip
    assert str(options.weights) == "x.pth" and options.workers == 4
    assert options.overlays == tmp_path and options.device == "gpu"
    assert parsed("-png_save_dir", tmp_path).overlays is None  # asked for by --save_overlay alone


def test_our_spellings(parsed, tmp_path):
    flags = ("--weights", "y", "--num-workers", 2, "--overlay", tmp_path, "--skip-existing")
    options = parsed(*flags, "--boxes", "gt", "--bbox-shift", 3, "--strategy", "clean")
    assert str(options.weights) == "y" and options.workers == 2 and options.skip_existing
    assert options.overlays == tmp_path and options.prompts == "gt" and options.box_shift == 3
    assert options.strategy == CLEAN


@pytest.mark.parametrize(
    "flags", [["--strategy", "better"], ["--overwrite", "--skip-existing"], ["-num_workers", "two"]]
)
def test_flags_that_make_no_sense(segment, flags, capsys):
    with pytest.raises(SystemExit) as caught:
        segment(*flags)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_a_shard_does_its_share(segment, folders, fake):
    for name in ("a", "b", "c"):
        np.savez(folders[0] / f"{name}.npz", imgs=IMAGE, boxes=[[5, 6, 40, 50]])
    status, out, _ = segment("--shard", "1/2")
    assert status == 0 and "2 segmented" in out
    assert sorted(path.name for path in folders[1].glob("*.npz")) == ["b.npz", "good.npz"]


@pytest.mark.parametrize(
    "text", ["2/2", "-1/2", "0/0", "1", "a/b", "1/", "/2", "1/2/3", "0x1/4", ""]
)
def test_a_wrong_shard_is_refused(segment, capsys, text):
    with pytest.raises(SystemExit, match="2"):
        segment(f"--shard={text}")
    assert "expected I/N with I from 0 to N-1" in capsys.readouterr().err


@pytest.fixture
def adapted(tmp_path):
    """Weights for which `hull` was chosen with `best`."""
    record = {"summary": "DSC 0.5 -> 0.7", "strategy": "best", "postprocess": "hull"}
    path = tmp_path / "my.safetensors"
    arrays = {"params/a": np.zeros(3, np.float32)}
    safetensors_file.save(path, arrays, small_model(), metadata={KEY: json.dumps(record)})
    return path


@pytest.mark.parametrize(
    "options, filled, said",
    [
        (["--strategy", "best"], True, "hull is applied"),
        (["--strategy", "best", "--postprocess", "none"], False, ""),
        (["--strategy", "clean"], False, "not applied here"),
        (["--strategy", "clean", "--postprocess", "hull"], True, ""),
    ],
)
def test_adapted_weights_bring_the_step_chosen_for_their_masks(
    segment, folders, adapted, monkeypatch, options, filled, said
):
    def ring(_, box):
        logits = np.full((256, 256), -5, np.float32)
        x_min, y_min, x_max, y_max = box.astype(int)
        logits[y_min : y_max + 1, x_min : x_max + 1] = 5
        x, y = (x_max - x_min) // 4, (y_max - y_min) // 4
        logits[y_min + y : y_max - y, x_min + x : x_max - x] = -9
        return logits

    monkeypatch.setattr(
        LiteMedSAM, "from_pretrained", classmethod(lambda cls, *_, **__: cls(FakeEngine(ring)))
    )
    status, out, _ = segment("--weights", adapted, *options)
    assert status == 0 and "DSC 0.5 -> 0.7" in out and said in out
    with np.load(folders[1] / "good.npz") as masks:
        assert masks["segs"].any() and bool(masks["segs"][28, 22]) is filled
