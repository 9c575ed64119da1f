"""Whole runs in this process: fine-tuning with validation, distillation with and without cache."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from litemedsam_jax import config as configs
from litemedsam_jax.cli import main
from litemedsam_jax.engine import processor
from litemedsam_jax.training import distill, finetune, initial_weights, loop, setup
from litemedsam_jax.training.catalog import DataError
from litemedsam_jax.training.config import DataConfig
from litemedsam_jax.weights import safetensors_file
from litemedsam_jax.weights.errors import CheckpointError
from litemedsam_jax.weights.join import join
from litemedsam_jax.weights.load import load
from tests.conftest import REPOSITORY
from tests.support.small_network import random_variables, small_model
from tests.training.conftest import arrays_of

OUTPUTS = ("config.json", "metrics.jsonl", "curves.png", "tensorboard", "model.safetensors")


def records(folder, kind):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["kind"] == kind]


def test_finetuning_validates_reports_and_exports(make_config, small_weights, tmp_path):
    config = make_config(data={"val_fraction": 0.34}, epochs=2, steps_per_epoch=3)
    variables, _, counters = initial_weights.whole_model(small_weights, None, 0)
    catalog, validation = setup.open_data(config.data)
    task = finetune.task(config, variables, counters, validation)
    result = setup.run_training(config, task, catalog, resume=False)
    folder = tmp_path / "run"
    assert result.reason == "done" and all((folder / name).exists() for name in OUTPUTS)
    epochs = records(folder, "epoch")
    assert [row["epoch"] for row in epochs] == [0, 1, 2]
    assert all(0 <= row[name] <= 1 for row in epochs for name in ("dsc", "nsd", "dsc/CT", "dsc/MR"))
    assert len(records(folder, "step")) == 6
    assert len(list((folder / "predictions").glob("epoch_*.png"))) == 3
    assert load(folder / "model.safetensors").config == small_model()
    with pytest.raises(CheckpointError, match="--resume"):
        setup.run_training(config, task, catalog, resume=False)


def test_frozen_batch_norm_keeps_its_statistics_and_trains_its_scales(
    make_config, small_weights, tmp_path
):
    config = make_config(optimizer={"freeze_batch_norm": True}, epochs=1, steps_per_epoch=2)
    variables, _, counters = initial_weights.whole_model(small_weights, None, 0)
    catalog, _ = setup.open_data(config.data)
    task = finetune.task(config, variables, counters, None)
    setup.run_training(config, task, catalog, resume=False)
    before, after = arrays_of(small_weights), arrays_of(tmp_path / "run" / "model.safetensors")
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert "params/image_encoder/patch_embed/seq_0/bn/scale" in changed
    assert not any(name.startswith("batch_stats/") for name in changed)


def test_the_guard_names_the_cases_and_keeps_the_checkpoint(make_config, small_weights, tmp_path):
    config = make_config(optimizer={"learning_rate": 1e30}, epochs=2, steps_per_epoch=3)
    variables, _, counters = initial_weights.whole_model(small_weights, None, 0)
    catalog, _ = setup.open_data(config.data)
    task = finetune.task(config, variables, counters, None)
    with pytest.raises(loop.NotFiniteError, match=r"The batch: \w+_disc_\d.*label"):
        setup.run_training(config, task, catalog, resume=False)
    saved = [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()]
    assert "0" in saved and "3" not in saved


@pytest.fixture(scope="module")
def small_teacher(tmp_path_factory):
    """A ViT of 128x128 input whose embedding is the student's 16x16x16."""
    vit = configs.ViTConfig(128, 8, 16, 2, 2, window=7, global_blocks=(1,), out_dim=16)
    model = dataclasses.replace(small_model(), name="small_teacher", image_encoder=vit)
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    safetensors_file.save(path, random_variables(model, 5), model)
    return path


def distil(config, weights, teacher_path, cache, resume=False):
    variables, _, counters = initial_weights.encoder_alone(weights, None, 0)
    guide = None
    if teacher_path is not None:
        guide = distill.Teacher(*initial_weights.teacher(teacher_path), "float32")
    catalog, validation = setup.open_data(config.data, all_slices=True)
    task = distill.task(
        config, variables, counters, validation, teacher=guide, cache=cache, catalog=catalog
    )
    return setup.run_training(config, task, catalog, resume=resume)


