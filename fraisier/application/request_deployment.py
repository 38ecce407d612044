"""A person asks for a deployment: made a wish here, which the store decides on as it does on a push's."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from fraisier.application.find_holds import FindHolds
from fraisier.application.ports import Requested, Store
from fraisier.domain.deployment import Trigger, Wish
from fraisier.domain.errors import NotFound, UsageError
from fraisier.domain.fraise import Environment, EnvironmentKey
from fraisier.domain.push import RefKind, is_ref_name


class RequestDeployment:
    """Turns what somebody wants into a stored deployment.

    It takes the place of what persons asked for before, as far as that is held back.
    """

    def __init__(
        self, environments: Mapping[EnvironmentKey, Environment], store: Store, holds: FindHolds
    ) -> None:
        self._environments = environments
        self._store = store
        self._holds = holds

    def __call__(
        self,
        key: EnvironmentKey,
        *,
        commit: str = "",
        ref: str = "",
        by: str,
        trigger: Trigger = Trigger.manual,
        force: bool = False,
    ) -> Requested:
        """Ask for `commit`, for the tip of `ref`, or for what the environment follows.

        `ref` is full (refs/heads/main), or short where the environment's own kind is meant.

        Raises:
            NotFound: no such environment.
            UsageError: a ref that git refuses, or a tag pattern without a tag's name.
        """
        environment = find_environment(self._environments, key)
        full = full_ref(environment, ref, needed=not commit)
        wish = Wish(
            environment=key,
            ref=full,
            commit=commit,
            trigger=trigger,
            requested_by=by,
            force=force,
            instead_of=self._holds.replaced_by(key, goes_first=force),
        )
        return self._store.request(wish)


def find_environment(environments: Mapping[EnvironmentKey, Environment], key: EnvironmentKey) -> Environment:
    """The environment called `key`.

    Raises:
        NotFound: with the names that exist.
    """
    if key in environments:
        return environments[key]
    names = [str(known) for known in environments]
    near = difflib.get_close_matches(str(key), names, n=1)
    guess = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(sorted(names)) or 'none'}"
    raise NotFound(f"cannot find environment {key}", f"{guess} See `fraisier list`")


def full_ref(environment: Environment, ref: str, *, needed: bool) -> str:
    """`refs/heads/…` or `refs/tags/…` for what was asked; '' for a bare commit of no ref.

    Raises:
        UsageError: git refuses the name, nothing says which tag is meant, or nothing is deployed there.
    """
    if not environment.deploys:
        key = environment.key
        message = f"cannot deploy {key}: it has no repository, and what is backed up needs none"
        hint = f"To make a backup: fraisier backup run {key.fraise} {key.environment}"
        raise UsageError(message, hint)
    if not ref:
        if environment.branch:
            return RefKind.branch.prefix + environment.branch if needed else ""
        if needed:
            message = f"cannot tell which tag of {environment.tag!r} to deploy"
            raise UsageError(message, "Name one: --ref v1.2.3, or a commit: --commit SHA")
        return ""
    kinds = [kind for kind in RefKind if ref.startswith(kind.prefix)]
    kind = kinds[0] if kinds else environment.ref_kind
    name = ref.removeprefix(kind.prefix)
    if not is_ref_name(name):
        raise UsageError(f"cannot deploy ref {ref!r}: git accepts no such name", "See `git check-ref-format`")
    return kind.prefix + name
