"""Where the configuration is."""

from __future__ import annotations

import os
from collections.abc import Mapping

from fraisier.domain.errors import UsageError

IN_THIS_FOLDER = "fraises.yaml"
OF_THE_SYSTEM = "/etc/fraisier/fraises.yaml"


def find_config(path: str | None, *, environ: Mapping[str, str] | None = None) -> str:
    """`path`, or $FRAISIER_CONFIG, or ./fraises.yaml, or /etc/fraisier/fraises.yaml.

    A path that was named is returned even if nothing is there: reading it then says so.

    Raises:
        UsageError: none was named, and there is none.
    """
    named = path or (os.environ if environ is None else environ).get("FRAISIER_CONFIG")
    if named:
        return named
    for candidate in (IN_THIS_FOLDER, OF_THE_SYSTEM):
        if os.path.exists(candidate):  # noqa: PTH110 - pathlib costs start-up time
            return candidate
    message = f"cannot find a configuration: neither ./{IN_THIS_FOLDER} nor {OF_THE_SYSTEM} exists"
    raise UsageError(message, "Write one with `fraisier init`, or name it with --config or $FRAISIER_CONFIG")
