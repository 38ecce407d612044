"""Whether backups can be made and kept: asks every source and every destination, and changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

from fraisier.application.ports import Desk, Host, Problem
from fraisier.domain.errors import StepFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fraisier.application.backup_tools import BackupBrands
    from fraisier.domain.backup import Destination, Source
    from fraisier.domain.fraise import Environment


@dataclass(frozen=True, slots=True)
class _OnlyLooks:
    """As much of a desk as is needed to look."""

    host: Host
    environment: Environment


def backup_problems(brands: BackupBrands, environment: Environment, host: Host) -> list[Problem]:
    """What would keep the environment's backups from being made, or kept, or tried."""
    spec = environment.backup
    if spec is None:
        return []
    desk = cast("Desk", _OnlyLooks(host, environment))
    found: list[Problem] = []
    for source in spec.sources:
        found += _asked(partial(_of_source, brands, source, desk))
    for place in spec.destinations:
        found += _asked(partial(_of_place, brands, place, desk))
    if (encryption := spec.encryption) is not None:
        found += _asked(lambda: brands.cipher.problems(encryption, desk))
    return found


def _of_source(brands: BackupBrands, source: Source, desk: Desk) -> Sequence[Problem]:
    return brands.source(source).problems(source, desk)


def _of_place(brands: BackupBrands, place: Destination, desk: Desk) -> Sequence[Problem]:
    return brands.place(place).problems(place, desk)


def _asked(ask: Callable[[], Sequence[Problem]]) -> Sequence[Problem]:
    """Who cannot even be asked is a problem, too."""
    try:
        return ask()
    except StepFailed as error:
        return [Problem(error.message, error.hint)]
