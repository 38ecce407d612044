"""This machine as a host: real files, real processes, real users where we are root.

tests/integration/test_target_systemd.py runs this file again on a server with systemd, as root and as a user.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import resource
import signal
import stat
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

import pytest

from fraisier.application.ports import Ground, Host, Job
from fraisier.domain.acts import Command
from fraisier.domain.errors import Cause, StepFailed, TokenOutdated
from fraisier.domain.secret import Secret
from fraisier.hosts.local import LocalHost
from fraisier.hosts.users import parse_env_file
from tests.integration.real_host_contract import RealHostContract
from tests.unit.host_contract import OWNER, Heard, archive

ROOT = Path(__file__).parents[2]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="runs commands as another user: needs root")
OTHER = "nobody"  # a user that every machine has
needs_another = pytest.mark.skipif(
    bool(LocalHost().can_run_as(OTHER)), reason="runs commands as another user: needs root, or a polkit rule"
)


def within(seconds: float, true: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, f"waited {seconds:g} s for {what}"
        time.sleep(0.02)


def alive(mark: str) -> list[str]:
    """Command lines of living processes that hold `mark`."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if mark in line and entry.name.isdigit() and int(entry.name) != os.getpid():
            found.append(line)
    return found


@pytest.fixture
def mark(tmp_path: Path) -> str:
    """A number of seconds to sleep for that no other process sleeps for."""
    return f"6{os.getpid()}.{abs(hash(tmp_path)) % 10**9}"


