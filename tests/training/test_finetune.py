"""Fine-tuning from cached embeddings of a frozen encoder."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from litemedsam_jax.cli import main
from litemedsam_jax.config import tiny_for_tests
from litemedsam_jax.models.lite_medsam import LiteMedSAMNetwork
from litemedsam_jax.training import finetune, initial_weights, setup
from litemedsam_jax.training.catalog import DataError, open_catalog
from litemedsam_jax.training.embedding_files import EmbeddingFiles
from litemedsam_jax.weights import safetensors_file
from litemedsam_jax.weights.load import load
from tests.support.small_network import random_variables, small_model


def test_cached_embeddings_give_the_losses_of_the_frozen_encoder(
    make_config, small_weights, tmp_path
):
    config = make_config(
        data={"val_fraction": 0.34, "flips": True},
        optimizer={"freeze": ("encoder",)},
        epochs=1,
        steps_per_epoch=4,
    )
    variables, model, counters = initial_weights.whole_model(small_weights, None, 0)
    network = LiteMedSAMNetwork(model)
    encode = jax.jit(lambda image: network.apply(variables, image[None], method="encode"))
    encoder = model.image_encoder
    shape = (encoder.grid_size, encoder.grid_size, encoder.out_dim)
    cache = EmbeddingFiles(tmp_path / "cache", "a" * 64, shape, 1 << 30)
    catalog, validation = setup.open_data(config.data)
    finetune.fill_cache(cache, encode, config, catalog, validation)
    assert len(list(tmp_path.rglob("*.f16"))) == 4 * len(catalog) + len(validation)
    rows = {}
    for name, embeddings in (("plain", None), ("cached", cache)):
        run = dataclasses.replace(config, work_dir=str(tmp_path / name))
        task = finetune.task(run, variables, counters, validation, embeddings)
        setup.run_training(run, task, catalog, resume=False)
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        rows[name] = [json.loads(line) for line in lines]
    for plain, cached in zip(rows["plain"], rows["cached"], strict=True):
        for key in ("loss", "dice", "bce", "gradient_norm", "dsc"):
            if plain.get(key) is not None:
                assert cached[key] == pytest.approx(plain[key], rel=5e-3, abs=5e-3), key


@pytest.mark.parametrize(
    "changed",
    [{}, {"optimizer": {"freeze": ("encoder",)}, "data": {"augment": ("scale",)}}],
)
def test_a_cache_is_refused_where_images_or_encoder_change(make_config, catalog, tmp_path, changed):
    cache = EmbeddingFiles(tmp_path, "a" * 64, (16, 16, 16), 1 << 30)
    assert small_model().image_encoder.grid_size == 16
    with pytest.raises(DataError, match="--freeze encoder"):
        finetune.fill_cache(cache, np.asarray, make_config(**changed), catalog, None)


def test_the_command_encodes_each_slice_once_for_any_number_of_runs(npy_folder, tmp_path, capsys):
    """On a network of 256x256 pixels, with inference's own encoder."""
    model = tiny_for_tests()
    weights = tmp_path / "start.safetensors"
    safetensors_file.save(weights, random_variables(model), model, {})
    cache = tmp_path / "cache"

    def run(name: str) -> list[int]:
        arguments = ["-data_root", npy_folder, "-pretrained_checkpoint", weights, "-num_epochs", 1]
        arguments += ["--freeze", "encoder", "--embedding-cache", cache, "--data-aug", "no"]
        arguments += ["--steps-per-epoch", 1, "-batch_size", 2, "-num_workers", 0]
        arguments += ["-work_dir", tmp_path / name, "-device", "cpu"]
        assert main(list(map(str, arguments)), command="finetune") == 0, capsys.readouterr().err
        return [path.stat().st_ino for path in sorted(cache.rglob("*.f16"))]

    first = run("first")
    assert len(first) == len(open_catalog([npy_folder]))
    assert run("second") == first  # nothing was written anew
    before, after = load(weights), load(tmp_path / "second" / "model.safetensors")
    assert after.config == before.config
    changed = {
        name.split("/")[1]
        for name, value in before.variables.items()
        if name.startswith("params/") and (value != after.variables[name]).any()
    }
    assert "mask_decoder" in changed and "image_encoder" not in changed
