"""Reading a body: what is no plain, small, unambiguous JSON object in UTF-8 is refused, and by nothing else."""

from __future__ import annotations

import json
import tracemalloc
from contextlib import suppress
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraisier.domain.errors import DeliveryRefused, MalformedDelivery, UnsupportedMediaType
from fraisier.git.payload import (
    MOST_HOLDERS,
    check_push,
    first_text,
    flag_of,
    form_payload,
    is_form,
    json_text,
    label_of,
    object_of,
    objects_of,
    parse_object,
    text_of,
)
from fraisier.git.shape import Documented

JSON_TYPE = (b"application/json",)
FORM_TYPE = (b"application/x-www-form-urlencoded",)


def read(body: bytes, *content_type: bytes) -> Any:
    headers = {"content-type": content_type} if content_type else {}
    text = json_text(headers, body)
    parsed = parse_object(text)
    check_push(text, parsed, Documented({}))
    return parsed


# ------------------------------------------------------------------------------- content types, encodings


@pytest.mark.parametrize(
    "content_type",
    [
        b"application/json",
        b"application/json; charset=utf-8",
        b'Application/JSON;charset="UTF-8"',
        b"application/json ; charset=us-ascii; boundary=x",
        b"application/vnd.github+json",
        b"application/cloudevents+json; charset=utf-8",
    ],
)
def test_json_is_read_under_every_name_it_has(content_type: bytes) -> None:
    assert read(b'{"a": 1}', content_type) == {"a": 1}


def test_a_body_without_a_content_type_is_json_if_it_parses() -> None:
    assert read(b'{"a": 1}') == {"a": 1}
    with pytest.raises(MalformedDelivery):
        read(b"payload=%7B%7D")


@pytest.mark.parametrize(
    "content_type",
    [
        b"text/plain",
        b"text/html",
        b"application/xml",
        b"multipart/form-data; boundary=x",
        b"application/octet-stream",
        b"application/jsonp",
        b"application/json; charset=utf-16",
        b"image/svg+json",
        b"json",
    ],
)
def test_other_content_types_are_unsupported(content_type: bytes) -> None:
    with pytest.raises(UnsupportedMediaType):
        read(b'{"a": 1}', content_type)


@pytest.mark.parametrize("value", [b"application/json\xff", b"\xc3\xa9", b"x" * 300])
def test_a_content_type_that_is_no_short_ascii_is_malformed(value: bytes) -> None:
    with pytest.raises(MalformedDelivery):
        read(b"{}", value)


def test_two_content_types_are_malformed_and_the_same_twice_is_not() -> None:
    with pytest.raises(MalformedDelivery):
        read(b"{}", *JSON_TYPE, *FORM_TYPE)
    assert read(b"{}", *JSON_TYPE, *JSON_TYPE) == {}


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate", b"br", b"zstd", b"identity, gzip", b"GZIP"])
def test_a_compressed_body_is_refused_before_anything_is_unpacked(encoding: bytes) -> None:
    with pytest.raises(UnsupportedMediaType):
        is_form({"content-type": JSON_TYPE, "content-encoding": (encoding,)})


def test_identity_is_no_encoding() -> None:
    assert not is_form({"content-type": JSON_TYPE, "content-encoding": (b"identity",)})


# --------------------------------------------------------------------------------------------- JSON


HOSTILE_JSON = {
    "nothing": b"",
    "blank": b"  \n",
    "an array": b"[]",
    "a text": b'"x"',
    "a number": b"7",
    "null": b"null",
    "cut short": b'{"a": ',
    "two objects": b"{}{}",
    "a trailing comma": b'{"a": 1,}',
    "NaN": b'{"a": NaN}',
    "infinity": b'{"a": Infinity}',
    "minus infinity": b'{"a": -Infinity}',
    "a number that overflows": b'{"a": 1e999}',
    "100,000 digits": b'{"a": ' + b"9" * 100_000 + b"}",
    "a leading zero": b'{"a": 01}',
    "invalid UTF-8": b'{"a": "\xff\xfe"}',
    "overlong UTF-8": b'{"a": "\xc0\xaf"}',
    "a surrogate in UTF-8": b'{"a": "\xed\xa0\x80"}',
    "a lone high surrogate": b'{"a": "\\ud800"}',
    "a lone low surrogate": b'{"a": "\\udc00"}',
    "a surrogate as key": b'{"\\ud800": 1}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "UTF-32": '{"a": 1}'.encode("utf-32"),
    "a NUL byte": b'{"a": "\0"}',
    "a NUL after it": b"{}\0",
    "a raw newline": b'{"a": "\n"}',
    "deep arrays": b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep objects": b'{"a": ' * 100_000 + b"1" + b"}" * 100_000,
    "unclosed depth": b'{"a": ' + b"[" * 1_000_000,
    "300 levels": b'{"a": ' + b"[" * 300 + b"]" * 300 + b"}",
    "a key twice": b'{"a": 1, "a": 2}',
    "a key twice, deep": b'{"a": [{"b": {"c": 1, "d": 2, "c": 1}}]}',
    "a key twice, one escaped": b'{"a": 1, "\\u0061": 2}',
    "a key twice, hidden by an escaped colon": b'{"a": 1, "a": "\\u003a"}',
    "a key twice, hidden by a dropped colon": b'{"a": "\\u003a:", "a": ":"}',
    "a key twice, hidden by a colon escaped in capitals": b'{"a": 1, "a": "\\u003A"}',
    "a key twice, beside other escapes": b'{"a": "\\u003c", "a": "\\u003e"}',
    "a key twice, with room around": b'{"a" : 1 , "a" : 2}',
    "an empty key twice": b'{"": 1, "": 2}',
    "comments": b'{"a": 1 /* x */}',
    "single quotes": b"{'a': 1}",
    "XML": b"<?xml version='1.0'?><a/>",
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
}


