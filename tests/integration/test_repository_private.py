"""Private repositories: tokens over HTTP, keys over SSH, certificates, proxies; nothing of it may show."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fraisier.application.ports import Finished, Job, Program
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import Source
from fraisier.domain.secret import Secret
from fraisier.git.repository import Mirrors
from fraisier.hosts.processes import LocalProcesses
from tests.gitrepos import GitRepository
from tests.gitservers import TOKEN, USER, GitHttp, Sshd, git_over_http, missing_sshd, self_signed, sshd
from tests.mirrors import MAIN, Listening, mirrors, refusal, source_of


@pytest.fixture
def repo(tmp_path: Path) -> GitRepository:
    made = GitRepository.create(tmp_path / "git")
    made.commit({"a": "1"})
    return made


@pytest.fixture
def server(repo: GitRepository) -> Iterator[GitHttp]:
    with git_over_http(repo.bare.parent) as running:
        yield running


@pytest.fixture
def source(server: GitHttp) -> Source:
    return source_of(server.url("orders.git"), token=Secret(TOKEN), token_user=USER)


def quiet_refusal(repository: Mirrors, source: Source) -> StepFailed:
    """As `refusal`; the token is neither in it nor in the output."""
    listening = Listening()
    failed = refusal(repository, source, listening=listening)
    assert TOKEN not in str(failed) + listening.text
    return failed


class Spying(LocalProcesses):
    """Real processes; notes what `ps` and a program's environment could show."""

    def __init__(self) -> None:
        super().__init__()
        self.shown = ""

    def run(self, program: Program, job: Job) -> int:
        self.shown += repr((program.argv, dict(program.env)))
        return super().run(program, job)

    def capture(self, program: Program, stop: threading.Event | None = None) -> Finished:
        self.shown += repr((program.argv, dict(program.env)))
        return super().capture(program, stop)


# ------------------------------------------------------------------------------------------------ token


def test_a_token_opens_a_private_repository(tmp_path: Path, repo, source) -> None:
    repository = mirrors(tmp_path)
    fetched = repository.fetch(source, ref=MAIN, commit="", job=Listening().job)
    assert fetched.commit == repo.head()
    assert repository.tips(source, [MAIN]) == {MAIN: repo.head()}


def test_the_token_is_in_no_argument_no_variable_no_file_and_no_output(tmp_path: Path, repo, source) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/.gitconfig").write_text("[credential]\nhelper=store\n[http]\n")
    spying = Spying()
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path / "home")}
    repository = Mirrors(tmp_path / "state", spying, environ=environ)
    listening = Listening()
    repository.fetch(source, ref=MAIN, commit="", job=listening.job)
    repository.tips(source, [MAIN])
    assert spying.shown
    assert TOKEN not in spying.shown + listening.text
    files = [path for top in ("state", "home") for path in (tmp_path / top).rglob("*") if path.is_file()]
    assert [path for path in files if TOKEN.encode() in path.read_bytes()] == []
    assert not (tmp_path / "home/.git-credentials").exists()


def test_a_wrong_token_says_what_to_set(tmp_path: Path, source) -> None:
    failed = quiet_refusal(mirrors(tmp_path), replace(source, token=Secret("wrong-token")))
    assert failed.cause is Cause.repository
    assert "clone_token" in failed.hint


def test_no_token_says_what_to_set(tmp_path: Path, source) -> None:
    failed = quiet_refusal(mirrors(tmp_path), replace(source, token=None))
    assert failed.cause is Cause.repository
    assert "clone_token" in failed.hint


def test_a_token_of_two_lines_is_refused(tmp_path: Path, source) -> None:
    failed = quiet_refusal(mirrors(tmp_path), replace(source, token=Secret(f"{TOKEN}\nhost=evil")))
    assert failed.cause is Cause.preflight


def test_a_repository_that_the_server_does_not_have_is_not_retried(tmp_path: Path, server, source) -> None:
    failed = quiet_refusal(mirrors(tmp_path), replace(source, clone_url=server.url("none.git")))
    assert failed.cause is Cause.repository
    assert "not found" in failed.message


def test_the_token_does_not_follow_a_redirect_to_another_server(tmp_path: Path, repo, source) -> None:
    with (
        git_over_http(repo.bare.parent) as stranger,
        git_over_http(repo.bare.parent, redirect=f"http://127.0.0.1:{stranger.port}") as moved,
    ):
        failed = quiet_refusal(mirrors(tmp_path), replace(source, clone_url=moved.url("orders.git")))
    assert failed.cause is Cause.repository
    assert stranger.seen
    assert [given for *_, given in stranger.seen if given] == []


# ---------------------------------------------------------------------------------------- certificates


def test_a_certificate_of_ones_own_is_trusted_where_it_is_named(tmp_path: Path, repo, source) -> None:
    context, certificate = self_signed(tmp_path)
    with git_over_http(repo.bare.parent, context=context) as secure:
        private = replace(source, clone_url=secure.url("orders.git"), ca_file=str(certificate))
        fetched = mirrors(tmp_path).fetch(private, ref=MAIN, commit="", job=Listening().job)
        assert fetched.commit == repo.head()


