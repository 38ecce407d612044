"""What git's words mean for a deployment: whose fault it is, and what to do."""

from __future__ import annotations

import pytest

from fraisier.domain.errors import Cause
from fraisier.git.failures import RefMissing, Unexplained, explain, is_damage
from tests import factories

SSH = factories.source(
    clone_url="ssh://git@git.example.com:2222/acme/orders.git", known_hosts="/etc/fraisier/known"
)
SSH_END = (
    "fatal: Could not read from remote repository.\n\nPlease make sure you have the correct access rights\n"
)

WORDS = [
    ("fatal: unable to access 'https://h/x/': Could not resolve host: h", Cause.network),
    ("ssh: Could not resolve hostname h: Name or service not known\n" + SSH_END, Cause.network),
    ("ssh: connect to host h port 22: Connection refused\n" + SSH_END, Cause.network),
    ("ssh: connect to host h port 22: Connection timed out\n" + SSH_END, Cause.network),
    ("kex_exchange_identification: Connection closed by remote host\n" + SSH_END, Cause.network),
    (
        "Timeout, server h not responding.\nfatal: early EOF\nfatal: fetch-pack: invalid index-pack output",
        Cause.network,
    ),
    (
        "error: RPC failed; curl 18 transfer closed with outstanding read data remaining\nfatal: early EOF",
        Cause.network,
    ),
    ("fatal: unable to access 'https://h/x/': The requested URL returned error: 502", Cause.network),
    ("fatal: unable to access 'https://h/x/': The requested URL returned error: 429", Cause.network),
    (
        "fatal: unable to access 'https://h/x/': Operation too slow. Less than 1 bytes/sec transferred",
        Cause.network,
    ),
    (
        "fatal: unable to access 'https://h/': gnutls_handshake() failed: Error in the pull function.",
        Cause.network,
    ),
    ("fatal: the remote end hung up unexpectedly", Cause.network),
    ("fatal: unable to access 'https://h/x/': The requested URL returned error: 403", Cause.repository),
    ("fatal: could not read Username for 'https://h': terminal prompts disabled", Cause.repository),
    ("remote: HTTP Basic: Access denied\nfatal: Authentication failed for 'https://h/x/'", Cause.repository),
    ("remote: Repository not found.\nfatal: repository 'https://h/x/' not found", Cause.repository),
    ("ERROR: Repository not found.\n" + SSH_END, Cause.repository),
    ("git@h: Permission denied (publickey).\n" + SSH_END, Cause.repository),
    ("Host key verification failed.\n" + SSH_END, Cause.repository),
    ("fatal: '/srv/x.git' does not appear to be a git repository\n" + SSH_END, Cause.repository),
    (
        "fatal: unable to access 'https://h/': SSL certificate problem: unable to get local issuer",
        Cause.repository,
    ),
    ("fatal: detected dubious ownership in repository at '/srv/x.git'", Cause.repository),
    ("fatal: transport 'ext' not allowed", Cause.repository),
    ("fatal: write error: No space left on device\nfatal: fetch-pack: invalid index-pack output", Cause.disk),
    ("error: unable to write file: Disk quota exceeded\nfatal: early EOF", Cause.disk),
    ("error: cannot run ssh: No such file or directory\nfatal: unable to fork", Cause.preflight),
    ("setpriv: failed to execute git: No such file or directory", Cause.preflight),
    ("sh: 7: git: not found", Cause.preflight),
    ("fatal: remote error: upload-pack: not our ref 1111", Cause.commit_not_found),
]


@pytest.mark.parametrize(("stderr", "cause"), WORDS, ids=[words[:60] for words, _ in WORDS])
def test_words_of_git_have_a_cause_and_a_hint(stderr: str, cause: Cause) -> None:
    failed = explain(stderr, SSH)
    assert failed.cause is cause
    assert failed.message.startswith("cannot fetch acme/orders: ")
    assert failed.hint
    assert "{" not in failed.hint
    assert not isinstance(failed, Unexplained)


def test_the_message_has_the_line_that_says_why() -> None:
    stderr = "From h\nssh: connect to host h port 22: Connection refused\r\n" + SSH_END
    assert (
        explain(stderr, SSH).message
        == "cannot fetch acme/orders: ssh: connect to host h port 22: Connection refused"
    )


def test_an_unknown_host_key_is_explained_with_the_command_and_the_file() -> None:
    hint = explain("Host key verification failed.\n" + SSH_END, SSH).hint
    assert "ssh-keyscan -p 2222 git.example.com" in hint
    assert "/etc/fraisier/known" in hint


def test_a_missing_ref_can_be_told_from_a_missing_repository() -> None:
    assert isinstance(explain("fatal: couldn't find remote ref refs/heads/x", SSH), RefMissing)
    assert not isinstance(explain("fatal: repository 'x' not found", SSH), RefMissing)


def test_words_that_nobody_knows_are_kept_and_bounded() -> None:
    failed = explain("fatal: " + "odd " * 1000, SSH)
    assert isinstance(failed, Unexplained)
    assert failed.cause is Cause.repository
    assert len(failed.message) < 400
    assert explain("", SSH).message.endswith("git gave no reason")


@pytest.mark.parametrize(
    "stderr",
    [
        "error: object file ./objects/0c/1 is empty\nfatal: loose object 0c1 (stored in ./objects) is corrupt",
        "error: packfile ./objects/pack/p.pack does not match index",
        "fatal: not a git repository: '/var/lib/fraisier/mirrors/x.git'",
        "fatal: bad config line 1 in file config",
        "error: unable to unpack 0c11 header",
        "fatal: bad object refs/heads/main",
        "error: invalid object 100644 d8263ee9860594d2806b0dfd1bfd17528b0ba2a4 for 'b'",
        "error: cannot lock ref 'refs/heads/a/b': 'refs/heads/a' exists; cannot create 'refs/heads/a/b'",
    ],
)
def test_damage_of_the_mirror_is_recognised(stderr: str) -> None:
    assert is_damage(stderr)


@pytest.mark.parametrize("stderr", [words for words, _ in WORDS])
def test_no_other_failure_is_taken_for_damage(stderr: str) -> None:
    assert not is_damage(stderr)


def test_damage_that_the_remote_has_is_not_ours() -> None:
    assert not is_damage("remote: error: packfile x.pack does not match index\nfatal: early EOF")
