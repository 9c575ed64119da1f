"""What a run of training consists of. Standard library only.

A field's metadata is its flag: `commands.field_flags` makes the command lines of `finetune`,
`distill` and `adapt` from it, and `training.config_file` reads there what a change on --resume
means.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from litemedsam_jax.config import ModelConfig

# What happens if a run is resumed with another value than it was started with.
OnResume = Literal["refuse", "report", "ignore"]


def option(
    default: Any,
    help: str,
    *names: str,
    group: str,
    choices: tuple[str, ...] = (),
    bounds: tuple[float | None, float | None] = (None, None),
    metavar: str = "",
    unset: str = "",
    commands: tuple[str, ...] = (),
    on_resume: OnResume = "report",
) -> Any:
    """A dataclass field that is a flag too.

    Args:
        default: of the field; a command may have another.
        help: what the flag does, with its unit, without its default.
        names: of the flag; none: `--` and the field's name, underscores as hyphens.
        group: heading in --help.
        choices: the words that are allowed (for a tuple: each of its words).
        bounds: lowest and highest number, both allowed; None: no such bound.
        metavar: stands for the value in --help; "": by the type (N, X, NAME).
        unset: what the default means, in words, where the number itself says little.
        commands: that have the flag; none: all.
        on_resume: whether another value on --resume is refused, reported, or of no interest.
    """
    metadata = {
        "help": help,
        "names": names,
        "group": group,
        "choices": choices,
        "bounds": bounds,
        "metavar": metavar,
        "unset": unset,
        "commands": commands,
        "on_resume": on_resume,
    }
    return field(default=default, metadata=metadata)


_COUNT, _POSITIVE, _SHARE = (0, None), (1, None), (0, 1)
_FINETUNE, _DISTILL = ("finetune",), ("distill",)


@dataclass(frozen=True)
class DataConfig:
    """Which slices are trained on, and what is done to them before the network sees them."""

    sources: tuple[str, ...] = option(
        ("data/npy",),
        "npy folders (imgs/, gts/) or folders of `litemedsam pack`",
        "-data_root", "--data-root", "-i", "--tr_npy_path",
        group="data", metavar="DIR",
    )  # fmt: skip
    val_sources: tuple[str, ...] = option(
        (), "the same, to validate on", "--val-dir", group="data", metavar="DIR", unset="none"
    )
    val_fraction: float = option(
        0.0, "or: hold out this share of the cases of each modality",
        group="data", bounds=_SHARE, metavar="F",
    )  # fmt: skip
    val_slices: int = option(
        0, "validate on at most N slices of a case, evenly spread",
        group="data", bounds=_COUNT, unset="all",
    )  # fmt: skip
    batch_size: int = option(
        4, "samples per device", "-batch_size", "--batch-size", group="samples", bounds=_POSITIVE
    )
    workers: int = option(
        4, "processes that prepare samples; 0: none besides this one",
        "-num_workers", "--num-workers",
        group="samples", bounds=_COUNT, on_resume="ignore",
    )  # fmt: skip
    bbox_shift: int = option(
        5, "each side of a box moves outwards by 0 to N pixels of 256",
        "-bbox_shift", "--bbox-shift",
        group="samples", bounds=(0, 255), commands=_FINETUNE,
    )  # fmt: skip
    prompts: str = option(
        "training",
        "training: boxes as --bbox-shift says; use: also those of use (loose, shifted, a volume's "
        "whole box)",
        group="samples", choices=("training", "use"), commands=("finetune", "adapt"),
    )  # fmt: skip
    flips: bool = option(True, "random flips", "--data-aug", "--data_aug", group="samples")
    augment: tuple[str, ...] = option(
        (), "further augmentation: gamma and contrast; zoom",
        group="samples", choices=("intensity", "scale"), unset="none", commands=_FINETUNE,
    )  # fmt: skip
    balance: str = option(
        "none", "modality: as many samples of each (by case name)",
        group="samples", choices=("none", "modality"),
    )  # fmt: skip
    resize: str = option(
        "pad", "pad: keep the aspect ratio as inference does; squash: the reference's way",
        group="samples", choices=("pad", "squash"), commands=_DISTILL, on_resume="refuse",
    )  # fmt: skip
    overfit: int = option(
        0, "self-check: train and validate on N slices, nothing random about them; fine-tuning "
        "ends at DSC 0.95, and fails if it does not get there",
        group="samples", bounds=_COUNT, unset="off", on_resume="refuse",
    )  # fmt: skip
    seed: int = option(2024, "of everything random", group="samples", bounds=_COUNT)


@dataclass(frozen=True)
class LossConfig:
    """Weights of the terms of the fine-tuning loss."""

    dice: float = option(
        1.0, "weight of Dice", "-seg_loss_weight", "--seg-loss-weight",
        group="loss", bounds=_COUNT, commands=_FINETUNE,
    )  # fmt: skip
    bce: float = option(
        1.0, "weight of cross entropy", "-ce_loss_weight", "--ce-loss-weight",
        group="loss", bounds=_COUNT, commands=_FINETUNE,
    )  # fmt: skip
    iou: float = option(
        1.0, "weight of the predicted IoU's error", "-iou_loss_weight", "--iou-loss-weight",
        group="loss", bounds=_COUNT, commands=_FINETUNE,
    )  # fmt: skip
    anchor_weight: float = option(
        10.0, "weight of anchors' divergence: what is held on to of the starting weights",
        group="loss", bounds=_COUNT, commands=("adapt",),
    )  # fmt: skip


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW, its schedule, and what is left untrained."""

    learning_rate: float = option(
        5e-5, "learning rate", "-lr", "--learning-rate", group="optimizer", bounds=_COUNT
    )
    weight_decay: float = option(
        0.01, "of AdamW", "-weight_decay", "--weight-decay", group="optimizer", bounds=_COUNT
    )
    epsilon: float = 1e-8  # of AdamW; no flag
    schedule: str = option(
        "plateau", "of the learning rate; plateau: x0.9 after 6 epochs without progress",
        group="optimizer", choices=("plateau", "cosine", "constant"), on_resume="refuse",
    )  # fmt: skip
    warmup_steps: int = option(
        0, "steps of linear warm-up of cosine and constant", group="optimizer", bounds=_COUNT
    )
    layer_decay: float = option(
        1.0, "learning rate's factor per block of the encoder, from the last one down; TinyViT's "
        "own is 0.8",
        group="optimizer", bounds=_SHARE,
    )  # fmt: skip
    clip_norm: float = option(
        0.0, "longest gradient", group="optimizer", bounds=_COUNT, unset="no limit"
    )
    accumulate: int = option(1, "batches per optimizer step", group="optimizer", bounds=_POSITIVE)
    ema_decay: float = option(
        0.0, "validate and export an exponential moving average of the weights with this decay, "
        "e.g. 0.999",
        "--ema",
        group="optimizer", bounds=_SHARE, unset="off",
    )  # fmt: skip
    freeze: tuple[str, ...] = option(
        (), "parts that are not trained",
        group="optimizer", choices=("encoder", "prompt", "decoder"), unset="none",
        commands=_FINETUNE, on_resume="refuse",
    )  # fmt: skip
    freeze_batch_norm: bool = option(
        False, "BatchNorm keeps the statistics of the starting weights: for small batches",
        group="optimizer", commands=_FINETUNE,
    )  # fmt: skip


