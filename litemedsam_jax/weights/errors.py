"""The one exception for weights that cannot be used."""

from litemedsam_jax.files import one_line

# Keys come from the file: hostile ones neither reach the terminal as they are nor flood it.
_LONGEST_LINE, _MOST_LINES = 1000, 2000


class CheckpointError(ValueError):
    """A weights file that cannot be used: the message names the file, the fault and the remedy."""

    def __init__(self, message: str):
        lines = message.split("\n")[:_MOST_LINES]
        super().__init__("\n".join(one_line(line, _LONGEST_LINE) for line in lines))
