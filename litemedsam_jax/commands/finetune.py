"""`litemedsam finetune`, `train.py finetune`: stage 2, the whole model on masks."""

import argparse
from pathlib import Path

from litemedsam_jax.commands import training_options as options
from litemedsam_jax.commands.training_arguments import add_shared

DESCRIPTION = """\
Fine-tunes LiteMedSAM on images with masks: from npy folders or shards to weights for infer.py.

  python train.py finetune -data_root data/npy --val-fraction 0.2 \\
      -pretrained_checkpoint work_dir/LiteMedSAM/lite_medsam.safetensors -work_dir work_dir/run1
  python infer.py --weights work_dir/run1/model.safetensors -i IMGS -o SEGS

The work folder gets config.json, metrics.jsonl, curves.png, predictions/, TensorBoard events,
checkpoints (to continue with --resume) and model.safetensors: the best by validation DSC, the
newest where there is no validation data. First look whether all fits: --dry-run; whether it learns
at all: --overfit 4. Ctrl-C stops at once; SIGTERM saves first.
Distillation: train.py distill --help.

Exit status: 0 done; 1 an error, told in one line; 2 wrong arguments; 143 stopped by SIGTERM, saved.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument_group("fine-tuning").add_argument
    add(
        "-pretrained_checkpoint",
        "--pretrained-checkpoint",
        type=Path,
        metavar="FILE",
        default=Path("work_dir/LiteMedSAM/lite_medsam.safetensors"),
        help="weights to start from, .safetensors or .pth (default: %(default)s)",
    )
    add(
        "--freeze",
        nargs="+",
        choices=("encoder", "prompt", "decoder"),
        default=[],
        help="parts that are not trained",
    )
    add(
        "--freeze-batch-norm",
        action="store_true",
        help="BatchNorm keeps the statistics of the starting weights: for small batches",
    )
    add(
        "-bbox_shift",
        "--bbox-shift",
        type=int,
        default=5,
        metavar="N",
        help="each side of a box moves outwards by 0 to N pixels of 256 (default: 5)",
    )
    add(
        "--augment",
        nargs="+",
        choices=("intensity", "scale"),
        default=[],
        help="further augmentation: gamma and contrast; zoom (default: none)",
    )
    add(
        "--schedule",
        choices=("plateau", "cosine", "constant"),
        default="plateau",
        help="of the learning rate; plateau: x0.9 after 6 epochs without progress (default)",
    )
    for name in ("iou", "seg", "ce"):
        what = {"iou": "the predicted IoU's error", "seg": "Dice", "ce": "cross entropy"}[name]
        add(
            f"-{name}_loss_weight",
            f"--{name}-loss-weight",
            type=float,
            default=1.0,
            metavar="X",
            help=f"weight of {what} (default: 1)",
        )
    add(
        "--sanity_check",
        "--sanity-check",
        action="store_true",
        help="write samples.png, what the network is shown, before training",
    )
    add_shared(parser, work_dir="work_dir/finetune", rate=5e-5, epochs=10)


def run(args: argparse.Namespace) -> int:
    """Trains; returns the exit status."""
    return options.run_guarded(args, _finetune)


def _finetune(args: argparse.Namespace) -> int:
    from litemedsam_jax.config import LossConfig
    from litemedsam_jax.training import finetune
    from litemedsam_jax.training.initial_weights import whole_model
    from litemedsam_jax.training.setup import open_data

    start = options.starting_point(args, args.pretrained_checkpoint, whole_model)
    variables, model, counters = start
    finetune.check_trainable(model)
    data = options.data_config(args, bbox_shift=args.bbox_shift, augment=tuple(args.augment))
    optimizer = options.optimizer_config(
        args,
        schedule=args.schedule,
        freeze=tuple(args.freeze),
        freeze_batch_norm=args.freeze_batch_norm,
    )
    loss = LossConfig(args.seg_loss_weight, args.ce_loss_weight, args.iou_loss_weight)
    config = options.training_config(args, "finetune", model, data, optimizer, loss)
    catalog, validation = open_data(data)
    if args.sanity_check:
        _draw_samples(config, catalog)
    stage = finetune.stage(config, variables, counters, validation)
    result = options.train(args, config, stage, catalog)
    if result is not None and args.overfit and result.reason == "done":
        raise ValueError(
            f"the self-check failed: DSC {result.scores.get('score', 0):.3f} on the {args.overfit} "
            "slices it was trained on, 0.95 was expected. Look at predictions/ and at samples.png "
            "(--sanity_check)"
        )
    return options.conclude(args, result, stage.output)


def _draw_samples(config, catalog) -> None:
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