@dataclass(frozen=True)
class TrainingConfig:
    """One run; written to its work folder as config.json.

    Attributes:
        stage: "finetune" or "distill".
        model: the network that is trained.
        data: slices and samples.
        optimizer: AdamW and its schedule.
        loss: of fine-tuning.
    """

    stage: str
    model: ModelConfig
    data: DataConfig = DataConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    loss: LossConfig = LossConfig()
    work_dir: str = option(
        "work_dir/run", "all output goes there", "-work_dir", "--work-dir",
        group="run", metavar="DIR", on_resume="ignore",
    )  # fmt: skip
    epochs: int = option(
        10, "with --overfit at most 40 unless given",
        "-num_epochs", "--num-epochs",
        group="run", bounds=_POSITIVE,
    )  # fmt: skip
    steps_per_epoch: int = option(
        0, "optimizer steps between validations (with --overfit 25 unless given)",
        group="run", bounds=_COUNT, unset="once through the data",
    )  # fmt: skip
    early_stop: int = option(
        0, "stop after N epochs without a better validation score",
        group="run", bounds=_COUNT, unset="never",
    )  # fmt: skip
    save_every: int = option(
        0, "checkpoint every N steps too",
        group="checkpoints and reports", bounds=_COUNT, unset="at the end of each epoch",
        on_resume="ignore",
    )  # fmt: skip
    keep: int = option(
        3, "newest checkpoints that stay; the best one does too",
        group="checkpoints and reports", bounds=_POSITIVE, on_resume="ignore",
    )  # fmt: skip
    log_every: int = option(
        10, "steps between lines of metrics.jsonl",
        group="checkpoints and reports", bounds=_POSITIVE, on_resume="ignore",
    )  # fmt: skip
    save_pth: bool = option(
        False, "write the weights as .pth too (needs PyTorch)",
        group="checkpoints and reports", on_resume="ignore",
    )  # fmt: skip
    dtype: str = option(
        "float32", "of activations (on CPUs of what the encoder's products multiply); parameters, "
        "losses and BatchNorm stay float32", "--precision",
        group="computing", choices=("float32", "bfloat16"),
    )  # fmt: skip
    remat: bool = option(
        False, "less memory for more time: recompute activations",
        group="computing", on_resume="ignore",
    )  # fmt: skip


@dataclass(frozen=True)
class Hosts:
    """How the processes of a run find each other; the reference's flags."""

    world_size: int | None = option(
        None, "processes in all, one a host", "-world_size", "--world-size",
        group="devices and hosts", bounds=_POSITIVE, unset="1, or what SLURM or the TPU pod says",
    )  # fmt: skip
    node_rank: int | None = option(
        None, "this host's number, from 0", "-node_rank", "--node-rank",
        group="devices and hosts", bounds=_COUNT, metavar="K",
    )  # fmt: skip
    init_method: str = option(
        "env://", "tcp://HOST:PORT of host 0, or env:// for MASTER_ADDR and MASTER_PORT",
        "-init_method", "--init-method",
        group="devices and hosts", metavar="URL",
    )  # fmt: skip
