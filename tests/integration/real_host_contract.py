"""What every real host promises beyond `HostContract`: processes that end, output as it is, odd names.

A subclass gives `host`, `ground` (in a folder of that host's), and `other`: a user whom commands can be run as.
"""

from __future__ import annotations

import hashlib
import socket
import tarfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace

import pytest

from fraisier.application.ports import Ground, Host, Job
from fraisier.domain.acts import Command
from fraisier.domain.errors import Cause, StepFailed, TokenOutdated
from fraisier.domain.secret import Secret
from tests.unit.host_contract import OWNER, Heard, HostContract, archive

ODD_NAMES = ["with space", "it's", 'dou"ble', "two\nlines", "-rf", "$(id)`id`;&|", "ünï", "*", "\\", "tab\t"]


def said(host: Host, ground: Ground, line: str, **options: object) -> str:
    """What a shell line printed."""
    heard = Heard()
    host.run(ground, Command.shell(line, cwd="/", **options), heard.job)  # type: ignore[arg-type]
    return heard.data.decode()


def alive(host: Host, mark: str) -> bool:
    """Whether a process on the host has `mark` among its words."""
    line = 'for f in /proc/[0-9]*/cmdline; do [ "$f" = "/proc/$$/cmdline" ] || tr "\\0" " " <"$f"; echo; done'
    found = host.inspect(("sh", "-c", line)).stdout.decode("utf-8", "replace")
    return any(f"sleep {mark}" in words for words in found.splitlines())


