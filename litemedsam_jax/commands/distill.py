"""`litemedsam distill`, `train.py distill`: stage 1, the student's encoder from the teacher's."""

import argparse
from pathlib import Path

from litemedsam_jax.commands import training_command as shared

DESCRIPTION = """\
Distils MedSAM's image encoder (ViT-B, 1024x1024) into LiteMedSAM's (TinyViT, 256x256).

  python train.py distill -data_root data/npy --from-scratch \\
      -medsam_checkpoint medsam_vit_b.pth --teacher-cache work_dir/teacher -work_dir work_dir/stage1
  python convert_weights.py --encoder work_dir/stage1/encoder.safetensors \\
      --decoder-from medsam_vit_b.pth work_dir/stage1/start.safetensors
  python train.py finetune -pretrained_checkpoint work_dir/stage1/start.safetensors ...

--teacher-cache computes each slice's embeddings once (8 MiB a slice: four flips, bfloat16); the
teacher is nearly all of the cost, and later runs need neither it nor -medsam_checkpoint. Masks are
not read. The other outputs are those of `train.py finetune --help`.

Exit status: 0 done; 1 an error, in one line; 2 wrong arguments; 143 stopped by SIGTERM, saved.
"""
DEFAULTS = {
    "work_dir": "work_dir/distill",
    "learning_rate": 5e-4,
    "schedule": "constant",  # as the reference
    "epochs": 1000,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument_group("distillation").add_argument
    add(
        "-medsam_checkpoint",
        "--medsam-checkpoint",
        type=Path,
        metavar="FILE",
        help="the teacher: medsam_vit_b.pth, or any model whose embedding has the student's shape",
    )
    add(
        "-tinyvit_checkpoint",
        "--tinyvit-checkpoint",
        type=Path,
        metavar="FILE",
        help="weights the student starts from: an encoder or a whole LiteMedSAM",
    )
    add("--teacher-cache", type=Path, metavar="DIR", help="keep the teacher's embeddings here")
    shared.add_shared(parser, "distill", DEFAULTS)


def run(args: argparse.Namespace) -> int:
    """Trains; returns the exit status."""
    return shared.run_guarded(args, _distill)


def _distill(args: argparse.Namespace) -> int:
    from litemedsam_jax.training import distill
    from litemedsam_jax.training.initial_weights import encoder_alone, teacher
    from litemedsam_jax.training.setup import open_data
    from litemedsam_jax.weights.errors import CheckpointError

    if args.medsam_checkpoint is None and args.teacher_cache is None:
        raise CheckpointError("-medsam_checkpoint is missing: the teacher (medsam_vit_b.pth)")
    start = shared.starting_point(args, args.tinyvit_checkpoint, encoder_alone)
    variables, model, counters = start
    config = shared.training_config(args, "distill", model, DEFAULTS)
    guide = None
    if args.medsam_checkpoint is not None:
        teacher_variables, teacher_config = teacher(args.medsam_checkpoint)
        guide = distill.Teacher(teacher_variables, teacher_config, config.dtype)
    catalog, validation = open_data(config.data, all_slices=True)
    task = distill.task(
        config,
        variables,
        counters,
        validation,
        teacher=guide,
        cache=args.teacher_cache,
        catalog=catalog,
    )
    outcome = shared.train(args, config, task, catalog)
    return shared.conclude(config, outcome, task.output)
