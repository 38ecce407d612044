"""What a good `fraises.yaml` means."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fraisier.application.ports import Configuration
from fraisier.application.settings import HostOptions
from fraisier.config import environment_keys, json_schema, keys
from fraisier.config.codec import Codec, known_secrets
from fraisier.config.kinds import seconds_of
from fraisier.config.load import load_configuration
from fraisier.config.locate import find_config
from fraisier.config.reference import render_markdown
from fraisier.config.sections import Section
from fraisier.domain.errors import ConfigProblem, InvalidConfig, UsageError
from fraisier.domain.fraise import (
    BuildCommand,
    Database,
    Environment,
    EnvironmentKey,
    HealthCheck,
    OnForcePush,
    TargetSpec,
)
from fraisier.domain.rollout import Rollout
from fraisier.domain.secret import Redactor, Secret
from fraisier.domain.window import Window
from tests.unit.good_config import GOOD, in_environment, in_fraise

CHECKOUT = Path(__file__).parents[2]
FIXTURES = CHECKOUT / "tests" / "fixtures"
EXAMPLE = CHECKOUT / "fraises.example.yaml"


def loaded(folder: Path, text: str, **environ: str) -> Configuration:
    file = folder / "fraises.yaml"
    file.write_text(text)
    return load_configuration(str(file), environ=environ)


def environment(folder: Path, *lines: str, **environ: str) -> Environment:
    """GOOD's environment with more lines in it."""
    return loaded(folder, in_environment(*lines), **environ).environments[EnvironmentKey("api", "production")]


def variables_of(file: Path) -> dict[str, str]:
    """A distinct value for every variable that a file uses without a default."""
    names = re.findall(r"\$\{([A-Z_]+)\}", file.read_text())
    return {n: f"postgresql://u:{n}@h/d" if n.endswith("DATABASE_URL") else f"value-of-{n}" for n in names}


# ------------------------------------------------------------------------------------------- defaults


def test_what_is_left_out_has_the_defaults_of_the_domain(tmp_path: Path) -> None:
    found = environment(tmp_path)
    bare = Environment(
        fraise="api",
        name="production",
        type=found.type,
        source=found.source,
        branch="main",
        app_path="/var/www/orders",
    )
    assert found == bare


def test_a_health_check_has_the_defaults_of_the_domain(tmp_path: Path) -> None:
    assert environment(tmp_path, "health_check: {tcp: 'a:1'}").health_check == HealthCheck(tcp="a:1")


def test_settings_that_are_left_out_have_the_documented_defaults(tmp_path: Path) -> None:
    found = loaded(tmp_path, GOOD).settings
    assert (found.host, found.port, found.retention) == ("127.0.0.1", 8080, 30 * 86400)
    assert (found.max_body, found.max_in_flight, found.body_timeout) == (25 << 20, 64 << 20, 10)
    assert found.database_url == "sqlite:///var/lib/fraisier/fraisier.db"
    assert found.state_folder == "/var/lib/fraisier"
    assert found.default_forge == "github"


@pytest.mark.parametrize(
    ("written", "url", "password"),
    [
        ("postgresql://fraisier:p%40ss@db:5432/fraisier", "postgresql://fraisier@db:5432/fraisier", "p@ss"),
        (
            "postgres://fraisier:${PG}@db/f?sslmode=require",
            "postgresql://fraisier@db/f?sslmode=require",
            "hunter2",
        ),
        ("postgresql://fraisier@db/fraisier", "postgresql://fraisier@db/fraisier", None),
        ("postgresql:///fraisier?host=/run/pg", "postgresql:///fraisier?host=/run/pg", None),
    ],
)
def test_the_password_of_the_database_is_kept_apart_and_never_shown(
    tmp_path: Path, written: str, url: str, password: str | None
) -> None:
    configuration = loaded(tmp_path, f"{GOOD}database: {{url: '{written}'}}\n", PG="hunter2")
    found = configuration.settings
    assert (found.database_url, found.state_folder) == (url, "/var/lib/fraisier")
    assert (found.database_password and found.database_password.reveal()) == password
    if password is not None:
        assert password not in repr(configuration)
        assert password in known_secrets(configuration)


