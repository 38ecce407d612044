"""What a person is told of cut-over: by the configuration, `plan`, `init`, and where keys do not go together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from fraisier.cli.main import main
from fraisier.config.load import load_configuration
from fraisier.domain.errors import InvalidConfig
from fraisier.domain.fraise import Cutover, Environment, EnvironmentKey, ProxySpec

_FILE = """\
git: {github: {webhook_secret: s3cret-s3cret}}
database: {url: "sqlite://FOLDER/state/f.db"}
fraises:
  orders:
    repository: acme/orders
    environments:
      production:
        branch: main
        app_path: /var/www/orders
"""


def written(folder: Path, *lines: str) -> Path:
    file = folder / "fraises.yaml"
    text = _FILE.replace("FOLDER", str(folder)) + "".join(f"        {line}\n" for line in lines)
    file.write_text(text)
    return file


def loaded(folder: Path, *lines: str) -> Environment:
    file = written(folder, *lines)
    found = load_configuration(str(file), environ={}, known_forges=(), known_targets=())
    return found.environments[EnvironmentKey("orders", "production")]


def refused(folder: Path, *lines: str) -> str:
    with pytest.raises(InvalidConfig) as error:
        loaded(folder, *lines)
    (problem,) = error.value.problems
    return problem.message


UNIT = "systemd_service: orders.service"


def test_everything_that_can_be_said_is_read(tmp_path):
    lines = (
        "systemd_service: orders@.service",
        "run: serve --port $PORT",
        "listen: [8001, 127.0.0.1:8002]",
        "cutover: blue_green",
        "drain_timeout: 2m",
        "bake: 60s",
        "proxy: {type: haproxy, socket: /run/h.sock, backend: orders}",
    )
    found = loaded(tmp_path, *lines)
    assert found.cutover is Cutover.blue_green
    assert found.target is not None
    assert found.target.unit == "orders.service"
    assert found.listen == ("127.0.0.1:8001", "127.0.0.1:8002")
    assert (found.run, found.drain_timeout, found.bake) == ("serve --port $PORT", 120.0, 60.0)
    assert found.proxy == ProxySpec(kind="haproxy", options={"socket": "/run/h.sock", "backend": "orders"})


def test_the_default_is_a_restart_that_is_not_watched_for_long(tmp_path):
    found = loaded(tmp_path, UNIT)
    assert (found.cutover, found.bake, found.drain_timeout) == (Cutover.restart, 0.0, 30.0)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["cutover: blue_green"], "blue_green is not possible here; it needs systemd_service"),
        (["supervisord_program: x", "cutover: socket"], "it needs systemd_service instead of supervisord"),
        (["run: serve"], "has no meaning without systemd_service"),
        ([UNIT, "run: serve", "unit_file: x.service"], "stands beside run"),
        ([UNIT, "run: serve", "cutover: socket"], "socket needs listen"),
        (
            [UNIT, "systemd_manager: user", "cutover: blue_green", "hosts: web1"],
            "blue_green of a user's units on another host needs listen",
        ),
        ([UNIT, "listen: 8000"], "add run, or leave it out"),
        ([UNIT, "cutover: blue_green", "listen: 8001"], "two releases run at a time, so name two"),
        ([UNIT, "cutover: blue_green", "listen: /run/x.sock"], "write %i where the release's name belongs"),
        ([UNIT, "cutover: blue_green", "listen: [/run/%i/a, /run/%i/b]"], "a release listens on one"),
        ([UNIT, "cutover: blue_green", "listen: [/run/%i/a, 8001]"], "a release listens on one or the other"),
        ([UNIT, "cutover: blue_green", "listen: [8001, 8002]"], "a proxy has to be told which of them serves"),
        ([UNIT, "cutover: blue_green", "proxy: {type: caddy, id: x}"], "needs not be told"),
        ([UNIT, "cutover: blue_green", "listen: x"], "is no place to listen; expected a port, host:port"),
        ([UNIT, "cutover: blue_green", "listen: 99999"], "is no place to listen"),
        ([UNIT, f"cutover: blue_green\n        listen: /run/%i/{'x' * 100}"], "a socket's path has at most 107"),
        (["bake: 60s"], "has nothing to watch"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_told(tmp_path, lines, words):
    assert words in refused(tmp_path, *lines)


def test_a_proxy_that_nobody_knows_is_refused(tmp_path):
    lines = (UNIT, "cutover: blue_green", "listen: [1, 2]", "proxy: {type: haprxy}")
    assert "'haprxy' is no proxy; expected caddy, haproxy; did you mean" in refused(tmp_path, *lines)


def fraisier(file: Path, *words: str) -> str:
    done = CliRunner().invoke(main, ["--config", str(file), *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize(
    ("brand", "words"),
    [
        ("nginx", "server unix:/var/www/orders/current.sock max_fails=0;"),
        ("caddy", "reverse_proxy unix//var/www/orders/current.sock {"),
        ("haproxy", "server current unix@/var/www/orders/current.sock"),
    ],
)
def test_a_proxys_lines_dial_the_link(tmp_path, brand, words):
    file = written(tmp_path, UNIT, "cutover: blue_green")
    assert words in fraisier(file, "init", "--proxy", brand)


def test_a_proxys_lines_have_the_ports_where_there_are_ports(tmp_path):
    told = "proxy: {type: haproxy, socket: /run/haproxy/admin.sock, backend: shop}"
    file = written(tmp_path, UNIT, "cutover: blue_green", "listen: [8001, 8002]", told)
    lines = fraisier(file, "init", "--proxy", "haproxy")
    assert "backend shop" in lines
    assert "server release8002 127.0.0.1:8002 disabled" in lines
    handler = json.loads(fraisier(file, "init", "--proxy", "caddy").splitlines()[1].removeprefix("# "))
    assert handler["handler"] == "reverse_proxy"
    assert "does not tell nginx" in fraisier(file, "init", "--proxy", "nginx")


@pytest.mark.parametrize(
    ("how", "words"), [("restart", "requests are refused"), ("blue_green", "no request is dropped")]
)
def test_a_plan_says_what_a_cutover_costs(tmp_path, how, words):
    (tmp_path / "state").mkdir(mode=0o700)
    file = written(tmp_path, UNIT, f"cutover: {how}")
    assert words in fraisier(file, "plan", "orders", "production")
    assert words in json.loads(fraisier(file, "plan", "orders", "production", "--json"))["cost"]


def test_the_rights_of_a_service_name_what_a_cutover_starts_and_stops(tmp_path):
    rule = fraisier(written(tmp_path, UNIT, "cutover: blue_green"), "init", "--service")
    assert '["orders@"].indexOf(parts[1])' in rule
    assert "manage-unit-files" in rule
    rule = fraisier(written(tmp_path, UNIT, "cutover: socket"), "init", "--service")
    assert '["orders.service", "orders.socket"]' in rule
    rule = fraisier(written(tmp_path, UNIT), "init", "--service")
    assert "manage-unit-files" not in rule
    assert "isInstance" not in rule
