"""The file that says that a release is whole, and what it was made from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from fraisier.application.ports import Host
from fraisier.domain.release import Layout, is_release_name, release_number


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """A whole release. Times are Unix seconds; `proven_at` is when it last served in good health.

    `beside` says whether it did so as an instance of its own.
    """

    release: str
    commit: str
    ref: str
    deployment: str
    sealed_at: float
    proven_at: float | None = None
    beside: bool | None = None


def write_marker(host: Host, layout: Layout, marker: Marker) -> None:
    """Mark a release as whole; its files must be on disk. Only inside `Host.guard`."""
    data = json.dumps(asdict(marker), sort_keys=True).encode()
    host.write(layout.marker(marker.release), data + b"\n", mode=0o640)


def read_marker(host: Host, layout: Layout, release: str) -> Marker | None:
    """What a release was made from; None if it is not whole."""
    if not is_release_name(release):
        return None
    data = host.read(layout.marker(release))
    if data is None or host.kind(layout.release(release)) != "folder":
        return None
    try:
        fields = json.loads(data)
        return Marker(**{name: fields.get(name) for name in Marker.__dataclass_fields__})
    except (ValueError, KeyError, TypeError):
        return None


def running_release(host: Host, layout: Layout) -> str:
    """The release that `current` points to; '' if there is none, or it is not one of ours."""
    link = host.read_link(layout.current)
    name = (link or "").rstrip("/").rpartition("/")[2]
    return name if is_release_name(name) else ""


def whole_releases(host: Host, layout: Layout) -> list[Marker]:
    """Every whole release on the host, newest first: by their numbers, for clocks are set back."""
    markers = (read_marker(host, layout, name) for name in host.list(layout.releases))
    return sorted((m for m in markers if m is not None), key=_number, reverse=True)


def _number(marker: Marker) -> int:
    return release_number(marker.release)
