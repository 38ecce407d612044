"""A release that is built on Fraisier's own machine, in a folder of the same path, and sent to its host.

Virtual environments and compiled programs hold absolute paths and fit one kind of machine: what differs is
said before the build, and what a built release needs on its host is looked for before it is sent.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from fraisier.application.ports import Host, Problem
from fraisier.application.preflight import preflight, require
from fraisier.domain.acts import Send
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import Environment

if TYPE_CHECKING:
    from fraisier.application.stage import Scene, Stage

LOCALHOST = "localhost"
INTERPRETERS = ("python3", "node", "ruby", "php", "perl")
_KIND = ("uname", "-sm")
_LIBC = ("getconf", "GNU_LIBC_VERSION")
_VERSION = re.compile(r"\d+\.\d+")


def builder_of(environment: Environment) -> Environment:
    """The environment as it is where it is built: the unit is none of this machine's."""
    return replace(environment, hosts=(LOCALHOST,), target=None, unit_file="", run="", proxy=None, shared=())


def builder_problems(environment: Environment, host: Host, here: Host) -> list[Problem]:
    """What would keep a release that is built here from running on its host."""
    found = preflight(builder_of(environment), here, None, None)
    return [
        *(replace(each, message=f"to build here: {each.message}") for each in found),
        *_differences(host, here),
    ]


def _differences(host: Host, here: Host) -> Iterator[Problem]:
    theirs, ours = _said(host, _KIND), _said(here, _KIND)
    if theirs != ours:
        message = (
            f"cannot build here for {host.name}: it is {theirs or 'unknown'}, and this machine is {ours}"
        )
        yield Problem(message, "Use `build_on: each`")
    theirs, ours = _said(host, _LIBC), _said(here, _LIBC)
    if theirs != ours and not _is_older(ours, theirs):
        message = f"what is built here may not run on {host.name}: its C library is {theirs or 'another one'}"
        yield Problem(
            f"{message}, and this machine's {ours or 'another one'}", "Use `build_on: each`", fatal=False
        )
    for name in INTERPRETERS:
        theirs, ours = (_version(each, name) for each in (host, here))
        if theirs != ours and ours:
            message = f"{name} is {theirs or 'missing'} on {host.name}, and {ours} here"
            yield Problem(message, "A release that brings its own, or needs none, does not mind", fatal=False)


def _said(host: Host, argv: tuple[str, ...]) -> str:
    done = host.inspect(argv)
    return done.stdout.decode("utf-8", "replace").strip() if done.code == 0 else ""


def _is_older(ours: str, theirs: str) -> bool:
    found = [_VERSION.search(each) for each in (ours, theirs)]
    one, other = (tuple(map(int, each[0].split("."))) if each else () for each in found)
    return bool(one and other and one <= other)


def _version(host: Host, program: str) -> str:
    found = _VERSION.search(_said(host, (program, "--version")))
    return found[0] if found else ""


class BuildHere:
    """Performs what is done here for a stage on another host."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    @property
    def here(self) -> Host:
        """The machine where it is built: Fraisier's own, or another one of the environment's hosts."""
        return self._stage.built_on or self._stage.tools.hosts[LOCALHOST]

    def check(self, scene: Scene) -> None:
        """Refuse what cannot work, say what may not, and take the folder here over."""
        stage = self._stage
        problems = builder_problems(stage.environment, stage.host, self.here)
        for problem in problems:
            scene.output.line(f"{problem.message}{'. ' + problem.hint if problem.hint else ''}")
        require(problems)
        self.adopt()

    def compare(self, scene: Scene) -> None:
        """Refuse what cannot run here, because it was built on another kind of machine; say what may not."""
        problems = [*_differences(self._stage.host, self.here)]
        for problem in problems:
            scene.output.line(f"{problem.message}{'. ' + problem.hint if problem.hint else ''}")
        require(problems)

    def adopt(self) -> None:
        """End what a dead worker left running here."""
        self.here.adopt(self._stage.ground)

    def send(self, act: Send, scene: Scene) -> None:
        """Send a built release over, without what all releases share."""
        stage, user = self._stage, self._stage.environment.user
        if stage.built_on is not None:
            self.compare(scene)
        self._require_interpreters(act.folder)
        with stage.host.guard(stage.ground):
            stage.host.make_folder(act.folder, user=user)
        packed = self.here.pack(act.folder, user=user, leave_out=act.leave_out, job=scene.job)
        stage.host.unpack(packed, act.folder, user=user, job=scene.job)
        scene.output.line(f"sent {act.folder} to {stage.host.name}")

    def _require_interpreters(self, folder: str) -> None:
        """What links of the release lead to outside of it has to be on the host, too, and to be the same."""
        stage = self._stage
        argv = ("find", folder, "-type", "l", "-lname", "/*", "-printf", "%l\\n")
        listed = self.here.inspect(argv, timeout=60).stdout.decode("utf-8", "surrogateescape")
        inside = f"{stage.environment.app_path}/"
        for target in sorted({each for each in listed.splitlines() if not each.startswith(inside)}):
            theirs, ours = (_described(each, target) for each in (stage.host, self.here))
            if theirs != ours:
                message = f"cannot run what was built here on {stage.host.name}: it needs {target}, which is "
                hint = f"Install the same there, or use `build_on: each`; see: {shlex.join(argv)}"
                raise StepFailed(Cause.preflight, f"{message}{theirs} there and {ours} here", hint)


def _described(host: Host, path: str) -> str:
    if host.inspect(("test", "-e", path)).code != 0:
        return "missing"
    is_program = host.inspect(("test", "-f", path, "-a", "-x", path)).code == 0
    interpreter = re.search(r"/(python|node|ruby|php|perl)[0-9.]*\Z", path)
    return (_version(host, path) or "there") if is_program and interpreter else "there"
