"""What every host promises: the real ones and the fake pass the same tests.

A subclass gives a `host` fixture, and `user`: somebody else to run as, or '' where that is not possible.
"""

from __future__ import annotations

import io
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fraisier.application.ports import Ground, Host, Job
from fraisier.domain.acts import Command
from fraisier.domain.errors import Cause, ForeignOwner, StepFailed, TokenOutdated

OWNER = {"installation": "here", "fraise": "orders", "environment": "production"}


class Heard:
    """A job that keeps what it is told."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.stop = threading.Event()

    @property
    def job(self) -> Job:
        return Job(stop=self.stop, output=self.data.extend)


def archive(**files: str) -> Iterator[bytes]:
    """A tar stream, in small pieces."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name.replace("__", "/"))
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content.encode()))
    data = whole.getvalue()
    return (data[start : start + 700] for start in range(0, len(data), 700))


class HostContract:
    """The tests; pytest collects them through subclasses named Test…."""

    @pytest.fixture
    def host(self) -> Host:
        raise NotImplementedError

    @pytest.fixture
    def ground(self, tmp_path: Path) -> Ground:
        return Ground(app_path=str(tmp_path / "app"), owner=OWNER, token=5)

    @pytest.fixture
    def ours(self, host: Host, ground: Ground) -> Ground:
        host.adopt(ground)
        return ground

    # -- the right to change
    def test_a_question_is_answered_without_lock_or_token(self, host: Host) -> None:
        answer = host.ask(Command.shell("echo a b", cwd="/", timeout=20))
        assert (answer.code, answer.stdout) == (0, b"a b\n")

    def test_a_takeover_lays_out_the_folders(self, host: Host, ours: Ground) -> None:
        assert {"releases", "shared"} <= set(host.list(ours.app_path))

    def test_whoever_took_over_may_act(self, host: Host, ours: Ground) -> None:
        with host.guard(ours):
            host.write(f"{ours.app_path}/shared/note", b"mine")
        assert host.read(f"{ours.app_path}/shared/note") == b"mine"

    def test_a_replaced_worker_may_not_act(self, host: Host, ours: Ground) -> None:
        host.adopt(replace(ours, token=6))
        with pytest.raises(TokenOutdated), host.guard(ours):
            pytest.fail("the guard let an outdated token in")

    def test_a_replaced_worker_may_not_run_anything(self, host: Host, ours: Ground) -> None:
        host.adopt(replace(ours, token=6))
        heard = Heard()
        with pytest.raises(TokenOutdated):
            host.run(ours, Command.shell("echo ran", cwd="/"), heard.job)
        assert not heard.data

    def test_the_same_claim_may_take_over_again(self, host: Host, ours: Ground) -> None:
        host.adopt(ours)
        with host.guard(ours):
            pass

    def test_another_owner_is_refused_with_a_hint(self, host: Host, ours: Ground) -> None:
        other = replace(ours, owner={**OWNER, "installation": "there"}, token=99)
        with pytest.raises(ForeignOwner) as refused:
            host.adopt(other)
        assert "fraisier adopt" in refused.value.hint
        with host.guard(ours):
            pass

    def test_a_token_below_the_hosts_is_refused(self, host: Host, ours: Ground) -> None:
        with pytest.raises(ForeignOwner):
            host.adopt(replace(ours, token=4))

    def test_force_takes_over_from_another_owner_and_a_higher_token(self, host: Host, ours: Ground) -> None:
        other = replace(ours, owner={**OWNER, "installation": "there"}, token=1)
        host.adopt(other, force=True)
        with host.guard(other):
            pass
        with pytest.raises(TokenOutdated), host.guard(ours):
            pytest.fail("the former owner was let in")

    def test_force_does_not_take_the_host_back_from_a_later_adoption_of_our_own(
        self, host: Host, ours: Ground
    ) -> None:
        later = replace(ours, token=ours.token + 2)
        host.adopt(later)
        with pytest.raises(ForeignOwner):
            host.adopt(replace(ours, token=ours.token + 1), force=True)
        with host.guard(later):
            pass

    # -- files
    def test_a_link_is_switched_and_does_not_follow_what_it_was(self, host: Host, ours: Ground) -> None:
        link = f"{ours.app_path}/current"
        for name in ("releases/1-aaaaaaa", "releases/2-bbbbbbb"):
            with host.guard(ours):
                host.make_folder(f"{ours.app_path}/{name}")
                host.point(link, name)
            assert host.read_link(link) == name
        assert host.list(f"{ours.app_path}/releases/1-aaaaaaa") == []
        assert sorted(host.list(ours.app_path)).count("current") == 1

    def test_kinds_are_told_apart_and_links_not_followed(self, host: Host, ours: Ground) -> None:
        base = f"{ours.app_path}/shared"
        with host.guard(ours):
            host.write(f"{base}/file", b"")
            host.point(f"{base}/link", "/")
        found = [host.kind(f"{base}/{name}") for name in ("file", "link", "nothing", ".")]
        assert found == ["file", "link", "missing", "folder"]

    def test_reading_is_bounded_and_nothing_is_none(self, host: Host, ours: Ground) -> None:
        with host.guard(ours):
            host.write(f"{ours.app_path}/shared/big", b"x" * 1000)
        assert host.read(f"{ours.app_path}/shared/big", limit=10) == b"x" * 10
        assert host.read(f"{ours.app_path}/shared/none") is None
        assert host.read(f"{ours.app_path}/shared") is None
        assert host.list(f"{ours.app_path}/none") == []
        assert host.read_link(f"{ours.app_path}/shared") is None

    def test_removing_a_link_keeps_what_it_points_to(self, host: Host, ours: Ground) -> None:
        target, folder = f"{ours.app_path}/shared/kept", f"{ours.app_path}/releases/1-aaaaaaa"
        with host.guard(ours):
            host.make_folder(target)
            host.write(f"{target}/data", b"precious")
            host.make_folder(folder)
            host.point(f"{folder}/link", target)
            host.remove(folder)
            host.remove(folder)  # nothing left to do
        assert host.kind(folder) == "missing"
        assert host.read(f"{target}/data") == b"precious"

    def test_room_and_permission_are_told_of_paths_that_do_not_exist_yet(
        self, host: Host, ours: Ground
    ) -> None:
        assert host.free_bytes(f"{ours.app_path}/not/there") > 0
        assert host.writable(f"{ours.app_path}/not/there")

    def test_sync_of_a_folder_returns(self, host: Host, ours: Ground) -> None:
        with host.guard(ours):
            host.sync(ours.app_path)

    def test_a_tar_stream_becomes_files(self, host: Host, ours: Ground) -> None:
        folder = f"{ours.app_path}/releases/1-aaaaaaa"
        with host.guard(ours):
            host.make_folder(folder)
        host.unpack(archive(README="hello", src__app="x" * 5000), folder, user="", job=Heard().job)
        assert host.read(f"{folder}/README") == b"hello"
        assert host.read(f"{folder}/src/app") == b"x" * 5000

    def test_a_broken_tar_stream_fails_the_step(self, host: Host, ours: Ground) -> None:
        folder = f"{ours.app_path}/releases/1-aaaaaaa"
        with host.guard(ours):
            host.make_folder(folder)
        with pytest.raises(StepFailed):
            host.unpack(iter([b"this is no archive" * 100]), folder, user="", job=Heard().job)

    # -- commands
    def test_output_arrives_and_the_exit_code_is_returned(self, host: Host, ours: Ground) -> None:
        heard = Heard()
        assert host.run(ours, Command.shell("echo hello", cwd="/"), heard.job) == 0
        assert host.run(ours, Command.shell("exit 3", cwd="/"), heard.job) == 3
        assert heard.data == b"hello\n"

    def test_a_command_that_takes_too_long_is_ended(self, host: Host, ours: Ground) -> None:
        with pytest.raises(StepFailed) as failed:
            host.run(ours, Command.shell("sleep 60", cwd="/", timeout=0.2), Heard().job)
        assert failed.value.cause is Cause.timeout

    def test_a_command_ends_when_it_is_told_to_stop(self, host: Host, ours: Ground) -> None:
        heard = Heard()
        timer = threading.Timer(0.2, heard.stop.set)
        timer.start()
        with pytest.raises(StepFailed) as failed:
            host.run(ours, Command.shell("sleep 60", cwd="/"), heard.job)
        assert failed.value.cause is Cause.cancelled
        timer.join()

    def test_a_missing_program_is_told_by_its_code(self, host: Host) -> None:
        assert host.inspect(("no-such-program-here",)).code == 127
