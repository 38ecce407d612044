"""What the end-to-end tests share: real servers."""

from __future__ import annotations

from tests.servers import server, server_factory

__all__ = ["server", "server_factory"]
