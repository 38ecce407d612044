"""Submodules and large files: what a release needs besides its own commit."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fraisier.application.ports import Contents
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import Source
from fraisier.domain.secret import Secret
from fraisier.git.repository import Mirrors
from tests.gitrepos import GitRepository, git
from tests.gitservers import TOKEN, USER, GitHttp, git_over_http
from tests.mirrors import MAIN, Listening, mirrors, source_of, unpack

needs_lfs = pytest.mark.skipif(
    not shutil.which("git-lfs"), reason="git-lfs is not installed: apt install git-lfs"
)


@pytest.fixture
def top(tmp_path: Path) -> GitRepository:
    return GitRepository.create(tmp_path / "git", "top")


@pytest.fixture
def library(tmp_path: Path) -> GitRepository:
    return GitRepository.create(tmp_path / "git", "library")


def fetched(repository: Mirrors, source: Source) -> str:
    return repository.fetch(source, ref=MAIN, commit="", job=Listening().job).commit


def link(top: GitRepository, path: str, url: str, commit: str) -> str:
    """Add a submodule as plain data, as a hostile hand would; returns the commit."""
    modules = top.work / ".gitmodules"
    known = modules.read_text() if modules.exists() else ""
    modules.write_text(f'{known}[submodule "{path}"]\n\tpath = {path}\n\turl = {url}\n')
    git(top.work, "add", ".gitmodules")
    git(top.work, "update-index", "--add", "--cacheinfo", f"160000,{commit},{path}")
    git(top.work, "commit", "-qm", f"link {path}")
    top.push("HEAD:refs/heads/main")
    return top.head()


# ------------------------------------------------------------------------------------------ submodules


def test_submodules_of_submodules_are_unpacked_at_their_pinned_commits(
    tmp_path: Path, top, library, repository
) -> None:
    inner = GitRepository.create(tmp_path / "git", "inner")
    pinned = inner.commit({"deep": "pinned"})
    inner.commit({"deep": "later"})
    library.commit({"lib.py": "x", ".gitattributes": "lib.py export-ignore\n"})
    at = link(library, "vendor/inner", "../inner.git", pinned)
    top.commit({"app.py": "1"})
    commit = link(top, "lib", "../library.git", at)
    source = source_of(top.url)
    assert fetched(repository, source) == commit
    assert repository.contents(source, commit, "") == Contents(submodules=True, lfs=False)
    files = unpack(repository, source, commit, tmp_path / "r", submodules=True)
    assert {files["app.py"], files["lib/lib.py"], files["lib/vendor/inner/deep"]} == {"1", "x", "pinned"}
    plain = unpack(repository, source, commit, tmp_path / "plain")
    assert set(plain) == {".gitmodules", "app.py"}


def test_only_submodules_below_the_root_are_unpacked(tmp_path: Path, top, library, repository) -> None:
    at = library.commit({"lib.py": "x"})
    top.commit({"api/app.py": "1", "web/index": ""})
    link(top, "api/lib", "../library.git", at)
    commit = link(top, "web/lib", "../missing.git", at)
    source = source_of(top.url)
    fetched(repository, source)
    files = unpack(repository, source, commit, tmp_path / "r", root="api", submodules=True)
    assert files == {"app.py": "1", "lib/lib.py": "x"}
    assert not repository.contents(source, commit, "ap").submodules
    assert repository.contents(source, commit, "api").submodules


def test_a_submodule_may_pin_a_commit_that_no_branch_has(tmp_path: Path, top, library, repository) -> None:
    base = library.commit({"lib.py": "0"})
    at = library.commit({"lib.py": "pinned"})
    library.force_push({"lib.py": "other"}, onto=base)
    top.commit({"app.py": "1"})
    commit = link(top, "lib", "../library.git", at)
    fetched(repository, source_of(top.url))
    assert (
        unpack(repository, source_of(top.url), commit, tmp_path / "r", submodules=True)["lib/lib.py"]
        == "pinned"
    )


def test_a_submodule_whose_commit_is_nowhere_fails_with_its_name(
    tmp_path: Path, top, library, repository
) -> None:
    library.commit({"lib.py": "0"})
    top.commit({"app.py": "1"})
    commit = link(top, "lib", "../library.git", "1" * 40)
    fetched(repository, source_of(top.url))
    with pytest.raises(StepFailed, match="> lib") as caught:
        unpack(repository, source_of(top.url), commit, tmp_path / "r", submodules=True)
    assert caught.value.cause is Cause.commit_not_found


@pytest.mark.parametrize(
    "url",
    [
        "ext::sh -c touch% pwned",
        "--upload-pack=touch pwned",
        "-u./payload",
        "file:///etc",
        "/etc/secret.git",
        "../../state/mirrors/x.git",
        "../../../../../../../../../../x.git",
        "ssh://-oProxyCommand=x/y",
        "fd::17/foo",
        "",
    ],
)
def test_a_hostile_submodule_url_is_refused(tmp_path: Path, top, library, repository, url: str) -> None:
    at = library.commit({"lib.py": "0"})
    top.commit({"app.py": "1"})
    commit = link(top, "lib", url, at)
    fetched(repository, source_of(top.url))
    with pytest.raises(StepFailed, match="submodule at lib") as caught:
        unpack(repository, source_of(top.url), commit, tmp_path / "r", submodules=True)
    assert caught.value.cause is Cause.repository
    assert not (tmp_path / "r").exists()


def test_a_link_without_a_url_is_told(tmp_path: Path, top, library, repository) -> None:
    at = library.commit({"lib.py": "0"})
    top.commit({"app.py": "1"})
    git(top.work, "update-index", "--add", "--cacheinfo", f"160000,{at},lib")
    git(top.work, "commit", "-qm", "no .gitmodules")
    top.push("HEAD:refs/heads/main")
    fetched(repository, source_of(top.url))
    with pytest.raises(StepFailed, match="gitmodules has no URL"):
        unpack(repository, source_of(top.url), top.head(), tmp_path / "r", submodules=True)


def test_a_repository_that_contains_itself_is_refused(tmp_path: Path, top, repository) -> None:
    first = top.commit({"app.py": "1"})
    second = link(top, "again", "../top.git", first)
    for _ in range(12):
        second = link(top, "again", "../top.git", second)
    fetched(repository, source_of(top.url))
    with pytest.raises(StepFailed, match="deep"):
        unpack(repository, source_of(top.url), second, tmp_path / "r", submodules=True)


@pytest.fixture
def server(top: GitRepository) -> Iterator[GitHttp]:
    with git_over_http(top.bare.parent) as running:
        yield running


def test_the_token_opens_submodules_of_the_same_server_only(
    tmp_path: Path, top, library, repository, server
) -> None:
    at = library.commit({"lib.py": "x"})
    top.commit({"app.py": "1"})
    near = link(top, "near", "../library.git", at)
    source = replace(source_of(server.url("top.git")), token=Secret(TOKEN), token_user=USER)
    assert fetched(repository, source) == near
    assert unpack(repository, source, near, tmp_path / "r", submodules=True)["near/lib.py"] == "x"
    with git_over_http(top.bare.parent, password="") as stranger:
        far = link(top, "far", stranger.url("library.git"), at)
        fetched(repository, source)
        assert unpack(repository, source, far, tmp_path / "s", submodules=True)["far/lib.py"] == "x"
        assert stranger.seen
        assert [given for *_, given in stranger.seen if given] == []


def test_a_repository_of_another_machine_cannot_name_folders_of_this_one(
    tmp_path: Path, top, library, repository, server
) -> None:
    at = library.commit({"lib.py": "x"})
    top.commit({"app.py": "1"})
    commit = link(top, "lib", str(library.bare), at)
    source = replace(source_of(server.url("top.git")), token=Secret(TOKEN), token_user=USER)
    fetched(repository, source)
    with pytest.raises(StepFailed, match="folder of this machine"):
        unpack(repository, source, commit, tmp_path / "r", submodules=True)


# ------------------------------------------------------------------------------------------------- lfs


def commit_large(repo: GitRepository, files: dict[str, str], attributes: str) -> str:
    """Commit files through git-lfs and push their objects."""
    git(repo.work, "lfs", "install", "--local", "--force")
    repo.checkout("main")
    repo.write({".gitattributes": attributes})
    return repo.commit(dict(files))


@needs_lfs
@pytest.mark.parametrize("scheme", ["", "file://"])
def test_large_files_are_put_in(tmp_path: Path, top, repository, scheme: str) -> None:
    commit = commit_large(
        top, {"data/x.bin": "large " * 1000, "a": "1"}, "*.bin filter=lfs diff=lfs merge=lfs -text\n"
    )
    source = source_of(scheme + top.url)
    fetched(repository, source)
    assert repository.contents(source, commit, "") == Contents(submodules=False, lfs=True)
    assert repository.contents(source, commit, "data").lfs
    pointers = unpack(repository, source, commit, tmp_path / "pointers")
    assert pointers["data/x.bin"].startswith("version https://git-lfs")
    files = unpack(repository, source, commit, tmp_path / "whole", lfs=True)
    assert (files["data/x.bin"], files["a"]) == ("large " * 1000, "1")
    below = unpack(repository, source, commit, tmp_path / "below", lfs=True, root="data")
    assert below == {"x.bin": "large " * 1000}


@needs_lfs
def test_large_files_of_a_submodule_are_put_in(tmp_path: Path, top, library, repository) -> None:
    at = commit_large(library, {"x.bin": "large " * 1000}, "*.bin filter=lfs\n")
    top.commit({"a": "1"})
    commit = link(top, "lib", "../library.git", at)
    fetched(repository, source_of(top.url))
    files = unpack(repository, source_of(top.url), commit, tmp_path / "r", lfs=True, submodules=True)
    assert files["lib/x.bin"] == "large " * 1000


@needs_lfs
def test_large_files_of_a_private_server_are_put_in(tmp_path: Path, top, repository, server) -> None:
    commit = commit_large(top, {"x.bin": "large " * 1000}, "*.bin filter=lfs\n")
    source = replace(source_of(server.url("top.git")), token=Secret(TOKEN), token_user=USER)
    fetched(repository, source)
    assert unpack(repository, source, commit, tmp_path / "r", lfs=True)["x.bin"] == "large " * 1000


@needs_lfs
def test_the_token_does_not_go_to_a_foreign_server_of_large_files(
    tmp_path: Path, top, repository, server
) -> None:
    with git_over_http(top.bare.parent) as stranger:
        top.write({".lfsconfig": f"[lfs]\n\turl = {stranger.url('top.git')}/info/lfs\n"})
        git(top.work, "config", "lfs.url", f"file://{top.bare}")
        commit = commit_large(top, {"x.bin": "large " * 1000}, "*.bin filter=lfs\n")
        source = replace(source_of(server.url("top.git")), token=Secret(TOKEN), token_user=USER)
        fetched(repository, source)
        with pytest.raises(StepFailed) as caught:
            unpack(repository, source, commit, tmp_path / "r", lfs=True)
        assert caught.value.cause is Cause.repository
        assert stranger.seen
        assert [given for *_, given in stranger.seen if given] == []


@needs_lfs
def test_a_large_file_that_nobody_pushed_is_told(tmp_path: Path, top, repository) -> None:
    commit = commit_large(top, {"x.bin": "large " * 1000}, "*.bin filter=lfs\n")
    shutil.rmtree(top.bare / "lfs")
    fetched(repository, source_of(top.url))
    with pytest.raises(StepFailed) as caught:
        unpack(repository, source_of(top.url), commit, tmp_path / "r", lfs=True)
    assert caught.value.cause is Cause.repository
    assert "git lfs push" in caught.value.hint


def test_attributes_without_large_files_need_no_lfs(tmp_path: Path, top, repository) -> None:
    commit = top.commit({".gitattributes": "*.bin filter=lfs\n", "a": "1"})
    source = source_of(top.url)
    fetched(repository, source)
    assert not repository.contents(source, commit, "").lfs
    assert unpack(repository, source, commit, tmp_path / "r", lfs=True)["a"] == "1"


def test_a_missing_git_lfs_says_how_to_get_it(tmp_path: Path, top) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'1' * 64}\nsize 5\n"
    commit = top.commit({".gitattributes": "*.bin filter=lfs\n", "x.bin": pointer})
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("git", "setpriv"):
        if found := shutil.which(name):
            (programs / name).symlink_to(found)
    repository = mirrors(tmp_path, environ={"PATH": str(programs)})
    fetched(repository, source_of(top.url))
    with pytest.raises(StepFailed) as caught:
        unpack(repository, source_of(top.url), commit, tmp_path / "r", lfs=True)
    assert caught.value.cause is Cause.preflight
    assert "apt install git-lfs" in caught.value.hint
