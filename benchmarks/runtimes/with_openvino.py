"""OpenVINO on the exported graphs, with its model cache: float32, or (--default-precision) what it
takes by itself, which is bfloat16 on processors with AMX."""

import sys

import openvino as ov
from algorithm import enlarge
from worker import MODELS, main

AT_ONCE = 8


class Backend:
    def __init__(self, threads):
        core = ov.Core()
        default = "--default-precision" in sys.argv
        options = {
            "CACHE_DIR": str(MODELS / f"openvino_cache_{threads}{'_default' if default else ''}"),
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            **({} if default else {"INFERENCE_PRECISION_HINT": "f32"}),
        }
        self._encoder, self._decoder = (
            core.compile_model(MODELS / f"{name}.xml", "CPU", options).create_infer_request()
            for name in ("encoder", "decoder")
        )
        self.enlarge = enlarge

    def encode(self, image):
        return self._encoder.infer([image])[0].copy()

    def decode(self, embedding, boxes):
        logits = []
        for start in range(0, len(boxes), AT_ONCE):
            logits += list(self._decoder.infer([embedding, boxes[start : start + AT_ONCE]])[0])
        return logits


if __name__ == "__main__":
    main(Backend)
