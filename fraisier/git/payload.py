"""From the bytes of a delivery to a JSON object, and from its fields to values of the right type.

A body is read only after it was verified, but a forge's users write much of it, so it may still be hostile:
refused are other content types and encodings, what is no UTF-8, NaN, infinite numbers, lone surrogates,
deep nesting, anything that is no object and, in a push, an object that has the same key twice.
"""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Mapping
from typing import Any

import orjson

from fraisier.application.ports import Headers
from fraisier.domain.errors import MalformedDelivery, UnsupportedMediaType
from fraisier.git.headers import single
from fraisier.git.shape import Documented, first_wrong

Object = Mapping[str, Any]

LONGEST_TEXT = 2048  # characters of a ref or of a repository's name
LONGEST_LABEL = 200  # characters of a person's name
MOST_FORM_FIELDS = 16
MOST_HOLDERS = 1_000_000  # objects and lists; each takes up to fifty times the memory of its text
_SMALL_TEXT = 256 * 1024  # bytes, which can never hold that many
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_ORDINARY_JSON = (b"application/json",)
_CHARSETS = frozenset({"utf-8", "utf8", "us-ascii"})
_FORM = "application/x-www-form-urlencoded"
_SEND_YOURS = "Send the forge's own payload"
_NOTHING: Object = {}


def json_text(headers: Headers, body: bytes) -> bytes:
    """The JSON that the delivery carries, as its body or in a form's field `payload`.

    Raises:
        UnsupportedMediaType: neither JSON nor a form, or compressed, or not in UTF-8.
        MalformedDelivery: the form is none.
    """
    return form_payload(body) if is_form(headers) else body


def is_form(headers: Headers) -> bool:
    """Whether the body is a form; it is JSON otherwise, also where the content type is missing.

    Raises:
        UnsupportedMediaType: the content type is neither, or the body is compressed.
    """
    if headers.get("content-type") == _ORDINARY_JSON and "content-encoding" not in headers:
        return False  # nearly every delivery
    encoding = single(headers, "content-encoding").lower()
    if encoding not in ("", "identity"):
        raise UnsupportedMediaType(
            f"cannot read a body with Content-Encoding {encoding}", "Forges send their bodies uncompressed"
        )
    kind, _, parameters = single(headers, "content-type").lower().partition(";")
    kind = kind.strip()
    if kind not in ("", "application/json", _FORM) and not _is_vendors_json(kind):
        raise UnsupportedMediaType(
            f"cannot read a body of content type {kind}", f"Set application/json or {_FORM} in the webhook"
        )
    if parameters:
        _check_charset(parameters)
    return kind == _FORM


def _is_vendors_json(kind: str) -> bool:
    return kind.startswith("application/") and kind.endswith("+json")


def _check_charset(parameters: str) -> None:
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip().strip('"') not in _CHARSETS:
            raise UnsupportedMediaType(
                f"cannot read a body in the character set {value.strip()}", "Forges send UTF-8"
            )


def form_payload(body: bytes) -> bytes:
    """The decoded field `payload` of a form.

    Raises:
        MalformedDelivery: there is none, or more than one, or its percent-encoding is broken.
    """
    if body.count(b"&") >= MOST_FORM_FIELDS:
        raise _malformed("the form has too many fields", "A form carries one field, `payload`")
    found = [value for name, _, value in (f.partition(b"=") for f in body.split(b"&")) if name == b"payload"]
    if len(found) != 1:
        raise _malformed(
            f"the form has {len(found)} fields `payload` instead of one",
            "A form carries one field, `payload`",
        )
    return _percent_decoded(found[0])


def _percent_decoded(value: bytes) -> bytes:
    # Quoted-printable differs from percent-encoding only in its sign, and the standard library decodes it in
    # C in one buffer; urllib's decoder makes an object per escape, 40 times the memory of a large body.
    if _BAD_ESCAPE.search(value):
        raise _malformed("the form's percent-encoding is broken", "Send the form as the forge does")
    return binascii.a2b_qp(value.replace(b"+", b" ").replace(b"=", b"%3D").replace(b"%", b"="))


def parse_object(text: bytes) -> Object:
    """The JSON object that `text` is.

    Raises:
        MalformedDelivery: it is none, or may hold more than MOST_HOLDERS objects and lists.
    """
    # Brackets in texts are counted, too: no forge's payload has nearly as many.
    if len(text) > _SMALL_TEXT and text.count(b"{") + text.count(b"[") > MOST_HOLDERS:
        raise _malformed(f"the payload has more than {MOST_HOLDERS:,} objects and lists", _SEND_YOURS)
    try:
        parsed = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise _malformed(f"the payload is no JSON ({error.msg})", _SEND_YOURS) from error
    if not isinstance(parsed, dict):
        raise _malformed("the payload is no JSON object", _SEND_YOURS)
    return parsed


