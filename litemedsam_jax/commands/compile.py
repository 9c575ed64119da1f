"""`litemedsam compile`: compiles the programs of inference ahead of time."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from litemedsam_jax.weights import default_weights

DESCRIPTION = """\
Compiles encoder and decoder ahead of time, so that no later process has to.

  litemedsam compile                      for this machine
  litemedsam compile --isa avx2 avx512    for any x86 machine from AVX2 up (container images)
  litemedsam compile --isa avx512_bf16 --precision bfloat16    for any with bfloat16 (and AMX)

Programs depend on the weights' shapes alone, not on their values. They are stored in
$LITEMEDSAM_PROGRAMS, or in the user's cache folder, and found there by `infer.py`.
"""

_FLAG = "XLA_FLAGS"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "--isa",
        nargs="+",
        choices=("native", "avx2", "avx512", "avx512_bf16"),
        default=["native"],
        help="instruction sets to compile for, those that this machine has (default: native, "
        "this machine's)",
    )
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16", "auto"),
        default="float32",
        help="as in `litemedsam segment` (default: %(default)s)",
    )
    parser.add_argument(
        "-lite_medsam_checkpoint_path",
        "--weights",
        type=Path,
        metavar="FILE",
        help=f"weights whose shapes count (default: {default_weights.DESCRIPTION})",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="where to store (default: $LITEMEDSAM_PROGRAMS or the user's cache folder)",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    if len(args.isa) == 1:
        return _compile_here(args.isa[0], args.weights, args.output, args.precision)
    # XLA reads its instruction set once per process.
    for isa in args.isa:
        command = [sys.executable, "-m", "litemedsam_jax", "compile", "--isa", isa]
        command += ["--precision", args.precision]
        command += ["--weights", str(args.weights)] if args.weights else []
        command += ["--output", str(args.output)] if args.output else []
        status = subprocess.run(command, check=False).returncode
        if status:
            return status
    return 0


def _compile_here(isa: str, weights: Path | None, output: Path | None, precision: str) -> int:
    from litemedsam_jax.engine import processor

    features = processor.features()
    if isa != "native" and features and isa not in processor.instruction_sets(features):
        print(f"litemedsam compile: nothing for {isa}, which this machine lacks", file=sys.stderr)
        return 0
    os.environ["JAX_PLATFORMS"] = "cpu"
    if isa != "native":
        os.environ[_FLAG] = f"{os.environ.get(_FLAG, '')} --xla_cpu_max_isa={isa.upper()}".strip()

    import jax

    from litemedsam_jax.engine.folded_cache import fold_once
    from litemedsam_jax.engine.network import all_programs
    from litemedsam_jax.engine.precision import choose
    from litemedsam_jax.engine.program_store import ProgramStore
    from litemedsam_jax.engine.programs import compile_program, serialize
    from litemedsam_jax.weights.errors import CheckpointError
    from litemedsam_jax.weights.load import load_model

    try:
        model = load_model(weights or default_weights.find())
        store = ProgramStore(model.config, output)
        grid_size = model.config.image_encoder.grid_size
        precision, note = choose(precision, "cpu")
        if note:
            print(note)
        folded = fold_once(model.variables, grid_size, store, precision=precision)
        for name, program in all_programs(model.config, precision).items():
            executable = compile_program(program, folded, jax.devices("cpu")[0])
            data = serialize(executable).to_bytes()
            path = store.write(name, data, None if isa == "native" else isa)
            print(f"{path} ({len(data) / 2**20:.1f} MiB)")
        store.remove_old_keys()
    except (CheckpointError, OSError) as error:
        print(f"litemedsam compile: {error}", file=sys.stderr)
        return 2
    return 0
