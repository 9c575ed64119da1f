"""The error of input that cannot be used, with a message for people."""

from pathlib import Path

from litemedsam_jax.files import one_line

_LONGEST_REASON = 400


class CaseError(ValueError):
    """Input (an image, boxes, labels, a case) that cannot be used.

    The message, one printable line, says what is wrong, what was expected and what to do.

    Attributes:
        reason: the message without the file's name, for callers that print the name themselves.
    """

    def __init__(self, reason: str, path: str | Path | None = None):
        """Makes the message.

        Args:
            reason: what is wrong; cut after 400 characters.
            path: the file it is about, with which the message then begins.
        """
        self.reason = one_line(reason, _LONGEST_REASON)
        super().__init__(self.reason if path is None else f"{one_line(str(path))}: {self.reason}")


def library_message(error: Exception, longest: int) -> str:
    """Returns what a library says of its own failure, on one line of so many characters."""
    return " ".join(str(error).split())[:longest]