def test_an_unknown_certificate_says_what_to_set(tmp_path: Path, repo, source) -> None:
    context, _ = self_signed(tmp_path)
    with git_over_http(repo.bare.parent, context=context) as secure:
        failed = quiet_refusal(mirrors(tmp_path), replace(source, clone_url=secure.url("orders.git")))
        assert failed.cause is Cause.repository
        assert "ca_file" in failed.hint
        missing = replace(source, clone_url=secure.url("orders.git"), ca_file="/nonexistent/ca.pem")
        assert "/nonexistent/ca.pem" in quiet_refusal(mirrors(tmp_path), missing).hint


# ----------------------------------------------------------------------------------------------- proxy


def test_a_proxy_of_the_environment_and_one_of_the_source_are_used(tmp_path: Path, repo, source) -> None:
    """The server answers as a plain HTTP proxy would: it sees the whole URL."""
    far = replace(source, clone_url="http://git.invalid/orders.git")
    with git_over_http(repo.bare.parent) as proxy:
        address = f"http://127.0.0.1:{proxy.port}"
        for repository, asked in (
            (mirrors(tmp_path, environ={"http_proxy": address}), far),
            (mirrors(tmp_path, environ={"http_proxy": "http://127.0.0.1:9"}), replace(far, proxy=address)),
        ):
            proxy.seen.clear()
            quiet_refusal(repository, asked)
            assert proxy.seen[0][1].startswith("http://git.invalid/orders.git/info/refs")


def test_the_password_of_a_proxy_does_not_show(tmp_path: Path, source) -> None:
    spying, listening = Spying(), Listening()
    repository = Mirrors(tmp_path / "state", spying, environ={"PATH": os.environ["PATH"]})
    proxied = replace(source, proxy="http://me:proxy-passw0rd@127.0.0.1:9")
    with pytest.raises(StepFailed) as caught:
        repository.fetch(proxied, ref=MAIN, commit="", job=listening.job)
    assert caught.value.cause is Cause.network
    assert "passw0rd" not in str(caught.value) + listening.text
    assert (
        "passw0rd" not in spying.shown.split("{")[0]
    )  # arguments; a process's environment is its user's own


# ------------------------------------------------------------------------------------------------- ssh


@pytest.fixture
def ssh_server(tmp_path: Path) -> Iterator[Sshd]:
    if reason := missing_sshd():
        pytest.skip(reason)
    with sshd(tmp_path / "ssh") as running:
        yield running


@pytest.fixture
def over_ssh(repo: GitRepository, ssh_server: Sshd) -> Source:
    url = ssh_server.url(repo.bare)
    return source_of(url, key=str(ssh_server.key), known_hosts=str(ssh_server.known_hosts))


def test_a_key_opens_a_private_repository(tmp_path: Path, repo, over_ssh) -> None:
    fetched = mirrors(tmp_path).fetch(over_ssh, ref=MAIN, commit="", job=Listening().job)
    assert fetched.commit == repo.head()


def test_an_unknown_host_key_is_refused_and_the_hint_says_how_to_get_it(
    tmp_path: Path, over_ssh, ssh_server: Sshd
) -> None:
    nobody = tmp_path / "nobody"
    nobody.write_text("")
    failed = quiet_refusal(mirrors(tmp_path), replace(over_ssh, known_hosts=str(nobody)))
    assert failed.cause is Cause.repository
    assert f"ssh-keyscan -p {ssh_server.port} 127.0.0.1" in failed.hint
    assert str(nobody) in failed.hint
    assert nobody.read_text() == ""


def test_a_changed_host_key_is_refused(tmp_path: Path, over_ssh, ssh_server: Sshd) -> None:
    other = Path(f"{ssh_server.key}.pub").read_text()
    ssh_server.known_hosts.write_text(f"[127.0.0.1]:{ssh_server.port} {other}")
    failed = quiet_refusal(mirrors(tmp_path), over_ssh)
    assert failed.cause is Cause.repository
    assert "not the one known" in failed.hint


def test_a_key_that_may_not_read_says_what_to_set(tmp_path: Path, over_ssh, ssh_server: Sshd) -> None:
    failed = quiet_refusal(mirrors(tmp_path), replace(over_ssh, key=str(ssh_server.folder / "host key")))
    assert failed.cause is Cause.repository
    assert "Permission denied" in failed.message
    assert "clone_key" in failed.hint


def test_a_key_that_everyone_can_read_says_how_to_mend_it(tmp_path: Path, over_ssh, ssh_server: Sshd) -> None:
    ssh_server.key.chmod(0o644)
    failed = quiet_refusal(mirrors(tmp_path), over_ssh)
    assert failed.cause is Cause.repository
    assert "chmod 600" in failed.hint


def test_a_missing_key_is_named(tmp_path: Path, over_ssh) -> None:
    failed = quiet_refusal(mirrors(tmp_path), replace(over_ssh, key="/nonexistent/key"))
    assert "/nonexistent/key" in failed.hint


def test_a_key_path_is_no_shell_text(tmp_path: Path, over_ssh) -> None:
    hostile = f"/nonexistent/'; touch {tmp_path}/pwned; '"
    quiet_refusal(mirrors(tmp_path), replace(over_ssh, key=hostile))
    assert not (tmp_path / "pwned").exists()
