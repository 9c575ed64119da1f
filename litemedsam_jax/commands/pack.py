"""`litemedsam pack`: training cases (npz) into ArrayRecord shards."""

import argparse
from pathlib import Path

from litemedsam_jax.commands.arguments import add_workers, refuse, tell_failures

DESCRIPTION = """\
Packs training cases into ArrayRecord shards, slice by slice, for data that outgrows a folder of npy
files: a grey slice takes a byte a pixel before compression (the reference's npy: 24), and shards
are few large files that are read at random.

  litemedsam pack -npz_dir data/npz/MedSAM_train -o data/shards
  litemedsam pack -npz_dir cases/imgs --gts cases/gts -o data/shards     the challenge's layout

A case is an npz with `imgs` (uint8) and `gts`, and `spacing` for volumes, as `litemedsam prepare`
writes it; sub-folders are searched. Its name gives the modality (CT_Abd_..., 3DBox_MR_...). Slices
without an object, or with none left at 256x256, are left out and counted.

Exit status: 0 all packed; 1 cases were left out or a shard failed (each in one line; run again:
finished shards stay); 2 nothing to do.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add("-npz_dir", "--npz-dir", "-i", type=Path, required=True, metavar="DIR", help="the cases")
    add("--gts", type=Path, metavar="DIR", help="ground truth, where it lies in files of its own")
    add("-o", "--output", type=Path, required=True, metavar="DIR", help="where shards are written")
    add(
        "--shard-mb",
        type=int,
        default=64,
        metavar="N",
        help="megabytes of npz per shard (default: %(default)s)",
    )
    add(
        "--all-slices",
        action="store_true",
        help="keep slices without objects too (distillation can use them)",
    )
    add_workers(parser, "shards")


def run(args: argparse.Namespace) -> int:
    """Packs; returns the exit status."""
    from litemedsam_jax.parallel import run_each
    from litemedsam_jax.preparation.training_set import (
        find_training_cases,
        is_finished,
        plan_shards,
        write_shard,
    )

    try:
        tasks = plan_shards(
            find_training_cases(args.npz_dir, args.gts), args.output, args.shard_mb, args.all_slices
        )
    except (OSError, ValueError) as error:
        return refuse("pack", error)
    todo = [task for task in tasks if not is_finished(task.path)]
    if len(todo) < len(tasks):
        print(f"{len(tasks) - len(todo)} shards are there already and stay; delete them to repack")
    written = background = lost = lost_shards = 0
    failed = {}
    for outcome in run_each(write_shard, todo, args.num_workers, "shards"):
        if outcome.result is None:
            failed[str(outcome.item.path)] = outcome.error or "unknown reason"
            lost_shards += 1
        else:
            for case, reason in outcome.result.failed.items():
                failed[case] = (
                    f"{reason}; it was left out of {outcome.item.path.name}: once it is corrected, "
                    "delete that shard and run again"
                )
            written += outcome.result.written
            background += outcome.result.background
            lost += outcome.result.lost
    kept = "kept" if args.all_slices else "left out"
    print(
        f"{args.output}: {len(todo) - lost_shards} shards, {written} slices; {kept}: {background} "
        f"without object, {lost} whose objects vanish at 256x256"
    )
    return tell_failures(failed)
