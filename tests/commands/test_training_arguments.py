"""What the options of `train.py` mean together."""

import argparse

import pytest

from litemedsam_jax.commands import distill, finetune
from litemedsam_jax.commands.training_options import training_config
from litemedsam_jax.config import DataConfig, OptimizerConfig, tiny_for_tests


def config(command, *arguments: str):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    args = parser.parse_args(arguments)
    return training_config(args, "x", tiny_for_tests(), DataConfig(("x",)), OptimizerConfig())


@pytest.mark.parametrize(
    "command, arguments, epochs, steps",
    [
        (finetune, (), 10, 0),
        (distill, (), 1000, 0),
        (finetune, ("--overfit", "2"), 40, 25),
        (finetune, ("--overfit", "2", "-num_epochs", "3"), 3, 25),
        (distill, ("--overfit", "2", "-num_epochs", "3", "--steps-per-epoch", "7"), 3, 7),
    ],
)
def test_what_was_asked_for_goes_before_any_default(command, arguments, epochs, steps):
    found = config(command, *arguments)
    assert (found.epochs, found.steps_per_epoch) == (epochs, steps)
