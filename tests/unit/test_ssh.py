"""What goes to a host's shell, what ssh's errors mean, and what bootstrap lets a user do."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraisier.application.bootstrap_host import needs_of, script, sudoers
from fraisier.application.settings import HostOptions
from fraisier.deployers import api
from fraisier.deployers.common import Parts, candidate
from fraisier.domain.acts import Command, LinkShared, Seal, Send, Unpack
from fraisier.domain.errors import Cause, StepFailed, UsageError, exit_status
from fraisier.domain.fraise import BuildCommand, BuildOn, TargetSpec
from fraisier.domain.plan import StepName
from fraisier.hosts.ssh import needs_rights
from fraisier.hosts.ssh_client import ssh, unreachable
from fraisier.hosts.ssh_words import marked_request, quoted, request, session_command
from fraisier.targets.compose import Compose
from fraisier.targets.systemd import Systemd
from tests.factories import environment

SHELLS = [found for name in ("sh", "bash") if (found := shutil.which(name))]
CHANGED = (
    "@@@\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n"
    "Offending ED25519 key in /etc/keys:7\r\nHost key verification failed."
)
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJtest fraisier@controller"
# Whatever an argument can be: any bytes but NUL, as Python holds them.
_special = st.sampled_from([bytes([byte]) for byte in b"'\"\\$`\n\t *?[]{}();&|<>!#~=-a"])
_bytes = st.lists(st.one_of(_special, st.binary(min_size=1, max_size=3)), max_size=12).map(b"".join)
words = st.lists(_bytes.map(lambda found: os.fsdecode(found.replace(b"\0", b"!"))), max_size=8)


@settings(max_examples=25)
@given(words)
@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_takes_quoted_words_for_exactly_these_words(shell: str, words: list[str]) -> None:
    show = 'eval "set -- $(printf %s "$1" | base64 -d)"; for word; do printf "%s\\0" "$word"; done'
    line = request(words).decode().strip()
    said = subprocess.run((shell, "-c", show, "sh", line), capture_output=True, check=True).stdout
    assert said == b"".join(os.fsencode(word) + b"\0" for word in words)


@settings(max_examples=25)
@given(words)
@pytest.mark.parametrize("shell", SHELLS)
def test_an_answering_session_takes_a_request_for_exactly_its_words(shell: str, words: list[str]) -> None:
    line = session_command("abc123", ("agent",)).replace("exec /bin/sh", f"exec {shell}", 1)
    asked = marked_request("m1", ("printf", "%s\\0", *words)) + marked_request("m2", ("ls", "/no\nwhere"))
    said = subprocess.run(("sh", "-c", line), input=asked, capture_output=True, check=True).stdout
    shown, _, rest = said.partition(b"\nm1 0\n\nm1\n")
    assert shown == b"\nabc123\n" + b"".join(os.fsencode(word) + b"\0" for word in words or [""])
    assert rest.startswith(b"\nm2 2\nls: ")
    assert rest.endswith(b"\n\nm2\n")


def test_a_word_with_a_nul_is_refused() -> None:
    with pytest.raises(StepFailed, match="NUL"):
        quoted(["a\0b"])


def test_any_login_shell_can_read_how_a_session_is_started() -> None:
    line = session_command("abc123", ("fed_to", "agent"))
    start, _, rest = line.partition("'")
    program, _, words = rest.partition("'")
    assert start == "exec /bin/sh -c "
    assert words == " fraisier abc123 fed_to agent"
    assert not set(program) & set("'!\n`")


@pytest.mark.parametrize(
    ("said", "cause", "message", "hint"),
    [
        (
            "ssh: connect to host web1 port 22: Connection refused\r\n",
            Cause.network,
            "Connection refused",
            "ssh web1 true",
        ),
        (
            "ssh: Could not resolve hostname web1: Name or service not known",
            Cause.network,
            "not known",
            "ssh web1",
        ),
        ("", Cause.network, "the connection ended", "ssh web1 true"),
        (
            "Host key verification failed.\r\n",
            Cause.host,
            "its key is not in known_hosts",
            "ssh-keyscan web1 >>",
        ),
        ("No ED25519 host key is known for web1", Cause.host, "not in known_hosts", "compare"),
        (
            CHANGED,
            Cause.host,
            "its key is another one",
            "ssh-keygen -R web1 -f /etc/keys",
        ),
        (
            "deploy@web1: Permission denied (publickey).",
            Cause.host,
            "Permission denied",
            "fraisier bootstrap web1",
        ),
    ],
)
def test_what_ssh_says_becomes_a_cause_and_what_to_do(
    said: str, cause: Cause, message: str, hint: str
) -> None:
    failure = unreachable("web1", HostOptions(), said)
    assert (failure.cause, exit_status(failure)) == (cause, 4)
    assert failure.cause.is_retried
    assert message in failure.message
    assert hint in failure.hint


def test_options_go_before_the_configuration_and_strictness_before_all() -> None:
    options = HostOptions(address="10.0.0.7", port=2222, user="deploy", identity_file="/k/a b%c")
    argv = ssh("web1", options, "/run/x")
    for wanted in ('HostName="10.0.0.7"', "Port=2222", 'User="deploy"', 'IdentityFile="/k/a b%%c"'):
        assert wanted in argv
    assert {"StrictHostKeyChecking=yes", "BatchMode=yes", "ServerAliveInterval=5"} <= set(argv)
    assert argv[-2:] == ("--", "web1")


def _remote(**changes: object):
    target = TargetSpec(kind="systemd", unit="shop.service")
    return environment(hosts=("web1",), user="shop", target=target, **changes)


def test_sudo_lets_the_user_do_the_very_commands_of_a_deployment() -> None:
    there = _remote()
    rules = sudoers(needs_of("web1", "deploy", KEY, [there], {"systemd": Systemd()}))
    assert "deploy ALL=(shop) NOPASSWD: ALL" in rules
    acts = Systemd().acts(there, "/releases/1")
    for act in (*acts.release_failure, *acts.restart, *acts.stop):
        assert f"deploy ALL=(root) NOPASSWD: /usr/bin/{' '.join(act.argv)}\n" in rules
    assert "*" not in rules.replace("\\*", "")  # a star that stands for itself


@pytest.mark.skipif(shutil.which("visudo") is None, reason="needs sudo")
def test_visudo_takes_the_rules_also_for_odd_units(tmp_path) -> None:
    odd = replace(_remote(), target=TargetSpec(kind="systemd", unit=r"a\x2d:b@c.service"))
    file = tmp_path / "rules"
    file.write_text(sudoers(needs_of("web1", "deploy", KEY, [odd, _remote()], {"systemd": Systemd()})))
    done = subprocess.run(("visudo", "-cqf", str(file)), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_bootstrap_prints_is_a_script() -> None:
    text = script(needs_of("web1", "deploy", KEY, [_remote()], {"systemd": Systemd()}))
    assert subprocess.run(("sh", "-n"), input=text.encode(), check=False).returncode == 0
    assert "visudo -cqf" in text.partition("install -m 440")[0]


def test_root_needs_no_sudo_and_a_key_of_several_lines_is_none() -> None:
    assert "sudoers" not in script(
        needs_of("web1", "root", KEY, [replace(_remote(), user="")], {"systemd": Systemd()})
    )
    with pytest.raises(UsageError):
        needs_of("web1", "deploy", KEY + "\nssh-rsa x", [_remote()], {"systemd": Systemd()})


def test_nobody_becomes_root_because_an_environment_builds_as_root() -> None:
    needs = needs_of("web1", "deploy", KEY, [replace(_remote(), user="root")], {"systemd": Systemd()})
    assert "NOPASSWD: ALL" not in script(needs)
    assert "as root" in needs.remarks[0]


def test_what_only_root_may_install_is_said() -> None:
    needs = needs_of("web1", "deploy", KEY, [_remote(unit_file="a.service")], {"systemd": Systemd()})
    assert "/etc/systemd/system" in needs.remarks[0]


def test_a_release_that_is_built_here_is_sent_before_it_is_linked_and_sealed() -> None:
    there = _remote(build=(BuildCommand(run="make"),), build_on=BuildOn.here, shared=("uploads/", ".env"))
    release = candidate(there, "1-aaaaaaa", "a" * 40)
    plan = api.plan_deployment(there, release, Parts())
    acts = {step.name: step.acts for step in plan.steps}
    assert [type(act) for act in acts[StepName.prepare]] == [Unpack]
    assert [type(act) for act in acts[StepName.build]] == [Command, Send, LinkShared, LinkShared, Seal]
    assert all(act.here for act in (*acts[StepName.prepare], acts[StepName.build][0]))
    assert acts[StepName.build][1].leave_out == ("uploads", ".env")
    assert "Fraisier's own machine" in acts[StepName.build][0].describe()


def _in_containers(**options: str):
    target = TargetSpec(kind="compose", unit="shop-production", options=options)
    return environment(hosts=("web1",), user="shop", target=target)


def test_who_uses_docker_is_in_its_group_and_gets_no_right_of_root() -> None:
    needs = needs_of(
        "web1", "deploy", KEY, [_in_containers(), _remote()], {"systemd": Systemd(), "compose": Compose()}
    )
    assert needs.groups == ("docker",)
    assert "docker" not in sudoers(needs)
    text = script(needs)
    assert "usermod -aG docker deploy" in text
    assert "whose members may do anything" in text
    assert subprocess.run(("sh", "-n"), input=text.encode(), check=False).returncode == 0


def test_a_daemon_of_the_users_own_needs_no_group() -> None:
    rootless = _in_containers(docker_host="unix:///run/user/1001/docker.sock")
    needs = needs_of("web1", "deploy", KEY, [rootless], {"compose": Compose()})
    assert (needs.groups, needs.commands, needs.remarks) == ((), (), ())


def test_short_and_long_commands_of_docker_have_the_same_rights() -> None:
    assert not needs_rights(("docker", "ps"))
    assert needs_rights(("systemctl", "restart", "shop.service"))
