"""Which values of a file of NAME=value lines are secrets.

The file itself is read by the commands that run with it; here only to know what must not be written. What is
plainly no secret ("production", a port, a path) is left alone, or output would be full of masks.
"""

from __future__ import annotations

import re

from fraisier.config.reading import sounds_secret

_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*?)\s*\Z", re.DOTALL)
_QUOTED = re.compile(r"""=[ \t]*(["'])((?:\\.|(?!\1)[^\\])*)\1""", re.DOTALL)
_INNOCENT = re.compile(
    r"[a-z]{1,15}|[0-9.:]{1,15}|(?:/[a-z0-9._-]{1,30})+/?|https?://[a-z0-9.-]+(?::[0-9]+)?(?:/[a-z0-9._-]{1,20})*/?",
    re.IGNORECASE,
)


def secrets_of_file(content: bytes) -> set[str]:
    """The secret values in such a file."""
    text = content.decode("utf-8", "surrogateescape")
    found = {match[2] for match in _QUOTED.finditer(text) if "\n" in match[2]}
    for line in text.splitlines():
        match = _LINE.match(line)
        if match and (sounds_secret(match[1]) or not _is_innocent(match[2])):
            found |= {match[2], _unquoted(match[2])}
        elif not match and not line.lstrip().startswith(("#", ";")):
            found.add(line.strip().strip("\"'"))  # a value that goes on, such as a key's
    return found - {""}


def _is_innocent(value: str) -> bool:
    plain = _unquoted(value)
    return not plain or (_INNOCENT.fullmatch(plain) is not None and plain == plain.lower())


def _unquoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1]
    return value
