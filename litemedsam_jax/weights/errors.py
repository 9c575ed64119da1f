"""The one exception for weights that cannot be used."""


class CheckpointError(ValueError):
    """A weights file that cannot be used: the message names the file, the fault and the remedy."""
