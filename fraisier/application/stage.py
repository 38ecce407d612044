"""Where an attempt works, and what each of its steps is performed with."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from fraisier.application.control import Control
from fraisier.application.ports import Ground, Host, Job
from fraisier.application.step_output import StepOutput
from fraisier.application.tools import Tools
from fraisier.deployers.common import Candidate
from fraisier.domain.fraise import Environment
from fraisier.domain.plan import StepName
from fraisier.domain.release import Layout


@dataclass(slots=True, kw_only=True)
class Stage:
    """One attempt at work: where, with what, on which release, and how it is stopped."""

    tools: Tools
    environment: Environment
    ground: Ground
    deployment: str
    candidate: Candidate
    control: Control
    previous: str = ""
    invocation_before: str = ""
    restarts_before: int = 0
    in_use: Callable[[], Collection[str]] = tuple  # releases that runs work in
    built_on: Host | None = None  # the host whose release is sent here; None: Fraisier's own machine
    host: Host = field(init=False)
    layout: Layout = field(init=False)

    def __post_init__(self) -> None:
        self.host = self.tools.host(self.environment)
        self.layout = Layout(self.environment.app_path)


@dataclass(frozen=True, slots=True)
class Scene:
    """What one step gives to each of its acts."""

    step: StepName
    job: Job
    output: StepOutput
