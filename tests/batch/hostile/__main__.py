"""Segments a folder with the fake engine; prints one JSON object.

`python -m tests.batch.hostile FOLDER MASKS boxes|gt`: what was done, what failed, all
lines, the peak of memory.
"""

import json
import sys
from pathlib import Path


def main(inputs: str, outputs: str, prompts: str) -> None:
    """Segments the folder with the fake engine; prints the report."""
    from litemedsam_jax.batch.folder import BatchOptions, segment_folder
    from litemedsam_jax.inference.predictor import LiteMedSAM
    from tests.support.fake_engine import FakeEngine

    LiteMedSAM.from_pretrained = lambda *_, **__: LiteMedSAM(FakeEngine(record=False))  # type: ignore[method-assign]
    lines: list[str] = []
    options = BatchOptions(Path(inputs), Path(outputs), Path("none"), prompts)
    summary = segment_folder(options, lines.append)
    report = {
        "done": summary.done,
        "failed": summary.failed,
        "lines": lines,
        "peak": _peak_memory(),
    }
    print(json.dumps(report))


def _peak_memory() -> int:
    """Bytes. Linux's own count: getrusage starts from what the parent process held."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
