"""Secrets do not print, and are found in output however they are spelled or split."""

import base64
import json
import pickle
import time
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraisier.domain.secret import MASK, Redactor, Secret

VALUE = "hun/ter2 &+pa55"


@pytest.mark.parametrize("show", [str, repr, "{}".format, lambda s: f"{s:>10}"])
def test_a_secret_does_not_print(show):
    assert VALUE not in show(Secret(VALUE, "${TOKEN}"))


def test_a_secret_is_not_pickled():
    with pytest.raises(TypeError, match="cannot pickle"):
        pickle.dumps(Secret(VALUE))


@pytest.mark.parametrize(
    "spelled",
    [
        VALUE,
        quote(VALUE),
        quote(VALUE, safe=""),
        quote_plus(VALUE),
        base64.b64encode(VALUE.encode()).decode(),
        base64.urlsafe_b64encode(VALUE.encode()).decode(),
    ],
)
def test_every_spelling_is_masked(spelled):
    assert Redactor([Secret(VALUE)]).text(f"url=https://x:{spelled}@host/") == f"url=https://x:{MASK}@host/"


@pytest.mark.parametrize("before", ["", "u", "us", "use", "user:"])
@pytest.mark.parametrize("after", ["", "@", "@h", "@host"])
def test_base64_of_a_longer_text_does_not_give_the_secret_away(before, after):
    secret = "correct horse battery staple"
    encoded = base64.b64encode(f"{before}{secret}{after}".encode()).decode()
    shown = Redactor([secret]).text(f"Authorization: Basic {encoded}")
    assert MASK in shown
    left = shown.removeprefix("Authorization: Basic ").replace(MASK, "")
    assert len(left) <= len(base64.b64encode((before + after).encode())) + 4


@given(st.binary(max_size=40), st.binary(max_size=40), st.lists(st.integers(1, 7), max_size=30))
def test_a_secret_split_over_chunks_is_masked(before, after, sizes):
    secret = "s3cr3t-t0ken-value"
    data = before + secret.encode() + after
    stream, shown, position = Redactor([secret]).stream(), b"", 0
    for size in [*sizes, len(data)]:
        shown += stream.feed(data[position : position + size])
        position += size
    shown += stream.end()
    assert shown == before + MASK.encode() + after


def test_text_without_secrets_passes_unchanged_and_at_once():
    stream = Redactor([Secret("abcdef")]).stream()
    assert stream.feed(b"building 1 of 3\n") == b"building 1 of 3\n"


def test_very_short_values_mask_nothing():
    assert Redactor(["1", "", "yes"]).text("1 yes 11") == "1 yes 11"


def test_each_line_of_a_key_file_is_a_secret():
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nBKcwggSjAgEAAoIBAQ\n-----END KEY-----"
    assert "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC" not in Redactor([key]).text(
        "x MIIEvQIBADANBgkqhkiG9w0BAQEFAASC"
    )


@given(st.lists(st.integers(1, 9), max_size=40), st.integers(0, 60))
def test_a_secret_that_begins_like_another_is_masked_whole(sizes, before):
    data = b"x" * before + b"s3cr3t-t0ken-value" + b" end"
    assert streamed(Redactor(["s3cr3t-t0ken-value", "s3cr3t", "t0ken-"]), data, sizes) == (
        b"x" * before + MASK.encode() + b" end"
    )


@given(st.lists(st.integers(1, 9), max_size=40))
def test_colour_codes_do_not_hide_a_secret(sizes):
    data = b"\x1b[32muser \x1b[1ms3cr\x1b[0m3t-\x1b[38;5;9mt0ken-value\x1b[0m ok\n"
    shown = streamed(Redactor(["s3cr3t-t0ken-value"]), data, sizes)
    assert shown == b"\x1b[32muser \x1b[1m" + MASK.encode() + b"\x1b[0m ok\n"


@given(st.integers(0, 120), st.lists(st.integers(64, 200), max_size=9))
def test_base64_that_is_wrapped_into_lines_is_masked(before, sizes):
    secret = "".join(f"{number:03d}-Key" for number in range(40))
    data = base64.encodebytes(b"." * before + secret.encode() + b"." * 9)
    shown = streamed(Redactor([secret]), data, sizes)
    assert max(map(len, base64.b64encode(secret.encode()).split(b"\n"))) > 200
    left = b"".join(shown.split()).replace(MASK.encode(), b"")
    assert len(left) <= (before + 9) * 4 / 3 + 12


def test_wrapped_base64_that_begins_right_before_a_chunks_end_is_masked():
    """Too little of it to be held back, and the line's end hides it from who looks for whole spellings."""
    secret = "".join(f"{number:03d}-Key" for number in range(40))
    data = base64.encodebytes(b"." * 109 + secret.encode())
    shown = streamed(Redactor([secret]), data, [154])
    assert len(b"".join(shown.split())) <= 109 * 4 / 3 + len(MASK) + 12


def test_a_secret_escaped_as_in_json_is_masked():
    secret = 'pa"ss\\wörd\n2'
    for spelled in (json.dumps(secret), json.dumps(secret, ensure_ascii=False)):
        assert Redactor([secret]).text(spelled) == f'"{MASK}"'


def test_a_flood_of_coloured_secrets_is_masked_in_no_time():
    data = b"\x1b[1ms3cr3t-t0ken\x1b[0m\n" * 20_000
    begun = time.process_time()
    assert b"s3cr3t" not in streamed(Redactor(["s3cr3t-t0ken"]), data, [65536] * 9)
    assert time.process_time() - begun < 5


def streamed(redactor, data, sizes):
    stream, shown, position = redactor.stream(), b"", 0
    for size in [*sizes, len(data)]:
        shown += stream.feed(data[position : position + size])
        position += size
    return shown + stream.end()