# --------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30.0),
        ("0.5", 0.5),
        ("500ms", 0.5),
        ("15m", 900.0),
        ("1h30m", 5400.0),
        ("30d", 2592000.0),
        ("2w", 1209600.0),
    ],
)
def test_durations_are_seconds(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "5x", "1m1m", "1 h", "-1s", "1e3", "٣s", "1h 30m", "9" * 50])
def test_what_is_no_duration_is_none(text: str) -> None:
    assert seconds_of(text) is None


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1048576", 1 << 20),
        ("500MB", 500_000_000),
        ("1GiB", 1 << 30),
        ("2k", 2000),
        ("1.5 MiB", 1572864),
        ("7B", 7),
    ],
)
def test_sizes_are_bytes(tmp_path: Path, text: str, size: int) -> None:
    assert environment(tmp_path, f"min_free_disk: {text}").min_free_disk == size


def test_all_that_an_environment_can_say(tmp_path: Path) -> None:
    found = environment(
        tmp_path,
        "user: orders",
        "systemd_service: orders",
        "unit_file: deploy/orders.service",
        "build_timeout: 10m",
        "build: [make, {run: make assets, timeout: 5}]",
        "env: {A: 1, B: yes, C: 0123, D: text}",
        "env_file: /etc/orders.env",
        "shared: [.env, uploads/]",
        "submodules: true",
        "lfs: on",
        "root: services/api/",
        "paths: ['services/api/**']",
        "database: {up: make up, down: make down, timeout: 1m, name: x}",
        "health_check: {url: 'https://a/b', expect_status: [200, 204], expect_headers: {X-A: b}, passes: 3}",
        "keep_releases: 3",
        "on_force_push: refuse",
        "retry_for: 1h",
        "restart_timeout: 10",
        "allowed: [mon-fri 08:00-17:00 Europe/Berlin, 'sat 22:00-02:00']",
    )
    assert found.user == "orders"
    assert found.target == TargetSpec(kind="systemd", unit="orders.service", options={"manager": "system"})
    assert found.unit_file == "deploy/orders.service"
    assert found.build == (BuildCommand(run="make", timeout=600), BuildCommand(run="make assets", timeout=5))
    assert found.env == {"A": "1", "B": "yes", "C": "0123", "D": "text"}
    assert (found.env_file, found.shared) == ("/etc/orders.env", (".env", "uploads/"))
    assert (found.submodules, found.lfs, found.root, found.paths) == (
        True,
        True,
        "services/api",
        ("services/api/**",),
    )
    assert found.database == Database(up="make up", down="make down", timeout=60, name="x")
    assert found.health_check == HealthCheck(
        url="https://a/b", expect_status=(200, 204), expect_headers={"X-A": "b"}, passes=3
    )
    assert (found.keep_releases, found.on_force_push) == (3, OnForcePush.refuse)
    assert (found.retry_for, found.restart_timeout) == (3600, 10)
    assert found.allowed == (
        Window(days=(0, 1, 2, 3, 4), start=480, end=1020, zone="Europe/Berlin"),
        Window(days=(5,), start=1320, end=1560),
    )


