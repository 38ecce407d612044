"""Which worker may deploy what: an environment names labels, and a worker has some.

A worker deploys to its own machine. So a worker with labels is for what names them, and for nothing else:
what names none was there before the machine with the labels came, and must not move to it by itself.
GitLab's runners decide alike (https://docs.gitlab.com/ci/runners/configure_runners/), and so do Buildkite's
queues (https://buildkite.com/docs/agent/queues).
The same rule in SQL is part of each store's claims.
"""

from __future__ import annotations

from collections.abc import Collection


def may_take(has: Collection[str], wanted: Collection[str]) -> bool:
    """Whether a worker that `has` labels may deploy an environment that wants some: it needs them all."""
    return set(wanted) <= set(has) if wanted else not has


def may_meet(one: Collection[str], other: Collection[str], here: Collection[str]) -> bool:
    """Whether environments that want these labels may be on one machine.

    They may, as far as anybody can tell, unless both name labels and neither's include the other's. They do
    where a worker that has the labels `here` takes both.
    """
    if not one or not other or set(one) <= set(other) or set(other) <= set(one):
        return True
    return may_take(here, one) and may_take(here, other)


def as_options(labels: Collection[str]) -> str:
    """--label web1 --label gpu, for hints."""
    return " ".join(f"--label {label}" for label in labels)


def in_words(labels: Collection[str]) -> str:
    """[web1, gpu], for messages."""
    return f"[{', '.join(labels)}]"
