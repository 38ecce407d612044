"""What deployments do about runs of jobs."""

from __future__ import annotations

from dataclasses import dataclass

from fraisier.domain.job import OnRunning


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldRuns:
    """Let no run begin until the deployment has ended; wait for those under way, or cancel them."""

    on_running: OnRunning

    def describe(self) -> str:
        """For `fraisier plan`."""
        how = "cancel runs that are under way" if self.on_running is OnRunning.cancel else "wait for the runs"
        return f"{how}; none begins until the deployment has ended"