class RealHostContract(HostContract):
    """The tests; pytest collects them through subclasses named Test…."""

    other: str

    @pytest.fixture
    def mark(self, request: pytest.FixtureRequest) -> str:
        """A number of seconds to sleep for that no other process sleeps for."""
        return f"60.{abs(hash((request.node.nodeid, time.monotonic()))) % 10**9}"

    # -- files
    def test_any_name_is_only_a_name(self, host: Host, ours: Ground) -> None:
        with host.guard(ours):
            for name in ODD_NAMES:
                folder = f"{ours.app_path}/shared/{name}"
                host.make_folder(folder)
                host.write(f"{folder}/{name}", name.encode())
                host.point(f"{folder}/link", name)
                assert host.list(folder) == sorted([name, "link"])
                assert host.read_link(f"{folder}/link") == name
                assert host.read(f"{folder}/{name}") == name.encode()
                assert host.inspect(("printf", "%s", name)).stdout == name.encode()
                host.remove(folder)
                assert host.kind(folder) == "missing"
            assert host.list(f"{ours.app_path}/shared") == []

    def test_any_bytes_are_written_and_read_as_they_are(self, host: Host, ours: Ground) -> None:
        data = bytes(range(256)) * 700
        with host.guard(ours):
            host.write(f"{ours.app_path}/shared/data", data, mode=0o640)
        assert host.read(f"{ours.app_path}/shared/data") == data
        mode = host.inspect(("stat", "-c", "%a", f"{ours.app_path}/shared/data")).stdout
        assert mode.strip() == b"640"

    def test_where_the_folder_is_missing_nothing_is_written(self, host: Host, ours: Ground) -> None:
        for act in (
            lambda: host.write(f"{ours.app_path}/no/file", b"x"),
            lambda: host.point(f"{ours.app_path}/no/link", "x"),
        ):
            with pytest.raises(StepFailed, match="No such file"):
                act()
        host.remove(f"{ours.app_path}/no/file")
        assert host.kind(f"{ours.app_path}/no") == "missing"

    def test_a_file_that_cannot_be_read_now_is_not_taken_for_missing(self, host: Host, ours: Ground) -> None:
        with pytest.raises(StepFailed) as failure:
            host.read("/proc/self/mem")  # its first page is nobody's: EIO, as from a disk that fails
        assert failure.value.cause is Cause.host

    def test_a_read_only_tree_can_be_removed(self, host: Host, ours: Ground) -> None:
        folder = f"{ours.app_path}/releases/1-aaaaaaa"
        said(host, ours, f"mkdir -p {folder}/cache/module; touch {folder}/cache/module/file")
        said(host, ours, f"chmod 555 {folder}/cache/module {folder}/cache")
        host.remove(folder)
        assert host.kind(folder) == "missing"

    def test_what_a_killed_worker_had_begun_to_write_goes_with_the_takeover(
        self, host: Host, ours: Ground
    ) -> None:
        own = f"{ours.app_path}/.fraisier"
        halves = [
            f"{own}/{name}" for name in ("scopes/.92cd", "releases/.x.new", "instances/.y.new", ".t.new")
        ]
        with host.guard(ours):
            host.make_folder(f"{own}/instances")
        for half in halves:
            host.write(half, b"{")
        host.adopt(replace(ours, token=6))
        assert [host.kind(half) for half in halves] == ["missing"] * 4

    def test_files_are_unpacked_and_removed_by_their_user(self, host: Host, ours: Ground) -> None:
        folder = f"{ours.app_path}/releases/1-aaaaaaa"
        with host.guard(ours):
            host.make_folder(folder, user=self.other)
        host.unpack(archive(src__app="x"), folder, user=self.other, job=Heard().job)
        owner = host.inspect(("stat", "-c", "%U", f"{folder}/src/app")).stdout.decode().strip()
        assert owner == self.other
        with host.guard(ours):
            host.remove(folder, user=self.other)
        assert host.kind(folder) == "missing"

    def test_a_folder_travels_as_a_stream(self, host: Host, ours: Ground) -> None:
        one, two = (f"{ours.app_path}/releases/{n}-aaaaaaa" for n in (1, 2))
        with host.guard(ours):
            host.make_folder(one, user=self.other)
            host.make_folder(two, user=self.other)
        job = Heard().job
        host.unpack(archive(src__app="x", uploads="no", b="y"), one, user=self.other, job=job)
        stream = host.pack(one, user=self.other, leave_out=("uploads",), job=job)
        host.unpack(iter(list(stream)), two, user=self.other, job=job)
        assert host.list(two) == ["b", "src"]
        assert host.read(f"{two}/src/app") == b"x"

    def test_unpacking_stops_when_it_is_told_to(self, host: Host, ours: Ground) -> None:
        heard, folder = Heard(), f"{ours.app_path}/releases/1-aaaaaaa"

        def endless() -> Iterator[bytes]:
            entry = tarfile.TarInfo("big")
            entry.size = 1 << 33
            yield entry.tobuf()
            heard.stop.set()
            while True:
                yield b"x" * 512

        host.make_folder(folder)
        with pytest.raises(StepFailed) as failed:
            host.unpack(endless(), folder, user="", job=heard.job)
        assert failed.value.cause is Cause.cancelled

    # -- commands
    def test_commands_run_as_their_user_with_a_clean_environment(self, host: Host, ours: Ground) -> None:
        assert said(host, ours, "id -un", user=self.other) == f"{self.other}\n"
        names = {line.partition("=")[0] for line in said(host, ours, "env").splitlines()}
        assert {"PATH", "HOME", "LANG", "USER"} <= names
        assert names <= {*("PATH", "HOME", "LANG", "USER", "LOGNAME", "PWD", "FRAISIER_SCOPE", "_", "SHLVL")}

    @pytest.mark.parametrize(
        "value", ["plain", 'it\'s $HOME `id` "q"', "two\nlines", "", "ünï", "x" * 100_000]
    )
    def test_values_arrive_as_they_are(self, host: Host, ours: Ground, value: str) -> None:
        assert said(host, ours, "printf '[%s]' \"$TOKEN\"", env={"TOKEN": Secret(value)}) == f"[{value}]"

    def test_pairs_of_the_env_file_are_those_of_the_hosts_file(self, host: Host, ours: Ground) -> None:
        host.write(f"{ours.app_path}/shared/.env", b"A=from file\nB='it is'\n")
        line = said(host, ours, 'echo "$A|$B"', env_file=f"{ours.app_path}/shared/.env", env={"A": "mine"})
        assert line == "mine|it is\n"
        with pytest.raises(StepFailed) as failed:
            said(host, ours, "true", env_file="/nowhere/orders.env")
        assert failed.value.cause is Cause.preflight

    def test_a_missing_user_and_a_missing_program_are_clear_words(self, host: Host, ours: Ground) -> None:
        with pytest.raises(StepFailed, match="no such user"):
            said(host, ours, "true", user="no-such-user")
        with pytest.raises(StepFailed, match="no such program"):
            host.run(ours, Command(argv=("no-such-program",), cwd="/"), Heard().job)
        assert not host.user_exists("no-such-user")
        assert host.user_exists(self.other)

    def test_a_signal_is_told_as_such(self, host: Host, ours: Ground) -> None:
        assert host.run(ours, Command.shell("kill -KILL $$", cwd="/"), Heard().job) == -9

    def test_ten_megabytes_of_any_bytes_arrive_as_they_are(self, host: Host, ours: Ground) -> None:
        heard = Heard()
        folder = f"{ours.app_path}/shared"
        line = f"head -c 10000000 /dev/urandom | tee {folder}/sent; sha256sum <{folder}/sent >{folder}/sum"
        assert host.run(ours, Command.shell(line, cwd="/"), heard.job) == 0
        sent = host.read(f"{folder}/sum") or b""
        assert hashlib.sha256(heard.data).hexdigest() == sent.decode().split()[0]

    def test_a_flood_is_handed_over_in_pieces_and_can_be_stopped(self, host: Host, ours: Ground) -> None:
        stop, seen = threading.Event(), [0, 0]

        def count(data: bytes) -> None:
            seen[0] += len(data)
            seen[1] = max(seen[1], len(data))
            if seen[0] > 5_000_000:
                stop.set()

        with pytest.raises(StepFailed):
            host.run(ours, Command.shell("yes", cwd="/"), Job(stop=stop, output=count))
        assert seen[1] <= 1 << 16

    # -- nothing is left behind
    @pytest.mark.parametrize("user", ["ours", "another"])
    def test_a_command_that_ended_leaves_no_daemon(
        self, host: Host, ours: Ground, mark: str, user: str
    ) -> None:
        user = self.other if user == "another" else ""
        line = (
            f"(setsid nohup sleep {mark} >/dev/null 2>&1 &); "
            f"setsid sh -c 'trap \"\" TERM HUP; sleep {mark}' >/dev/null 2>&1 & echo started"
        )
        assert said(host, ours, line, user=user) == "started\n"
        assert not alive(host, mark)
        assert host.list(f"{ours.app_path}/.fraisier/scopes") == []

    @pytest.mark.parametrize("user", ["ours", "another"])
    def test_stopping_ends_the_whole_tree(self, host: Host, ours: Ground, mark: str, user: str) -> None:
        heard = Heard()
        line = f"setsid sh -c 'trap \"\" TERM; sleep {mark}; sleep {mark}' & echo on; sleep {mark}"
        command = Command.shell(line, cwd="/", user=self.other if user == "another" else "")
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(host.run, ours, command, heard.job)
            until = time.monotonic() + 20
            while b"on" not in heard.data:
                assert time.monotonic() < until
                assert not running.done(), running.result()
                time.sleep(0.01)
            heard.stop.set()
            with pytest.raises(StepFailed) as failed:
                running.result(40)
        assert failed.value.cause is Cause.cancelled
        assert not alive(host, mark)

    def test_a_takeover_ends_what_runs_and_its_worker_may_not_go_on(
        self, host: Host, ours: Ground, mark: str
    ) -> None:
        heard = Heard()
        with ThreadPoolExecutor(1) as pool:
            line = f"(setsid sleep {mark} &); echo on; trap '' HUP; sleep {mark}"
            running = pool.submit(host.run, ours, Command.shell(line, cwd="/"), heard.job)
            until = time.monotonic() + 20
            while b"on" not in heard.data:
                assert time.monotonic() < until
                time.sleep(0.01)
            host.adopt(replace(ours, token=6))
            assert not alive(host, mark)
            running.result(40)
        with pytest.raises(TokenOutdated):
            said(host, ours, "true")

    def test_a_run_has_a_ground_of_its_own_inside_the_environments(
        self, host: Host, ours: Ground, mark: str
    ) -> None:
        """A takeover of the one ends nothing of the other."""
        slot = f"{ours.app_path}/.fraisier/jobs/main-0"
        run = replace(ours, app_path=slot, owner={**ours.owner, "job": "main"}, token=1, fleeting=True)
        host.adopt(run)
        heard = Heard()
        with ThreadPoolExecutor(1) as pool:
            line = f"(setsid sleep {mark} &); echo on; sleep {mark}"
            running = pool.submit(host.run, run, Command.shell(line, cwd="/"), heard.job)
            until = time.monotonic() + 20
            while b"on" not in heard.data:
                assert time.monotonic() < until
                time.sleep(0.01)
            host.adopt(replace(ours, token=6))
            assert alive(host, mark)
            host.adopt(replace(run, token=2))
            assert not alive(host, mark)
            running.result(40)
        with pytest.raises(TokenOutdated):
            said(host, run, "true")
        assert host.list(slot) != []
        mode = host.inspect(("stat", "-c", "%a", f"{ours.app_path}/.fraisier")).stdout
        assert mode.strip() == b"700"

    def test_nobody_waits_for_a_lock_after_being_told_to_stop(self, host: Host, ours: Ground) -> None:
        """Whoever holds it may be stopped itself: SIGSTOP, a debugger."""
        with host.guard(ours), ThreadPoolExecutor(1) as pool:
            waiting = replace(ours, token=6, halt=threading.Event())
            adopting = pool.submit(host.adopt, waiting)
            assert wait([adopting], timeout=0.3).not_done
            waiting.halt.set()
            with pytest.raises(StepFailed) as caught:
                adopting.result(10)
        assert caught.value.cause is Cause.cancelled

    def test_short_commands_have_their_time_and_end_with_their_group(self, host: Host, mark: str) -> None:
        with pytest.raises(StepFailed) as failed:
            host.act(("sh", "-c", f"sleep {mark} & sleep {mark}"), timeout=0.3)
        assert failed.value.cause is Cause.timeout
        until = time.monotonic() + 5
        while alive(host, mark):
            assert time.monotonic() < until
            time.sleep(0.02)

    def test_what_a_short_command_prints_is_told_apart(self, host: Host) -> None:
        done = host.inspect(("sh", "-c", "printf 'o\\0\\377\\n'; echo e >&2; exit 3"))
        assert (done.code, done.stdout, done.stderr) == (3, b"o\0\xff\n", b"e\n")

    # -- connections
    def test_a_fraises_program_answers_as_its_user_with_its_environment(self, host: Host) -> None:
        env = {"WORD": Secret('it\'s "so"', "test")}
        line = 'id -un; printf "%s\n" "$WORD"; echo aside >&2; exit 3'
        told = host.ask(Command.shell(line, cwd="/", user=self.other, env=env))
        assert told.stdout.decode() == f'{self.other}\nit\'s "so"\n'
        assert (told.code, told.stderr.decode()) == (3, "aside\n")
        with pytest.raises(StepFailed) as late:
            host.ask(Command.shell("sleep 20", cwd="/", timeout=0.5))
        assert late.value.cause is Cause.timeout

    def test_where_nobody_listens_the_connection_is_refused(self, host: Host, ours: Ground) -> None:
        with pytest.raises(ConnectionRefusedError):
            host.connect("127.0.0.1:1", timeout=5)
        with pytest.raises(OSError):
            host.connect(f"{ours.app_path}/no.sock", timeout=5)
        with pytest.raises(ValueError):
            host.connect("127.0.0.1:http", timeout=5)

    @pytest.mark.parametrize("kind", ["tcp", "unix"])
    def test_a_port_or_socket_of_that_machine_can_be_talked_to(
        self, host: Host, ours: Ground, kind: str
    ) -> None:
        place = f"{ours.app_path}/shared/s.sock"
        family, address = ("AF_UNIX", repr(place)) if kind == "unix" else ("AF_INET", "('127.0.0.1', 0)")
        server = (
            f"import socket; s=socket.socket(socket.{family}); s.bind({address}); s.listen(); "
            "print(s.getsockname(), flush=True); c,_=s.accept(); c.sendall(c.recv(9).upper()); c.close()"
        )
        heard = Heard()
        with ThreadPoolExecutor(1) as pool:
            command = Command(argv=("python3", "-c", server), cwd="/", timeout=30)
            running = pool.submit(host.run, ours, command, heard.job)
            until = time.monotonic() + 20
            while b"\n" not in heard.data:
                assert time.monotonic() < until
                time.sleep(0.01)
            port = heard.data.decode().strip("()\n ").rpartition(", ")[2]
            connection: socket.socket = host.connect(
                place if kind == "unix" else f"127.0.0.1:{port}", timeout=5
            )
            with connection:
                connection.sendall(b"hello")
                assert connection.recv(9) == b"HELLO"
            assert running.result(20) == 0


__all__ = ["OWNER", "RealHostContract", "alive", "said"]
