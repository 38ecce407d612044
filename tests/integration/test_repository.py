"""The git mirror on real repositories of this machine."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from fraisier.application.ports import Finished, Job, Program, Unpacking
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import Source
from fraisier.git.mirror import Patience
from fraisier.git.repository import Mirrors
from fraisier.hosts.processes import LocalProcesses
from tests.gitrepos import GitRepository, git
from tests.mirrors import Listening, TarHost, mirrors, source_of, unpack

MAIN = "refs/heads/main"


@pytest.fixture
def repo(tmp_path: Path) -> GitRepository:
    return GitRepository.create(tmp_path / "git")


@pytest.fixture
def repository(tmp_path: Path) -> Mirrors:
    return mirrors(tmp_path)


@pytest.fixture
def source(repo: GitRepository) -> Source:
    return source_of(repo.url)


@pytest.fixture
def job() -> Job:
    return Listening().job


def only_mirror(tmp_path: Path) -> Path:
    (found,) = (tmp_path / "state" / "mirrors").glob("*.git")
    return found


def refusal(repository: Mirrors, source: Source, *, ref: str = MAIN, commit: str = "") -> StepFailed:
    with pytest.raises(StepFailed) as caught:
        repository.fetch(source, ref=ref, commit=commit, job=Listening().job)
    assert caught.value.message.startswith("cannot")
    assert caught.value.hint
    return caught.value


# ------------------------------------------------------------------------------------- which commit


def test_the_tip_of_a_branch_is_fetched_from_an_empty_disk(repo, repository, source, job) -> None:
    commit = repo.commit({"a": "1"})
    fetched = repository.fetch(source, ref=MAIN, commit="", job=job)
    assert (fetched.commit, fetched.tip) == (commit, commit)


def test_an_older_commit_of_the_branch_is_pinned_and_the_tip_is_told(repo, repository, source, job) -> None:
    first, second = repo.commit({"a": "1"}), repo.commit({"a": "2"})
    fetched = repository.fetch(source, ref=MAIN, commit=first, job=job)
    assert (fetched.commit, fetched.tip) == (first, second)


def test_a_branch_that_moves_after_the_push_does_not_change_what_is_deployed(
    repo, repository, source, job
) -> None:
    verified = repo.commit({"a": "1"})
    repository.fetch(source, ref=MAIN, commit="", job=job)
    later = repo.commit({"a": "2"})
    fetched = repository.fetch(source, ref=MAIN, commit=verified, job=job)
    assert (fetched.commit, fetched.tip) == (verified, later)


def test_a_commit_that_was_force_pushed_away_is_not_deployed(repo, repository, source, job) -> None:
    base, verified = repo.commit({"a": "1"}), repo.commit({"a": "2"})
    repository.fetch(source, ref=MAIN, commit=verified, job=job)
    repo.force_push({"a": "3"}, onto=base)
    failed = refusal(repository, source, commit=verified)
    assert failed.cause is Cause.commit_not_on_ref
    assert "force-pushed" in failed.hint


def test_a_force_push_before_the_first_fetch_says_that_the_commit_is_gone(repo, repository, source) -> None:
    base, verified = repo.commit({"a": "1"}), repo.commit({"a": "2"})
    repo.force_push({"a": "3"}, onto=base)
    failed = refusal(repository, source, commit=verified)
    assert failed.cause is Cause.commit_not_found
    assert "force push" in failed.hint


def test_a_commit_of_another_branch_is_not_deployed(repo, repository, source, job) -> None:
    repo.commit({"a": "1"})
    other = repo.commit({"a": "2"}, branch="other")
    repository.fetch(source, ref="refs/heads/other", commit="", job=job)
    assert refusal(repository, source, commit=other).cause is Cause.commit_not_on_ref


def test_a_commit_that_nobody_has_is_looked_for_three_times(repo, repository, source) -> None:
    repo.commit({"a": "1"})
    listening = Listening()
    with pytest.raises(StepFailed) as caught:
        repository.fetch(source, ref=MAIN, commit="5" * 40, job=listening.job)
    assert caught.value.cause is Cause.commit_not_found
    assert listening.text.count("looking again") == 2


def test_a_commit_that_the_forge_replicates_late_is_found(repo, repository, source) -> None:
    repo.commit({"a": "1"})
    repo.write({"a": "2"})
    git(repo.work, "commit", "-qam", "pushed later")
    listening = Listening()

    def output(chunk: bytes) -> None:
        listening.chunks.append(chunk)
        if b"looking again" in chunk:
            repo.push("HEAD:refs/heads/main")

    fetched = repository.fetch(source, ref=MAIN, commit=repo.head(), job=Job(threading.Event(), output))
    assert fetched.tip == repo.head()


@pytest.mark.parametrize("annotated", [False, True])
def test_a_tag_is_peeled_to_its_commit(repo, repository, source, job, annotated: bool) -> None:
    commit = repo.commit({"a": "1"})
    named = repo.tag("v1", annotated=annotated)
    for asked in ("", named, commit):
        fetched = repository.fetch(source, ref="refs/tags/v1", commit=asked, job=job)
        assert (fetched.commit, fetched.tip) == (commit, commit)


def test_a_tag_and_a_branch_of_one_name_are_two_things(repo, repository, source, job) -> None:
    tagged = repo.commit({"a": "1"})
    repo.tag("main")
    branch = repo.commit({"a": "2"})
    assert repository.fetch(source, ref="refs/tags/main", commit="", job=job).commit == tagged
    assert repository.fetch(source, ref=MAIN, commit="", job=job).commit == branch


def test_a_tag_that_was_moved_is_fetched_anew(repo, repository, source, job) -> None:
    repo.commit({"a": "1"})
    repo.tag("v1")
    repository.fetch(source, ref="refs/tags/v1", commit="", job=job)
    second = repo.commit({"a": "2"})
    repo.tag("v1")
    assert repository.fetch(source, ref="refs/tags/v1", commit="", job=job).commit == second


def test_a_tag_of_a_file_is_no_commit(repo, repository, source) -> None:
    repo.commit({"a": "1"})
    repo.tag("blob", "HEAD:a")
    failed = refusal(repository, source, ref="refs/tags/blob")
    assert failed.cause is Cause.repository
    assert "no commit" in failed.message


def test_a_bare_commit_is_found_on_any_branch(repo, repository, source, job) -> None:
    repo.commit({"a": "1"})
    other = repo.commit({"a": "2"}, branch="feature/x")
    fetched = repository.fetch(source, ref="", commit=other, job=job)
    assert (fetched.commit, fetched.tip) == (other, "")


@pytest.mark.parametrize("ref", ["", MAIN])
def test_an_abbreviated_commit_is_expanded(repo, repository, source, job, ref: str) -> None:
    commit = repo.commit({"a": "1"})
    assert repository.fetch(source, ref=ref, commit=commit[:7], job=job).commit == commit


def test_a_branch_named_like_an_abbreviated_commit_is_not_taken_for_it(repo, repository, source, job) -> None:
    repo.commit({"a": "1"})
    repo.commit({"a": "2"}, branch="abcdef1")
    assert refusal(repository, source, ref="", commit="abcdef1").cause is Cause.commit_not_found


def test_a_deleted_branch_is_told_apart_from_a_missing_commit(repo, repository, source, job) -> None:
    commit = repo.commit({"a": "1"}, branch="main")
    repo.commit({"a": "2"}, branch="gone")
    repository.fetch(source, ref="refs/heads/gone", commit="", job=job)
    repo.delete_branch("gone")
    failed = refusal(repository, source, ref="refs/heads/gone", commit=commit)
    assert failed.cause is Cause.commit_not_on_ref
    assert "refs/heads/gone does not exist" in failed.message
    assert refusal(repository, source, ref="refs/heads/gone").cause is Cause.commit_not_found


def test_a_branch_may_become_a_folder_of_branches(repo, repository, source, job) -> None:
    repo.commit({"a": "1"}, branch="main")
    repo.commit({"a": "2"}, branch="x")
    repository.fetch(source, ref="refs/heads/x", commit="", job=job)
    repo.checkout("main")
    repo.delete_branch("x")
    git(repo.work, "branch", "-D", "x")
    inner = repo.commit({"a": "3"}, branch="x/y")
    assert repository.fetch(source, ref="refs/heads/x/y", commit=inner, job=job).commit == inner


@pytest.mark.parametrize(
    "ref",
    [
        "--upload-pack=touch x",
        "refs/heads/../../x",
        "refs/heads/",
        "main",
        "refs/heads/a\nb",
        "refs/heads/a\0b",
        "refs/heads/a b",
        "refs/heads/" + "x" * 70_000,
        "HEAD",
        "refs/remotes/origin/main",
    ],
)
def test_what_is_no_ref_never_reaches_git(repo, repository, source, ref: str, tmp_path: Path) -> None:
    assert refusal(repository, source, ref=ref).cause is Cause.repository
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    "branch", ["--upload-pack=x", "-oProxyCommand=x", "$(touch${IFS}pwned)", "`id`", "a;id", "ö"]
)
def test_hostile_names_that_git_accepts_are_only_names(repo, repository, source, job, branch: str) -> None:
    commit = repo.commit({"a": "1"})
    repo.push(f"HEAD:refs/heads/{branch}")
    assert repository.fetch(source, ref=f"refs/heads/{branch}", commit=commit, job=job).commit == commit
    assert repository.tips(source, [f"refs/heads/{branch}"]) == {f"refs/heads/{branch}": commit}


@pytest.mark.parametrize("commit", ["--all", "HEAD", "main", "a" * 65, "xyz", "abc", "a..b", "@{0}"])
def test_what_is_no_commit_never_reaches_git(repository, source, commit: str, tmp_path: Path) -> None:
    assert refusal(repository, source, commit=commit).cause is Cause.commit_not_found
    assert not (tmp_path / "state").exists()


class Counting(LocalProcesses):
    """Real processes, counted."""

    def __init__(self) -> None:
        super().__init__()
        self.started: list[tuple[str, ...]] = []

    def run(self, program: Program, job: Job) -> int:
        self.started.append(program.argv)
        return super().run(program, job)

    def capture(self, program: Program, stop: threading.Event | None = None) -> Finished:
        self.started.append(program.argv)
        return super().capture(program, stop)


def test_a_fetch_with_nothing_new_starts_two_processes(repo, source, tmp_path: Path, job) -> None:
    commit = repo.commit({"a": "1"})
    counting = Counting()
    repository = Mirrors(tmp_path / "mirrors", counting)
    repository.fetch(source, ref=MAIN, commit=commit, job=job)
    counting.started.clear()
    repository.fetch(source, ref=MAIN, commit=commit, job=job)
    assert len(counting.started) == 2


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
        began = time.monotonic()
        listening.stop.set()
        with pytest.raises(StepFailed) as caught:
            fetching.result(10)
    assert caught.value.cause is Cause.cancelled
    assert time.monotonic() - began < 2
    assert _gone(f"stalled-{protocol}", within=1)


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
            waiting.result(2)
        first.stop.set()
        with pytest.raises(StepFailed):
            fetching.result(2)


def test_git_dies_with_a_killed_fraisier_and_the_next_fetch_works(
    repo, source, tmp_path: Path, silent_server: str, job
) -> None:
    """The mirror is half made when the process is killed; another one fetches the same URL after."""
    url = f"http://{silent_server}/acme/killed.git"
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    victim = context.Process(target=_fetch_in_another_process, args=(tmp_path, url, queue))
    victim.start()
    _until(lambda: [pid for pid in children_with("killed.git") if pid != str(victim.pid)])
    os.kill(victim.pid or 0, signal.SIGKILL)
    victim.join(10)
    assert _gone("killed.git", within=5)
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


# --------------------------------------------------------------------------------------------- looking


def test_ancestry_and_changed_paths_are_told(repo, repository, source, job) -> None:
    first = repo.commit({"a": "1", "ü/x y\n.txt": "1"})
    second = repo.commit({"a": "2", "b": "1"})
    repository.fetch(source, ref=MAIN, commit="", job=job)
    assert repository.is_ancestor(source, first, second)
    assert not repository.is_ancestor(source, second, first)
    assert not repository.is_ancestor(source, "1" * 40, second)
    assert repository.changed_paths(source, first, second) == ["a", "b"]
    assert repository.changed_paths(source, second, second) == []
    assert repository.changed_paths(source, "1" * 40, second) is None


def test_changed_paths_has_both_names_of_a_moved_file(repo, repository, source, job) -> None:
    first = repo.commit({"old dir/ü": "the same"})
    git(repo.work, "mv", "old dir/ü", "new")
    second = repo.commit()
    repository.fetch(source, ref=MAIN, commit="", job=job)
    assert repository.changed_paths(source, first, second) == ["new", "old dir/ü"]


def test_nothing_is_known_of_a_repository_that_was_never_fetched(repository, source) -> None:
    assert not repository.is_ancestor(source, "1" * 40, "2" * 40)
    assert repository.changed_paths(source, "1" * 40, "2" * 40) is None
    assert not repository.has_path(source, "1" * 40, "a")


def test_paths_of_a_commit_are_told(repo, repository, source, job) -> None:
    commit = repo.commit({"dir/a": "1", ".env": ""})
    repository.fetch(source, ref=MAIN, commit="", job=job)
    there = ["dir", "dir/", "dir/a", "./dir/a", ".env", ""]
    assert [path for path in there if not repository.has_path(source, commit, path)] == []
    assert [
        path for path in ["di", "dir/b", "dir/a/"[:-1] + "x"] if repository.has_path(source, commit, path)
    ] == []
    with pytest.raises(StepFailed, match="outside"):
        repository.has_path(source, commit, "../x")


def test_the_tips_of_refs_are_asked_without_a_mirror(repo, repository, source, tmp_path: Path) -> None:
    main = repo.commit({"a": "1"})
    repo.tag("v1.0", annotated=True)
    repo.tag("w1.0")
    repo.push("HEAD:refs/heads/x/refs/heads/main")  # git would match its tail
    found = repository.tips(source, [MAIN, "refs/heads/none", "refs/tags/v*"])
    assert found == {MAIN: main, "refs/tags/v1.0": main}
    assert not list((tmp_path / "state" / "mirrors").glob("*.git"))
    with pytest.raises(StepFailed):
        repository.tips(source, ["--upload-pack=x"])


def test_mirrors_that_nobody_uses_are_removed_after_a_while(
    repo, repository, source, tmp_path: Path, job
) -> None:
    repo.commit({"a": "1"})
    other = GitRepository.create(tmp_path / "git", "other")
    other.commit({"a": "1"})
    for each in (source, source_of(other.url)):
        repository.fetch(each, ref=MAIN, commit="", job=job)
    assert repository.prune([source], older_than=3600) == 0
    assert repository.prune([source], older_than=-1) == 1
    assert only_mirror(tmp_path).name.startswith("git-orders")
    assert repository.fetch(source, ref=MAIN, commit="", job=job).commit
    assert repository.fetch(source_of(other.url), ref=MAIN, commit="", job=job).commit


def test_a_mirrors_name_can_be_read(repo, repository, source, tmp_path: Path, job) -> None:
    repo.commit({"a": "1"})
    repository.fetch(source, ref=MAIN, commit="", job=job)
    assert only_mirror(tmp_path).name.startswith("git-orders-")
    assert (tmp_path / "state" / "mirrors").stat().st_mode & 0o777 == 0o700


# ------------------------------------------------------------------------------------------- unpacking


def test_a_release_is_the_whole_commit_with_modes_and_links(
    repo, repository, source, tmp_path: Path, job
) -> None:
    repo.write({"run.sh": "#!/bin/sh\n", "data/x": "1"})
    (repo.work / "run.sh").chmod(0o755)
    (repo.work / "link").symlink_to("data/x")
    (repo.work / "out").symlink_to("/etc/hostname")
    (repo.work / ("long-" * 30)).write_text("long name")
    commit = repo.commit(
        {".gitattributes": "data export-ignore\nversion export-subst\n", "version": "$Format:%H$"}
    )
    repository.fetch(source, ref=MAIN, commit="", job=job)
    files = unpack(repository, source, commit, tmp_path / "r")
    assert files["data/x"] == "1"
    assert files["version"] == "$Format:%H$"
    assert (files["link"], files["out"]) == ("-> data/x", "-> /etc/hostname")
    assert files["long-" * 30] == "long name"
    assert (tmp_path / "r/run.sh").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "r/data/x").stat().st_mode & 0o777 == 0o644


def test_only_the_root_is_unpacked(repo, repository, source, tmp_path: Path, job) -> None:
    repo.write(
        {"services/api/run.sh": "x", "services/api/big": "y" * 1000, "services/api2/x": "", "api/z": ""}
    )
    (repo.work / "services/api/run.sh").chmod(0o755)
    (repo.work / "services/api/l").symlink_to("../../top")
    commit = repo.commit({"top": "1"})
    repository.fetch(source, ref=MAIN, commit="", job=job)
    files = unpack(repository, source, commit, tmp_path / "r", root="services/api/")
    assert files == {"run.sh": "x", "big": "y" * 1000, "l": "-> ../../top"}
    assert (tmp_path / "r/run.sh").stat().st_mode & 0o777 == 0o755
    for root in ("missing", "top"):
        with pytest.raises(StepFailed, match="has no folder"):
            unpack(repository, source, commit, tmp_path / root, root=root)


def test_an_empty_commit_becomes_an_empty_release(repo, repository, source, tmp_path: Path, job) -> None:
    commit = repo.commit()
    repository.fetch(source, ref=MAIN, commit="", job=job)
    assert unpack(repository, source, commit, tmp_path / "r") == {}


def test_settings_of_the_user_do_not_change_a_release(repo, repository, source, tmp_path: Path, job) -> None:
    attributes = tmp_path / "attributes"
    attributes.write_text("* export-ignore\n")
    (tmp_path / "home/.gitconfig").write_text(
        f"[core]\nattributesFile={attributes}\nautocrlf=true\n[tar]\numask=077\n[fetch]\nprune=true\npruneTags=true\n"
    )
    commit = repo.commit({"a": "1\n"})
    repository.fetch(source, ref=MAIN, commit="", job=job)
    assert unpack(repository, source, commit, tmp_path / "r") == {"a": "1\n"}
    assert (tmp_path / "r/a").stat().st_mode & 0o777 == 0o644


def test_unpacking_can_be_stopped(repo, repository, source, tmp_path: Path, job) -> None:
    commit = repo.commit({"big": os.urandom(3_000_000)})
    repository.fetch(source, ref=MAIN, commit="", job=job)
    job.stop.set()
    with pytest.raises(StepFailed) as caught:
        repository.unpack(source, commit, Unpacking(host=TarHost(), folder=str(tmp_path / "r")), job)  # type: ignore[arg-type]
    assert caught.value.cause is Cause.cancelled
