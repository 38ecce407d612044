"""The git mirror when something breaks: damage, kills, stops, silent servers, full disks."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import Source
from fraisier.git.mirror import Patience
from fraisier.git.repository import Mirrors
from tests.gitrepos import GitRepository, git
from tests.mirrors import MAIN, Listening, mirrors, only_mirror, refusal, source_of, unpack

# ------------------------------------------------------------------------------------------- healing


def commits(repo: GitRepository) -> list[str]:
    return [repo.commit({"a": str(number), f"big{number}": os.urandom(5000)}) for number in range(3)]


def unpack_in_two_tries(repository: Mirrors, source: Source, commit: str, tmp_path: Path) -> dict[str, str]:
    """What only reading finds is a failure that is retried, and the retry heals it."""
    with suppress(StepFailed):
        return unpack(repository, source, commit, tmp_path / "release")
    repository.fetch(source, ref=MAIN, commit=commit, job=Listening().job)
    return unpack(repository, source, commit, tmp_path / "again")


def _truncate_packs(mirror: Path) -> None:
    for pack in mirror.glob("objects/pack/*.pack"):
        pack.chmod(0o644)
        os.truncate(pack, pack.stat().st_size // 2)


def _flip_packs(mirror: Path) -> None:
    for pack in mirror.glob("objects/pack/*.pack"):
        pack.chmod(0o644)
        pack.write_bytes(pack.read_bytes()[:200] + b"\xff" * (pack.stat().st_size - 200))


def _empty_objects(mirror: Path) -> None:
    for item in mirror.glob("objects/??/*"):
        item.chmod(0o644)
        item.write_bytes(b"")


def _delete_objects(mirror: Path) -> None:
    shutil.rmtree(mirror / "objects")


def _delete_object_files(mirror: Path) -> None:
    for item in [*mirror.glob("objects/??/*"), *mirror.glob("objects/pack/*")]:
        item.unlink()


def _delete_head(mirror: Path) -> None:
    (mirror / "HEAD").unlink()


def _garble_config(mirror: Path) -> None:
    (mirror / "config").write_text("[core\n\0bare =")


def _garble_ref(mirror: Path) -> None:
    (mirror / "refs/heads/main").write_text("nonsense\n")


def _empty_ref(mirror: Path) -> None:
    (mirror / "refs/heads/main").write_text("")


def _empty_folder(mirror: Path) -> None:
    shutil.rmtree(mirror)
    mirror.mkdir()


def _pack(mirror: Path) -> None:
    git(mirror, "repack", "-adq")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "damage",
    [
        _truncate_packs,
        _flip_packs,
        _empty_objects,
        _delete_objects,
        _delete_object_files,
        _delete_head,
        _garble_config,
        _garble_ref,
        _empty_ref,
        _empty_folder,
    ],
)
@pytest.mark.parametrize("new", [False, True], ids=["unchanged", "pushed"])
def test_a_damaged_mirror_is_cloned_anew(
    repo, repository, source, tmp_path: Path, job, damage: Any, packed: bool, new: bool
) -> None:
    *_, tip = commits(repo)
    repository.fetch(source, ref=MAIN, commit="", job=job)
    mirror = only_mirror(tmp_path)
    if packed:
        _pack(mirror)
    damage(mirror)
    tip = repo.commit({"a": "new"}) if new else tip
    assert repository.fetch(source, ref=MAIN, commit=tip, job=job).commit == tip
    files = unpack_in_two_tries(repository, source, tip, tmp_path)
    assert files["a"] == ("new" if new else "2")
    assert git(mirror, "fsck", "--full") == ""


def test_a_blob_that_is_missing_is_found_while_unpacking_and_healed_by_the_next_fetch(
    repo, repository, source, tmp_path: Path, job
) -> None:
    tip = repo.commit({"a": "1", "b": "2"})
    repository.fetch(source, ref=MAIN, commit="", job=job)
    mirror = only_mirror(tmp_path)
    blob = git(mirror, "rev-parse", f"{tip}:b")
    (mirror / "objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(StepFailed) as caught:
        unpack(repository, source, tip, tmp_path / "first")
    assert caught.value.cause is Cause.disk
    assert caught.value.cause.is_retried
    repository.fetch(source, ref=MAIN, commit=tip, job=job)
    assert unpack(repository, source, tip, tmp_path / "second") == {"a": "1", "b": "2"}


@pytest.mark.parametrize("lock", ["refs/heads/main.lock", "packed-refs.lock", "HEAD.lock", "config.lock"])
def test_lock_files_of_a_killed_git_do_not_matter(
    repo, repository, source, tmp_path: Path, job, lock: str
) -> None:
    repo.commit({"a": "1"})
    repository.fetch(source, ref=MAIN, commit="", job=job)
    mirror = only_mirror(tmp_path)
    before = mirror.stat().st_ino
    (mirror / lock).write_text("")
    second = repo.commit({"a": "2"})
    assert repository.fetch(source, ref=MAIN, commit=second, job=job).commit == second
    assert mirror.stat().st_ino == before  # mended, not cloned


def test_halves_of_a_killed_clone_do_not_matter(repo, repository, source, tmp_path: Path, job) -> None:
    commit = repo.commit({"a": "1"})
    repository.fetch(source, ref=MAIN, commit="", job=job)
    mirror = only_mirror(tmp_path)
    mirror.rename(mirror.with_suffix(".old"))  # killed between two renames
    shutil.copytree(mirror.with_suffix(".old") / "objects", mirror.with_suffix(".new") / "objects")
    assert repository.fetch(source, ref=MAIN, commit=commit, job=job).commit == commit
    left = {path.suffix for path in mirror.parent.iterdir()}
    assert left == {".git", ".lock"}


def test_a_mirror_that_another_environment_made_anew_is_completed_by_a_retry(
    repo, repository, source, tmp_path: Path, job
) -> None:
    ours = repo.commit({"a": "1"})
    git(repo.work, "checkout", "-q", "--orphan", "other")
    repo.commit({"b": "2"}, branch="other")
    repository.fetch(source, ref=MAIN, commit="", job=job)
    _delete_head(only_mirror(tmp_path))
    repository.fetch(source, ref="refs/heads/other", commit="", job=job)
    with pytest.raises(StepFailed) as caught:
        unpack(repository, source, ours, tmp_path / "first")
    assert caught.value.cause.is_retried
    repository.fetch(source, ref=MAIN, commit=ours, job=job)
    assert unpack(repository, source, ours, tmp_path / "second") == {"a": "1"}


def test_object_names_may_be_long_ones(tmp_path: Path, repository, job) -> None:
    bare, work = tmp_path / "long.git", tmp_path / "long"
    for folder, options in ((bare, ["--bare"]), (work, [])):
        folder.mkdir()
        git(folder, "init", "-q", "--object-format=sha256", *options)
    repo = GitRepository(bare, work)
    git(work, "remote", "add", "origin", str(bare))
    commit = repo.commit({"a": "1"})
    assert len(commit) == 64
    source = source_of(bare)
    assert repository.fetch(source, ref=MAIN, commit=commit, job=job).commit == commit
    assert unpack(repository, source, commit, tmp_path / "r") == {"a": "1"}


def _fetch_in_another_process(folder: Path, url: str, done: Any) -> None:
    repository = mirrors(folder)
    done.put(repository.fetch(source_of(url), ref=MAIN, commit="", job=Listening().job).commit)


def test_threads_and_processes_that_fetch_at_once_wait_for_one_another(repo, source, tmp_path: Path) -> None:
    *_, tip = commits(repo)
    context = multiprocessing.get_context("spawn")
    done = context.Queue()
    others = [
        context.Process(target=_fetch_in_another_process, args=(tmp_path, repo.url, done)) for _ in range(2)
    ]
    for other in others:
        other.start()
    with ThreadPoolExecutor(4) as pool:
        found = [
            pool.submit(mirrors(tmp_path).fetch, source, ref=MAIN, commit="", job=Listening().job)
            for _ in range(4)
        ]
        assert {each.result(60).commit for each in found} == {tip}
    assert {done.get(timeout=60) for _ in others} == {tip}
    for other in others:
        other.join(60)
    assert git(only_mirror(tmp_path), "fsck", "--full") == ""


# ---------------------------------------------------------------------------------------- interruption

LONG_BEFORE_GIT = 15.0  # seconds; git itself loses its patience with a silent server after 30, or never


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Accepts, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def children_with(text: str) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if text.encode() in b" ".join(words):
            found.append(str(entry.parent.name))
    return found


def remote_helpers(text: str) -> list[str]:
    """Those children of git that carry what it asks for."""
    return [pid for pid in children_with(text) if "remote-http" in _words(pid)]


def _words(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def _gone(text: str, within: float) -> bool:
    deadline = time.monotonic() + within
    while children_with(text):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _until(true: Any, within: float = 10.0) -> None:
    deadline = time.monotonic() + within
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("protocol", ["http", "git", "ssh"])
def test_a_stopped_fetch_from_a_silent_server_ends_at_once_and_leaves_no_process(
    repository, silent_server: str, protocol: str
) -> None:
    source = source_of(f"{protocol}://{silent_server}/acme/stalled-{protocol}.git")
    listening = Listening()
    with ThreadPoolExecutor(1) as pool:
        fetching = pool.submit(repository.fetch, source, ref=MAIN, commit="", job=listening.job)
        _until(lambda: children_with(f"stalled-{protocol}"))
        listening.stop.set()
        with pytest.raises(StepFailed) as caught:
            fetching.result(LONG_BEFORE_GIT)
    assert caught.value.cause is Cause.cancelled
    assert _gone(f"stalled-{protocol}", within=LONG_BEFORE_GIT)


def test_a_fetch_that_takes_too_long_is_the_networks_fault(tmp_path: Path, silent_server: str) -> None:
    repository = mirrors(tmp_path, patience=Patience(transfer=0.5))
    failed = refusal(repository, source_of(f"http://{silent_server}/x.git"))
    assert failed.cause is Cause.network


def test_waiting_for_another_fetch_can_be_stopped(repository, silent_server: str) -> None:
    source = source_of(f"http://{silent_server}/acme/held.git")
    first, second = Listening(), Listening()
    with ThreadPoolExecutor(2) as pool:
        fetching = pool.submit(repository.fetch, source, ref=MAIN, commit="", job=first.job)
        _until(lambda: children_with("acme/held.git"))
        waiting = pool.submit(repository.fetch, source, ref=MAIN, commit="", job=second.job)
        second.stop.set()
        with pytest.raises(StepFailed, match="waiting"):
            waiting.result(LONG_BEFORE_GIT)
        first.stop.set()
        with pytest.raises(StepFailed):
            fetching.result(LONG_BEFORE_GIT)


def test_git_dies_with_a_killed_fraisier_and_the_next_fetch_works(
    repo, source, tmp_path: Path, silent_server: str, job
) -> None:
    """The mirror is half made when the process is killed; another one fetches the same URL after."""
    url = f"http://{silent_server}/acme/killed.git"
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    victim = context.Process(target=_fetch_in_another_process, args=(tmp_path, url, queue))
    victim.start()
    _until(lambda: remote_helpers("killed.git"))  # a child of git's, which holds the mirror's lock, too
    os.kill(victim.pid or 0, signal.SIGKILL)
    victim.join(10)
    assert _gone("killed.git", within=LONG_BEFORE_GIT)
    stopped = Listening()
    stopped.stop.set()
    with pytest.raises(StepFailed) as caught:  # the lock is free again: it gets as far as git
        mirrors(tmp_path).fetch(source_of(url), ref=MAIN, commit="", job=stopped.job)
    assert "waiting" not in caught.value.message


def test_a_closed_port_is_the_networks_fault(repository) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for protocol in ("http", "git", "ssh"):
        failed = refusal(repository, source_of(f"{protocol}://127.0.0.1:{port}/x.git"))
        assert failed.cause is Cause.network, failed
        assert "onnect" in failed.message


def test_a_host_without_address_is_the_networks_fault(repository) -> None:
    failed = refusal(repository, source_of("https://nowhere.invalid/x.git"))
    assert failed.cause is Cause.network
    assert "nowhere.invalid" in failed.message


def test_a_repository_that_does_not_exist_is_not_retried(repository, tmp_path: Path) -> None:
    failed = refusal(repository, source_of(tmp_path / "none.git"))
    assert failed.cause is Cause.repository
    assert "clone_url" in failed.hint


@pytest.mark.parametrize(
    "url",
    [
        "ext::sh -c touch% /tmp/x",
        "fd::17",
        "-x",
        "--upload-pack=x",
        "https://user:pass@host/x",
        "relative/path",
        "ftp://host/x",
        "ssh://-oProxyCommand=x/y",
        "https:///x",
        "-u@host:x",
        "git@-x:y",
        "http://h:99999999/",
        "",
    ],
)
def test_a_url_that_is_no_place_is_refused(repository, url: str) -> None:
    failed = refusal(repository, source_of(url))
    assert failed.cause is Cause.preflight
    assert "pass" not in failed.message.replace("password", "")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_is_told_and_leaves_no_rest(repo, source, tmp_path: Path) -> None:
    repo.commit({"big": os.urandom(6_000_000)})
    state = tmp_path / "state"
    state.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", state], capture_output=True)
    if mount.returncode:
        pytest.skip(f"cannot mount a tmpfs here: {mount.stderr.decode()}")
    try:
        failed = refusal(mirrors(tmp_path), source)
        assert failed.cause is Cause.disk
        assert failed.cause.is_retried
        assert os.statvfs(state).f_bavail * os.statvfs(state).f_frsize > 1_500_000
    finally:
        subprocess.run(["umount", state], check=True)
