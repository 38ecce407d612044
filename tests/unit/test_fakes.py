"""The fake host keeps the same promises as the real ones."""

from __future__ import annotations

import pytest

from fraisier.application.ports import Host
from tests.fakes import FakeHost
from tests.unit.host_contract import HostContract


class TestFakeHost(HostContract):
    @pytest.fixture
    def host(self) -> Host:
        return FakeHost()
