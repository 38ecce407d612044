"""What checks find: the words of `fraisier doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

INSTALLATION = "installation"  # the subject of what concerns no environment


class Verdict(StrEnum):
    """How a check ended. A warning leaves deployments possible."""

    ok = "ok"
    warning = "warning"
    problem = "problem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found. `subject` is an environment, or the installation."""

    subject: str
    check: str
    verdict: Verdict
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Checker:
    """Makes the findings of one check."""

    subject: str
    check: str

    def ok(self, message: str) -> Finding:
        """All is well."""
        return Finding(subject=self.subject, check=self.check, verdict=Verdict.ok, message=message)

    def problem(self, message: str, hint: str = "", *, fatal: bool = True) -> Finding:
        """Something is missing."""
        verdict = Verdict.problem if fatal else Verdict.warning
        return Finding(subject=self.subject, check=self.check, verdict=verdict, message=message, hint=hint)
