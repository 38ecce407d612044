"""Whether a deployment can work at all: looks, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fraisier.application.check_timers import timer_problems
from fraisier.application.ports import Host, Problem, Proxy, Target
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import Cutover, Environment
from fraisier.domain.release import OURS, Layout


def preflight(
    environment: Environment, host: Host, target: Target | None, proxy: Proxy | None = None
) -> Sequence[Problem]:
    """Everything that would keep a deployment of this environment from working."""
    layout = Layout(environment.app_path)
    return [
        *_user(environment, host),
        *_folder(layout, host),
        *_disk(environment, host),
        *_shared(environment, layout, host),
        *_env_file(environment, host),
        *_cutover(environment, target),
        *timer_problems(environment, host),
        *(target.problems(environment, host) if target is not None else ()),
        *(proxy.problems(environment) if proxy is not None else ()),
    ]


def require(problems: Sequence[Problem]) -> None:
    """Refuse to go on with fatal problems.

    Raises:
        StepFailed: disk where space is all that lacks (it is retried), else preflight.
    """
    fatal = [problem for problem in problems if problem.fatal]
    if not fatal:
        return
    only_disk = all(isinstance(problem, DiskProblem) for problem in fatal)
    message = "; ".join(problem.message for problem in fatal)
    hint = "; ".join(problem.hint for problem in fatal if problem.hint)
    raise StepFailed(Cause.disk if only_disk else Cause.preflight, message, hint)


class DiskProblem(Problem):
    """Too little space: it may pass by itself."""


def _user(environment: Environment, host: Host) -> Iterator[Problem]:
    if not environment.user:
        return
    if not host.user_exists(environment.user):
        yield Problem(
            f"cannot run commands as user {environment.user!r}: there is no such user on {host.name}",
            f"sudo useradd --system --create-home {environment.user}",
        )
    elif reason := host.can_run_as(environment.user):
        yield Problem(reason)


def _folder(layout: Layout, host: Host) -> Iterator[Problem]:
    kind = host.kind(layout.app_path)
    if kind == "missing":
        if not host.writable(layout.app_path):
            yield Problem(
                f"cannot create {layout.app_path}: its parent folder is not writable for Fraisier",
                f"sudo install -d -o $(id -un) {layout.app_path}",
            )
        return
    if kind == "link":
        yield from _linked_folder(layout, host)
    elif kind != "folder":
        yield Problem(
            f"cannot deploy to {layout.app_path}: it is a {kind}, not a folder", "Choose another app_path"
        )
        return
    elif not host.writable(layout.app_path):
        yield Problem(
            f"cannot deploy to {layout.app_path}: the folder is not writable for Fraisier",
            f"sudo chown $(id -un) {layout.app_path}",
        )
    yield from _foreign_content(layout, host)
    yield from _current(layout, host)


def _linked_folder(layout: Layout, host: Host) -> Iterator[Problem]:
    yield Problem(
        f"cannot deploy to {layout.app_path}: it is a symbolic link to {host.read_link(layout.app_path)}",
        "Name the folder itself as app_path",
    )


def _foreign_content(layout: Layout, host: Host) -> Iterator[Problem]:
    names = host.list(layout.app_path)
    foreign = sorted(set(names) - OURS)
    if foreign and not {"releases", ".fraisier"} & set(names):
        listed = ", ".join(foreign[:4]) + (", …" if len(foreign) > 4 else "")
        yield Problem(
            f"cannot deploy to {layout.app_path}: it holds other files ({listed}) and is no release layout",
            "Name an empty or new folder as app_path, and move what must survive into its shared/",
        )


def _current(layout: Layout, host: Host) -> Iterator[Problem]:
    kind = host.kind(layout.current)
    if kind not in ("missing", "link"):
        yield Problem(
            f"cannot switch {layout.current}: it is a {kind}, where Fraisier needs a symbolic link",
            f"mv {layout.current} {layout.current}.before-fraisier",
        )


def _disk(environment: Environment, host: Host) -> Iterator[Problem]:
    free = host.free_bytes(environment.app_path)
    if free < environment.min_free_disk:
        wanted = environment.min_free_disk >> 20
        yield DiskProblem(
            f"cannot deploy: {free >> 20} MiB are free for {environment.app_path}, {wanted} MiB are required",
            "Free space there (du -sh releases/*), lower keep_releases, or lower min_free_disk",
        )


def _shared(environment: Environment, layout: Layout, host: Host) -> Iterator[Problem]:
    for name in environment.shared:
        path = f"{layout.shared}/{name.rstrip('/')}"
        if not name.endswith("/") and host.kind(path) == "missing":
            yield Problem(
                f"cannot link the shared file {name}: {path} does not exist",
                f"Create it once; a shared folder is written with a slash: {name}/",
            )


def _cutover(environment: Environment, target: Target | None) -> Iterator[Problem]:
    how = environment.cutover
    if how not in (Cutover.restart, Cutover.trial) and how not in getattr(target, "cutovers", ()):
        kind = environment.target.kind if environment.target else "no unit"
        message = f"cannot cut over by {how.value}: {kind} does not offer that"
        yield Problem(message, "Use `cutover: restart`")


def _env_file(environment: Environment, host: Host) -> Iterator[Problem]:
    if environment.env_file and host.kind(environment.env_file) == "missing":
        yield Problem(
            f"cannot read env_file {environment.env_file}: it does not exist", "Create it, mode 0640"
        )
