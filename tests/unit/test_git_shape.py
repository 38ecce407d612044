"""Every field that a forge documents for a push has the documented type, or the push is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraisier.domain.errors import MalformedDelivery
from fraisier.domain.push import EventKind
from fraisier.git.payload import check_push
from fraisier.git.shape import Documented, Shape, first_wrong, flags, numbers, texts
from tests.unit.signing import KINDS, fixture, forges, sign

# What signs each fixture, and which event it is where that is no plain push.
FIXTURES = {
    "github": ("github", ""),
    "github_tag": ("github", ""),
    "github_forced": ("github", ""),
    "github_old": ("github", ""),
    "gitlab": ("gitlab", ""),
    "gitlab_tag": ("gitlab", "Tag Push Hook"),
    "gitlab_old": ("gitlab", ""),
    "gitlab_system_push": ("gitlab", "System Hook"),
    "gitea": ("gitea", ""),
    "gitea_tag": ("gitea", ""),
    "forgejo": ("forgejo", ""),
    "gogs": ("gogs", ""),
    "bitbucket": ("bitbucket", ""),
    "bitbucket_tag": ("bitbucket", ""),
    "bitbucket_several": ("bitbucket", ""),
    "bitbucket_server": ("bitbucket_server", ""),
    "bitbucket_server_tag": ("bitbucket_server", ""),
    "bitbucket_server_several": ("bitbucket_server", ""),
    "bitbucket_server_personal": ("bitbucket_server", ""),
    "bitbucket_server_mirror": ("bitbucket_server", "mirror:repo_synchronized"),
    "bitbucket_server_plugin": ("bitbucket_server", "repo:push"),
}
KIND = {"forgejo": "gitea", "gogs": "gitea"}
OTHERS: list[Any] = ["x", 7, 1.5, True, {}, []]
ALSO: dict[str, set[type]] = {  # more types than the one that the fixture has
    "repository.private": {int},
    "repository.created_at": {int, str},
    "repository.updated_at": {int, str},
    "repository.pushed_at": {int, str},
    "push_options": {list},
    "toCommit.authorTimestamp": {str},
    "toCommit.committerTimestamp": {str},
    "commits[].authorTimestamp": {str},
    "commits[].committerTimestamp": {str},
}
# The plugin writes links as a server does or as the Cloud does.
FREE = {"bitbucket_server_plugin": {"repository.links.self"}}
GAPS = "links.self"  # of a server that knows no address for what it tells of: [null]

Way = tuple[str | int, ...]


def named(way: Way) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in way).removeprefix(".")


def kind_of(way: Way) -> str:
    return named(way).translate({ord(digit): None for digit in "0123456789"})


def ways(value: Any, way: Way = ()) -> Iterator[tuple[Way, Any]]:
    """Every field and item below, with the way to it."""
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in steps:
        yield (*way, step), inner
        yield from ways(inner, (*way, step))


def replaced(payload: Any, way: Way, value: Any) -> Any:
    """A payload that shares with the first one whatever is not on the way."""
    if not way:
        return value
    changed = payload.copy()
    inner = changed[way[0]] if way[1:] else None
    changed[way[0]] = replaced(inner, way[1:], value)
    return changed


def is_free(name: str, way: Way) -> bool:
    return any(kind_of(way[:end]) in FREE.get(name, ()) for end in range(1, len(way) + 1))


def refusal(name: str, payload: Any, *, form: bool) -> str:
    """Why the payload is refused, '' if it is not."""
    signer, event = FIXTURES[name]
    delivery = sign(signer, payload, event=event, form=form)
    try:
        push = forges()[KIND.get(signer, signer)].parse(delivery.raw_headers, delivery.body)
    except MalformedDelivery as refused:
        return str(refused)
    assert push.kind is EventKind.push
    return ""


@pytest.mark.parametrize(
    ("name", "form"), [*((name, False) for name in FIXTURES), *((name, True) for name in KINDS)]
)
def test_a_field_of_another_type_is_refused_and_named(name: str, form: bool) -> None:
    payload = fixture(name)
    assert refusal(name, payload, form=form) == ""
    for way, value in ways(payload):
        if is_free(name, way):
            continue
        fitting = {type(value)} | ALSO.get(kind_of(way), set())
        wrong = [other for other in OTHERS if type(other) not in fitting]
        refusals = [refusal(name, replaced(payload, way, other), form=form) for other in wrong]
        unnamed = [told for told in refusals if f"`{named(way)}`" not in told]
        # Of a field that is null here one type is right, and it may be one of those tried.
        assert len(unnamed) <= (value is None) * (1 + len(fitting - {type(None)})), (named(way), unnamed)


@pytest.mark.parametrize("name", FIXTURES)
def test_the_items_of_a_list_are_no_numbers_and_only_links_may_be_null(name: str) -> None:
    payload = fixture(name)
    for way, value in ways(payload):
        if isinstance(value, list) and not is_free(name, way):
            for item in (None, 7, [], [["x"]]):
                told = refusal(name, replaced(payload, way, [*value, item]), form=False)
                if item is None and named(way).endswith(GAPS):
                    assert told == "", named(way)
                else:
                    assert f"`{named(way)}[{len(value)}]`" in told, named(way)


@pytest.mark.parametrize("name", FIXTURES)
def test_what_nobody_documents_is_free(name: str) -> None:
    payload = fixture(name)
    holders = [(), *(way for way, value in ways(payload) if isinstance(value, dict))]
    for way in holders:
        for other in (*OTHERS, None):
            assert refusal(name, replaced(payload, (*way, "undocumented"), other), form=False) == ""


@pytest.mark.parametrize("name", KINDS)
def test_a_field_that_names_neither_ref_nor_repository_may_be_null_or_missing(name: str) -> None:
    payload = fixture(name)
    for field in (
        "commits",
        "head_commit",
        "sender",
        "pusher",
        "actor",
        "user_id",
        "push_options",
        "toCommit",
    ):
        if field in payload:
            assert refusal(name, {**payload, field: None}, form=False) == ""
            assert refusal(name, {key: payload[key] for key in payload if key != field}, form=False) == ""


# -------------------------------------------------------------------------------------- the glance

SHAPE: Shape = {
    **texts("a b"),
    **numbers("n"),
    **flags("f"),
    "either": (int, str),
    "person": texts("a b"),
    "words": [str],
    "deep": {**texts("a"), **numbers("n"), "items": [{**texts("a"), "person": texts("a b"), "words": [str]}]},
    "persons": [texts("a b")],
    "gaps": [texts("a"), None],
}
DOCUMENTED = Documented(SHAPE)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from([None, "x", "", 7, 0, 1.5, True, False]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from([*SHAPE, "items", "free"]), inner, max_size=3)
    ),
    max_leaves=12,
)


def fitting(kind: Any) -> st.SearchStrategy[Any]:
    """Values of that kind, here and there another one."""
    right: st.SearchStrategy[Any]
    if kind is None:
        return st.none()
    if isinstance(kind, dict):
        right = st.fixed_dictionaries({}, optional={name: fitting(kind[name]) for name in kind})
    elif isinstance(kind, list):
        right = st.lists(st.one_of(map(fitting, kind)), max_size=3)
    else:
        one = {str: "x", int: 7, bool: True}
        right = st.sampled_from([one[each] for each in (kind if isinstance(kind, tuple) else (kind,))])
    return st.integers(0, 30).flatmap(lambda chance: VALUES if chance == 30 else right)


def fits(value: Any, kind: Any) -> bool:
    if isinstance(kind, dict):
        return isinstance(value, dict) and all(
            value.get(name) is None or fits(value[name], kind[name]) for name in kind
        )
    if isinstance(kind, list):
        return isinstance(value, list) and all(any(fits(item, one) for one in kind) for item in value)
    if kind is None:
        return value is None
    return type(value) in (kind if isinstance(kind, tuple) else (kind,))


@settings(deadline=None)
@given(st.one_of(fitting(SHAPE), VALUES).filter(lambda value: isinstance(value, dict)))
def test_a_push_is_refused_if_and_only_if_a_field_does_not_fit(payload: dict[str, Any]) -> None:
    check: Callable[[], None] = lambda: check_push(json.dumps(payload).encode(), payload, DOCUMENTED)  # noqa: E731
    assert (first_wrong(payload, SHAPE) is None) is fits(payload, SHAPE)
    if fits(payload, SHAPE):
        check()
    else:
        assert not DOCUMENTED.surely_fits(payload)
        with pytest.raises(MalformedDelivery, match="is no value of the documented type"):
            check()
