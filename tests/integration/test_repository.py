"""The git mirror on real repositories of this machine."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from fraisier.application.ports import Finished, Job, Program, Unpacking
from fraisier.domain.errors import Cause, StepFailed
from fraisier.git.repository import Mirrors
from fraisier.hosts.processes import LocalProcesses
from tests.gitrepos import GitRepository, git
from tests.mirrors import MAIN, Listening, TarHost, only_mirror, refusal, source_of, unpack

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


def test_a_branch_that_was_deleted_before_its_first_fetch_costs_no_other_the_mirror(
    repo, repository, source, job, tmp_path: Path
) -> None:
    repo.commit({"a": "1"})
    repository.fetch(source, ref=MAIN, commit="", job=job)
    made = only_mirror(tmp_path).stat().st_ino
    listening = Listening()
    with pytest.raises(StepFailed) as caught:
        repository.fetch(source, ref="refs/heads/gone", commit="5" * 40, job=listening.job)
    assert caught.value.cause is Cause.commit_not_on_ref
    assert "damaged" not in listening.text
    repository.fetch(source, ref=MAIN, commit="", job=job)
    assert only_mirror(tmp_path).stat().st_ino == made


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


# --------------------------------------------------------------------------------------------- looking


def test_the_commits_between_two_are_told_newest_first_and_not_all_of_them(
    repo, repository, source, job
) -> None:
    first = repo.commit({"a": "1"}, message="first")
    second = repo.commit({"a": "2"}, message="second: it's \x1b[31m red\n\nand more")
    third = repo.commit({"a": "3"}, message="third")
    other = repo.force_push({"b": "1"}, onto=first, branch="other")
    repository.fetch(source, ref=MAIN, commit="", job=job)
    history = repository.history(source, old=first, new=third, limit=20)
    assert [(each.commit, each.subject) for each in history.newest] == [
        (third, "third"),
        (second, "second: it's \x1b[31m red"),
    ]
    bounded = repository.history(source, old="", new=third, limit=2)
    assert (bounded.total, [each.commit for each in bounded.newest]) == (3, [third, second])
    assert repository.history(source, old=third, new=first, limit=20).total == 0
    assert repository.history(source, old=third, new=other, limit=20) is None, "not fetched, and not now"
    assert repository.history(source, old="1" * 40, new=third, limit=20) is None


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
