"""Jobs and backups out of stored JSON: see `codec`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fraisier.domain.backup import BackupSpec, Destination, Encryption, Retention, Source
from fraisier.domain.job import Job, JobKind, Keeper, Schedule

Make = Callable[[Any, dict[str, Any] | None], Any]


def jobs_from(data: Mapping[str, dict[str, Any]], make: Make) -> dict[str, Job]:
    """The jobs of an environment."""
    return {name: _job(each, make) for name, each in data.items()}


def _job(data: dict[str, Any], make: Make) -> Job:
    words = {
        "kind": JobKind(data.get("kind", JobKind.command)),
        "keeper": Keeper(data.get("keeper", Keeper.worker)),
        "schedule": make(Schedule, data.get("schedule")),
    }
    job: Job = make(Job, data | words)
    return job


def backup_from(data: dict[str, Any] | None, make: Make) -> BackupSpec | None:
    """What a backup consists of."""
    if data is None:
        return None
    parts = {
        "sources": tuple(make(Source, each) for each in data["sources"]),
        "destinations": tuple(make(Destination, each) for each in data["destinations"]),
        "retention": make(Retention, data.get("retention", {})),
        "encryption": make(Encryption, data.get("encryption")),
    }
    spec: BackupSpec = make(BackupSpec, data | parts)
    return spec
