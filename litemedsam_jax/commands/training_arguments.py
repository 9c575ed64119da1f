"""The options that both stages share, as they are asked for on the command line."""

import argparse
from pathlib import Path
from typing import Any


def add_shared(parser: argparse.ArgumentParser, *, work_dir: str, rate: float, epochs: int) -> None:
    """Adds data, schedule, run and host options."""
    _add_data(parser.add_argument_group("data"))
    _add_samples(parser.add_argument_group("samples"))
    _add_optimizer(parser.add_argument_group("optimizer"), rate)
    _add_run(parser.add_argument_group("run"), work_dir, epochs)
    parser.set_defaults(usual_epochs=epochs)
    _add_saving(parser.add_argument_group("checkpoints and reports"))
    _add_computing(parser.add_argument_group("computing"))
    _add_hosts(parser.add_argument_group("devices and hosts"))


def _add_data(group: Any) -> None:
    add = group.add_argument
    add(
        "-data_root",
        "--data-root",
        "-i",
        "--tr_npy_path",
        nargs="+",
        metavar="DIR",
        default=["data/npy"],
        help="npy folders (imgs/, gts/) or folders of `litemedsam pack` (default: data/npy)",
    )
    add("--val-dir", nargs="+", metavar="DIR", default=[], help="the same, to validate on")
    add(
        "--val-fraction",
        type=_fraction,
        default=0.0,
        metavar="F",
        help="or: hold out this share of the cases of each modality (default: 0)",
    )
    add(
        "--val-slices",
        type=_count,
        default=0,
        metavar="N",
        help="validate on at most N slices of a case, evenly spread (default: all)",
    )


def _add_samples(group: Any) -> None:
    add = group.add_argument
    add(
        "-batch_size",
        "--batch-size",
        type=_positive,
        default=4,
        metavar="N",
        help="samples per device (default: 4)",
    )
    add(
        "-num_workers",
        "--num-workers",
        type=_count,
        default=4,
        metavar="N",
        help="processes that prepare samples; 0: none besides this one (default: 4)",
    )
    add(
        "--data-aug",
        "--data_aug",
        type=_yes_or_no,
        nargs="?",
        const=True,
        default=True,
        metavar="yes|no",
        help="random flips (default: yes)",
    )
    add(
        "--balance",
        choices=("none", "modality"),
        default="none",
        help="modality: as many samples of each (by case name)",
    )
    add(
        "--overfit",
        type=_count,
        default=0,
        metavar="N",
        help="self-check: train and validate on N slices, no chance in them; fine-tuning ends at "
        "DSC 0.95, and fails if it does not get there",
    )
    add("--seed", type=_count, default=2024, metavar="N", help="of all chance (default: 2024)")


def _add_optimizer(group: Any, rate: float) -> None:
    add = group.add_argument
    add(
        "-lr",
        "--learning-rate",
        type=float,
        default=rate,
        metavar="X",
        help="learning rate (default: %(default)s)",
    )
    add(
        "-weight_decay",
        "--weight-decay",
        type=float,
        default=0.01,
        metavar="X",
        help="of AdamW (default: 0.01)",
    )
    add(
        "--warmup-steps",
        type=_count,
        default=0,
        metavar="N",
        help="steps of linear warm-up of cosine and constant (default: 0)",
    )
    add(
        "--layer-decay",
        type=_fraction,
        default=1.0,
        metavar="X",
        help="learning rate's factor per block of the encoder, from the last one down; TinyViT's "
        "own is 0.8 (default: 1)",
    )
    add(
        "--clip-norm",
        type=float,
        default=0.0,
        metavar="X",
        help="longest gradient (default: no limit)",
    )
    add(
        "--accumulate",
        type=_positive,
        default=1,
        metavar="N",
        help="batches per optimizer step (default: 1)",
    )
    add(
        "--ema",
        type=_fraction,
        default=0.0,
        metavar="X",
        help="validate and export an average of the weights with this decay, e.g. 0.999",
    )


def _add_run(group: Any, work_dir: str, epochs: int) -> None:
    add = group.add_argument
    add(
        "-work_dir",
        "--work-dir",
        type=Path,
        default=Path(work_dir),
        metavar="DIR",
        help="all output goes there (default: %(default)s)",
    )
    add("-task_name", "--task-name", metavar="NAME", help="a folder of this name inside it")
    add(
        "-num_epochs",
        "--num-epochs",
        type=_positive,
        metavar="N",
        help=f"default: {epochs}; with --overfit at most 40",
    )
    add(
        "--steps-per-epoch",
        type=_count,
        default=0,
        metavar="N",
        help="optimizer steps between validations (default: once through the data; with --overfit "
        "25)",
    )
    add(
        "--early-stop",
        type=_count,
        default=0,
        metavar="N",
        help="stop after N epochs without a better validation score (default: never)",
    )
    add(
        "-resume",
        "--resume",
        nargs="?",
        const="",
        metavar="DIR",
        help="continue the run in the work folder (or in DIR) exactly where it was saved last; "
        "auto: or start it, where nothing was saved yet",
    )
    add("--from-scratch", action="store_true", help="start at random, not from a checkpoint")
    add(
        "--dry-run",
        action="store_true",
        help="print model, data and memory plan and one step's time, train nothing",
    )


def _add_saving(group: Any) -> None:
    add = group.add_argument
    add(
        "--save-every",
        type=_count,
        default=0,
        metavar="N",
        help="checkpoint every N steps too (default: at the end of each epoch)",
    )
    add(
        "--keep",
        type=_positive,
        default=3,
        metavar="N",
        help="newest checkpoints that stay; the best one does too (default: 3)",
    )
    add(
        "--log-every",
        type=_positive,
        default=10,
        metavar="N",
        help="steps between lines of metrics.jsonl (default: 10)",
    )
    add("--save-pth", action="store_true", help="write the weights as .pth too (needs PyTorch)")


def _add_computing(group: Any) -> None:
    add = group.add_argument
    add(
        "--precision",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of activations; parameters, losses and BatchNorm stay float32",
    )
    add("--remat", action="store_true", help="less memory for more time: recompute activations")


def _add_hosts(group: Any) -> None:
    add = group.add_argument
    add(
        "-device",
        "--device",
        metavar="NAME",
        help="cpu, gpu (or cuda:0) or tpu (default: the best there is; all its devices)",
    )
    add(
        "-world_size",
        "--world-size",
        type=_positive,
        metavar="N",
        help="processes in all, one a host (default: 1, or what SLURM or the TPU pod says)",
    )
    add("-node_rank", "--node-rank", type=_count, metavar="K", help="this host's number, from 0")
    add(
        "-init_method",
        "--init-method",
        default="env://",
        metavar="URL",
        help="tcp://HOST:PORT of host 0, or env:// for MASTER_ADDR and MASTER_PORT",
    )
    add("-bucket_cap_mb", "--bucket_cap_mb", help=argparse.SUPPRESS)  # PyTorch's; means nothing


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}'; expected a whole number from 1")
    return int(text)


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"'{text}'; expected a whole number from 0")
    return int(text)


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"'{text}'; expected a number from 0 to 1")
    return value


def _yes_or_no(text: str) -> bool:
    # The reference's `--data_aug False` was true, as any text was.
    words = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
    if text.lower() not in words:
        raise argparse.ArgumentTypeError(f"'{text}'; expected yes or no")
    return words[text.lower()]