@pytest.mark.parametrize("body", HOSTILE_JSON.values(), ids=HOSTILE_JSON.keys())
def test_what_is_no_clean_object_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedDelivery):
        read(body, *JSON_TYPE)
    with pytest.raises(MalformedDelivery):
        read(urlencode({"payload": body}).encode(), *FORM_TYPE)


@pytest.mark.parametrize(
    "text",
    [
        '{"a": {"k": 1}, "b": {"k": 1}}',
        '{"a": "x:y", "b": "\\"k\\":", "c\\\\": 1}',
        '{"url": "https:\\/\\/git.example.com:8080\\u003a"}',
        '{"é": "\\u00e9", "😀": "\\ud83d\\ude00"}',
        '{"n": 18446744073709551615, "f": 1.50, "e": -1e-7}',
    ],
)
def test_unusual_spelling_is_no_duplicate(text: str) -> None:
    assert read(text.encode(), *JSON_TYPE) == json.loads(text)


def _spelled(value: Any, draw: st.DrawFn) -> str:
    """JSON text of nested lists and pairs, with room and escapes where the grammar allows them."""
    room = draw(st.sampled_from(["", "", " ", "\n "]))
    if isinstance(value, tuple):
        pairs = (f"{_text(k, draw)}{room}:{room}{_spelled(v, draw)}" for k, v in value)
        return "{" + f",{room}".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + f"{room},".join(_spelled(item, draw) for item in value) + "]"
    return _text(value, draw) if isinstance(value, str) else json.dumps(value)


def _text(value: str, draw: st.DrawFn) -> str:
    escaped = draw(st.booleans())
    return '"' + "".join(f"\\u{ord(c):04x}" if escaped else json.dumps(c)[1:-1] for c in value) + '"'


KEYS = st.text(alphabet='ab:"\\', max_size=2)
TREES = st.recursive(
    st.none() | st.integers(-9, 9) | KEYS,
    lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(KEYS, inner), max_size=3).map(tuple),
    max_leaves=12,
)


@st.composite
def json_objects(draw: st.DrawFn) -> tuple[str, bool]:
    """A JSON object's text and whether one of its objects has a key twice."""
    pairs = tuple(draw(st.lists(st.tuples(KEYS, TREES), max_size=4)))
    return _spelled(pairs, draw), _has_twice(pairs)


def _has_twice(value: Any) -> bool:
    if isinstance(value, tuple):
        return len({key for key, _ in value}) < len(value) or any(_has_twice(v) for _, v in value)
    return isinstance(value, list) and any(_has_twice(item) for item in value)


@settings(deadline=None)
@given(json_objects())
def test_a_push_is_refused_if_and_only_if_a_key_is_there_twice(spelled: tuple[str, bool]) -> None:
    text, twice = spelled
    parsed = parse_object(text.encode())
    if twice:
        with pytest.raises(MalformedDelivery, match="twice"):
            check_push(text.encode(), parsed, Documented({}))
    else:
        check_push(text.encode(), parsed, Documented({}))
        assert parsed == json.loads(text)


def test_documented_fields_have_their_types_or_are_null() -> None:
    holders: list[dict[str, Any]] = [{}, {"commits": None}, {"commits": []}]
    for fitting in holders:
        check_push(json.dumps(fitting).encode(), fitting, Documented({"commits": [str]}))
    with pytest.raises(MalformedDelivery, match="`commits`"):
        check_push(b'{"commits":{}}', {"commits": {}}, Documented({"commits": [str]}))


@pytest.mark.parametrize("holder", [b"{}", b"[]", b"[{}]"])
def test_more_objects_and_lists_than_memory_is_promised_for_are_refused_unread(holder: bytes) -> None:
    body = b'{"a":[' + b",".join([holder] * (MOST_HOLDERS + 1)) + b"]}"
    tracemalloc.start()
    try:
        with pytest.raises(MalformedDelivery, match="more than 1,000,000 objects and lists"):
            parse_object(body)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < len(body)


