"""Training throughput: seconds a step here and in the torch oracle, and the data pipeline's.

  python benchmarks/training.py                     both frameworks, CPU or GPU as they find it
  python benchmarks/training.py --only data -data_root data/npy --workers 0 1 2 4

Each framework runs in a process of its own, one after the other, on the same made-up batch with the
published weights: forward, loss, backward, AdamW. Memory is the process's peak on CPUs, the device
allocator's peak on GPUs.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))  # the oracle lives in the tests


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--only", choices=("jax", "torch", "data"), help="default: jax and torch")
    add("--batch", type=int, default=1)
    add("--steps", type=int, default=5, help="timed steps, after two that are not")
    add("--precision", choices=("float32", "bfloat16"), default="float32", help="of jax")
    add("--remat", action="store_true", help="of jax")
    add("--json", action="store_true", help="one line of JSON")
    add("-data_root", nargs="+", default=["data/npy"], help="for --only data")
    add("--workers", type=int, nargs="+", default=[0, 1, 2], help="for --only data")
    args = parser.parse_args()
    if args.only == "data":
        time_data(args)
    elif args.only:
        found = {"jax": time_jax, "torch": time_torch}[args.only](args)
        print(json.dumps(found) if args.json else text_of(args.only, found))
    else:
        compare(args)


def compare(args: argparse.Namespace) -> None:
    """Both, each in its own process, and the quotient."""
    found = {}
    for name in ("torch", "jax"):
        command = [sys.executable, __file__, "--only", name, "--json"]
        command += ["--batch", str(args.batch), "--steps", str(args.steps)]
        command += ["--precision", args.precision] + ["--remat"] * args.remat
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            sys.exit(f"{name} failed:\n{result.stderr}")
        found[name] = json.loads(result.stdout.splitlines()[-1])
        print(text_of(name, found[name]), flush=True)
    print(f"time per step, jax / torch: {found['jax']['median'] / found['torch']['median']:.2f}")


def text_of(name: str, found: dict) -> str:
    """One line of result."""
    return (
        f"{name:5s} on {found['device']}: {found['median']:.2f} s a step (fastest "
        f"{found['fastest']:.2f}), batch {found['batch']}, {found['precision']}, "
        f"peak {found['peak_mib']:.0f} MiB"
    )


def made_up_batch(size: int) -> dict[str, np.ndarray]:
    """Noise, a rectangle, its box."""
    image = np.random.default_rng(0).random((size, 256, 256, 3), np.float32)
    mask = np.zeros((size, 256, 256), np.uint8)
    mask[:, 60:140, 80:180] = 1
    box = np.tile(np.array([78, 57, 183, 142], np.float32), (size, 1))
    return {"image": image, "mask": mask, "box": box}


def time_jax(args: argparse.Namespace) -> dict:
    """This project's step, as the loop runs it."""
    import jax

    from litemedsam_jax.config import DataConfig, TrainingConfig, lite_medsam
    from litemedsam_jax.training import devices, optimizer, start, steps
    from litemedsam_jax.weights.published import ensure

    data = DataConfig(("-",), batch_size=args.batch)
    config = TrainingConfig(
        "finetune", "", lite_medsam(), data, dtype=args.precision, remat=args.remat
    )
    variables, _, _ = start.whole_model(ensure(REPOSITORY / "work_dir"), None, 0)
    made = optimizer.make_optimizer(config, variables["params"], 100)
    step = steps.make_step(config, steps.finetune_loss(config, devices.AXIS), made, devices.AXIS)
    program = devices.Program(step, mapped_output=False, donate=True)
    state = steps.init_state(variables, made, ema=False)
    batch = {name: array[None, None] for name, array in made_up_batch(args.batch).items()}

    def run() -> None:
        nonlocal state
        state, metrics = program(state, batch)
        float(metrics["loss"])

    seconds = timed(run, args.steps)
    device = jax.devices()[0]
    statistics = device.memory_stats() or {}
    peak = statistics.get("peak_bytes_in_use", 0) / 2**20
    return summary(seconds, args, device.device_kind, peak or peak_of_process(), args.precision)


def time_torch(args: argparse.Namespace) -> dict:
    """The reference's step: float32, no autocast, AdamW."""
    import torch

    from tests import oracle

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = oracle.lite_medsam(oracle.published_checkpoint()).requires_grad_(True).train()
    model.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0.01)
    batch = made_up_batch(args.batch)
    image = torch.from_numpy(np.moveaxis(batch["image"], -1, 1).copy()).to(device)
    mask = torch.from_numpy(batch["mask"])[:, None].float().to(device)
    box = torch.from_numpy(batch["box"])[:, None].to(device)

    def run() -> None:
        sparse, dense = model.prompt_encoder(points=None, boxes=box, masks=None)
        logits, iou = model.mask_decoder(
            image_embeddings=model.image_encoder(image),
            image_pe=model.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        p = torch.sigmoid(logits)
        overlap, total = (p * mask).sum((1, 2, 3)), (p**2 + mask**2).sum((1, 2, 3))
        dice = (1 - (2 * overlap + 1e-5) / (total + 1e-5)).mean()
        bce = torch.nn.functional.binary_cross_entropy_with_logits(logits, mask)
        loss = dice + bce + ((iou - 0.5) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()

    seconds = timed(run, args.steps)
    gpu = device == "cuda"
    peak = torch.cuda.max_memory_allocated() / 2**20 if gpu else peak_of_process()
    name = torch.cuda.get_device_name() if gpu else "cpu"
    return summary(seconds, args, name, peak, "float32")


def time_data(args: argparse.Namespace) -> None:
    """Samples a second of the input pipeline, by number of workers."""
    from litemedsam_jax.config import DataConfig
    from litemedsam_jax.training.data import training_batches
    from litemedsam_jax.training.samples import FinetuneSample
    from litemedsam_jax.training.sources import open_catalog

    catalog = open_catalog(args.data_root)
    print(catalog.describe())
    for workers in args.workers:
        data = DataConfig(tuple(args.data_root), workers=workers)
        batches = training_batches(catalog, FinetuneSample(data, 256), data, 8)
        for _ in range(4):  # until the workers have started
            next(batches)
        began = time.perf_counter()
        count = 50
        for _ in range(count):
            next(batches)
        speed = 8 * count / (time.perf_counter() - began)
        print(f"{workers} workers: {speed:.0f} samples/s ({speed / max(workers, 1):.0f} a worker)")
        batches.close()


def timed(run, count: int) -> list[float]:
    """Seconds of each run, after two for compilation and caches."""
    seconds = []
    for index in range(count + 2):
        began = time.perf_counter()
        run()
        if index >= 2:
            seconds.append(time.perf_counter() - began)
    return seconds


def summary(seconds: list[float], args, device: str, peak: float, precision: str) -> dict:
    """What is printed."""
    return {
        "device": device,
        "batch": args.batch,
        "precision": precision,
        "median": float(np.median(seconds)),
        "fastest": min(seconds),
        "peak_mib": peak,
    }


def peak_of_process() -> float:
    """MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
