"""What the protocol's clients expect back."""

import json

from starlette.responses import JSONResponse, Response

from litemedsam_jax.files import one_line
from litemedsam_jax.serving.remote import wire
from litemedsam_jax.serving.remote.requests import META_HEADER
from litemedsam_jax.serving.remote.session import Change

SESSION_VERSION = 6  # a field that clients read and do not use; nnInteractive 2 has a number here


def refusal(status: int, message: str, **headers: str) -> Response:
    """A fault: {"detail": a sentence}."""
    return JSONResponse({"detail": one_line(message, 600)}, status, headers or None)


def prediction(ran: bool, change: Change | None) -> Response:
    """Whether a mask was made, and what of it is new."""
    meta: dict[str, object] = {"ran_prediction": ran, "bbox": None}
    body = b""
    if change is not None:
        meta["bbox"] = [list(span) for span in change.box]
        meta |= {"dtype": str(change.values.dtype), "shape": list(change.values.shape)}
        body = wire.pack(change.values)
    headers = {META_HEADER: json.dumps(meta, separators=(",", ":"))}
    return Response(body, media_type="application/octet-stream", headers=headers)


def capabilities(autozoom: bool) -> dict[str, object]:
    """What this server can do, so that programs grey out the rest.

    The network knows boxes alone: a lasso counts as the box around it; a point or a scribble lies
    inside its object and says nothing of where that ends.
    """
    return {
        "supported_interactions": {
            "points": False,
            "scribble": False,
            "lasso": True,
            "bbox2d": True,
            "bbox3d": True,
        },
        # Clients show these and send none of them back: here prompts are no channels of an image.
        "channel_mapping": {
            "prev_seg": 0,
            "bbox2d": [1, 2],
            "bbox3d": [1, 2],
            "lasso": [1, 2],
        },
        "num_interaction_channels": 3,
        "supports_initial_label": True,
        "supports_zero_shot_label_refinement": False,
        "preferred_scribble_thickness": [2, 2, 2],
        "interaction_decay": None,
        "patch_size": None,
        "do_autozoom": autozoom,
        "inference_session_version": SESSION_VERSION,
        "license": "Apache-2.0",
        "supports_undo": True,
    }