@pytest.mark.parametrize(
    ("lines", "target"),
    [
        (
            ("systemd_service: a.service", "systemd_manager: user"),
            TargetSpec(kind="systemd", unit="a.service", options={"manager": "user"}),
        ),
        (
            ("compose_file: compose.yaml",),
            TargetSpec(kind="compose", unit="api-production", options={"files": "compose.yaml"}),
        ),
        (
            ("compose_file: [a.yaml, deploy/b.yaml]", "compose_project: orders"),
            TargetSpec(kind="compose", unit="orders", options={"files": "a.yaml:deploy/b.yaml"}),
        ),
        (("supervisord_program: a",), TargetSpec(kind="supervisord", unit="a")),
        (
            ("supervisord_program: g:a", "supervisord_config: /etc/s.conf"),
            TargetSpec(kind="supervisord", unit="g:a", options={"config": "/etc/s.conf"}),
        ),
        (
            ("target: {type: systemd, unit: a.service, color: red}",),
            TargetSpec(kind="systemd", unit="a.service", options={"color": "red"}),
        ),
    ],
)
def test_what_runs_a_release(tmp_path: Path, lines: tuple[str, ...], target: TargetSpec) -> None:
    assert environment(tmp_path, *lines).target == target


def test_a_database_with_only_a_name_migrates_nothing(tmp_path: Path) -> None:
    assert environment(tmp_path, "database: {name: orders}").database is None


def test_this_machine_may_be_named(tmp_path: Path) -> None:
    for name in ("localhost", "127.0.0.1", os.uname().nodename):
        assert environment(tmp_path, f"hosts: {name}").hosts == ("localhost",)


def test_another_host_is_reached_as_its_options_say(tmp_path: Path) -> None:
    text = GOOD.replace(
        "fraises:", "hosts: {web1: {address: 10.0.0.7, port: 2222, user: deploy}}\nfraises:", 1
    )
    file = tmp_path / "fraises.yaml"
    file.write_text(f"{text}        hosts: web1\n        build_on: here\n")
    found = load_configuration(str(file), environ={})
    (there,) = found.environments.values()
    assert (there.hosts, there.build_on) == (("web1",), "here")
    assert found.settings.hosts == {"web1": HostOptions(address="10.0.0.7", port=2222, user="deploy")}
    assert Codec({}, found).load(Codec({}, found).dump(there)) == there


def test_hosts_have_an_order(tmp_path: Path) -> None:
    hosts = "hosts: [web1, localhost, 10.0.0.3]"
    assert environment(tmp_path, hosts).rollout == Rollout()
    rollout = 'rollout: {batch: "25%", max_failures: 2, pause: 1m, canary: 0}'
    found = environment(tmp_path, hosts, rollout)
    assert found.hosts == ("web1", "localhost", "10.0.0.3")
    assert found.rollout == Rollout(batch=25, percent=True, max_failures=2, pause=60.0, canary=0)
    assert environment(tmp_path, hosts, "rollout: {batch: 3}").rollout == Rollout(batch=3)


def test_plugins_bring_forges_and_targets(tmp_path: Path) -> None:
    text = GOOD.replace("github: {", "forge9: {type: sourcehut, base_url: https://git.example.com, ")
    file = tmp_path / "fraises.yaml"
    file.write_text(f"{text}        target: {{type: nomad, unit: a}}\n")
    found = load_configuration(str(file), environ={}, known_forges=["sourcehut"], known_targets=["nomad"])
    assert found.settings.forges[0].kind == "sourcehut"
    with pytest.raises(InvalidConfig, match=r"'sourcehut' is no forge[\s\S]*'nomad' is no target"):
        load_configuration(str(file), environ={}, known_forges=(), known_targets=())


# -------------------------------------------------------------------------------------------- sources

