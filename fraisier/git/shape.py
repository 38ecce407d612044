"""The types that a forge documents for the fields of a push, and where a payload has others.

A shape is a table from a field's name to what may stand there: a type, a tuple of types, a table for an
object, or a list with one of these for the items of a list. Each field may be missing or null; what the
table does not name is free. JSON's whole numbers, fractions and truth values are three types.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

Kind: TypeAlias = "type | tuple[type, ...] | dict[str, Kind] | list[Kind]"
Shape: TypeAlias = "dict[str, Kind]"


class Texts(dict[str, Any]):
    """The table of an object that documents nothing but texts."""


def texts(names: str) -> Texts:
    """Fields that hold text, by their names with spaces between."""
    return Texts((name, str) for name in names.split())


def flags(names: str) -> Shape:
    """Fields that are true or false, by their names with spaces between."""
    return dict.fromkeys(names.split(), bool)


def numbers(names: str) -> Shape:
    """Fields that hold a whole number, by their names with spaces between."""
    return dict.fromkeys(names.split(), int)


def surely_fits(holder: Mapping[str, Any], shape: Shape) -> bool:
    """Whether `first_wrong` finds nothing; False also where a glance cannot tell.

    Every push waits for this: nearly every field is settled by its first comparison, and that some texts
    can be joined is the quickest proof that they are texts.
    """
    try:
        _glance(holder, shape)
    except TypeError:
        return False
    return True


def _glance(holder: Mapping[str, Any], shape: Shape) -> None:
    kind_of = shape.get
    for name, value in holder.items():
        kind = kind_of(name)
        found = type(value)
        if kind is found or kind is None or value is None:
            continue
        if found is dict and type(kind) is Texts:
            for text in value.values():
                if type(text) is not str:
                    raise TypeError
        elif found is list and type(kind) is list:
            if kind[0] is str:
                "".join(value)
            else:
                _glance_at_items(value, kind[0])
        elif found is dict and type(kind) is dict:
            _glance(value, kind)
        elif not (type(kind) is tuple and found in kind):
            raise TypeError


def _glance_at_items(items: list[Any], kind: Kind) -> None:
    if not isinstance(kind, dict):
        raise TypeError
    for item in items:
        if type(item) is not dict:
            raise TypeError
        _glance(item, kind)


def first_wrong(value: Any, kind: Kind) -> str | None:
    """Where `value` first differs from `kind`, as `.commits[0].id`, '' for itself; None if it does not."""
    if isinstance(kind, dict):
        return _wrong_field(value, kind) if type(value) is dict else ""
    if isinstance(kind, list):
        return _wrong_item(value, kind[0]) if type(value) is list else ""
    fits = type(value) in kind if isinstance(kind, tuple) else type(value) is kind
    return None if fits else ""


def _wrong_field(holder: Mapping[str, Any], shape: Shape) -> str | None:
    for name, kind in shape.items():
        value = holder.get(name)
        found = None if value is None else first_wrong(value, kind)
        if found is not None:
            return f".{name}{found}"
    return None


def _wrong_item(items: list[Any], kind: Kind) -> str | None:
    for index, item in enumerate(items):
        found = first_wrong(item, kind)
        if found is not None:
            return f"[{index}]{found}"
    return None
