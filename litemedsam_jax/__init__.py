"""LiteMedSAM in JAX: `from litemedsam_jax import LiteMedSAM`."""

__all__ = ["LiteMedSAM"]
__version__ = "0.1.0"


def __getattr__(name: str):
    # Imported when asked for: commands that need no network must not pay for JAX.
    if name == "LiteMedSAM":
        from litemedsam_jax.inference.predictor import LiteMedSAM

        return LiteMedSAM
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
