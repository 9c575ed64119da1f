"""docs/cluster.md on a real SLURM: this machine as two nodes, jobs killed and requeued.

    python tests/faults/slurm.py [--install]

Needs root, Linux, and SLURM with munge (Debian: slurmctld, slurmd, slurm-client, munge; --install
fetches them with apt-get). Both batch scripts are taken out of docs/cluster.md, with folders of
this run and, for training, a small network on CPUs. What must hold:

- the array: one task is requeued in the middle, one is killed by SIGKILL and requeued; in the end
  every mask is there once and equals that of an undisturbed run of `infer.py`;
- training: two processes under `srun`, which are given no addresses; once one of them is killed by
  SIGKILL, once the job is requeued while it runs; in the end checkpoint, weights and validation
  scores equal, bit for bit, those of a run of two processes that nothing disturbed.

The daemons have ports and folders of their own and end with this script. The nodes' names stand in
a copy of /etc/hosts that only this script's mount namespace sees. Exit status 0: all held.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

from tests.faults import kill_training  # noqa: E402
from tests.faults.slurm_cluster import (  # noqa: E402
    NODES,
    cluster,
    finish,
    requeue,
    say,
    slurm,
    states,
    submit,
    wait,
)

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
TASKS = 4  # of the array
COPIES = 3  # of each demo case
EPOCHS = 2  # of training
_NAMESPACE = "LITEMEDSAM_SLURM_HOSTS"  # set where /etc/hosts has the nodes' names


def script_of(section: str, folder: Path, changes: dict[str, str]) -> Path:
    """The section's SLURM script from docs/cluster.md, with other folders, as a file."""
    page = (REPOSITORY / "docs" / "cluster.md").read_text(encoding="utf-8")
    part = page.split(f"\n## {section}\n")[1].split("\n## ")[0].split("\n### SLURM\n")[1]
    text = part.split("```bash\n")[1].split("```")[0]
    for old, new in {"/data/LiteMedSAM-JAX": str(REPOSITORY), **changes}.items():
        if not re.search(old, text):
            raise SystemExit(f"FAULT docs/cluster.md, {section}: no '{old}' in its SLURM script")
        text = re.sub(old, new, text)
    path = folder / f"{section.split()[0].lower()}.sh"
    path.write_text(text)
    return path


def pid_of(words: tuple[str, ...], variables: dict[str, str]) -> int | None:
    """The process whose command has these words and whose environment these variables."""
    wanted = {f"{name}={value}".encode() for name, value in variables.items()}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (entry / "cmdline").read_bytes().split(b"\0")
            variables_of = set((entry / "environ").read_bytes().split(b"\0"))
            named = b"python" in command[0] and {word.encode() for word in words} <= set(command)
            if named and wanted <= variables_of:
                return int(entry.name)
    return None


def kill(words: tuple[str, ...], variables: dict[str, str]) -> bool:
    """SIGKILL to that process; whether it was there."""
    pid = pid_of(words, variables)
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
    return pid is not None


def try_array(folder: Path) -> list[str]:
    """The array job of the docs, disturbed; what is wrong in the end."""
    imgs, segs, expected = folder / "imgs", folder / "segs", folder / "undisturbed_segs"
    imgs.mkdir()
    for path in sorted((REPOSITORY / "demo" / "imgs").glob("*.npz")):
        for copy in range(COPIES):
            shutil.copy(path, imgs / f"{path.stem}_{copy}.npz")
    command = [sys.executable, "infer.py", "-i", imgs, "-o", expected]
    subprocess.run([*map(str, command)], cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL)
    changes = {
        "--array=0-7": f"--array=0-{TASKS - 1}",
        "--mem=4G": "--mem=2G",
        "/data/imgs": str(imgs),
        "/data/segs": str(segs),
    }
    job = submit(script_of("Segmenting a large folder", folder, changes))
    shares = [sorted(path.name for path in imgs.iterdir())[i::TASKS] for i in range(TASKS)]

    def begun(task: int) -> bool:
        return any((segs / name).exists() for name in shares[task])

    wait(lambda: begun(0), "task 0 writes nothing")
    requeue(f"{job}_0")
    say(f"task 0 requeued with {_there(segs, shares[0])} of its {len(shares[0])} masks there")
    wait(lambda: begun(1), "task 1 writes nothing")
    if not kill(("infer.py", str(segs)), {"SLURM_ARRAY_TASK_ID": "1"}):
        return ["task 1 was done before it could be killed; give --copies more"]
    say(f"task 1 killed with {_there(segs, shares[1])} of its {len(shares[1])} masks there")
    wait(lambda: states(job).get(f"{job}_1") == "FAILED", "task 1 was killed and does not fail")
    requeue(f"{job}_1")
    finish(job)
    restarts = re.findall(r"Restarts=(\d+)", slurm("scontrol", "show", "job", job))
    say(f"all {TASKS} tasks completed; restarts {sorted(map(int, restarts), reverse=True)}")
    return _masks_differ(expected, segs)


def _there(segs: Path, names: list[str]) -> int:
    return sum((segs / name).exists() for name in names)


