"""Exports encoder and decoder of the oracle, for ONNX Runtime and OpenVINO.

Writes into work_dir/benchmark: NAME.onnx, NAME.ort.onnx (optimised by ONNX Runtime for this
machine), NAME.xml (OpenVINO's format, float32).
"""

import warnings

import onnxruntime as ort
import openvino as ov
import torch
from torch import nn
from worker import MODELS, REPOSITORY

from tests import oracle


class Decoder(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.prompts, self.masks = model.prompt_encoder, model.mask_decoder

    def forward(self, embedding, boxes):
        sparse, dense = self.prompts(points=None, boxes=boxes[:, None], masks=None)
        logits, _ = self.masks(
            image_embeddings=embedding,
            image_pe=self.prompts.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        return logits[:, 0]


def write(name, module, inputs, inputs_names, axes):
    path = MODELS / f"{name}.onnx"
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            inputs,
            path,
            input_names=inputs_names,
            output_names=["output"],
            dynamic_axes=axes,
            opset_version=18,
            dynamo=False,
        )
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(MODELS / f"{name}.ort.onnx")
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    ort.InferenceSession(path, options, ["CPUExecutionProvider"])
    ov.save_model(ov.convert_model(path), MODELS / f"{name}.xml", compress_to_fp16=False)


def main():
    MODELS.mkdir(parents=True, exist_ok=True)
    model = oracle.lite_medsam(REPOSITORY / "work_dir" / "LiteMedSAM" / "lite_medsam.pth")
    write("encoder", model.image_encoder, (torch.rand(1, 3, 256, 256),), ["image"], {})
    boxes = torch.tensor([[20.0, 30, 90, 100], [60, 70, 200, 220], [5, 5, 50, 60]])
    inputs = (torch.rand(1, 256, 64, 64), boxes)
    axes = {"boxes": {0: "count"}, "output": {0: "count"}}
    write("decoder", Decoder(model), inputs, ["embedding", "boxes"], axes)


if __name__ == "__main__":
    main()
