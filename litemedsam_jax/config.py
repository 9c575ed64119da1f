"""What a network is (its shapes) and how it computes. Standard library only."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class StageConfig:
    """One stage of TinyViT: its blocks, then the downsampling that follows them, if any."""

    dim: int
    depth: int
    heads: int
    window: int
    downsample_stride: int | None  # of the patch merging after the blocks; None: the last stage


@dataclass(frozen=True)
class TinyViTConfig:
    """TinyViT with SAM's neck. The first stage is of MBConv blocks, the others of attention."""

    image_size: int
    stem_kernel: int  # of both stem convolutions: 1 (LiteMedSAM) or 3 (MobileSAM)
    stem_stride: int
    stages: tuple[StageConfig, ...]
    expansion: int = 4  # of MBConv
    mlp_ratio: int = 4
    out_dim: int = 256

    @property
    def grid_size(self) -> int:
        """Side of the embedding."""
        size = self.image_size // self.stem_stride**2
        for stage in self.stages:
            size //= stage.downsample_stride or 1
        return size


@dataclass(frozen=True)
class ViTConfig:
    """SAM's ViT image encoder (MedSAM's teacher is the B size)."""

    image_size: int
    patch_size: int
    dim: int
    depth: int
    heads: int
    window: int
    global_blocks: tuple[int, ...]
    mlp_ratio: int = 4
    out_dim: int = 256

    @property
    def grid_size(self) -> int:
        """Side of the embedding."""
        return self.image_size // self.patch_size


@dataclass(frozen=True)
class PromptEncoderConfig:
    dim: int = 256
    mask_channels: int = 16


@dataclass(frozen=True)
class MaskDecoderConfig:
    dim: int = 256
    depth: int = 2
    heads: int = 8
    mlp_dim: int = 2048
    attention_downsample: int = 2
    multimask_outputs: int = 3


@dataclass(frozen=True)
class ModelConfig:
    """A whole model: image encoder, prompt encoder, mask decoder."""

    name: str
    image_encoder: TinyViTConfig | ViTConfig
    prompt_encoder: PromptEncoderConfig = field(default_factory=PromptEncoderConfig)
    mask_decoder: MaskDecoderConfig = field(default_factory=MaskDecoderConfig)


@dataclass(frozen=True)
class Execution:
    """How a network computes; its variables' meaning does not depend on it."""

    dtype: str = "float32"  # of activations and matrix products; parameters stay float32
    folded: bool = False  # decoding only: variables went through engine.folding
    batch_axis: str | None = None  # pmap axis over which BatchNorm's statistics are averaged
    remat: bool = False  # recompute each block in the backward pass instead of storing it


def _tiny_vit_stages(dims: tuple[int, ...], depths: tuple[int, ...]) -> tuple[StageConfig, ...]:
    heads, windows, strides = (2, 4, 5, 10), (7, 7, 14, 7), (2, 2, 1, None)
    return tuple(map(StageConfig, dims, depths, heads, windows, strides))


def lite_medsam() -> ModelConfig:
    """The published LiteMedSAM: 256x256 input, first stage at full resolution."""
    stages = _tiny_vit_stages((64, 128, 160, 320), (2, 2, 6, 2))
    return ModelConfig("lite_medsam", TinyViTConfig(256, 1, 1, stages))


def mobile_sam() -> ModelConfig:
    """MobileSAM: the same TinyViT behind a stem of two stride-2 convolutions, 1024x1024 input."""
    stages = _tiny_vit_stages((64, 128, 160, 320), (2, 2, 6, 2))
    return ModelConfig("mobile_sam", TinyViTConfig(1024, 3, 2, stages))


def medsam_vit_b() -> ModelConfig:
    """MedSAM, the distillation's teacher: SAM's ViT-B, 1024x1024 input."""
    encoder = ViTConfig(1024, 16, 768, 12, 12, window=14, global_blocks=(2, 5, 8, 11))
    return ModelConfig("medsam_vit_b", encoder)


def tiny_for_tests() -> ModelConfig:
    """A LiteMedSAM of few channels whose steps take milliseconds; its masks mean nothing."""
    stages = tuple(
        map(
            StageConfig, (8, 16, 16, 32), (1, 1, 1, 1), (1, 2, 2, 4), (7, 7, 14, 7), (2, 2, 1, None)
        )
    )
    encoder = TinyViTConfig(256, 1, 1, stages, out_dim=32)
    decoder = MaskDecoderConfig(dim=32, heads=4, mlp_dim=64)
    return ModelConfig("tiny_for_tests", encoder, PromptEncoderConfig(dim=32), decoder)


MODELS = {f().name: f for f in (lite_medsam, mobile_sam, medsam_vit_b, tiny_for_tests)}


@dataclass(frozen=True)
class DataConfig:
    """Which slices are trained on, and what is done to them before the network sees them."""

    sources: tuple[str, ...]  # npy folders (imgs/, gts/) or folders of ArrayRecord shards
    val_sources: tuple[str, ...] = ()  # the same, to validate on
    val_fraction: float = 0.0  # of the cases of each modality, where val_sources is empty
    val_slices: int = 0  # at most so many slices of a case, evenly spread; 0: all
    batch_size: int = 4  # per device
    workers: int = 4  # processes that prepare samples; 0: threads of this one
    bbox_shift: int = 5  # each side of the box moves outwards by 0 ... so many pixels
    flips: bool = True
    augment: tuple[str, ...] = ()  # of "intensity", "scale"
    balance: str = "none"  # "modality": as many samples of each
    resize: str = "pad"  # "squash" ignores the aspect ratio (the reference's distillation)
    overfit: int = 0  # train and validate on so many samples, all chance taken out; 0: off
    seed: int = 2024


@dataclass(frozen=True)
class LossConfig:
    """Weights of the terms of the fine-tuning loss."""

    dice: float = 1.0
    bce: float = 1.0
    iou: float = 1.0


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW, its schedule, and what is left untrained."""

    learning_rate: float = 5e-5
    weight_decay: float = 0.01
    epsilon: float = 1e-8
    schedule: str = "plateau"  # "cosine", "constant"
    warmup_steps: int = 0
    layer_decay: float = 1.0  # learning rate's factor per block of the encoder, from its last down
    clip_norm: float = 0.0  # of the whole gradient; 0: off
    accumulate: int = 1  # batches per optimizer step
    ema_decay: float = 0.0  # of the averaged copy that is validated and exported; 0: off
    freeze: tuple[str, ...] = ()  # of "encoder", "prompt", "decoder"
    freeze_batch_norm: bool = False  # its statistics; scales and biases train on


@dataclass(frozen=True)
class TrainingConfig:
    """One run; written to its work folder as config.json."""

    stage: str  # "finetune" or "distill"
    work_dir: str
    model: ModelConfig
    data: DataConfig
    optimizer: OptimizerConfig = OptimizerConfig()
    loss: LossConfig = LossConfig()
    epochs: int = 10
    steps_per_epoch: int = 0  # optimizer steps; 0: as many as show every slice once
    dtype: str = "float32"  # of activations and products; "bfloat16"
    remat: bool = False
    early_stop: int = 0  # epochs without a better validation score; 0: never
    save_every: int = 0  # steps between checkpoints, besides those at each epoch's end; 0: none
    keep: int = 3  # newest checkpoints that stay, the best one besides
    log_every: int = 10  # steps between lines of metrics.jsonl
    save_pth: bool = False
