"""What writes system units takes nothing but our own templates' lines: attacks on the text that it is given.

The rules are those of `scripts/units.sh`; here only they run, without root and without systemd.
"""

from __future__ import annotations

import fcntl
import subprocess
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fraisier.application.units_program import bundle
from fraisier.deployers.common import candidate
from fraisier.deployers.timer_units import hidden_of, name_of, units_of
from fraisier.domain.errors import StepFailed
from fraisier.domain.fraise import Environment, EnvironmentKey, FraiseType
from fraisier.domain.job import Job, Keeper, Schedule
from fraisier.domain.secret import Secret
from fraisier.domain.timer_acts import WriteUnits
from tests.factories import SHA_A, environment

SCRIPT = str(files("fraisier.application") / "scripts" / "units.sh")
CHECK = '. "$1"; use_name "$2"; work=$3 user=$4 app=$5 env_file=$6 log_file=$7; rm -rf "$work"; mkdir "$work"; accept'
NIGHTLY = Job(
    name="nightly",
    run="bin/report --all",
    keeper=Keeper.systemd,
    schedule=Schedule(expression="*-*-* 02:00:00", timezone="Europe/Berlin", jitter=30.0),
    retries=2,
    on_success=("echo ok",),
    on_failure=("echo bad", "mail root"),
)
AFTER = Job(name="after-it", run="true", keeper=Keeper.systemd, depends_on="nightly")
HERE = environment(
    type=FraiseType.scheduled,
    user="orders",
    env={"NAME": "value", "TOKEN": Secret("hunter2")},
    env_file="/etc/orders.env",
    log_file="/var/log/fraisier/orders.log",
    jobs={"nightly": NIGHTLY, "after-it": AFTER},
)

Accepts = Callable[[bytes], str]


def text_of(wanted: Environment = HERE) -> bytes:
    release = candidate(wanted, "1-aaaaaaaaaa", SHA_A, "refs/heads/main")
    units = units_of(wanted, release)
    return bundle(WriteUnits(destination="", units=units, reports="", user="", env=hidden_of(wanted)))


