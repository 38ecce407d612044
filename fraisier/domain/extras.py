"""How a person installs what Fraisier itself does not bring.

No release has been published, and the package that PyPI has under the name `fraisier` is another program by
other people (docs/benchmarks.md measures it): what is told must never install that one.
"""

from __future__ import annotations


def how_to_install(extra: str) -> str:
    """A hint: the command that installs an extra of pyproject.toml, e.g. `postgres`."""
    return (
        f"In the clone of Fraisier: pip install '.[{extra}]', with the pip that Fraisier was installed with"
    )
