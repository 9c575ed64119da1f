"""LiteMedSAM in JAX: `from litemedsam_jax import LiteMedSAM, SliceBox, SlicePrompt`."""

__all__ = ["LiteMedSAM", "SliceBox", "SlicePrompt"]
__version__ = "0.1.0"


def __getattr__(name: str):
    # Imported when asked for: commands that need no network must not pay for JAX.
    if name == "LiteMedSAM":
        from litemedsam_jax.inference.predictor import LiteMedSAM

        return LiteMedSAM
    if name in ("SliceBox", "SlicePrompt"):
        from litemedsam_jax.imaging import slice_prompt

        return getattr(slice_prompt, name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
