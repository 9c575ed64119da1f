"""ONNX Runtime on the exported graphs, which it optimised beforehand (see export.py)."""

import onnxruntime as ort
from algorithm import enlarge
from worker import MODELS, main

AT_ONCE = 8


class Backend:
    def __init__(self, threads):
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._encoder, self._decoder = (
            ort.InferenceSession(MODELS / f"{name}.ort.onnx", options, ["CPUExecutionProvider"])
            for name in ("encoder", "decoder")
        )
        self.enlarge = enlarge

    def encode(self, image):
        return self._encoder.run(None, {"image": image})[0]

    def decode(self, embedding, boxes):
        logits = []
        for start in range(0, len(boxes), AT_ONCE):
            chunk = boxes[start : start + AT_ONCE]
            logits += list(self._decoder.run(None, {"embedding": embedding, "boxes": chunk})[0])
        return logits


if __name__ == "__main__":
    main(Backend)