CLONE_URLS = [
    ("github: {}", "", "https://github.com/acme/orders.git"),
    ("github: {base_url: 'https://ghe.example.com/'}", "", "https://ghe.example.com/acme/orders.git"),
    ("gitlab: {}", "", "https://gitlab.com/acme/orders.git"),
    ("bitbucket: {}", "", "https://bitbucket.org/acme/orders.git"),
    ("gitea: {base_url: 'https://g.example.com:3000'}", "", "https://g.example.com:3000/acme/orders.git"),
    (
        "bitbucket: {server: true, base_url: 'https://bb.example.com'}",
        "",
        "https://bb.example.com/scm/acme/orders.git",
    ),
    (
        "bitbucket_server: {base_url: 'https://bb.example.com'}",
        "clone_key: /k",
        "ssh://git@bb.example.com:7999/acme/orders.git",
    ),
    ("github: {}", "clone_key: /k", "git@github.com:acme/orders.git"),
    ("github: {clone_key: /k}", "", "git@github.com:acme/orders.git"),
    ("github: {clone_key: /k}", "clone_token: t0ken", "https://github.com/acme/orders.git"),
    ("github: {}", "clone_url: /srv/git/orders.git", "/srv/git/orders.git"),
    ("github: {}", "clone_url: file:///srv/git/orders.git", "file:///srv/git/orders.git"),
    ("github: {}", "clone_url: git@a.example.com:orders.git", "git@a.example.com:orders.git"),
    (
        "github: {}",
        "clone_url: ssh://git@a.example.com:2222/orders.git",
        "ssh://git@a.example.com:2222/orders.git",
    ),
]


@pytest.mark.parametrize(("forge", "line", "url"), CLONE_URLS, ids=[f"{c[0]} {c[1]}" for c in CLONE_URLS])
def test_the_clone_url_is_the_forges_own_where_none_is_given(
    tmp_path: Path, forge: str, line: str, url: str
) -> None:
    text = GOOD.replace("github: {webhook_secret: s3cr3t-of-the-forge}", forge)
    found = loaded(tmp_path, in_fraise(line, text=text))
    assert found.fraises["api"].source.clone_url == url


def test_a_forges_credentials_are_defaults_that_must_fit(tmp_path: Path) -> None:
    text = GOOD.replace(
        "webhook_secret:", "clone_token: t0ken, ca_file: /ca, known_hosts: /kh, webhook_secret:"
    )
    over_https = loaded(tmp_path, text).fraises["api"].source
    assert over_https.token is not None
    assert (over_https.token.reveal(), over_https.token_user) == ("t0ken", "x-access-token")
    assert (over_https.ca_file, over_https.known_hosts) == ("/ca", "")
    over_ssh = loaded(tmp_path, in_fraise("clone_url: git@a:b", text=text))
    assert over_ssh.fraises["api"].source.token is None
    assert over_ssh.fraises["api"].source.known_hosts == "/kh"


def test_secrets_may_be_several_while_they_are_rotated(tmp_path: Path) -> None:
    text = in_fraise("webhook_secret: [own-1, own-2]").replace(
        "s3cr3t-of-the-forge", "['${NEW}', 0ld-s3cr3t]"
    )
    found = loaded(tmp_path, text, NEW="n3w").settings
    assert found.forges[0].secrets == (b"n3w", b"0ld-s3cr3t")
    assert found.fraise_secrets == {"api": (b"own-1", b"own-2")}


def test_a_forge_without_a_secret_is_allowed_and_has_none(tmp_path: Path) -> None:
    found = loaded(tmp_path, GOOD.replace("webhook_secret: s3cr3t-of-the-forge", ""))
    assert found.settings.forges[0].secrets == ()


# ------------------------------------------------------------------------------------------ variables


def test_variables_are_replaced_where_text_or_a_number_is(tmp_path: Path) -> None:
    found = environment(
        tmp_path,
        "user: '${WHO}'",
        "keep_releases: '${KEEP}'",
        "retry_for: ${RETRY:-2m}",
        "submodules: ${SUB}",
        "root: 'a/${EMPTY:-b}/c'",
        WHO="orders",
        KEEP="7",
        SUB="yes",
        EMPTY="",
    )
    assert (found.user, found.keep_releases, found.retry_for, found.submodules, found.root) == (
        "orders",
        7,
        120,
        True,
        "a/b/c",
    )


def test_two_dollars_stand_for_one(tmp_path: Path) -> None:
    assert environment(tmp_path, "env: {A: '$${B} $C $'}").env == {"A": "${B} $C $"}