def test_distillation_learns_and_its_cache_changes_nothing(
    make_config, small_weights, small_teacher, tmp_path
):
    options = {
        "data": {"val_fraction": 0.34},
        "optimizer": {"learning_rate": 5e-3, "schedule": "constant"},
        "stage": "distill",
        "epochs": 2,
        "steps_per_epoch": 5,
    }
    runs = {}
    for name, guide, cache in (
        ("fly", small_teacher, None),
        ("fill", small_teacher, tmp_path / "cache"),
        ("cached", None, tmp_path / "cache"),
    ):
        config = dataclasses.replace(make_config(**options), work_dir=str(tmp_path / name))
        distil(config, small_weights, guide, cache)
        runs[name] = [row["loss"] for row in records(tmp_path / name, "step")]
    assert runs["fly"] == pytest.approx(runs["cached"], rel=1e-5)
    assert runs["fill"] == runs["cached"]
    assert np.mean(runs["fly"][-3:]) < 0.8 * runs["fly"][0]
    validated = [row["val_loss"] for row in records(tmp_path / "fly", "epoch")]
    assert validated[-1] < validated[0]

    encoder = tmp_path / "cached" / "encoder.safetensors"
    joined = join(encoder, small_weights)  # stage 2's start
    whole = arrays_of(small_weights)
    assert joined.variables.keys() == whole.keys()
    with pytest.raises(DataError, match="another resize"):
        squash = make_config(**{**options, "data": {"resize": "squash"}})
        distil(squash, small_weights, small_teacher, tmp_path / "cache")


def test_starting_points_must_exist(npy_folder, tmp_path, capsys):
    shared = ["-data_root", str(npy_folder), "-work_dir", str(tmp_path)]
    assert main([*shared, "-pretrained_checkpoint", "none.pth"], command="finetune") == 1
    assert "no such file" in capsys.readouterr().err
    assert main([*shared, "--resume", str(tmp_path / "none")], command="finetune") == 2
    assert main([*shared], command="distill") == 1
    assert "-medsam_checkpoint" in capsys.readouterr().err


def test_resume_auto_starts_then_continues_and_clears_what_a_kill_left(
    npy_folder, small_weights, tmp_path, capsys
):
    def train(epochs: int) -> str:
        arguments = [
            *("-data_root", str(npy_folder), "-pretrained_checkpoint", str(small_weights)),
            *("-work_dir", str(tmp_path), "--resume", "auto", "-num_epochs", str(epochs)),
            *("--steps-per-epoch", "1", "-batch_size", "2", "-num_workers", "0"),
        ]
        assert main(arguments, command="finetune") == 0
        return capsys.readouterr().err

    assert "resumed" not in train(1)
    killed = (
        "import os, sys\nfrom litemedsam_jax.files import replacing\n"
        "with replacing(sys.argv[1]) as beside:\n"
        "    beside.write_text('half')\n    os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", killed, tmp_path / "model.safetensors"], cwd=REPOSITORY)
    assert [path for path in tmp_path.glob(".*") if "tmp" in path.name]
    assert "resumed at step 1" in train(2)
    assert not list(tmp_path.glob(".*"))


def test_two_voices_for_the_same_case_are_refused(npy_folder):
    with pytest.raises(DataError, match="training and the validation"):
        setup.open_data(DataConfig((str(npy_folder),), (str(npy_folder),)))


def test_the_references_flags_are_taken(npy_folder, small_weights, tmp_path, capsys):
    arguments = [
        *("-i", str(npy_folder), "-task_name", "MedSAM-Lite", "-work_dir", str(tmp_path)),
        *("-pretrained_checkpoint", str(small_weights), "-num_epochs", "1", "-batch_size", "1"),
        *("-num_workers", "0", "-weight_decay", "0.01", "-lr", "5e-5", "-iou_loss_weight", "0.5"),
        *("-seg_loss_weight", "1", "-ce_loss_weight", "1", "-bbox_shift", "3", "--data_aug"),
        *("-device", "cpu", "-bucket_cap_mb", "25", "--sanity_check", "--dry-run"),
    ]
    assert main(arguments, command="finetune") == 0
    printed = capsys.readouterr().out
    assert "memory" in printed and "samples/s" in printed
    assert (tmp_path / "MedSAM-Lite" / "samples.png").is_file()


def test_bfloat16_on_a_processor_without_it_is_said_before_training(
    npy_folder, small_weights, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(processor, "features", lambda: frozenset({"avx2", "fma"}))
    arguments = [
        *("-data_root", str(npy_folder), "-pretrained_checkpoint", str(small_weights)),
        *("-work_dir", str(tmp_path), "-batch_size", "1", "-num_workers", "0"),
        *("-device", "cpu", "--dry-run", "--precision", "bfloat16"),
    ]
    assert main(arguments, command="finetune") == 0
    assert "which this processor lacks" in capsys.readouterr().err