def check_push(text: bytes, parsed: Object, documented: Documented) -> None:
    """Refuse a push whose `text` has a key twice, or whose fields have other types than documented.

    Only pushes are held to this: they deploy, and real payloads of other events do have keys twice
    (GitLab's notes).

    Raises:
        MalformedDelivery: so it is.
    """
    if _may_have_lost_keys(text, parsed):
        _search_twice(text)
    if documented.surely_fits(parsed):
        return
    where = first_wrong(parsed, documented.shape)
    if where is not None:
        raise _wrong(where.removeprefix("."), "value of the documented type")


def _may_have_lost_keys(text: bytes, parsed: Object) -> bool:
    """False only where no key can have been dropped as a duplicate.

    orjson keeps the last of two equal keys and says nothing, but what it dropped is missing when the object
    is written out again. Most forges' text is then the same byte for byte. Otherwise colons are compared:
    each key brings one. A colon that the text has escaped could make up for a lost one, so there the text
    is searched; other escapes, such as those of < and > that Gitea and GitLab write, could not.
    """
    try:
        written = orjson.dumps(parsed)
    except orjson.JSONEncodeError as error:  # its limit is 254 levels
        raise _malformed("the payload is nested too deeply", _SEND_YOURS) from error
    if written == text:
        return False
    return b"\\u003a" in text or b"\\u003A" in text or written.count(b":") != text.count(b":")


def _search_twice(text: bytes) -> None:
    json.loads(text, object_pairs_hook=_unique, parse_int=str, parse_float=str)


def _unique(pairs: list[tuple[str, Any]]) -> None:
    if len({key for key, _ in pairs}) != len(pairs):
        raise _malformed("an object of the payload has the same key twice", _SEND_YOURS)


def _malformed(why: str, hint: str) -> MalformedDelivery:
    return MalformedDelivery(f"cannot read the delivery: {why}", hint)


def _wrong(key: str, wanted: str) -> MalformedDelivery:
    return _malformed(f"`{key}` is no {wanted}", "Send what the forge documents")


def text_of(holder: Object, key: str) -> str:
    """The text in a field, '' where it is missing or null.

    Raises:
        MalformedDelivery: it is no text, longer than LONGEST_TEXT, or has control characters.
    """
    value = holder.get(key)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > LONGEST_TEXT or _has_control(value):
        raise _wrong(key, f"text of at most {LONGEST_TEXT} characters without control characters")
    return value


def first_text(holder: Object, *keys: str) -> str:
    """The first of these fields that is not empty, else ''.

    Raises:
        MalformedDelivery: as `text_of`.
    """
    for key in keys:
        found = text_of(holder, key)
        if found:
            return found
    return ""


def label_of(holder: Object, *keys: str) -> str:
    """The first of these fields that is not empty, fit to be shown: cut, and without control characters.

    A person's name decides nothing, so an odd one must not lose a push.

    Raises:
        MalformedDelivery: it is no text.
    """
    for key in keys:
        value = holder.get(key)
        if value is not None and not isinstance(value, str):
            raise _wrong(key, "text")
        if value:
            label = value[:LONGEST_LABEL]
            return _CONTROL.sub(" ", label) if _has_control(label) else label
    return ""


def _has_control(text: str) -> bool:
    # What is printable has none. Only other text, such as one with an unusual space, needs a search.
    return not text.isprintable() and _CONTROL.search(text) is not None


def flag_of(holder: Object, key: str) -> bool | None:
    """The truth value in a field, None where it is missing or null.

    Raises:
        MalformedDelivery: it is neither true nor false.
    """
    value = holder.get(key)
    if value is None or isinstance(value, bool):
        return value
    raise _wrong(key, "truth value")


def object_of(holder: Object, key: str) -> Object:
    """The object in a field, an empty one where it is missing or null.

    Raises:
        MalformedDelivery: it is no object.
    """
    value = holder.get(key)
    if value is None:
        return _NOTHING
    if not isinstance(value, dict):
        raise _wrong(key, "object")
    return value


def objects_of(holder: Object, key: str) -> list[Object]:
    """The objects of the list in a field, none where it is missing or null.

    Raises:
        MalformedDelivery: it is no list, or one of its items is no object.
    """
    value = holder.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise _wrong(key, "list of objects")
    return value
