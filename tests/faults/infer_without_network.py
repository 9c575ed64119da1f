"""`infer.py` with an engine that fills boxes: the same files in a tenth of the time.

python -m tests.faults.infer_without_network -i IMGS -o SEGS
"""

from litemedsam_jax.cli import run_process
from litemedsam_jax.inference.predictor import LiteMedSAM
from tests.support.fake_engine import FakeEngine

if __name__ == "__main__":
    LiteMedSAM.from_pretrained = lambda *_, **__: LiteMedSAM(FakeEngine(record=False))  # type: ignore[method-assign]
    run_process("segment")
