"""Where the log of `serve` and `worker` goes: lines for people on a terminal, JSON for machines."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog

from fraisier.application.ports import Listener, Settings

_WARNINGS = {
    "store_unavailable",
    "lease_not_renewed",
    "deployment_lost",
    "deployment_left",
    "worker_idle",
    "sweep_failed",
    "alert_raised",
    "run_missed",
    "reports_not_collected",
    "units_not_removed",
}
_ERRORS = {"worker_error", "deployment_crashed", "worker_not_retired"}


def set_up_log(settings: Settings, hide: Callable[[str], str]) -> Listener:
    """Configure logging for this process; returns the listener that the worker tells its events to.

    `hide` takes secrets out of each line: an exception may carry one.
    """
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    # Not rich's tracebacks: they show local variables.
    console = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    renderer: Any = structlog.processors.JSONRenderer() if as_json else console
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([structlog.processors.format_exc_info] if as_json else []),
            renderer,
            lambda _logger, _method, line: hide(str(line)),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_level(settings.log_level)),
        logger_factory=structlog.PrintLoggerFactory(lossy(sys.stderr)),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Hiding(hide))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    return _listen


class _Lossy(io.TextIOBase):
    """A stream that loses what cannot be written: where the disk of the log is full, or its reader has gone,
    pushes are taken and deployments end all the same.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or lose it."""
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, if that can be done."""
        with suppress(OSError, ValueError):
            self._stream.flush()


def lossy(stream: TextIO) -> TextIO:
    """`stream`, for what nobody may fail for."""
    return cast("TextIO", _Lossy(stream))


class _Hiding(logging.Formatter):
    """What libraries log, without secrets."""

    def __init__(self, hide: Callable[[str], str]) -> None:
        super().__init__("%(message)s")
        self._hide = hide

    def format(self, record: logging.LogRecord) -> str:
        return self._hide(super().format(record))


def _level(name: str) -> int:
    return logging.getLevelNamesMapping()[name.upper()]


def _listen(event: str, fields: Mapping[str, Any]) -> None:
    log = structlog.get_logger("fraisier")
    told = {name: value for name, value in fields.items() if value not in ("", None)}
    words = event.replace("_", " ")
    if event in _ERRORS:
        log.error(words, **told)
    elif event in _WARNINGS and told.get("reason", True):
        log.warning(words, **told)
    else:
        log.info(words, **told)
