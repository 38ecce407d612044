"""What a step prints: redacted, kept bounded in the store while it comes, its end remembered."""

from __future__ import annotations

import codecs
import threading
from collections.abc import Callable

from fraisier.domain.secret import Redactor

FLUSH_AFTER = 0.1  # seconds; a person who follows sees a line this late at the most
FLUSH_SIZE = 16 * 1024  # characters
TAIL = 4 * 1024  # characters kept in the journal


class StepOutput:
    """Takes raw bytes from any thread; hands redacted text to `write` in pieces."""

    def __init__(self, redactor: Redactor, write: Callable[[str], None]) -> None:
        self._stream = redactor.stream()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._write = write
        self._lock = threading.Lock()
        self._waiting: list[str] = []
        self._size = 0
        self._timer: threading.Timer | None = None
        self._tail = ""
        self._failure: Exception | None = None

    def __call__(self, chunk: bytes) -> None:
        """Take the next bytes of the step's output.

        Raises: what an earlier write to the store raised.
        """
        with self._lock:
            if self._failure is not None:
                raise self._failure
            self._take(self._decoder.decode(self._stream.feed(chunk)))
            if self._size >= FLUSH_SIZE:
                self._flush()
            elif self._size and self._timer is None:
                self._timer = threading.Timer(FLUSH_AFTER, self._flush_late)
                self._timer.daemon = True
                self._timer.start()

    def line(self, text: str) -> None:
        """A line of Fraisier's own."""
        self(text.encode() + b"\n")

    def close(self) -> str:
        """Write what is left; returns the end of the output."""
        with self._lock:
            self._take(self._decoder.decode(self._stream.end(), final=True))
            self._flush()
            if self._failure is not None:
                raise self._failure
            return self._tail

    def _take(self, text: str) -> None:
        text = text.replace("\x00", "\N{SYMBOL FOR NULL}")
        if text:
            self._waiting.append(text)
            self._size += len(text)
            self._tail = (self._tail + text)[-TAIL:]

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        text, self._waiting, self._size = "".join(self._waiting), [], 0
        if text:
            self._write(text)

    def _flush_late(self) -> None:
        with self._lock:
            self._timer = None
            try:
                self._flush()
            except Exception as failure:  # noqa: BLE001 - a timer thread has no caller; the next one gets it
                self._failure = failure
