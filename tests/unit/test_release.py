"""Releases: their names, where they lie, and which of them are removed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraisier.domain.push import is_ref_name, is_sha, is_zero_sha
from fraisier.domain.release import Layout, is_release_name, release_name, release_number, releases_to_prune
from tests.factories import SHA_A

NAMES = [release_name(n, SHA_A) for n in range(1, 12)]


def test_a_release_is_named_by_number_and_short_sha():
    assert release_name(12, SHA_A) == "12-aaaaaaaaaa"
    assert release_number("12-aaaaaaaaaa") == 12


@pytest.mark.parametrize("name", ["", "x", "12", "12-", "12-zzzzzzzz", "../12-aaaaaaaa", "12-aaaaaaaa.old"])
def test_other_folders_are_not_ours(name):
    assert not is_release_name(name)


def test_the_oldest_go_first_by_number_not_by_text():
    gone = releases_to_prune(NAMES, keep=5, running=NAMES[-1], previous=NAMES[-2])
    assert gone == list(reversed(NAMES[:6]))


@given(st.sets(st.sampled_from(NAMES)), st.integers(1, 6), st.sampled_from(NAMES), st.sampled_from(NAMES))
def test_what_runs_and_what_it_would_go_back_to_is_never_removed(present, keep, running, previous):
    gone = releases_to_prune([*present, "notes", "current"], keep=keep, running=running, previous=previous)
    assert not {running, previous, "notes", "current"} & set(gone)
    assert len(set(present) - set(gone)) <= max(keep, 2)


def test_current_is_a_relative_link():
    layout = Layout("/var/www/orders")
    assert layout.link_target("1-aaaaaaa") == "releases/1-aaaaaaa"
    assert layout.marker("1-aaaaaaa") == "/var/www/orders/.fraisier/releases/1-aaaaaaa.json"


@pytest.mark.parametrize(
    "name", ["main", "feature/x", "--upload-pack=x", "$(id)", "v1.0", "ü", "a" * 250, "-x", "{}", "@"]
)
def test_names_that_git_accepts(name):
    assert is_ref_name(name)


@pytest.mark.parametrize(
    "name",
    ["", "../..", "a..b", "a b", "a\nb", "a\0b", "a~b", "a^b", "a:b", "a?b", "a*b", "a[b", "a\\b", "/a", "a/", "a//b",
     "a.lock", "a.lock/b", ".a", "b/.a", "a.", "a@{b", "a\x7f", "a" * 70_000, "\ud800"],
)  # fmt: skip
def test_names_that_git_refuses(name):
    assert not is_ref_name(name)


def test_object_names():
    assert is_sha(SHA_A)
    assert is_sha("b" * 64)
    assert not any(map(is_sha, ["0" * 40, "A" * 40, "a" * 39, "a" * 41, "a" * 40 + "\n", ""]))
    assert is_zero_sha("0" * 40)
    assert is_zero_sha("0" * 64)
