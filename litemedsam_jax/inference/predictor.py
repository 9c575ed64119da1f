"""The Python interface: `LiteMedSAM.from_pretrained(...)`, `set_image`, `predict`."""

from collections.abc import Iterator, Sequence
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np

from litemedsam_jax.engine.engine import Engine
from litemedsam_jax.imaging.boxes import fit_boxes, to_pixel_centres
from litemedsam_jax.imaging.input_frame import (
    Frame,
    Region,
    boxes_to_input,
    mask_from_logits,
)
from litemedsam_jax.imaging.label_map import blank, paint, paint_by_score
from litemedsam_jax.inference.encoded_image import EncodedImage
from litemedsam_jax.inference.strategies import SingleMask, Strategy, parse
from litemedsam_jax.weights import default_weights
from litemedsam_jax.weights.load import open_model

if TYPE_CHECKING:
    from litemedsam_jax.imaging.slice_prompt import SlicePrompt
    from litemedsam_jax.inference.slice_order import OnSlice
    from litemedsam_jax.inference.slice_propagation import SliceMask


class LiteMedSAM:
    """Segments what boxes enclose. The habit is SAM's predictor: set an image once, prompt often.

    Coordinates are pixels of the image as given: x to the right, y down, the first pixel at 0.
    """

    def __init__(self, engine: Engine):
        self.engine = engine
        self._current: EncodedImage | None = None  # at the image set last

    @classmethod
    def from_pretrained(
        cls,
        path: str | PathLike | None = None,
        device: str | None = None,
        precision: str = "float32",
        *,
        wait: bool = True,
    ) -> "LiteMedSAM":
        """Loads weights: a safetensors file of this project, or PyTorch's `.pth` (converted).

        Args:
            path: the file; None: the published weights, where `litemedsam weights` puts them in
                the user's data folder, else in `work_dir/`.
            device: "cpu", "gpu" or "tpu"; None leaves the choice to JAX.
            precision: "float32"; "bfloat16", of large products, faster on processors that
                have it (docs/speed.md); "auto": bfloat16 where a CPU has it. `engine.precision`
                tells which it became.
            wait: until the weights' values are checked; else the first image waits for it (or
                `engine.wait()`), and raises CheckpointError where they were changed.

        Raises:
            CheckpointError: the file is missing, broken or of another architecture.
            ValueError: there is no such precision.
        """
        weights, check = open_model(default_weights.find() if path is None else path)
        engine = Engine(weights.variables, weights.config, device, check=check, precision=precision)
        if wait:
            engine.wait()
        return cls(engine)

    def set_image(self, image: np.ndarray) -> None:
        """Encodes an image once, for any number of `predict` calls.

        Args:
            image: (H, W, 3) or grey (H, W), any type of number. Intensities are scaled by the
                image's own extremes.

        Raises:
            ValueError: another shape, no pixel, or NaN or infinity among them.
        """
        if image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)) or 0 in image.shape:
            raise ValueError(f"expected an image of shape (H, W, 3) or (H, W), not {image.shape}")
        if image.dtype.kind not in "biuf" or not np.isfinite([image.min(), image.max()]).all():
            raise ValueError("expected an image of finite numbers")
        self._current = EncodedImage.encode(self.engine, image, Frame(*image.shape[:2]))

    def predict(
        self,
        boxes: np.ndarray | None = None,
        *,
        points: np.ndarray | None = None,
        point_labels: np.ndarray | None = None,
        mask_logits: np.ndarray | None = None,
        multimask: bool = False,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Masks of N prompts on the image set before, all decoded together.

        Args:
            boxes: (N, 4) or (4,), x_min, y_min, x_max, y_max, inclusive.
            points: (N, P, 2), x, y. The published weights were trained on boxes alone; expect
                little of points.
            point_labels: (N, P), of the points: 1 inside, 0 outside.
            mask_logits: (N, 256, 256), an earlier call's logits.
            multimask: three masks a prompt, from which the IoU may choose.

        Returns:
            masks (N, H, W) bool, predicted IoU (N,), logits (N, 256, 256) float32 in the padded
            input frame; with `multimask` (N, 3, H, W), (N, 3), (N, 3, 256, 256).
        """
        encoded = self._encoded()
        frame, embedding = encoded.frame, encoded.embedding
        if all(prompt is None or np.size(prompt) == 0 for prompt in (boxes, points, mask_logits)):
            raise ValueError("nothing to predict from: give boxes, points or mask_logits")
        scaled = None if boxes is None else boxes_to_input(np.reshape(boxes, (-1, 4)), frame)
        if scaled is not None and points is None and mask_logits is None and not multimask:
            logits, iou = self.engine.decode(embedding, scaled)
        else:
            points_given = None
            if points is not None:
                if point_labels is None:
                    raise ValueError("points need point_labels: 1 inside the object, 0 outside")
                scaled_points = np.asarray(points, np.float32) * np.float32(frame.scale)
                points_given = (scaled_points, np.asarray(point_labels, np.int32))
            logits, iou = self.engine.decode_prompts(
                embedding, multimask, boxes=scaled, points=points_given, masks=mask_logits
            )
            if not multimask:
                logits, iou = logits[:, 0], iou[:, 0]
        masks = np.zeros((*logits.shape[:-2], frame.height, frame.width), bool)
        for index in np.ndindex(logits.shape[:-2]):
            region = mask_from_logits(logits[index], frame)
            masks[index][region.rows, region.columns] = region.mask
        return masks, iou, logits

    def predict_regions(self, boxes: np.ndarray) -> Iterator[Region]:
        """Like `predict` for boxes (N, 4) alone, one by one, without an image-sized array each."""
        encoded = self._encoded()
        return encoded.masks(boxes_to_input(boxes, encoded.frame))

    def segment_image(
        self, image: np.ndarray, boxes: np.ndarray, strategy: str | Strategy = "reference"
    ) -> np.ndarray:
        """One label image (H, W): box k (from 1) writes k.

        Where masks overlap, the later box wins by "reference" and "clean", the one with the larger
        logits by the others (see inference.strategies). uint8, or uint16 for more than 255 boxes.
        """
        chosen = parse(strategy)
        boxes = fit_boxes(np.reshape(boxes, (-1, 4)), image.shape[:2])
        labels = blank(image.shape[:2], len(boxes))
        if isinstance(chosen, SingleMask):
            self.engine.prepare(len(boxes))
            self.set_image(image)
            for label, region in enumerate(self.predict_regions(boxes), start=1):
                paint(labels, region, label)
            return labels
        from litemedsam_jax.inference.ensemble_image import fuse_image

        boxes = to_pixel_centres(boxes, image.shape[:2])
        confidence = np.zeros(labels.shape, np.uint8)
        for label, scores in fuse_image(self.engine, image, boxes, chosen):
            paint_by_score(labels, confidence, scores, label)
        return labels

    def segment_volume(
        self,
        volume: np.ndarray,
        boxes: np.ndarray,
        strategy: str | Strategy = "reference",
        on_slice: "OnSlice | None" = None,
    ) -> np.ndarray:
        """One label volume, from 3D boxes.

        Args:
            volume: (D, H, W) or (D, H, W, 3).
            boxes: (N, 6) or (6,), x_min, y_min, z_min, x_max, y_max, z_max, inclusive.
            strategy: "reference", "clean", "best", "thorough", or parts joined by "+"; see
                inference.strategies.
            on_slice: called with the number of slices done, and of all inside the boxes.

        Returns:
            (D, H, W), uint8, or uint16 for more than 255 boxes.
        """
        from litemedsam_jax.inference.slice_order import count_slices

        chosen = parse(strategy)
        boxes = fit_boxes(np.reshape(boxes, (-1, 6)), volume.shape[:3])
        if not len(boxes):
            raise ValueError("there are no boxes; expected at least one")
        labels = blank(volume.shape[:3], len(boxes))
        if isinstance(chosen, SingleMask):
            from litemedsam_jax.inference.propagation import propagate_volume

            regions = propagate_volume(self.engine, volume, boxes, chosen)
            for z, label, region in count_slices(regions, boxes, on_slice):
                paint(labels[z], region, label)
            return labels
        from litemedsam_jax.inference.ensemble_volume import advantages, fuse_volume

        boxes = to_pixel_centres(boxes, volume.shape[:3])
        confidence = np.zeros(labels.shape, np.uint8)
        ahead = advantages(boxes)
        fused = fuse_volume(self.engine, volume, boxes, chosen)
        for z, label, scores in count_slices(fused, boxes, on_slice):
            paint_by_score(labels[z], confidence[z], scores, label, ahead[label - 1])
        return labels

    def propagate(self, volume: np.ndarray, prompt: "SlicePrompt") -> "Iterator[SliceMask]":
        """Yields an object's mask slice by slice, outwards from the slice a box was drawn on.

        Args:
            volume: (D, H, W) or (D, H, W, 3), values 0 to 255.
            prompt: the object's boxes and, if known, its range; see `SlicePrompt`, `SliceBox`.

        Yields:
            `SliceMask`s, each slice once: the drawn one first, then its neighbours above and below
            in turn until the object ends. Close the iterator to stop early.

        Raises:
            CaseError: a box or the range lies outside of the volume.
        """
        from litemedsam_jax.inference.slice_propagation import EncodedVolume, propagate

        return propagate(EncodedVolume(self.engine, volume, prompt.axis), prompt)

    def segment_from_slices(
        self,
        volume: np.ndarray,
        prompts: "Sequence[SlicePrompt]",
        on_slice: "OnSlice | None" = None,
    ) -> np.ndarray:
        """One label volume, from boxes drawn on single slices.

        Args:
            volume: (D, H, W) or (D, H, W, 3), values 0 to 255.
            prompts: an object each, with the label it gets. Where objects overlap, the one with
                the larger logits wins.
            on_slice: called with the number of objects done, and of all.

        Returns:
            (D, H, W), uint8, or uint16 for labels above 255.

        Raises:
            CaseError: a box or a range lies outside of the volume.
            ValueError: there are no prompts.
        """
        from litemedsam_jax.imaging.slice_prompt import AXES
        from litemedsam_jax.inference.slice_propagation import EncodedVolume, propagate

        if not prompts:
            raise ValueError("there are no prompts; expected at least one object")
        labels = blank(volume.shape[:3], max(prompt.label for prompt in prompts))
        confidence = np.zeros(labels.shape, np.uint8)
        encoded: dict[str, EncodedVolume] = {}
        if on_slice is not None:
            on_slice(0, len(prompts))
        for done, prompt in enumerate(prompts, start=1):
            axis = prompt.axis
            if axis not in encoded:
                encoded[axis] = EncodedVolume(self.engine, volume, axis)
            along, sure = (np.moveaxis(one, AXES.index(axis), 0) for one in (labels, confidence))
            for mask in propagate(encoded[axis], prompt):
                paint_by_score(along[mask.index], sure[mask.index], mask.scores, prompt.label)
            if on_slice is not None:
                on_slice(done, len(prompts))
        return labels

    def _encoded(self) -> EncodedImage:
        if self._current is None:
            raise RuntimeError("call set_image(image) before predict(...)")
        return self._current
