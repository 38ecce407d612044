"""Asks a command of the fraise, run in its release as its user."""

from __future__ import annotations

from fraisier.application.ports import Dial, Health, Runner
from fraisier.domain.acts import Command
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import Environment, HealthCheck


class CommandProber:
    """One run; exit code 0 is a pass."""

    def probe(
        self,
        check: HealthCheck,
        environment: Environment,
        release_folder: str,
        run: Runner,
        dial: Dial,  # noqa: ARG002 other brands need it
    ) -> Health:
        """Look once.

        Raises:
            StepFailed: whatever keeps the command from running at all, or cancelled.
        """
        command = Command.shell(
            check.command,
            cwd=release_folder,
            user=environment.user,
            env=environment.env,
            env_file=environment.env_file,
            timeout=check.request_timeout,
        )
        try:
            code = run(command)
        except StepFailed as error:
            if error.cause is not Cause.timeout:
                raise
            return Health(
                passed=False, detail=f"`{check.command}` took longer than {check.request_timeout:g} s"
            )
        ended = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return Health(passed=code == 0, detail=f"`{check.command}` {ended}")