@pytest.fixture
def open_path(tmp_path: Path) -> Path:
    """A temporary folder that other users may pass through; pytest's own are closed."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    return tmp_path


@needs_another
class TestLocalHost(RealHostContract):
    other = OTHER

    @pytest.fixture
    def host(self) -> Host:
        return LocalHost()

    @pytest.fixture
    def ground(self, open_path: Path) -> Ground:
        return Ground(app_path=str(open_path / "app"), owner=OWNER, token=5)


@pytest.fixture
def host() -> LocalHost:
    return LocalHost()


@pytest.fixture
def ground(host: LocalHost, open_path: Path) -> Ground:
    ground = Ground(app_path=str(open_path / "app"), owner=OWNER, token=5)
    host.adopt(ground)
    return ground


def said(host: LocalHost, ground: Ground, line: str, **options: object) -> str:
    heard = Heard()
    host.run(ground, Command.shell(line, cwd="/", **options), heard.job)  # type: ignore[arg-type]
    return heard.data.decode()


def test_only_a_command_in_the_background_leaves_the_processor_to_others(
    host: LocalHost, ground: Ground
) -> None:
    levels = []
    for background in (False, True):
        heard = Heard()
        line = Command(argv=("nice",), cwd="/", background=background)
        assert host.run(ground, line, heard.job) == 0
        levels.append(int(heard.data))
    assert levels[1] >= levels[0] + 10 or levels[1] == 19


# -- what a command sees


def test_a_command_sees_nothing_of_our_own_environment(
    host: LocalHost, ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAISIER_WEBHOOK_SECRET", "hush")
    names = {line.partition("=")[0] for line in said(host, ground, "env").splitlines()}
    known = {"PATH", "HOME", "LANG", "USER", "LOGNAME", "PWD", "FRAISIER_SCOPE", "_", "SHLVL"}
    assert names <= known
    assert {"PATH", "HOME", "LANG", "USER"} <= names


@pytest.mark.parametrize(
    "value", ["plain", 'it\'s $HOME `id` "quoted"', "two\nlines", "", "ünï", "x" * 100_000]
)
def test_values_arrive_as_they_are(host: LocalHost, ground: Ground, value: str) -> None:
    assert said(host, ground, "printf '[%s]' \"$TOKEN\"", env={"TOKEN": Secret(value)}) == f"[{value}]"


def test_no_secret_is_in_an_argument_or_unit_while_the_command_runs(
    host: LocalHost, ground: Ground, mark: str
) -> None:
    secret, seen = "tell-no-one-4711", []

    def look(_: bytes) -> None:
        seen.extend(alive(secret))
        units = subprocess.run(("systemctl", "show", "fraisier-*"), capture_output=True, check=False)
        seen.extend(line for line in units.stdout.decode().splitlines() if secret in line)
        folder = Path(ground.app_path, ".fraisier/scopes")
        seen.extend(entry.name for entry in folder.iterdir() if secret in entry.read_text())

    job = Job(stop=threading.Event(), output=look)
    assert host.run(ground, Command.shell("echo now", cwd="/", env={"TOKEN": Secret(secret)}), job) == 0
    assert seen == []


def test_pairs_of_the_env_file_arrive_and_env_wins(host: LocalHost, ground: Ground, tmp_path: Path) -> None:
    env_file = tmp_path / "orders.env"
    env_file.write_text("# settings\nA=from file\nB='it is'\n")
    found = said(host, ground, 'echo "$A|$B"', env_file=str(env_file), env={"A": "from env"})
    assert found == "from env|it is\n"


def test_a_missing_env_file_fails_with_a_hint(host: LocalHost, ground: Ground) -> None:
    with pytest.raises(StepFailed) as failed:
        said(host, ground, "true", env_file="/nowhere/orders.env")
    assert failed.value.cause is Cause.preflight
    assert "/nowhere/orders.env" in failed.value.message
    assert failed.value.hint


def test_env_files_are_read_as_systemd_reads_them() -> None:
    text = '#c\n;d\nA=1\n B = two words \nC=\'x\'"y\\"" z\nD=a\\\nb\nE=it\'s\nno pair\nF="m\nn"\nG=\n'
    wanted = {"A": "1", "B": "two words", "C": 'xy"z', "D": "ab", "E": "it's", "F": "m\nn", "G": ""}
    assert parse_env_file(text) == wanted


def test_a_missing_user_is_a_clear_word(host: LocalHost, ground: Ground) -> None:
    with pytest.raises(StepFailed, match="no such user"):
        said(host, ground, "true", user="no-such-user")
    assert "no-such-user" in host.can_run_as("no-such-user")


def test_a_missing_program_is_a_clear_word(host: LocalHost, ground: Ground) -> None:
    with pytest.raises(StepFailed, match="no such program"):
        host.run(ground, Command(argv=("no-such-program",), cwd="/"), Heard().job)


def test_a_signal_is_told_as_a_negative_code(host: LocalHost, ground: Ground) -> None:
    assert host.run(ground, Command.shell("kill -9 $$", cwd="/"), Heard().job) == -9


def test_a_missing_folder_fails_and_says_so(host: LocalHost, ground: Ground) -> None:
    heard = Heard()
    assert host.run(ground, Command.shell("echo ran", cwd="/no/such/folder"), heard.job) != 0
    assert b"/no/such/folder" in heard.data
    assert b"ran" not in heard.data


@needs_another
def test_commands_run_as_the_user_with_its_groups_only(host: LocalHost, ground: Ground) -> None:
    entry = pwd.getpwnam(OTHER)
    groups = " ".join(map(str, os.getgrouplist(OTHER, entry.pw_gid)))
    found = said(host, ground, "id -u; id -G; echo $HOME $USER; umask", user=OTHER)
    assert found.split("\n")[:4] == [str(entry.pw_uid), groups, f"{entry.pw_dir} {OTHER}", "0022"]


@needs_another
def test_a_build_cannot_read_fraisiers_own_folder(host: LocalHost, ground: Ground) -> None:
    assert "denied" in said(host, ground, f"cat {ground.app_path}/.fraisier/token 2>&1", user=OTHER)


@needs_root
def test_an_env_file_that_its_user_points_elsewhere_is_not_read_as_root(
    host: LocalHost, ground: Ground, open_path: Path
) -> None:
    (open_path / "secret").write_text("TOKEN=of-fraisier\n")
    (open_path / "secret").chmod(0o600)
    folder = Path(ground.app_path, "shared/theirs")
    host.make_folder(str(folder), user=OTHER)
    (folder / ".env").symlink_to(open_path / "secret")
    with pytest.raises(StepFailed):
        said(host, ground, "echo $TOKEN", user=OTHER, env_file=str(folder / ".env"))
    assert host.read(str(folder / ".env")) is None


@pytest.mark.skipif(not Path("/run/systemd/system").is_dir(), reason="needs systemd: runs on the test server")
def test_under_systemd_a_command_has_a_cgroup_of_its_own(host: LocalHost, ground: Ground) -> None:
    found = said(host, ground, "cat /proc/self/cgroup")
    assert "/fraisier-" in found
    assert found != Path("/proc/self/cgroup").read_text()


# -- nothing is left behind


@pytest.mark.parametrize(
    "line",
    [
        "sleep {mark} & echo started",
        "(setsid nohup sleep {mark} >/dev/null 2>&1 &); echo started",
        "setsid sh -c 'trap \"\" TERM HUP; sleep {mark}' >/dev/null 2>&1 & echo started",
    ],
)
def test_a_command_that_ended_leaves_no_daemon(host: LocalHost, ground: Ground, mark: str, line: str) -> None:
    assert said(host, ground, line.format(mark=mark)) == "started\n"
    assert alive(mark) == []
    assert list(Path(ground.app_path, ".fraisier/scopes").iterdir()) == []


def test_stopping_ends_the_whole_tree(host: LocalHost, ground: Ground, mark: str) -> None:
    heard = Heard()
    line = f"setsid sh -c 'trap \"\" TERM; sleep {mark}; sleep {mark}' & echo on; sleep {mark}"

    def stop() -> None:
        within(10, lambda: b"on" in heard.data, "the command")
        heard.stop.set()

    stopper = threading.Thread(target=stop)
    stopper.start()
    with pytest.raises(StepFailed) as failed:
        host.run(ground, Command.shell(line, cwd="/"), heard.job)
    stopper.join()
    assert failed.value.cause is Cause.cancelled
    assert alive(mark) == []


def test_a_flood_is_handed_over_in_pieces_and_can_be_stopped(host: LocalHost, ground: Ground) -> None:
    stop, seen = threading.Event(), [0, 0]

    def count(data: bytes) -> None:
        seen[0] += len(data)
        seen[1] = max(seen[1], len(data))
        if seen[0] > 50_000_000:
            stop.set()

    with pytest.raises(StepFailed):
        host.run(ground, Command.shell("yes", cwd="/"), Job(stop=stop, output=count))
    assert seen[1] <= 1 << 16


# -- workers that die, or are paused


WORKER = f"""
import sys, threading
from fraisier.application.ports import Ground, Job
from fraisier.domain.acts import Command
from fraisier.hosts.local import LocalHost
ground = Ground(app_path=sys.argv[1], owner={OWNER!r}, token=int(sys.argv[2]))
host = LocalHost()
host.adopt(ground)
def show(data):
    sys.stdout.buffer.write(data)
    sys.stdout.flush()
