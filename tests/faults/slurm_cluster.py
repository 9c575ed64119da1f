"""SLURM on this machine alone: a controller, two nodes, and jobs given to them."""

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

NODES = ("node-a", "node-b")
_PATIENCE = 1200.0  # seconds that a job may take

_CONFIGURATION = """\
ClusterName=faults
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=60
MinJobAge=3600
NodeName={nodes[0]} NodeHostname={nodes[0]} NodeAddr=127.0.0.1 Port={ports[1]} {size}
NodeName={nodes[1]} NodeHostname={nodes[1]} NodeAddr=127.0.0.1 Port={ports[2]} {size}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def say(text: str) -> None:
    """A line of the report, at once."""
    print(text, flush=True)


def slurm(*command: str | Path) -> str:
    """Runs one of SLURM's commands; its output."""
    return subprocess.run(
        [*map(str, command)], check=True, text=True, stdout=subprocess.PIPE
    ).stdout.strip()


@contextmanager
def cluster(folder: Path) -> Iterator[None]:
    """A controller and two nodes on this machine, for as long as the block runs."""
    size = f"CPUs=2 RealMemory={os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') >> 21}"
    for name in ("state", *(f"spool-{node}" for node in NODES)):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.touch(0o600)
    key.write_bytes(os.urandom(128))
    settings = {"folder": folder, "host": socket.gethostname(), "nodes": NODES, "size": size}
    configuration = folder / "slurm.conf"
    configuration.write_text(_CONFIGURATION.format(ports=_free_ports(3), **settings))
    os.environ["SLURM_CONF"] = str(configuration)
    munge = ["munged", "--foreground", "--force", f"--key-file={key}"]
    for option, file in {"socket": "sock", "log-file": "log", "pid-file": "pid"}.items():
        munge.append(f"--{option}={folder}/munge.{file}")
    munge.append(f"--seed-file={folder}/munge.seed")
    with ExitStack() as running:
        running.enter_context(_daemon(folder / "munged.out", munge))
        wait(lambda: (folder / "munge.sock").exists(), "munged does not answer", 30)
        running.enter_context(_daemon(folder / "slurmctld.out", ["slurmctld", "-D"]))
        for node in NODES:
            running.enter_context(_daemon(folder / f"{node}.out", ["slurmd", "-D", "-N", node]))
        wait(_nodes_are_idle, f"the nodes do not come up; see {folder}/*.out", 60)
        say(f"{slurm('sinfo', '--version')}, nodes {', '.join(NODES)} on this machine")
        try:
            yield
        finally:
            with suppress(subprocess.CalledProcessError):
                slurm("scancel", "--user=root")
                wait(lambda: not slurm("squeue", "-h"), "jobs do not end", 60)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextmanager
def _daemon(output: Path, command: list[str]) -> Iterator[None]:
    with output.open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _nodes_are_idle() -> bool:
    run = subprocess.run(["sinfo", "-h", "-o", "%D %t"], capture_output=True, text=True)
    return run.stdout.split() == [str(len(NODES)), "idle"]


def wait(true: Callable[[], bool], otherwise: str, seconds: float = _PATIENCE) -> None:
    """Waits until something is true; ends the script with a fault after so many seconds."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise SystemExit(f"FAULT {otherwise}")
        time.sleep(0.1)


def submit(script: Path) -> str:
    """Gives a script to SLURM; the job's number."""
    output = (f"--output={script.parent}/%x-%A-%a.log", "--open-mode=append")
    job = slurm("sbatch", "--parsable", *output, script)
    say(f"sbatch {script.name}: job {job}")
    return job


def states(job: str) -> dict[str, str]:
    """State by task of an array, or by job."""
    rows = slurm("squeue", "-h", "-r", "-t", "all", "-j", job, "-o", "%i %T").splitlines()
    return dict(row.split() for row in rows)


def finish(job: str) -> None:
    """Waits for a job to complete, all its tasks."""

    def complete() -> bool:
        now = set(states(job).values())
        if now & {"FAILED", "CANCELLED", "NODE_FAIL", "TIMEOUT"}:
            raise SystemExit(f"FAULT job {job}: {states(job)}")
        return now == {"COMPLETED"}

    wait(complete, f"job {job} does not complete")


def requeue(task: str) -> None:
    """What an administrator, or a preempting job, does."""
    slurm("scontrol", "requeue", task)