def test_a_large_payload_with_fewer_objects_is_read() -> None:
    body = b'{"a":[' + b",".join([b'{"b":[]}'] * (MOST_HOLDERS // 4)) + b"]}"
    assert len(read(body, *JSON_TYPE)["a"]) == MOST_HOLDERS // 4


# --------------------------------------------------------------------------------------------- forms


def test_a_form_carries_its_payload_percent_encoded() -> None:
    payload = {"ref": "refs/heads/a+b & c=d%41", "name": "Zoë 😀"}
    body = urlencode({"payload": json.dumps(payload, ensure_ascii=False)}).encode()
    assert read(body, *FORM_TYPE) == payload
    assert read(b"token=x&" + body, b"application/x-www-form-urlencoded; charset=utf-8") == payload


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"payload",
        b"payload=",
        b"other=%7B%7D",
        b"payload=%7B%7D&payload=%7B%7D",
        b"payload=%7B%7D&payload=%7B%22a%22%3A1%7D",
        b"payload=%7B%7D%",
        b"payload=%7B%7D%4",
        b"payload=%7B%22a%22%3A%22%zz%22%7D",
        b"payload=%7B%22a%22%3A%22%FF%22%7D",
        b"a=1" + b"&a=1" * 10_000 + b"&payload=%7B%7D",
        b'{"payload": {}}',
    ],
)
def test_a_form_that_is_none_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedDelivery):
        read(body, *FORM_TYPE)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_percent_decoding_gives_back_what_was_encoded(raw: bytes) -> None:
    assert form_payload(b"payload=" + quote_from_bytes(raw, safe="").encode()) == raw


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from([b"%41", b"%3D", b"=", b"+", b"_", b" ", b"%0A", b"\n", b"%25", b"x."]), max_size=30
    )
)
def test_percent_decoding_agrees_with_the_standard_librarys(parts: list[bytes]) -> None:
    value = b"".join(parts)
    assert form_payload(b"payload=" + value) == unquote_to_bytes(value.replace(b"+", b" "))


def test_a_large_form_is_decoded_in_memory_of_its_own_order() -> None:
    body = b"payload=" + b"%22" * 1_000_000
    tracemalloc.start()
    try:
        form_payload(body)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 * len(body)


# --------------------------------------------------------------------------------------------- fields


NO_TEXT = [1, 1.5, True, [], {}, ["x"]]


@pytest.mark.parametrize("value", [*NO_TEXT, "a\0b", "a\nb", "\x7f", "x" * 70_000])
def test_a_text_is_a_text_without_control_characters_and_bounded(value: Any) -> None:
    with pytest.raises(MalformedDelivery, match="`k`"):
        text_of({"k": value}, "k")


@pytest.mark.parametrize("holder", [{}, {"k": None}, {"k": ""}])
def test_a_field_that_is_not_there_is_empty(holder: dict[str, Any]) -> None:
    assert text_of(holder, "k") == first_text(holder, "k") == label_of(holder, "k") == ""
    assert flag_of({"k": None}, "k") is None
    assert object_of({"k": None}, "k") == {}
    assert objects_of({"k": None}, "k") == []


def test_the_first_text_that_is_not_empty_counts() -> None:
    assert first_text({"a": "", "b": None, "c": "x", "d": "y"}, "a", "b", "c", "d") == "x"


@pytest.mark.parametrize("value", NO_TEXT)
def test_a_label_is_text(value: Any) -> None:
    with pytest.raises(MalformedDelivery):
        label_of({"k": value}, "k")


def test_a_label_is_made_fit_to_be_shown() -> None:
    assert label_of({"k": "Ada\n\x1b[31m\0" + "x" * 1000}, "k").startswith("Ada  [31m x")
    assert len(label_of({"k": "x" * 1000}, "k")) == 200


@pytest.mark.parametrize("value", [0, 1, "true", "", [], {}])
def test_a_flag_is_true_or_false(value: Any) -> None:
    with pytest.raises(MalformedDelivery):
        flag_of({"k": value}, "k")


@pytest.mark.parametrize("value", [0, "x", True, [], [{}]])
def test_an_object_is_an_object(value: Any) -> None:
    with pytest.raises(MalformedDelivery):
        object_of({"k": value}, "k")


@pytest.mark.parametrize("value", [0, "x", True, {}, [1], [{}, None], [[]]])
def test_a_list_of_objects_has_objects_only(value: Any) -> None:
    with pytest.raises(MalformedDelivery):
        objects_of({"k": value}, "k")


@settings(deadline=None)
@given(st.binary(max_size=300), st.sampled_from([JSON_TYPE, FORM_TYPE, ()]))
def test_no_bytes_cause_another_error_than_a_refusal(body: bytes, content_type: tuple[bytes, ...]) -> None:
    with suppress(DeliveryRefused):
        read(body, *content_type)
