"""The types that a forge documents for the fields of a push, and where a payload has others.

A shape is a table from a field's name to what may stand there: a type, a tuple of types, a table for an
object, or a list with one of these for the items of a list (and None, where items may be null). Each field
may be missing or null; what the table does not name is free. JSON's whole numbers, fractions and truth
values are three types.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping
from functools import cached_property
from typing import Any, TypeAlias

import msgspec

Kind: TypeAlias = "type | tuple[type, ...] | dict[str, Kind] | list[Kind | None]"
Shape: TypeAlias = "dict[str, Kind]"


def texts(names: str) -> Shape:
    """Fields that hold text, by their names with spaces between."""
    return dict.fromkeys(names.split(), str)


def flags(names: str) -> Shape:
    """Fields that are true or false, by their names with spaces between."""
    return dict.fromkeys(names.split(), bool)


def numbers(names: str) -> Shape:
    """Fields that hold a whole number, by their names with spaces between."""
    return dict.fromkeys(names.split(), int)


class Documented:
    """The shape of a push, and a quick check of it."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape

    def surely_fits(self, holder: Mapping[str, Any]) -> bool:
        """Whether `first_wrong` finds nothing. Every push waits for this, so msgspec looks at the fields."""
        try:
            msgspec.convert(holder, self._type)
        except msgspec.ValidationError:
            return False
        return True

    @cached_property
    def _type(self) -> Any:
        return _type_of(self.shape)


def _type_of(kind: Kind | None) -> Any:
    """A kind as msgspec has it. It ignores what a struct does not name, and converts nothing."""
    if isinstance(kind, dict):
        names = {f"field{number}": name for number, name in enumerate(kind)}
        fields = [(field, _type_of(kind[name]) | None, None) for field, name in names.items()]
        return msgspec.defstruct("Fields", fields, rename=names)
    if isinstance(kind, list):
        return list[functools.reduce(operator.or_, map(_type_of, kind))]  # type: ignore[misc] # for msgspec
    if isinstance(kind, tuple):
        return functools.reduce(operator.or_, kind)
    return kind


def first_wrong(value: Any, kind: Kind | None) -> str | None:
    """Where `value` first differs from `kind`, as `.commits[0].id`, '' for itself; None if it does not."""
    if isinstance(kind, dict):
        return _wrong_field(value, kind) if type(value) is dict else ""
    if isinstance(kind, list):
        return _wrong_item(value, kind) if type(value) is list else ""
    fits = type(value) in kind if isinstance(kind, tuple) else type(value) is kind
    return None if fits else ""


def _wrong_field(holder: Mapping[str, Any], shape: Shape) -> str | None:
    for name, kind in shape.items():
        value = holder.get(name)
        found = None if value is None else first_wrong(value, kind)
        if found is not None:
            return f".{name}{found}"
    return None


def _wrong_item(items: list[Any], kinds: list[Kind | None]) -> str | None:
    for index, item in enumerate(items):
        found = None if item is None and None in kinds else first_wrong(item, kinds[0])
        if found is not None:
            return f"[{index}]{found}"
    return None
