"""LiteMedSAM in JAX: `from litemedsam_jax import LiteMedSAM, SliceBox, SlicePrompt`."""

TYPE_CHECKING = False  # as typing's, whose import would cost every start 2 ms
if TYPE_CHECKING:
    from litemedsam_jax.imaging.slice_prompt import SliceBox as SliceBox
    from litemedsam_jax.imaging.slice_prompt import SlicePrompt as SlicePrompt
    from litemedsam_jax.inference.predictor import LiteMedSAM as LiteMedSAM

__all__ = ["LiteMedSAM", "SliceBox", "SlicePrompt"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    # Imported when asked for: commands that need no network must not pay for JAX.
    if name == "LiteMedSAM":
        from litemedsam_jax.inference.predictor import LiteMedSAM

        return LiteMedSAM
    if name in ("SliceBox", "SlicePrompt"):
        from litemedsam_jax.imaging import slice_prompt

        return getattr(slice_prompt, name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
