"""Parsers of single arguments, for argparse: what they refuse ends the command with one line."""

import argparse
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from litemedsam_jax.imaging.postprocess import Step
    from litemedsam_jax.inference.strategies import Strategy


def number(kind: type, low: float | None = None, high: float | None = None) -> Callable[[str], Any]:
    """A parser of finite numbers, int or float, between two bounds."""
    what = "a whole number" if kind is int else "a number"
    expected = what + (f" from {low:g}" if low is not None else "")
    expected += f" to {high:g}" if high is not None else ""

    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        above = low is None or value >= low
        if not (above and (high is None or value <= high) and math.isfinite(value)):
            raise argparse.ArgumentTypeError(f"'{text}'; expected {expected}")
        return value

    return parse


def yes_or_no(text: str) -> bool:
    """`yes`, `no` and their like as a boolean.

    Raises:
        argparse.ArgumentTypeError: another word. (The reference's `-nsd False` was true.)
    """
    words = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
    if text.lower() not in words:
        raise argparse.ArgumentTypeError(f"'{text}'; expected yes or no")
    return words[text.lower()]


def strategy(text: str) -> "Strategy":
    """A strategy's name, or its parts joined by `+`."""
    from litemedsam_jax.inference.strategies import parse

    try:
        return parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def postprocess(text: str) -> "tuple[Step, ...]":
    """Steps that clean masks, joined by commas; or `none`."""
    from litemedsam_jax.imaging.postprocess import parse

    if text == "none":
        return ()
    try:
        return parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def shard(text: str) -> tuple[int, int]:
    """I/N: the share I, counted from 0, of N."""
    index, _, count = text.partition("/")
    # isdecimal() also knows other scripts' digits.
    if not (text.isascii() and index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise argparse.ArgumentTypeError(
            f"expected I/N with I from 0 to N-1, such as 0/4, 1/4, 2/4, 3/4; not '{text}'"
        )
    return int(index), int(count)
