"""The flags of `train.py` and of the reference, and what they mean together."""

import argparse

import pytest

from litemedsam_jax.commands import distill, finetune
from litemedsam_jax.commands.training_command import training_config
from litemedsam_jax.config import tiny_for_tests


def config(command, *arguments: str):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    args = parser.parse_args(arguments)
    stage = command.__name__.rpartition(".")[2]
    return training_config(args, stage, tiny_for_tests(), command.DEFAULTS)


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


def test_the_references_fine_tuning_flags_reach_their_options():
    """Those of `train_one_gpu.py` and `train_multi_gpus.py`, in their spelling."""
    found = config(
        finetune,
        *("--tr_npy_path", "a", "-task_name", "T", "-work_dir", "w", "-batch_size", "3"),
        *("-num_epochs", "7", "-num_workers", "1", "-lr", "1e-3", "-weight_decay", "0.5"),
        *("-iou_loss_weight", "2", "-seg_loss_weight", "3", "-ce_loss_weight", "4"),
        *("-bbox_shift", "6", "--data_aug", "-device", "cpu", "-bucket_cap_mb", "25"),
        *("-world_size", "2", "-node_rank", "1", "-init_method", "env://"),
    )
    data, optimizer, loss = found.data, found.optimizer, found.loss
    assert (data.sources, data.batch_size, data.workers) == (("a",), 3, 1)
    assert (data.bbox_shift, data.flips) == (6, True)
    assert (optimizer.learning_rate, optimizer.weight_decay) == (1e-3, 0.5)
    assert (loss.iou, loss.dice, loss.bce) == (2, 3, 4)
    assert found.work_dir.replace("\\", "/") == "w/T" and found.epochs == 7


def test_the_two_stages_have_the_references_defaults():
    tuned, distilled = config(finetune), config(distill)
    assert (tuned.optimizer.learning_rate, tuned.optimizer.schedule) == (5e-5, "plateau")
    assert (distilled.optimizer.learning_rate, distilled.optimizer.schedule) == (5e-4, "constant")
    assert tuned.data.batch_size == distilled.data.batch_size == 4


@pytest.mark.parametrize("command", [finetune, distill])
def test_help_names_every_default_and_no_flag_of_the_other_stage(command, capsys):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    text = " ".join(parser.format_help().split())
    rate = "5e-05" if command is finetune else "0.0005"
    assert f"learning rate (default: {rate})" in text
    assert "(default: 4)" in text and "(default: never)" in text and "None" not in text
    assert ("--resize" in text) == (command is distill)
    assert ("--freeze" in text) == (command is finetune)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("-batch_size", "0"), "a whole number from 1"),
        (("--val-fraction", "1.5"), "a number from 0 to 1"),
        (("-lr", "nan"), "a number from 0"),
        (("--data-aug", "maybe"), "yes or no"),
        (("--freeze", "neck"), "encoder"),
    ],
)
def test_an_impossible_value_is_refused_by_name(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        config(finetune, *arguments)
    assert caught.value.code == 2
    printed = capsys.readouterr().err
    assert arguments[0] in printed and message in printed