def test_a_shell_line_keeps_its_variables_for_the_shell(tmp_path: Path) -> None:
    found = environment(
        tmp_path, "build: ['echo ${FRAISIER_COMMIT}']", "health_check: {command: 'test ${A}'}"
    )
    assert found.build[0].run == "echo ${FRAISIER_COMMIT}"
    assert found.health_check is not None
    assert found.health_check.command == "test ${A}"


# -------------------------------------------------------------------------------------------- secrets

SECRETIVE = (
    "allowed: mon-fri 08:00-17:00 Europe/Berlin",
    "env: {A: '${FROM_OUTSIDE}', DB_PASSWORD: hunter2, URL: 'postgres://u:hunter3@h/d', B: 'x ${FROM_OUTSIDE}', P: plain}",
    "health_check: {url: 'http://a/', headers: {Authorization: 'Bearer hunter4', X-Id: '${ID:-hunter5}', X-P: plain}}",
)
VALUES = (
    "t0ps3cret",
    "hunter2",
    "hunter3",
    "hunter4",
    "hunter5",
    "s3cr3t-of-the-forge",
    "cl0ne-token",
    "own-s3cret",
)


def secretive(folder: Path) -> Configuration:
    text = in_fraise(
        "clone_token: cl0ne-token", "webhook_secret: own-s3cret", text=in_environment(*SECRETIVE)
    )
    return loaded(folder, text, FROM_OUTSIDE="t0ps3cret")


def test_what_is_or_sounds_secret_is_one(tmp_path: Path) -> None:
    found = secretive(tmp_path).environments[EnvironmentKey("api", "production")]
    at = "config:fraises.api.environments.production"
    assert found.env["P"] == "plain"
    assert found.health_check is not None
    assert found.health_check.headers["X-P"] == "plain"
    references = {name: value.reference for name, value in found.env.items() if isinstance(value, Secret)}
    assert references == {
        "A": "${FROM_OUTSIDE}",
        "DB_PASSWORD": f"{at}.env.DB_PASSWORD",
        "URL": f"{at}.env.URL",
        "B": f"{at}.env.B",
    }
    headers = {n: v.reference for n, v in found.health_check.headers.items() if isinstance(v, Secret)}
    assert headers == {
        "Authorization": f"{at}.health_check.headers.Authorization",
        "X-Id": f"{at}.health_check.headers.X-Id",
    }


def test_no_secret_is_in_anything_that_is_shown_or_stored(tmp_path: Path) -> None:
    found = secretive(tmp_path)
    written = [repr(found), str(found), json.dumps(list(found.documents.values())), found.digest]
    written += [Codec({}, found).dump(each) for each in found.environments.values()]
    for text in written:
        assert [value for value in VALUES if value in text] == []


def test_every_secret_is_known_for_redaction(tmp_path: Path) -> None:
    shown = Redactor(known_secrets(secretive(tmp_path))).text(" ".join(VALUES))
    assert [value for value in VALUES if value in shown] == []


def test_an_environment_survives_the_journal(tmp_path: Path) -> None:
    configuration = secretive(tmp_path)
    codec = Codec({"FROM_OUTSIDE": "t0ps3cret"}, configuration)
    for each in configuration.environments.values():
        assert codec.load(codec.dump(each)) == each


def test_a_reference_is_resolved_anew(tmp_path: Path) -> None:
    configuration = secretive(tmp_path)
    (found,) = configuration.environments.values()
    again = Codec({"FROM_OUTSIDE": "r0tated"}, configuration).load(Codec({}, configuration).dump(found))
    assert again.env["A"] == Secret("r0tated")


def test_a_reference_that_is_gone_is_told(tmp_path: Path) -> None:
    configuration = secretive(tmp_path)
    (found,) = configuration.environments.values()
    text = Codec({}, configuration).dump(found)
    with pytest.raises(UsageError, match=r"cannot resolve a secret .*FROM_OUTSIDE"):
        Codec({}, configuration).load(text)
    with pytest.raises(UsageError, match=r"the configuration has no fraises\.api"):
        Codec({"FROM_OUTSIDE": "x"}, loaded(tmp_path, GOOD)).load(text)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"type": "apo"}', "null", '{"type": 1}'])
