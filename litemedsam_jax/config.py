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
    """SAM's prompt encoder: channels of an embedding, and of the mask prompt's first layer."""

    dim: int = 256
    mask_channels: int = 16


@dataclass(frozen=True)
class MaskDecoderConfig:
    """SAM's mask decoder: a two-way transformer of `depth` blocks, and its heads."""

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
    products: str = "float32"  # on CPUs: of products' operands, where activations are float32
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
