"""What docker and compose say when something fails, as a cause and a hint.

Their words are those of docker 20.10 to 28 and compose 2.17 to 2.40.
"""

from __future__ import annotations

import re

from fraisier.domain.errors import Cause, StepFailed

MISSING = 127  # the exit code of a program that is not there
LOGIN = "Log in on the host as the user that Fraisier is there (docker login), or correct `image:`"
GROUP = (
    "Let Fraisier's user use docker: sudo usermod -aG docker USER, end what runs of it without the group (on"
    " another host: sudo loginctl terminate-user USER), then restart Fraisier"
)

_AWAY = (
    "no such host|connection refused|i/o timeout|TLS handshake|deadline exceeded|toomanyrequests"
    "|connection reset|name resolution|server misbehaving|network is unreachable|unexpected EOF"
)
_Row = tuple[str, Cause, str]
_ANYWHERE: tuple[_Row, ...] = (
    (
        r"permission denied while trying to connect to the [Dd]ocker",
        Cause.preflight,
        f"{GROUP}. Whoever may use docker may do anything there: give it to nobody who builds",
    ),
    (
        r"Cannot connect to the Docker daemon|error during connect|failed to connect to the docker API",
        Cause.host,
        "Is it running? sudo systemctl start docker",
    ),
    (r"no space left on device", Cause.disk, "Free some space; Fraisier tries again"),
)
_REGISTRY: tuple[_Row, ...] = (
    (
        r"manifest (?:for \S+ |unknown|not found)|not found: manifest|manifest \S+ not found|: not found\Z",
        Cause.build,
        "Push the image first, or correct `image:` in the compose file",
    ),
    (
        r"pull access denied|repository does not exist|access to the resource is denied|unauthorized",
        Cause.build,
        f"{LOGIN}; for an image that is only on the host: `pull_policy: never`",
    ),
    (
        _AWAY,
        Cause.network,
        "See that the registry can be reached from the host: docker pull",
    ),
)
_FETCHING = r"failed to do request|failed to resolve (?:reference|source metadata)|failed to authorize"
_STARTING: tuple[_Row, ...] = (
    (
        r"port is already allocated|address already in use|ports are not available",
        Cause.restart,
        "Another container or process has the port: docker ps, ss -ltnp",
    ),
    (
        r"No such image|pull access denied|manifest unknown",
        Cause.restart,
        "Its image is gone from the host; deploy the commit again: fraisier deploy … --commit SHA --force",
    ),
    (
        r"is unhealthy|not healthy after",
        Cause.unhealthy,
        "Its log is above, and its `healthcheck:` in the compose file says when it is healthy",
    ),
    (
        r"container \S+ exited \(0\)",
        Cause.unhealthy,
        "If it is a job, let a service depend on it with `condition: service_completed_successfully`",
    ),
    (r"container \S+ exited \(\d+\)|didn't complete success", Cause.unhealthy, "Its log is above"),
    (
        r"OCI runtime create failed|failed to create (?:task|shim)|invalid mount|bind source path does not",
        Cause.restart,
        "Correct the service in the compose file, or its image",
    ),
)
_NOISE = re.compile(r"time=\S+ level=(?:warning|info)|WARNING|\s*\w[\w .-]* (?:Pulling|Waiting|Interrupted)")
_OF_ENV_FILE = re.compile(r"(failed to read [^:\n]+: line \d+): [^\n]*(?:\n(?!\w+=|failed)[^\n]*)*")


def cannot_read(said: bytes) -> StepFailed:
    """`docker compose config` failed."""
    return _failed("read the compose files", without_values(said), Cause.build, _ANYWHERE)


def cannot_pull(said: bytes) -> StepFailed:
    """`docker compose pull`, or `docker pull`, failed."""
    return _failed("pull the images", _text(said), Cause.build, _ANYWHERE + _REGISTRY)


def cannot_build(said: bytes) -> StepFailed:
    """`docker compose build` failed. Only where it fetched what it builds upon may a registry be to blame."""
    text = _text(said)
    fetching = re.search(_FETCHING, "\n".join(text.splitlines()[-12:]))
    return _failed("build the images", text, Cause.build, _ANYWHERE + (_REGISTRY if fetching else ()))


def cannot_start(said: bytes) -> StepFailed:
    """`docker compose up` failed."""
    return _failed("start the containers", _text(said), Cause.restart, _ANYWHERE + _STARTING)


def cannot_ask(code: int, said: bytes, where: str) -> StepFailed:
    """A look at docker failed."""
    if code == MISSING:
        return StepFailed(
            Cause.host, f"cannot find docker on {where}", "Install docker and its compose plugin"
        )
    return _failed(f"ask docker on {where}", _text(said), Cause.host, _ANYWHERE)


def without_values(said: bytes) -> str:
    """What compose says of the files, without the lines of an env file that it repeats: they hold secrets."""
    return _OF_ENV_FILE.sub(r"\1: it is no NAME=value", _text(said))


def _text(said: bytes) -> str:
    return said.decode("utf-8", "replace").strip()


def _failed(what: str, text: str, otherwise: Cause, table: tuple[_Row, ...]) -> StepFailed:
    lines = [line.strip() for line in text.splitlines() if line.strip() and not _NOISE.match(line)]
    for line in reversed(lines[-40:]):
        for pattern, cause, hint in table:
            if re.search(pattern, line):
                return StepFailed(cause, f"cannot {what}: {line[:400]}", hint)
    last = lines[-1][:400] if lines else "it printed nothing"
    return StepFailed(otherwise, f"cannot {what}: {last}", "See the step's output: fraisier logs ID")
