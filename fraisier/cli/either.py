"""An ID on the command line: a deployment's or a run's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fraisier.domain.errors import Ambiguous, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from fraisier.application.ports import Row, Store


def deployment_or_run(store: Store, wanted: str) -> tuple[Row | None, Row | None]:
    """The deployment, or the run, whose id begins with `wanted`; one of them is None.

    Raises:
        NotFound: neither.
        Ambiguous: more than one, of either or of both.
    """
    deployment, run = _found(store.deployment, wanted), _found(store.run, wanted)
    if deployment is None and run is None:
        message = f"cannot find a deployment or a run {wanted!r}"
        raise NotFound(message, "See `fraisier history` and `fraisier runs`, and give enough of its id")
    if deployment is None or run is None:
        return deployment, run
    message = f"cannot tell what {wanted!r} is: a deployment and a run begin like this"
    raise Ambiguous(message, "Give more of its id")


def _found(look: Callable[[str], Row], wanted: str) -> Row | None:
    try:
        return look(wanted)
    except Ambiguous:
        raise
    except NotFound:
        return None
