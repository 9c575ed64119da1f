"""Flags made from the fields of dataclasses, whose metadata `training.config.option` writes.

A flag that is not given stays None in the namespace, so that a command can tell what a user asked
for from what is only a default.
"""

import argparse
import types
from collections.abc import Collection, Mapping
from dataclasses import Field, fields
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from litemedsam_jax.commands.argument_types import number, yes_or_no

T = TypeVar("T")
_METAVARS = {int: "N", float: "X", str: "NAME"}


def add_flags(
    parser: argparse.ArgumentParser,
    command: str,
    *classes: type,
    defaults: Mapping[str, Any] | None = None,
    only: Collection[str] | None = None,
) -> None:
    """Adds a flag for every field that has metadata and belongs to the command.

    Args:
        parser: gets an argument group for each heading, in the order of the fields.
        command: the subcommand's name.
        classes: dataclasses; their field names are the names in the namespace.
        defaults: by field name, where the command's default is not the field's.
        only: names of the fields that become flags; None: all of the command's.
    """
    groups: dict[str, Any] = {}
    for cls in classes:
        kinds = get_type_hints(cls)
        for one in fields(cls):
            if not _belongs(one, command) or (only is not None and one.name not in only):
                continue
            title = one.metadata["group"]
            if title not in groups:
                groups[title] = parser.add_argument_group(title)
            default = (defaults or {}).get(one.name, one.default)
            _add(groups[title], one, kinds[one.name], default)


def from_flags(
    cls: type[T],
    args: argparse.Namespace,
    *,
    defaults: Mapping[str, Any] | None = None,
    **given: Any,
) -> T:
    """The dataclass that a command line asks for.

    Args:
        cls: one of the classes of `add_flags`.
        args: the parsed command line.
        defaults: by field name, for flags that were not given; before the field's own default.
        given: fields that have no flag.
    """
    values = dict(given)
    for one in fields(cls):  # type: ignore[arg-type]
        if one.name in given:
            continue
        value = getattr(args, one.name, None) if one.metadata else None
        if value is None and defaults is not None:
            value = defaults.get(one.name)
        if value is not None:
            values[one.name] = tuple(value) if isinstance(value, list) else value
    return cls(**values)


def _belongs(one: Field, command: str) -> bool:
    return bool(one.metadata) and command in (one.metadata["commands"] or (command,))


def _add(group: Any, one: Field, kind: Any, default: Any) -> None:
    about = one.metadata
    names = about["names"] or (f"--{one.name.replace('_', '-')}",)
    help = (about["help"] + _default_text(default, about["unset"])).replace("%", "%%")
    if kind is bool:
        if default:
            options = {"type": yes_or_no, "nargs": "?", "const": True, "metavar": "yes|no"}
        else:
            options = {"action": "store_const", "const": True}
        group.add_argument(*names, dest=one.name, help=help, **options)
        return
    options = {}
    if get_origin(kind) is tuple:
        kind, options = get_args(kind)[0], {"nargs": "+"}
    elif isinstance(kind, types.UnionType):  # int | None
        kind = get_args(kind)[0]
    if about["choices"]:
        options["choices"] = about["choices"]
    else:
        options["metavar"] = about["metavar"] or _METAVARS[kind]
        options["type"] = str if kind is str else number(kind, *about["bounds"])
    group.add_argument(*names, dest=one.name, help=help, **options)


def _default_text(default: Any, unset: str) -> str:
    if unset:
        return f" (default: {unset})"
    if default is None or default is False:
        return ""
    if isinstance(default, tuple):
        return f" (default: {' '.join(default)})"
    if isinstance(default, float):
        return f" (default: {default:g})"
    return f" (default: {'yes' if default is True else default})"
