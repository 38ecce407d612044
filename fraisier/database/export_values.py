"""Values of an export: from what a database gives to JSON, and back to what any database takes."""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import orjson

from fraisier.database.tables import Kind
from fraisier.domain.errors import UnusableExport

Values = tuple[Any, ...]

# Of NULL nothing is made. Kinds that are not listed are in JSON what they are in a row.
_ENCODE: dict[Kind, Callable[[Any], Any]] = {
    Kind.flag: bool,
    Kind.reference: lambda value: value or None,
    Kind.json: orjson.loads,
    Kind.bytes: lambda value: b64encode(value).decode(),
}
_DECODE: dict[Kind, Callable[[Any], Any]] = {
    Kind.json: lambda value: orjson.dumps(value).decode(),
    Kind.bytes: lambda value: b64decode(value, validate=True),
}
_TYPES: dict[Kind, tuple[type, ...]] = {
    Kind.integer: (int,),
    Kind.real: (float, int),
    Kind.flag: (bool,),
    Kind.json: (dict, list, str, int, float, bool),
}


def encoded(kinds: Sequence[Kind], rows: Iterable[Sequence[Any]]) -> Iterator[list[Any]]:
    """Rows of a database as JSON types. A time is UTC ISO 8601 text, bytes are base64."""
    encoders = [_ENCODE.get(kind) for kind in kinds]
    for row in rows:
        yield [
            value if encode is None or value is None else encode(value)
            for encode, value in zip(encoders, row, strict=True)
        ]


def decoded(table: str, kinds: Sequence[Kind], rows: Iterable[Sequence[Any]]) -> Iterator[Values]:
    """The inverse: text, numbers, booleans, bytes and None; JSON as text.

    Raises:
        UnusableExport: a value is not of its column's kind.
    """
    for number, row in enumerate(rows, 1):
        try:
            yield tuple(map(_decode, kinds, row))
        except (TypeError, binascii.Error) as error:
            message = f"cannot import row {number} of {table}: {error}"
            raise UnusableExport(message, "Nothing was imported. Export again") from None


def _decode(kind: Kind, value: Any) -> Any:
    if value is None:
        return None
    types = _TYPES.get(kind, (str,))
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        message = f"a value of type {type(value).__name__} is no {kind}"
        raise TypeError(message)
    decode = _DECODE.get(kind)
    return value if decode is None else decode(value)
