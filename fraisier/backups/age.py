"""age: files are encrypted for public keys, and read with an identity that the host need not have.

https://github.com/FiloSottile/age, the page age(1). What was cut off or altered is not decrypted: each piece
of 64 KiB is authenticated, and so is which of them is the last (https://age-encryption.org/v1).
"""

from __future__ import annotations

from collections.abc import Sequence

from fraisier.application.hear import look
from fraisier.application.ports import Desk, Problem
from fraisier.backups.script import script
from fraisier.domain.acts import Command
from fraisier.domain.backup import Encryption

_NEEDED = (
    'command -v age >/dev/null || { echo "there is no program age: install it (Debian: age)" >&2; exit 1; }'
)
# $1: what is written; $2: what is read; the rest: recipients, or the identity's file.
_ENCRYPT = script(
    make=f"""{_NEEDED}
to=$1 from=$2
shift 2
for recipient; do set -- "$@" -r "$recipient"; shift; done
age "$@" -o "$part" "$from"
set -- "$to" "$from"
""",
    verify="entries=1",
)
_DECRYPT = script(
    make=f"""{_NEEDED}
age --decrypt -i "$3" -o "$part" "$2"
""",
    verify="entries=1",
)
_DONE = 'rm -f "$2"\n'
_LOOK = """
command -v age >/dev/null || echo "there is no program age"
[ -z "$1" ] || [ -r "$1" ] || echo "$(id -un) may not read $1"
"""


class Age:
    """Plain files become `….age`."""

    suffix = ".age"

    def encrypt(self, encryption: Encryption, file: str, to: str, *, timeout: float) -> Command:
        """For every recipient; who has none of their keys, us included, cannot read it again."""
        return _command(_ENCRYPT + _DONE, to, file, *encryption.recipients, timeout=timeout)

    def decrypt(self, encryption: Encryption, file: str, to: str, *, timeout: float) -> Command:
        """With `identity`."""
        return _command(_DECRYPT + _DONE, to, file, encryption.identity, timeout=timeout)

    def problems(self, encryption: Encryption, desk: Desk) -> Sequence[Problem]:
        """No program, or an identity that the environment's user may not read."""
        _, answer, complaints = look(desk, _command(_LOOK, encryption.identity, timeout=30.0))
        hint = f"Install it on {desk.host.name} (Debian: age); see `identity` of `encryption`"
        lines = (answer or complaints).strip().splitlines()
        return [Problem(f"cannot encrypt backups, or read them: {line}", hint) for line in lines]


def _command(text: str, *words: str, timeout: float) -> Command:
    return Command(argv=("/bin/sh", "-c", text, "backup", *words), timeout=timeout, background=True)
