"""Pauses an environment, so that nothing begins in it by itself, and lets it go on."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

from fraisier.application.ports import Store
from fraisier.application.request_deployment import find_environment
from fraisier.domain.errors import UsageError
from fraisier.domain.fraise import Environment, EnvironmentKey

LONGEST_REASON = 500  # characters


class PauseEnvironment:
    """What runs in the environment goes on to its end; what is asked for from now on is stored and waits."""

    def __init__(self, environments: Mapping[EnvironmentKey, Environment], store: Store) -> None:
        self._environments = environments
        self._store = store

    def __call__(self, key: EnvironmentKey, *, by: str, reason: str) -> str:
        """Pause; returns the id of the deployment that runs and goes on, or ''.

        Raises:
            NotFound: no such environment.
            UsageError: no reason is given, or a very long one.
        """
        find_environment(self._environments, key)
        self._store.pause(key, by=by, reason=_one_line(reason))
        (row,) = self._store.fraise_status(key.fraise, key.environment)
        return row["running_deployment_id"] or ""


class ResumeEnvironment:
    """Ends a pause: the newest deployment that waits begins."""

    def __init__(self, environments: Mapping[EnvironmentKey, Environment], store: Store) -> None:
        self._environments = environments
        self._store = store

    def __call__(self, key: EnvironmentKey, *, by: str) -> bool:
        """Go on; whether it was paused.

        Raises:
            NotFound: no such environment.
        """
        find_environment(self._environments, key)
        return self._store.resume(key, by=by)


def _one_line(reason: str) -> str:
    """The reason as it is stored: one line, that no terminal takes for a command."""
    shown = " ".join(reason.split())
    shown = "".join(each for each in shown if unicodedata.category(each)[0] != "C")
    if not shown:
        raise UsageError("cannot pause without a reason", "Say why: --reason 'the disk is being replaced'")
    if len(shown) > LONGEST_REASON:
        message = f"cannot keep a reason of {len(shown)} characters"
        raise UsageError(message, f"Say it in {LONGEST_REASON}, and name a page that tells more")
    return shown