def test_what_is_no_stored_environment_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="cannot read a stored environment"):
        Codec({}, loaded(tmp_path, GOOD)).load(text)


def test_fields_of_a_newer_version_are_left_aside(tmp_path: Path) -> None:
    configuration = loaded(tmp_path, GOOD)
    (found,) = configuration.environments.values()
    codec = Codec({}, configuration)
    newer = json.loads(codec.dump(found)) | {"colour": "blue-green"}
    assert codec.load(json.dumps(newer)) == found


def test_secrets_of_the_env_file_are_redacted_and_innocent_values_are_not(tmp_path: Path) -> None:
    file = tmp_path / "orders.env"
    file.write_text(
        "# a comment\n"
        "export RAILS_ENV=production\nPORT=8080\nROOT=/var/www/orders\nHOME_URL=https://www.example.com/shop\n"
        "DATABASE_URL='postgres://u:hunter2@h/d'\nSMTP_PASSWORD=letmein\nSTRIPE=sk_live_51Habc\nEMPTY=\n"
    )
    configuration = loaded(tmp_path, in_environment(f"env_file: {file}"))
    (found,) = configuration.environments.values()
    shown = Redactor(Codec({}, configuration).secrets(found, file.read_bytes())).text(file.read_text())
    for secret in ("hunter2", "letmein", "sk_live_51Habc"):
        assert secret not in shown
    for innocent in ("production", "8080", "/var/www/orders", "https://www.example.com/shop"):
        assert innocent in shown


def test_a_value_of_several_lines_in_an_env_file_is_a_secret(tmp_path: Path) -> None:
    file = tmp_path / "orders.env"
    file.write_text(
        'KEY="-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\n-----END KEY-----"\n# a long comment\n'
    )
    configuration = loaded(tmp_path, in_environment(f"env_file: {file}"))
    (found,) = configuration.environments.values()
    shown = Redactor(Codec({}, configuration).secrets(found, file.read_bytes())).text(file.read_text())
    assert "MIIEvQIBADANBgkqhkiG9w0B" not in shown
    assert "a long comment" in shown


def test_an_env_file_that_cannot_be_read_has_no_known_secrets(tmp_path: Path) -> None:
    with_file = loaded(tmp_path, in_environment(f"env_file: {tmp_path}/none.env"))
    without = loaded(tmp_path, GOOD)
    known = [Codec({}, each).secrets(*each.environments.values(), None) for each in (with_file, without)]
    assert known[0] == known[1]


def test_secrets_of_the_forges_and_of_proxies_are_known_to_every_environment(tmp_path: Path) -> None:
    configuration = loaded(tmp_path, GOOD)
    (found,) = configuration.environments.values()
    environ = {"https_proxy": "http://us:pr0xy-pass@proxy:3128", "no_proxy": "localhost"}
    known = Codec(environ, configuration).secrets(found)
    assert "s3cr3t-of-the-forge" in known
    assert "pr0xy-pass" in known


# --------------------------------------------------------------------------------------------- digest


def test_the_digest_changes_with_every_key_of_an_environment_and_not_with_spaces(tmp_path: Path) -> None:
    lines = [
        "user: a",
        "systemd_service: a",
        "build: [x]",
        "env: {A: 1}",
        "env: {A: 2}",
        "keep_releases: 6",
        "lfs: true",
        "allowed: mon-fri",
        "allowed: mon-fri 08:00-17:00",
    ]
    texts = [GOOD, *(in_environment(line) for line in lines)]
    texts.append(GOOD + "branch_mapping: {dev: {fraise: api, environment: production}}\n")
    digests = [loaded(tmp_path, text).digest for text in texts]
    assert len(set(digests)) == len(texts)
    assert loaded(tmp_path, f"# a comment\n{GOOD}\n").digest == digests[0]


