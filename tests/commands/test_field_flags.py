"""Flags from dataclasses: names, kinds, defaults."""

import argparse
from dataclasses import dataclass

import pytest

from litemedsam_jax.commands.field_flags import add_flags, from_flags
from litemedsam_jax.training.config import option


@dataclass(frozen=True)
class Example:
    size: int = option(3, "side in pixels", group="one", bounds=(1, None))
    words: tuple[str, ...] = option((), "some", group="one", choices=("a", "b"), unset="none")
    fast: bool = option(False, "do less", group="two")
    safe: bool = option(True, "check first, 100 %", group="two")
    rate: float = option(0.5, "of it", "-r", "--the-rate", group="two", commands=("other",))
    limit: int | None = option(None, "at most", group="two")
    hidden: float = 1e-8


def parse(command: str, *arguments: str, **defaults) -> Example:
    parser = argparse.ArgumentParser()
    add_flags(parser, command, Example, defaults=defaults)
    parser.format_help()
    return from_flags(Example, parser.parse_args(arguments), defaults=defaults)


def test_without_flags_the_dataclass_is_as_it_is():
    assert parse("this") == Example()


def test_every_kind_of_field_is_read():
    found = parse("this", "--size", "5", "--words", "a", "b", "--fast", "--safe", "no")
    assert found == Example(size=5, words=("a", "b"), fast=True, safe=False)
    assert parse("this", "--limit", "2").limit == 2
    assert (
        parse("other", "-r", "0.25") == parse("other", "--the-rate", "0.25") == Example(rate=0.25)
    )


def test_a_commands_own_default_yields_to_what_is_given():
    assert parse("this", size=9).size == 9
    assert parse("this", "--size", "3", size=9).size == 3


def test_a_flag_of_another_command_is_not_there(capsys):
    with pytest.raises(SystemExit):
        parse("this", "-r", "0.25")
