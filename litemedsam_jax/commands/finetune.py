"""`litemedsam finetune`, `train.py finetune`: stage 2, the whole model on masks."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from litemedsam_jax.commands import training_command as shared
from litemedsam_jax.weights import default_weights

if TYPE_CHECKING:
    from litemedsam_jax.training.catalog import Catalog
    from litemedsam_jax.training.config import TrainingConfig

DESCRIPTION = """\
Fine-tunes LiteMedSAM on images with masks: from npy folders or shards to weights for infer.py.

  python train.py finetune -data_root data/npy --val-fraction 0.2 \\
      -pretrained_checkpoint lite_medsam.safetensors -work_dir work_dir/run1
  python infer.py --weights work_dir/run1/model.safetensors -i IMGS -o SEGS

The work folder gets config.json, metrics.jsonl, curves.png, predictions/, TensorBoard events,
checkpoints (to continue with --resume) and model.safetensors: the best by validation DSC, the
newest where there is no validation data. First see whether it fits: --dry-run; whether it learns
at all: --overfit 4. Ctrl-C stops at once; SIGTERM saves first.
Distillation: train.py distill --help.

Exit status: 0 done; 1 an error, in one line; 2 wrong arguments; 143 stopped by SIGTERM, saved.
"""
DEFAULTS = {"work_dir": "work_dir/finetune"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument_group("fine-tuning").add_argument
    add(
        "-pretrained_checkpoint",
        "--pretrained-checkpoint",
        type=Path,
        metavar="FILE",
        help="weights to start from, .safetensors or .pth (default: "
        f"{default_weights.DESCRIPTION})",
    )
    add(
        "--sanity_check",
        "--sanity-check",
        action="store_true",
        help="write samples.png, what the network is shown, before training",
    )
    add(
        "--embedding-cache",
        type=Path,
        metavar="DIR",
        help="with --freeze encoder: encode every slice (and its flips) once and keep the "
        "embeddings here, 2 MiB each, for this run and later ones",
    )
    add(
        "--cache-limit",
        type=float,
        default=20.0,
        metavar="GIB",
        help="most that the embeddings of one encoder may take (default: 20)",
    )
    shared.add_shared(parser, "finetune", DEFAULTS)


def run(args: argparse.Namespace) -> int:
    """Trains; returns the exit status."""
    return shared.run_guarded(args, _finetune)


def _finetune(args: argparse.Namespace) -> int:
    from litemedsam_jax.training import finetune
    from litemedsam_jax.training.initial_weights import whole_model
    from litemedsam_jax.training.setup import open_data

    start = shared.starting_point(args, args.pretrained_checkpoint, whole_model)
    variables, model, counters = start
    finetune.check_trainable(model)
    config = shared.training_config(args, "finetune", model, DEFAULTS)
    catalog, validation = open_data(config.data)
    if args.sanity_check:
        _draw_samples(config, catalog)
    embeddings = None
    if args.embedding_cache is not None:
        embeddings, engine = shared.open_cache(args, variables, model)
        finetune.fill_cache(embeddings, engine.encode, config, catalog, validation)
    task = finetune.task(config, variables, counters, validation, embeddings)
    outcome = shared.train(args, config, task, catalog)
    if outcome is not None and args.overfit and outcome.reason == "done":
        raise ValueError(
            f"the self-check failed: DSC {outcome.scores.get('score', 0):.3f} on the "
            f"{args.overfit} slices it was trained on, 0.95 was expected. Look at predictions/ and "
            "at samples.png (--sanity_check)"
        )
    return shared.conclude(config, outcome, task.output)


def _draw_samples(config: "TrainingConfig", catalog: "Catalog") -> None:
    import numpy as np

    from litemedsam_jax.training.data import sample_sequence
    from litemedsam_jax.training.devices import say
    from litemedsam_jax.training.reporting import draw_samples
    from litemedsam_jax.training.samples import FinetuneSample

    size = config.model.image_encoder.image_size
    samples = sample_sequence(catalog, FinetuneSample(config.data, size), config.data)
    chosen = [samples[index] for index in range(8)]
    path = Path(config.work_dir) / "samples.png"
    draw_samples(path, {name: np.stack([sample[name] for sample in chosen]) for name in chosen[0]})
    say(f"samples: {path}")
