"""`litemedsam adapt`: what is refused before anything is read or trained."""

import argparse

import numpy as np
import pytest

from litemedsam_jax.cli import main
from litemedsam_jax.commands import adapt


def test_help_has_the_flags_of_training_that_matter_and_no_others():
    parser = argparse.ArgumentParser()
    adapt.add_arguments(parser)
    text = " ".join(parser.format_help().split())
    assert "learning rate (default: 0.0001)" in text and "--anchor-weight" in text
    assert "--freeze" not in text and "-world_size" not in text


@pytest.mark.parametrize(
    "output, strategy, message",
    [
        ("my.pth", "best", "ends in .safetensors"),
        ("my.safetensors", "bets", "no strategy 'bets'"),
        ("my.safetensors", "best", "needs two labelled cases"),
    ],
)
def test_what_cannot_work_is_one_line(tmp_path, capsys, weights_file, output, strategy, message):
    for name, array in (("imgs", np.ones), ("gts", np.ones)):
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "MR_1.npz", **{name: array((16, 16), np.uint8)})
    arguments = [
        *("-i", str(tmp_path / "imgs"), "-l", str(tmp_path / "gts")),
        *("-o", str(tmp_path / output), "--strategy", strategy, "--weights", str(weights_file)),
    ]
    assert main(arguments, command="adapt") == 1
    printed = capsys.readouterr().err
    assert message in printed and "Traceback" not in printed
    assert not (tmp_path / output).exists()
