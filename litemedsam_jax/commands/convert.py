"""`litemedsam convert`, `convert_weights.py`: PyTorch checkpoint to safetensors, and back."""

import argparse
import sys
from pathlib import Path

from litemedsam_jax.weights import safetensors_file
from litemedsam_jax.weights.errors import CheckpointError
from litemedsam_jax.weights.join import join
from litemedsam_jax.weights.load import load
from litemedsam_jax.weights.state_dict import to_state_dict
from litemedsam_jax.weights.torch_file import write_torch_file

DESCRIPTION = """\
Convert weights between PyTorch's .pth and the safetensors file that everything here reads.

  from PyTorch      convert_weights.py lite_medsam.pth lite_medsam.safetensors
  to PyTorch        convert_weights.py --to-torch lite_medsam.safetensors lite_medsam.pth
  extract weights   convert_weights.py -from_pth medsam_lite_best.pth -to_pth lite_medsam.pth
  join              convert_weights.py --encoder distilled.pth --decoder-from medsam_vit_b.pth OUT

A .pth may hold a bare state_dict or one under "model" or "state_dict", with the prefixes of
DistributedDataParallel, torch.compile or Lightning, or an image encoder alone; safetensors with
PyTorch's keys are read the same. LiteMedSAM, MedSAM's ViT-B and MobileSAM are known. Nothing in a
file is executed. Keys, shapes and types must match the network exactly, and what does not is
listed; half precision becomes float32. Writing a .pth needs PyTorch."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "files", nargs="*", metavar="FILE", help="SOURCE OUT; with --encoder: OUT alone"
    )
    parser.add_argument("-from_pth", metavar="SOURCE", help="same as SOURCE (extract_weights.py)")
    parser.add_argument("-to_pth", metavar="OUT", help="same as OUT (extract_weights.py)")
    parser.add_argument(
        "--to-torch",
        action="store_true",
        help="write PyTorch's format, whatever OUT is called (an OUT that ends in .pth is anyway)",
    )
    parser.add_argument("--encoder", metavar="FILE", help="join: take the image encoder from here")
    parser.add_argument(
        "--decoder-from",
        metavar="FILE",
        help="join: take prompt encoder and mask decoder from here (medsam_vit_b.pth)",
    )


def run(args: argparse.Namespace) -> int:
    """Converts; returns the exit status: 0, 1 (the weights are at fault), 2 (the arguments)."""
    files = [*args.files, *filter(None, (args.from_pth, args.to_pth))]
    joining = bool(args.encoder or args.decoder_from)
    if joining and not (args.encoder and args.decoder_from and len(files) == 1):
        print("error: joining takes --encoder FILE --decoder-from FILE OUT", file=sys.stderr)
        return 2
    if not joining and len(files) != 2:
        print("error: two files are expected: SOURCE OUT (--help shows how)", file=sys.stderr)
        return 2
    out = Path(files[-1])
    try:
        model = (
            join(args.encoder, args.decoder_from) if joining else load(files[0], need_digest=False)
        )
        if args.to_torch or out.suffix in (".pth", ".pt"):
            write_torch_file(out, to_state_dict(model.variables, model.config, model.counters))
        else:
            safetensors_file.save(out, model.variables, model.config, model.counters)
    except CheckpointError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    parts = ", ".join(model.parts)
    print(f"{out}: {model.config.name}, {len(model.variables)} arrays ({parts})")
    return 0