def _masks_differ(expected: Path, segs: Path) -> list[str]:
    wanted = sorted(path.name for path in expected.glob("*.npz"))
    found = sorted(path.name for path in segs.iterdir() if path.suffix != ".csv")
    faults = [] if found == wanted else [f"masks there: {found}; wanted: {wanted}"]
    pixels = 0
    for name in set(wanted) & set(found):
        with np.load(expected / name) as one, np.load(segs / name) as other:
            pixels += one["segs"].size
            if not np.array_equal(one["segs"], other["segs"]):
                faults.append(f"{name}: other masks")
    say(f"{len(found)} masks, {pixels} pixels: {len(faults)} faults")
    return faults


def try_training(folder: Path) -> list[str]:
    """The training job of the docs, two processes, disturbed; what is wrong in the end."""
    kill_training.prepare(folder)
    # As in kill_training: the network is tiny, compiling is what costs.
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder / "xla")
    steps = EPOCHS * kill_training.STEPS_PER_EPOCH
    runs = {}
    for name in ("undisturbed", "killed"):
        run = runs[name] = folder / name
        job = submit(script_of("Training on GPUs", folder, _small_training(folder, run)))
        if name == "killed":
            _disturb_training(job, run, steps)
        finish(job)
    log = "".join(path.read_text() for path in folder.glob("finetune-*.log"))
    starts, joined = log.count("data: "), log.count("Rank 1 is connected to 1 peer")
    say(f"{starts} starts, in {joined} of them the second process found the first one")
    whole, pieces = (kill_training.result(run) for run in runs.values())
    return kill_training.differences(whole, pieces)


def _small_training(folder: Path, run: Path) -> dict[str, str]:
    """From the docs' script to the network of the tests on two CPUs."""
    options = f"-pretrained_checkpoint {folder}/small.safetensors -num_epochs {EPOCHS}"
    options += f" --steps-per-epoch {kill_training.STEPS_PER_EPOCH} --save-every 1 -batch_size 2"
    options += " -lr 1e-3 --ema 0.9 --val-fraction 0.3 --val-slices 2 --log-every 1"
    return {
        "#SBATCH --gpus-per-node.*\n": "",
        "--cpus-per-task=16": "--cpus-per-task=1",
        "-data_root /data/npy --val-dir /data/val": f"-data_root {folder}/npy {options}",
        "/data/run1": str(run),
        "-num_workers 12": "-num_workers 0",
        "-device gpu": "-device cpu",
    }


def _disturb_training(job: str, run: Path, steps: int) -> None:
    words = ("train.py", str(run))
    wait(lambda: kill_training.last_step(run) >= steps // 4, "training saves nothing")
    kill(words, {"SLURM_PROCID": "1"})
    say(f"process 1 killed, newest checkpoint {kill_training.last_step(run)}")
    # srun ends the other process, the job fails: an administrator's `scontrol requeue` starts it.
    wait(lambda: set(states(job).values()) == {"FAILED"}, "a process was killed, the job goes on")
    requeue(job)

    def went_on() -> bool:
        if "FAILED" in states(job).values():
            raise SystemExit(f"FAULT job {job} failed after it was requeued; see its log")
        return kill_training.last_step(run) >= steps // 2

    wait(went_on, "training does not go on")
    requeue(job)
    say(f"job requeued as it ran, newest checkpoint {kill_training.last_step(run)}")
    wait(lambda: "RUNNING" not in states(job).values(), "a requeued job runs on", 60)


def in_namespace(folder: Path) -> None:
    """Starts this script again where /etc/hosts has the nodes' names; returns there."""
    if _NAMESPACE in os.environ:
        subprocess.run(["mount", "--bind", os.environ[_NAMESPACE], "/etc/hosts"], check=True)
        return
    hosts = folder / "hosts"
    hosts.write_text(Path("/etc/hosts").read_text() + f"\n127.0.0.1 {' '.join(NODES)}\n")
    os.environ[_NAMESPACE] = str(hosts)
    done = subprocess.run(["unshare", "--mount", sys.executable, *sys.argv, f"--folder={folder}"])
    raise SystemExit(done.returncode)


def main() -> int:
    """Runs both parts; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--install", action="store_true", help="the packages, by apt-get")
    parser.add_argument("--only", choices=("array", "training"), help="one part")
    parser.add_argument("--folder", type=Path, help="keep all there (default: a temporary one)")
    arguments = parser.parse_args()
    if sys.platform != "linux" or os.geteuid() != 0:
        raise SystemExit("needs root on Linux: SLURM's daemons start processes for other users")
    if arguments.install:
        subprocess.run(
            ["apt-get", "install", "-y", "--no-install-recommends", *PACKAGES], check=True
        )
    missing = [
        name for name in ("slurmctld", "slurmd", "sbatch", "munged") if not shutil.which(name)
    ]
    if missing:
        raise SystemExit(f"{', '.join(missing)}: not installed; --install fetches {PACKAGES}")
    with tempfile.TemporaryDirectory(prefix="litemedsam-slurm-") as temporary:
        folder = (arguments.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        in_namespace(folder)
        parts = {"array": try_array, "training": try_training}
        faults = []
        with cluster(folder):
            for name, part in parts.items():
                if arguments.only in (None, name):
                    (folder / name).mkdir()
                    faults += [f"{name}: {fault}" for fault in part(folder / name)]
    for fault in faults:
        say(f"FAULT {fault}")
    say(f"{len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    sys.exit(main())
