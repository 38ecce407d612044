"""Secrets do not print, and are found in output however they are spelled or split."""

import base64
import pickle
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
