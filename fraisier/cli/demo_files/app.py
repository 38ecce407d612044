"""The demo's web service: it says which version it is, and whether it is well."""

from __future__ import annotations

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HERE = Path(__file__).resolve().parent
VERSION = (HERE / "VERSION").read_text(encoding="utf-8").strip()  # once: this process serves this release


def dish() -> str:
    """What is served today."""
    return "strawberries with cream"


class Service(BaseHTTPRequestHandler):
    """`GET /` says what is served, `GET /health` whether all is well."""

    def do_GET(self) -> None:
        """Answer."""
        try:
            served = dish()
        except OSError as error:
            self._answer(500, f"version {VERSION}: {error}\n")
            return
        self._answer(200, f"version {VERSION}: {'well' if self.path == '/health' else served}\n")

    def _answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Service).serve_forever()
