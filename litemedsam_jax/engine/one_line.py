"""What an engine reports, on stderr."""

import sys


class OneLine:
    """Prints the first of an engine's messages: the others have the same cause."""

    def __init__(self) -> None:
        self._printed: set[str] = set()

    def __call__(self, message: str) -> None:
        """A message, printed if it is the first."""
        if not self._printed:
            self._print(message)

    def also(self, message: str) -> None:
        """A message of another kind, printed once whatever was printed before."""
        if "also" not in self._printed:
            self._print(message)
            self._printed.add("also")

    def _print(self, message: str) -> None:
        self._printed.add(message)
        print(f"litemedsam: {message}", file=sys.stderr, flush=True)
