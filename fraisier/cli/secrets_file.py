"""The variables of a configuration, for a command line that systemd gave none.

`fraisier serve` gets them from its unit's EnvironmentFile=. So that `sudo -u fraisier fraisier status` works
as well, those that the configuration names are also looked for in `secrets.env` beside it.
"""

from __future__ import annotations

import os
import re

NAME = "secrets.env"
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)")


def lend_secrets(config: str | None) -> None:
    """Set what the configuration names, the process lacks and the file has. Nothing else is taken."""
    from fraisier.config.locate import find_config

    path = find_config(config)
    content = _read(path)
    lacking = [name for name in variables_of(content) if name not in os.environ]
    if not lacking:
        return
    known = _pairs(_read(os.path.join(os.path.dirname(path), NAME)))  # noqa: PTH118, PTH120 - start-up time
    os.environ.update({name: known[name] for name in lacking if name in known})


def variables_of(content: str) -> list[str]:
    """The variables that a configuration names outside comments."""
    lines = (line for line in content.splitlines() if not line.lstrip().startswith("#"))
    return sorted({name for line in lines for name in _VARIABLE.findall(line)})


def _pairs(content: str) -> dict[str, str]:
    if not content:
        return {}
    from fraisier.hosts.users import parse_env_file

    return parse_env_file(content)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:  # noqa: PTH123 - start-up time
            return file.read(1 << 20)
    except OSError:
        return ""  # the configuration's own reader says what is wrong with it