while line := sys.stdin.readline():
    try:
        print(host.run(ground, Command.shell(line, cwd="/"), Job(threading.Event(), show)), flush=True)
    except Exception as error:
        print(type(error).__name__, flush=True)
"""


class Worker:
    """A process of its own that runs one line again and again, when it is told to."""

    def __init__(self, app_path: str, token: int, line: str) -> None:
        self.line = line
        self.process = subprocess.Popen(
            (sys.executable, "-c", WORKER, app_path, str(token)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(self.line.encode() + b"\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode().strip()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


@pytest.fixture
def worker(open_path: Path, mark: str) -> Iterator[Worker]:
    line = f"(setsid sleep {mark} >/dev/null 2>&1 &); echo begun; trap '' HUP PIPE; sleep {mark}"
    worker = Worker(str(open_path / "app"), 5, line)
    yield worker
    worker.close()


def test_what_a_killed_worker_left_running_ends_with_the_takeover(
    host: LocalHost, open_path: Path, worker: Worker, mark: str
) -> None:
    worker.go()
    assert worker.hear() == "begun"
    worker.send(signal.SIGKILL)
    worker.process.wait()
    assert alive(mark), "the scope lives on until somebody takes over"
    successor = Ground(app_path=str(open_path / "app"), owner=OWNER, token=6)
    host.adopt(successor)
    assert alive(mark) == []
    assert said(host, successor, "echo next") == "next\n"


def test_a_paused_worker_that_wakes_up_touches_nothing(
    host: LocalHost, open_path: Path, worker: Worker, mark: str
) -> None:
    worker.go()
    assert worker.hear() == "begun"
    worker.send(signal.SIGSTOP)
    successor = Ground(app_path=str(open_path / "app"), owner=OWNER, token=6)
    host.adopt(successor)
    assert alive(mark) == []
    worker.send(signal.SIGCONT)
    while not worker.hear().lstrip("-").isdigit():  # its command was ended under it: a shell may comment
        assert worker.process.poll() is None
    worker.go()
    assert worker.hear() == "TokenOutdated"
    assert alive(mark) == []
    with host.guard(successor):
        pass


@pytest.mark.parametrize(
    "half", ["scopes/.92cd87d00d1b00ca", "releases/.1-594315f883.json.new", ".token.new"]
)
def test_what_a_killed_worker_had_begun_to_write_goes_with_the_takeover(
    host: LocalHost, ground: Ground, open_path: Path, half: str
) -> None:
    left = open_path / "app" / ".fraisier" / half
    left.write_text('{"cookie": "92cd')
    host.adopt(replace(ground, token=6))
    assert not left.exists()


def test_a_scope_recorded_but_never_told_what_to_run_ends_with_its_worker(
    host: LocalHost, ground: Ground, mark: str
) -> None:
    """Between the greeting and the order somebody takes over: the order is refused."""
    heard = Heard()
    order = Command.shell(f"echo ran; sleep {mark}", cwd="/")
    taken = replace(ground, token=6)

    class Overtaken(LocalHost):
        guards = 0

        def guard(self, wanted: Ground):  # type: ignore[no-untyped-def]
            self.guards += 1
            if self.guards == 2:
                host.adopt(taken)
            return super().guard(wanted)

    with pytest.raises(TokenOutdated):
        Overtaken().run(ground, order, heard.job)
    assert heard.data == b""
    assert alive(mark) == []


# -- files, as root among other people's links


def test_nobody_waits_for_a_lock_after_being_told_to_stop(host: LocalHost, ground: Ground) -> None:
    """Whoever holds it may be stopped itself: SIGSTOP, a debugger."""
    with host.guard(ground), ThreadPoolExecutor(1) as pool:
        waiting = replace(ground, token=6)
        adopting = pool.submit(host.adopt, waiting)
        assert wait([adopting], timeout=0.1).not_done
        waiting.halt.set()
        with pytest.raises(StepFailed) as caught:
            adopting.result(5)
    assert caught.value.cause is Cause.cancelled


@needs_root
def test_root_does_not_follow_a_users_link_when_it_creates_links_or_writes(
    host: LocalHost, ground: Ground, open_path: Path
) -> None:
    target = open_path / "system"
    target.mkdir()
    folder = f"{ground.app_path}/releases/1-aaaaaaa"
    host.make_folder(folder, user=OTHER)
    host.unpack(archive(README="x"), folder, user=OTHER, job=Heard().job)
    said(host, ground, f"ln -s {target} {folder}/config", user=OTHER)
    with pytest.raises(StepFailed):
        host.point(f"{folder}/config/cron", "/tmp/evil")
    with pytest.raises(StepFailed):
        host.write(f"{folder}/config/cron", b"evil")
    with pytest.raises(StepFailed):
        host.make_folder(f"{folder}/config/cron", user=OTHER)
    assert list(target.iterdir()) == []


@pytest.fixture
def theirs(open_path: Path) -> Ground:
    """An environment in a folder that belongs to its user, as after `chown deploy: /var/www/orders`."""
    folder, entry = open_path / "theirs", pwd.getpwnam(OTHER)
    folder.mkdir()
    os.chown(folder, entry.pw_uid, entry.pw_gid)
    return Ground(app_path=str(folder), owner=OWNER, token=5)


@needs_root
def test_an_app_path_that_belongs_to_its_user_is_as_good_as_ours(host: LocalHost, theirs: Ground) -> None:
    app = Path(theirs.app_path)
    host.adopt(theirs)
    assert said(host, theirs, "id -un", user=OTHER) == f"{OTHER}\n"
    with host.guard(theirs):
        host.make_folder(f"{app}/releases/1-aaaaaaa", user=OTHER)
        host.write(f"{app}/.fraisier/releases/1-aaaaaaa.json", b"{}", mode=0o640)
        host.point(f"{app}/current", "releases/1-aaaaaaa")
    host.unpack(archive(README="x"), f"{app}/releases/1-aaaaaaa", user=OTHER, job=Heard().job)
    assert host.read(f"{app}/current/README") == b"x"
    assert host.read(f"{app}/.fraisier/releases/1-aaaaaaa.json") == b"{}"
    said(host, theirs, f"echo mine > {app}/.fraisier/releases/1-aaaaaaa.json", user=OTHER)
    assert host.read(f"{app}/.fraisier/releases/1-aaaaaaa.json") == b"{}"
    with host.guard(theirs):
        host.remove(f"{app}/current")
        host.remove(f"{app}/releases/1-aaaaaaa", user=OTHER)
    assert list((app / "releases").iterdir()) == []


@needs_root
@pytest.mark.parametrize("swapped", [".fraisier", ".fraisier/scopes", ".fraisier/releases"])
def test_a_folder_of_ours_that_its_user_swaps_for_a_link_is_not_used(
    host: LocalHost, theirs: Ground, open_path: Path, swapped: str
) -> None:
    host.adopt(theirs)
    system = open_path / "system"
    system.mkdir()
    (system / ".profile").write_text("precious")
    ours = Path(theirs.app_path, swapped)
    ours.rename(open_path / "aside")
    ours.symlink_to(system)
    for act in (
        lambda: host.adopt(replace(theirs, token=6)),
        lambda: said(host, theirs, "true"),
        lambda: host.write(f"{theirs.app_path}/.fraisier/releases/x.json", b"evil"),
    ):
        with contextlib.suppress(StepFailed, TokenOutdated):
            act()
    assert [path.name for path in system.iterdir()] == [".profile"]


@needs_another
def test_files_are_unpacked_as_the_user(host: LocalHost, ground: Ground) -> None:
    folder = f"{ground.app_path}/releases/1-aaaaaaa"
    host.make_folder(folder, user=OTHER)
    host.unpack(archive(src__app="x"), folder, user=OTHER, job=Heard().job)
    assert Path(folder, "src/app").stat().st_uid == pwd.getpwnam(OTHER).pw_uid
    host.remove(folder, user=OTHER)
    assert host.kind(folder) == "missing"


@needs_root
def test_a_release_in_a_folder_of_a_third_user_is_made_and_removed(host: LocalHost, open_path: Path) -> None:
    third, entry = pwd.getpwnam("daemon"), pwd.getpwnam(OTHER)
    theirs = open_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, third.pw_uid, third.pw_gid)
    folder = theirs / "1-aaaaaaa"
    host.make_folder(str(folder), user=OTHER)
    assert folder.stat().st_uid == entry.pw_uid
    host.unpack(archive(src__app="x"), str(folder), user=OTHER, job=Heard().job)
    host.remove(str(folder), user=OTHER)
    assert list(theirs.iterdir()) == []


def test_a_file_that_cannot_be_opened_now_is_not_taken_for_missing(host: LocalHost, tmp_path: Path) -> None:
    path = tmp_path / "marker"
    path.write_text("whole")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open("/dev/null", os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))  # no descriptor is left
    try:
        with pytest.raises(StepFailed) as failure:
            host.read(str(path))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert failure.value.cause is Cause.host
    assert host.read(str(path)) == b"whole"
    assert host.read(f"{path}.missing") is None


def test_a_read_only_tree_can_be_removed(host: LocalHost, ground: Ground) -> None:
    folder = Path(ground.app_path, "releases/1-aaaaaaa")
    (folder / "cache/module").mkdir(parents=True)
    (folder / "cache/module/file").write_text("x")
    (folder / "cache/module").chmod(0o555)
    (folder / "cache").chmod(0o555)
    host.remove(str(folder))
    assert host.kind(str(folder)) == "missing"


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with room for 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ("mount", "-t", "tmpfs", "-o", "size=64k,mode=1777", "none", str(folder))
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounts a small file system: needs root")
    yield folder
    subprocess.run(("umount", str(folder)), check=True)


@pytest.mark.parametrize("user", ["", pytest.param(OTHER, marks=needs_root)])
def test_a_full_disk_is_told_as_such(host: LocalHost, full_disk: Path, open_path: Path, user: str) -> None:
    with pytest.raises(StepFailed) as writing:
        host.write(str(full_disk / "x"), b"x" * 100_000)
    assert list(full_disk.iterdir()) == []
    host.make_folder(str(full_disk / "release"), user=user)
    big = archive(a="x" * 100_000)
    with pytest.raises(StepFailed) as unpacking:
        host.unpack(big, str(full_disk / "release"), user=user, job=Heard().job)
    assert [writing.value.cause, unpacking.value.cause] == [Cause.disk, Cause.disk]


def test_unpacking_stops_when_it_is_told_to(host: LocalHost, ground: Ground) -> None:
    heard = Heard()

    def endless() -> Iterator[bytes]:
        entry = tarfile.TarInfo("big")
        entry.size = 1 << 33
        yield entry.tobuf()
        heard.stop.set()
        while True:
            yield b"x" * 512

    folder = f"{ground.app_path}/releases/1-aaaaaaa"
    host.make_folder(folder)
    with pytest.raises(StepFailed) as failed:
        host.unpack(endless(), folder, user="", job=heard.job)
    assert failed.value.cause is Cause.cancelled


def test_written_files_have_their_mode(host: LocalHost, ground: Ground) -> None:
    path = f"{ground.app_path}/shared/key"
    host.write(path, b"x", mode=0o600)
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
    assert host.list(f"{ground.app_path}/shared") == ["key"]


def test_a_folder_of_somebody_elses_making_is_not_used_as_ours(host: LocalHost, open_path: Path) -> None:
    app = open_path / "app"
    app.mkdir()
    (app / ".fraisier").symlink_to("/etc")
    with pytest.raises(StepFailed) as failed:
        host.adopt(Ground(app_path=str(app), owner=OWNER, token=1))
    assert failed.value.cause is Cause.owner


def test_short_commands_have_their_time_and_end_with_their_group(host: LocalHost, mark: str) -> None:
    with pytest.raises(StepFailed) as failed:
        host.act(("sh", "-c", f"sleep {mark} & sleep {mark}"), timeout=0.3)
    assert failed.value.cause is Cause.timeout
    within(5, lambda: alive(mark) == [], "the group to end")


def test_a_command_ends_with_us_even_if_we_died_before_it_could_ask_for_that(mark: str) -> None:
    """The kernel's promise begins when it is asked for: between that and the start Fraisier may be killed."""
    program = (
        "import os, subprocess, sys\n"
        "from fraisier.hosts.bound import bound_to_us\n"
        "late = ('sh', '-c', 'sleep 0.4; exec \"$@\"', 'sh')\n"
        "subprocess.Popen((*late, *bound_to_us(), 'sleep', sys.argv[1]), start_new_session=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.run((sys.executable, "-c", program, mark), check=False, timeout=20)
    assert killed.returncode == -signal.SIGKILL
    assert alive(mark)
    deadline = time.monotonic() + 10
    while alive(mark):
        assert time.monotonic() < deadline
        time.sleep(0.02)