def test_a_rotated_secret_does_not_change_the_digest(tmp_path: Path) -> None:
    text = in_environment("env: {A: '${A}'}")
    assert loaded(tmp_path, text, A="one").digest == loaded(tmp_path, text, A="two").digest


def test_documents_are_plain_json(tmp_path: Path) -> None:
    (document,) = secretive(tmp_path).documents.values()
    assert json.loads(json.dumps(document)) == document
    assert document["env"]["A"] == "${FROM_OUTSIDE}"
    assert document["branch"] == "main"


# ------------------------------------------------------------------------------------- where it is


def test_the_configuration_is_looked_for_in_the_documented_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if not Path("/etc/fraisier/fraises.yaml").exists():
        with pytest.raises(UsageError, match=r"cannot find a configuration.*`fraisier init`"):
            find_config(None, environ={})
    (tmp_path / "fraises.yaml").write_text(GOOD)
    assert find_config(None, environ={}) == "fraises.yaml"
    assert find_config(None, environ={"FRAISIER_CONFIG": "/b"}) == "/b"
    assert find_config("/a", environ={"FRAISIER_CONFIG": "/b"}) == "/a"


# ------------------------------------------------------------------------- example, fixtures, reference


@pytest.mark.parametrize(
    "file", [EXAMPLE, FIXTURES / "fraises_dev.yaml", FIXTURES / "fraises_prod.yaml"], ids=lambda f: f.name
)
def test_the_files_that_we_ship_are_good(file: Path) -> None:
    found = load_configuration(str(file), environ=variables_of(file))
    assert found.environments
    for each in found.environments.values():
        assert Codec(variables_of(file), found).load(Codec({}, found).dump(each)) == each


def test_the_production_fixture_means_what_it_says() -> None:
    file = FIXTURES / "fraises_prod.yaml"
    found = load_configuration(str(file), environ=variables_of(file))
    kinds = {forge.name: forge.kind for forge in found.settings.forges}
    assert kinds == {
        "github": "github",
        "gitlab": "gitlab",
        "work-gitea": "gitea",
        "bitbucket": "bitbucket",
        "bitbucket_server": "bitbucket_server",
    }
    production = found.environments[EnvironmentKey("my_api", "production")]
    assert (production.branch, production.user, production.env["ORDERS_ENV"]) == (
        "main",
        "orders",
        "production",
    )
    assert production.env["DATABASE_URL"] == Secret("postgresql://u:ORDERS_DATABASE_URL@h/d")
    assert production.source.clone_url == "git@github.com:acme/orders.git"


def test_the_reference_is_up_to_date() -> None:
    """Mend it with `python -m fraisier.config.reference > docs/configuration.md`."""
    assert (CHECKOUT / "docs" / "configuration.md").read_text() == render_markdown()


def sections(section: Section, seen: set[int] | None = None) -> list[Section]:
    seen = set() if seen is None else seen
    if id(section) in seen:
        return []
    seen.add(id(section))
    return [section, *(found for key in section.keys.values() for found in sections_in(key.kind, seen))]


def sections_in(kind: Any, seen: set[int]) -> list[Section]:
    if isinstance(kind, Section):
        return [*sections(kind, seen), *sections_in(kind.other, seen)]
    inner = [getattr(kind, name, None) for name in ("kind", "_long")]
    return [found for each in inner if each is not None for found in sections_in(each, seen)]


def test_every_key_is_in_the_reference() -> None:
    text = render_markdown()
    known = sections(keys.ROOT)
    assert len(known) >= 13
    for name in (name for section in known for name in section.keys):
        assert f"| `{name}` |" in text