@pytest.fixture(scope="module")
def refusal(tmp_path_factory: pytest.TempPathFactory) -> Accepts:
    """Why a bundle is refused; '' if it is not."""
    work = tmp_path_factory.mktemp("units") / "work"

    def ask(text: bytes, at: Environment = HERE) -> str:
        words = (name_of(at.key), str(work), at.user, at.app_path, at.env_file, at.log_file)
        done = subprocess.run(
            ("sh", "-c", CHECK, "sh", SCRIPT, *words),
            input=text,
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert done.returncode in (0, 1), done.stderr
        assert bool(done.stderr) == bool(done.returncode), done
        return done.stderr.decode(errors="replace")

    return ask


def test_what_is_made_from_the_configuration_is_accepted(refusal: Accepts, tmp_path: Path) -> None:
    assert refusal(text_of()) == ""


def changed(old: str, new: str) -> bytes:
    text = text_of().decode()
    assert old in text, old
    return text.replace(old, new, 1).encode()


LONE = b"""fraisier-units 1
unit fraisier-orders-production-lone.timer
# Written by Fraisier for orders/production
[Timer]
OnCalendar=daily
Unit=fraisier-orders-production-lone.service
.
end
"""
EXEC = "ExecStart=/bin/sh -c "
ATTACKS = {
    "another user": changed("User=orders", "User=root"),
    "no user": changed("User=orders\n", ""),
    "an empty user": changed("User=orders", "User="),
    "a second user": changed("User=orders", "User=orders\nUser=root"),
    "the user in a comment": changed("User=orders", "#User=orders"),
    "the user behind a blank": changed("User=orders", " User=root\nUser=orders"),
    "a group": changed("User=orders", "User=orders\nGroup=root"),
    "more groups": changed("User=orders", "User=orders\nSupplementaryGroups=shadow"),
    "capabilities": changed("User=orders", "User=orders\nAmbientCapabilities=CAP_SYS_ADMIN"),
    "a command as root": changed(EXEC, "ExecStart=+/bin/sh -c "),
    "a command with other rights": changed(EXEC, "ExecStart=!/bin/sh -c "),
    "a command that may fail": changed(EXEC, "ExecStart=-/bin/sh -c "),
    "another program": changed(EXEC, "ExecStart=/bin/bash -c "),
    "another program of that name": changed(EXEC, "ExecStart=/tmp/sh -c "),
    "a command before": changed(EXEC, 'ExecStartPre=+/bin/sh -c "true"\n' + EXEC),
    "a command after": changed(EXEC, 'ExecStartPost=/bin/sh -c "true"\n' + EXEC),
    "a second command": changed("3600 30 60", '3600 ; +/bin/sh -c "x"'),
    "a second command, quoted badly": changed(EXEC, 'ExecStart=/bin/sh -c "true" ; +/bin/sh -c '),
    "an end of the quotes": changed("bin/report --all", 'x" ; +/bin/sh "'),
    "a variable": changed("bin/report --all", "$HOME"),
    "a specifier": changed("bin/report --all", "%h"),
    "an unknown escape": changed("bin/report --all", "\\x22 ; +/bin/sh -c \\x22"),
    "an octal escape": changed("bin/report --all", "\\042"),
    "a line that goes on": changed("Nice=10", "Nice=10\\"),
    "a description that goes on": changed("Description=orders", "Description=orders\\\nUser=root\n#"),
    "a carriage return": changed("Nice=10", "Nice=10\r"),
    "a NUL": changed("Nice=10", "Nice=10\0"),
    "a tab": changed("Nice=10", "\tNice=10"),
    "another folder": changed("WorkingDirectory=/var/www/orders/current", "WorkingDirectory=/root"),
    "a folder above": changed("/var/www/orders/current", "/var/www/orders/current/../../../root"),
    "another env file": changed("EnvironmentFile=/etc/orders.env", "EnvironmentFile=/etc/fraisier/secrets.env"),
    "another environment's env": changed("/etc/fraisier/timers/fraisier-orders-", "/etc/fraisier/timers/fraisier-other-"),
    "another log": changed("append:/var/log/fraisier/orders.log", "append:/etc/cron.d/x"),
    "a log that is cut": changed("append:/var/log", "truncate:/var/log"),
    "a file as output": changed("StandardError=inherit", "StandardError=file:/etc/passwd"),
    "a bind mount": changed("Nice=10", "Nice=10\nBindPaths=/root"),
    "a root of its own": changed("Nice=10", "Nice=10\nRootDirectory=/var/www/orders"),
    "rights again": changed("NoNewPrivileges=true", "NoNewPrivileges=false"),
    "without the loss of rights": changed("NoNewPrivileges=true\n", ""),
    "rights in small letters": changed("NoNewPrivileges=true", "NoNewPrivileges=true\nnonewprivileges=false"),
    "a path to write": changed("ReadWritePaths=/var/www/orders", "ReadWritePaths=/"),
    "a setting of Unit": changed("After=network.target", "After=network.target\nOnFailure=reboot.target"),
    "an action": changed("After=network.target", "After=network.target\nSuccessAction=reboot"),
    "somebody else's unit after it": changed("OnSuccess=fraisier-orders-production-after--it", "OnSuccess=reboot"),
    "two units after it": changed("after--it.service\n", "after--it.service reboot.service\n"),
    "a timer of another unit": changed("Unit=fraisier-orders-production-nightly.service", "Unit=ssh.service"),
    "a timer at boot": changed("AccuracySec=1", "AccuracySec=1\nOnBootSec=1"),
    "a calendar with more": changed("Europe/Berlin", "Europe/Berlin\\"),
    "a service that is wanted": changed("[Service]", "[Install]\nWantedBy=multi-user.target\n[Service]"),
    "a timer that others want": changed("WantedBy=timers.target", "WantedBy=sysinit.target"),
    "an alias": changed("WantedBy=timers.target", "WantedBy=timers.target\nAlias=ssh.service"),
    "a section of another kind": changed("[Service]", "[Socket]"),
    "a section twice": changed("[Service]", "[Service]\n[Service]"),
    "a service in a timer": changed("[Timer]", "[Service]\nUser=root\n[Timer]"),
    "a name outside": changed("unit fraisier-orders-production-nightly.service", "unit ../nightly.service"),
    "a name below": changed("unit fraisier-orders-production-nightly.service", "unit fraisier-orders-production-x/y.service"),
    "another environment": changed("unit fraisier-orders-production-nightly.service", "unit fraisier-orders-staging-nightly.service"),
    "a longer environment": changed("unit fraisier-orders-production-nightly.service", "unit fraisier-orders-production--x-nightly.service"),
    "a socket": changed("unit fraisier-orders-production-nightly.timer", "unit fraisier-orders-production-nightly.socket"),
    "a drop-in": changed("nightly.timer\n# W", "nightly.service.d/x.conf\n# W"),
    "a unit of ssh": changed("unit fraisier-orders-production-nightly.service", "unit ssh.service"),
    "a first line of another": changed("# Written by Fraisier for orders/production", "# Written by Fraisier for orders/staging"),
    "no first line": changed("# Written by Fraisier for orders/production\n", ""),
    "a comment that goes on": changed("[Service]\n", "[Service]\n# \\\n"),
    "a unit twice": text_of().replace(b"end\n", text_of().split(b"\n", 1)[1]),
    "no end": text_of().removesuffix(b"end\n"),
    "half a unit": text_of()[:900],
    "something behind the end": text_of() + b"unit x.service\n",
    "two envs": changed("\nenv ", "\nenv AAAA\nenv "),
    "an env with more": changed("\nenv ", "\nenv $(id)"),
    "nothing": b"",
    "another version": changed("fraisier-units 1", "fraisier-units 2"),
    "no text": b"fraisier-units 1\nunit fraisier-orders-production-x.service\n.\nend\n",
    "too much": b"fraisier-units 1\n" + b"#" * (1 << 20) + b"\nend\n",
    "a timer alone": LONE,
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_what_is_not_of_a_template_is_refused(refusal: Accepts, attack: bytes) -> None:
    assert attack != text_of()
    assert refusal(attack).startswith("cannot use the units of fraisier-orders-production: ")


def test_a_refusal_tells_nothing_of_a_file_that_was_given_instead(refusal: Accepts) -> None:
    """Whoever may call it could have it read what only root may."""
    assert "hunter2" not in refusal(b"fraisier-units 1\nPASSWORD=hunter2\n")
    assert "hunter2" not in refusal(b"hunter2\n")


@pytest.mark.parametrize(
    "name",
    ["", "fraisier", "fraisier-", "fraisier-a", "fraisier-a-", "fraisier--a-b", "fraisier-a-b-c", "a-b-c",
     "fraisier-a-../../etc", "fraisier-a-b\nc", "fraisier-a-b c", "fraisier-.a-b", "fraisier-a---b-c"],
)  # fmt: skip
def test_a_name_that_is_no_environments_is_refused(name: str) -> None:
    done = subprocess.run(
        ("sh", "-c", '. "$1"; use_name "$2"', "sh", SCRIPT, name), capture_output=True, check=False
    )
    assert done.returncode == 1, name
    assert b"it is no environment" in done.stderr


_names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,12}\Z", fullmatch=True)


@settings(max_examples=60, deadline=None)
@given(fraise=_names, name=_names)
def test_the_program_reads_every_environments_name_as_it_was_meant(fraise: str, name: str) -> None:
    key = EnvironmentKey(fraise, name)
    words = ("sh", "-c", '. "$1"; use_name "$2"; printf %s "$label"', "sh", SCRIPT, name_of(key))
    done = subprocess.run(words, capture_output=True, check=False, text=True)
    assert done.stdout == str(key), done.stderr


_lines = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=60).filter(
    lambda text: bool(text.strip())
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(line=_lines, value=_lines)
def test_whatever_a_line_says_is_accepted_or_refused_before_it_is_written(
    refusal: Accepts, line: str, value: str
) -> None:
    """No line of the configuration makes a text that is not what it was meant to be."""
    job = replace(NIGHTLY, run=line, on_success=(value,))
    try:
        text = text_of(replace(HERE, env={"NAME": value}, jobs={"nightly": job}))
    except StepFailed:
        return
    assert refusal(text) == "", (line, value)
    assert text.count(b"\nUser=") == 1
    assert text.count(b"\nExecStart=") == 1


_settings = st.sampled_from(
    ["User", "Group", "ExecStart", "ExecStartPre", "ExecStopPost", "EnvironmentFile", "Type", "Alias", "Unit"]
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.data(),
    key=_settings,
    value=st.text(st.characters(max_codepoint=126, min_codepoint=32), max_size=40),
)
def test_no_line_that_is_put_in_gets_more_rights(
    refusal: Accepts, data: st.DataObject, key: str, value: str
) -> None:
    lines = text_of().decode().splitlines()
    at = data.draw(st.integers(0, len(lines)))
    put = f"{key}={value}"
    said = refusal("\n".join([*lines[:at], put, *lines[at:]]).encode() + b"\n")
    harmless = put in lines or (key == "ExecStopPost" and value.startswith('/bin/sh -c "'))
    harmless |= key == "EnvironmentFile" and value in (HERE.env_file, "")
    assert said or harmless, put


@pytest.mark.parametrize("verb", ["apply", "remove", "pause"])
def test_whoever_changes_units_waits_for_another_one_but_not_for_good(tmp_path: Path, verb: str) -> None:
    stub = 'systemctl() { echo "systemctl $*"; }; mktemp() { mkdir "$lock.work"; echo "$lock.work"; }'
    call = f'. "$1"; {stub}; units=$2 own=$2 lock=$2/lock patient=1; use_name "$3"; user=x app=/x env_file= log_file=; {verb}'
    words = ("sh", "-c", call, "sh", SCRIPT, str(tmp_path), name_of(HERE.key))
    with (tmp_path / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = subprocess.run(
            words, input=b"fraisier-units 1\nend\n", capture_output=True, check=False, timeout=20
        )
    assert (done.returncode, done.stdout) == (1, b"")
    message = f"cannot change the units of {name_of(HERE.key)}: another one has held {tmp_path}/lock for 1 s."
    assert message in done.stderr.decode()
