"""Which forge a delivery comes from, by its headers alone."""

from __future__ import annotations

from collections.abc import Mapping

from fraisier.application.ports import Forge, Headers
from fraisier.domain.errors import UnknownForge


def find_forge(headers: Headers, forges: Mapping[str, Forge]) -> str:
    """The name, in `forges`, of the one that recognises these headers.

    Gitea, Forgejo and Gogs also send GitHub's headers: GitHub itself leaves such deliveries to them.

    Raises:
        UnknownForge: none recognises them, or more than one does.
    """
    found = [name for name, forge in forges.items() if forge.recognises(headers)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UnknownForge(
            f"cannot tell the forge: the headers are those of {' and '.join(sorted(found))}",
            "Something between the forge and Fraisier adds headers of another forge",
        )
    raise UnknownForge(
        "cannot tell the forge: none of the headers is one that a known forge sends",
        f"Name the forge in the path, POST /webhook/{{forge}}: {', '.join(sorted(forges))}",
    )