def test_the_json_schema_knows_the_same_keys() -> None:
    schema = json_schema()
    assert set(schema["properties"]) == set(keys.ROOT.keys)
    fraise = schema["properties"]["fraises"]["additionalProperties"]
    one = fraise["properties"]["environments"]["additionalProperties"]
    assert set(one["properties"]) == set(environment_keys.ENVIRONMENT.keys)
    assert one["required"] == ["app_path"]
    assert one["additionalProperties"] is False
    json.dumps(schema)


def test_every_field_of_the_domain_can_be_said_in_the_file(tmp_path: Path) -> None:
    """A new field without a key would have its default for ever."""
    from_elsewhere = {"fraise", "name", "type", "source", "target"}
    from_elsewhere |= {"backup"}
    assert {field.name for field in fields(Environment)} - from_elsewhere <= set(
        environment_keys.ENVIRONMENT.keys
    )
    chosen_later = {"at"}  # where an instance listens
    assert {field.name for field in fields(HealthCheck)} - chosen_later <= set(environment_keys.HEALTH.keys)
    assert {field.name for field in fields(Database)} - {"options"} <= set(environment_keys.MIGRATION.keys)


# ------------------------------------------------------------------------------------------- robustness

_words = st.sampled_from(
    [
        *(
            "git",
            "fraises",
            "api",
            "environments",
            "production",
            "branch",
            "app_path",
            "build",
            "env",
            "url",
            "<<",
        ),
        *(
            "branch_mapping",
            "database",
            "health_check",
            "${A}",
            "no",
            "0123",
            "12:30:00",
            "",
            "~",
            "/a/b",
            "acme/x",
        ),
        *(
            "hosts",
            "shared",
            "repository",
            "target",
            "type",
            "server",
            "port",
            "git_provider",
            "clone_url",
            "x" * 300,
        ),
    ]
)
_scalars = (
    _words | st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.dates()
)
_trees = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_words, inner, max_size=5),
    max_leaves=25,
)


def attempt(folder: Path, data: bytes) -> None:
    file = folder / "fuzzed.yaml"
    file.write_bytes(data)
    problems: tuple[ConfigProblem, ...] | None = None
    try:
        load_configuration(str(file), environ={"A": "x"})
    except InvalidConfig as error:
        problems = error.problems
    assert problems is None or problems
    for problem in problems or ():
        assert problem.line >= 1
        assert problem.column >= 1
        assert problem.message


@settings(max_examples=100, deadline=None)
@given(tree=_trees)
def test_any_tree_is_a_configuration_or_told_why_not(
    tmp_path_factory: pytest.TempPathFactory, tree: object
) -> None:
    attempt(
        tmp_path_factory.getbasetemp(),
        yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass"),
    )


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
def test_any_bytes_are_a_configuration_or_told_why_not(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    attempt(tmp_path_factory.getbasetemp(), data)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_damaged_file_is_a_configuration_or_told_why_not(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    text = (FIXTURES / "fraises_prod.yaml").read_text()
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 40)))
    inserted = data.draw(
        st.sampled_from(
            ["", "no", "[", "}", ": ", "- ", "*a", "&a ", "!!x ", "\t", '"', "\n\n", "${", "0x1F", "~"]
        )
    )
    attempt(tmp_path_factory.getbasetemp(), (text[:start] + inserted + text[end:]).encode())


def test_reading_the_configuration_imports_nothing_heavy() -> None:
    code = (
        "import sys; from fraisier.config.load import load_configuration; load_configuration(sys.argv[1], environ={});"
        "print(sorted(set(sys.modules) & {'pydantic', 'httpx', 'rich', 'click', 'importlib.metadata', 'ssl', 'difflib'}))"
    )
    file = FIXTURES / "fraises_dev.yaml"
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_configuration_cannot_be_changed(tmp_path: Path) -> None:
    found = loaded(tmp_path, GOOD)
    assert is_dataclass(found)
    assert replace(found, path="x") != found
    with pytest.raises(AttributeError):
        found.path = "x"  # type: ignore[misc]
