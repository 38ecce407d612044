"""How words reach a shell on a host: the one place where text becomes a part of a command line."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from fraisier.domain.errors import Cause, StepFailed

_SCRIPTS = ("common.sh", "files.sh", "scopes.sh", "ground.sh", "sessions.sh")


def quoted(words: Sequence[str]) -> bytes:
    """Words as one line of sh that means exactly these. Bytes that are no text survive: surrogateescape.

    Raises:
        StepFailed: preflight, for a NUL character, which no argument can hold.
    """
    line = " ".join(map(shlex.quote, words))
    if "\0" in line:
        message = "cannot hand a text with a NUL character to a command"
        raise StepFailed(Cause.preflight, message, "Look for it in the configuration")
    return line.encode("utf-8", "surrogateescape")


def request(words: Sequence[str]) -> bytes:
    """Words as a line that a session reads: base64 of what `quoted` makes, so without line breaks."""
    return base64.b64encode(quoted(words)) + b"\n"


def marked_request(mark: str, words: Sequence[str]) -> bytes:
    """Words as an answering session reads them: as they are where it may, which costs the host no process."""
    line = quoted(words)
    if not line.isascii():
        return f"{mark} encoded\n".encode() + request(words)
    breaks = line.count(b"\n")
    return f"{mark} {breaks}\n".encode() + line + b"\n"


def session_command(nonce: str, function: Sequence[str]) -> str:
    """What the host's login shell, whichever it is, is given: it starts sh with our fixed functions.

    `nonce` and the words of `function` are ours: letters, digits and what `quoted` leaves alone.
    """
    words = quoted((nonce, *function)).decode("utf-8", "surrogateescape")
    start = f'library="$(echo {_library()}|base64 -d)";nonce=$1;shift;eval "$library";"$@"'
    return f"exec /bin/sh -c '{start}' fraisier {words}"


@cache
def _library() -> str:
    folder = Path(__file__).with_name("ssh_scripts")
    lines = (line for name in _SCRIPTS for line in (folder / name).read_bytes().splitlines())
    # The comments are for readers of the scripts, not for the host's process table.
    return base64.b64encode(b"\n".join(line for line in lines if not line.lstrip().startswith(b"#"))).decode()
