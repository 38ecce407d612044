"""The project's papers say what is so: configurations load, commands exist, links lead somewhere."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import click
import pytest
import yaml

from fraisier.application.ports import Finished
from fraisier.cli.main import main
from fraisier.config.load import load_configuration
from fraisier.domain.fraise import TargetSpec
from fraisier.git.github import GitHub
from tests.docs_blocks import BLOCK, PAPERS, ROOT, Block, blocks, whole
from tests.e2e.scenes import SCENES
from tests.factories import environment
from tools.bench import PARTS
from tools.draw_forges import pictures

WORKFLOW = ROOT / ".github" / "workflows" / "fraisier-tests.yml"
_LINK = re.compile(r"\]\((?!https?://|mailto:|#)([^)#\s]+)(?:#[^)]*)?\)")
_VARIABLE = re.compile(r"\$\{(\w+)")
_COMMAND = re.compile(r"(?:^|`)(?:sudo -u \w+ |\w+=\S+ )*fraisier (?P<arguments>[^`#|]+)")


# ------------------------------------------------------------------------------------ configurations


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_a_configuration_that_is_shown_can_be_used(block: Block, tmp_path: Path) -> None:
    text = whole(block)
    file = tmp_path / "fraises.yaml"
    file.write_text(text, encoding="utf-8")
    environ = dict.fromkeys(_VARIABLE.findall(text), "a-value")
    loaded = load_configuration(str(file), environ=environ, known_forges=(), known_targets=("runit",))
    assert loaded.environments


# ------------------------------------------------------------------------------------ commands and links


def shown_commands() -> Iterator[tuple[str, str, bool]]:
    """Each `fraisier …` line: the paper, the arguments, and whether it stands in a block and is complete."""
    for block in blocks("sh"):
        for line in block.text.splitlines():
            if match := _COMMAND.match(line):
                yield block.paper, match["arguments"].strip(), True
    for paper in PAPERS:
        prose = BLOCK.sub("", paper.read_text(encoding="utf-8"))
        for match in _COMMAND.finditer(prose):
            if not re.search("…|COMMAND", match["arguments"]):
                yield paper.name, match["arguments"].strip(), False


@pytest.mark.parametrize("block", blocks("sh"), ids=str)
def test_a_shell_block_is_shell_whose_words_the_runner_knows(block: Block) -> None:
    checked = subprocess.run(["sh", "-n"], input=block.text, text=True, capture_output=True, check=False)
    assert checked.stderr == ""
    assert block.words.keys() <= {"as", "in", "exit", "id", "waiting", "scene", "not-run"}
    assert block.words.get("scene", "mended") in SCENES


def test_few_shell_blocks_are_not_run() -> None:
    # Each is a checkout's own `make`, another machine, or a way to install besides the one that is run.
    assert len([block for block in blocks("sh") if "not-run" in block.words]) <= 10
    assert blocks("bash") == blocks("shell") == blocks("console") == []


def test_nobody_is_told_to_install_the_other_fraisier_that_the_package_index_has() -> None:
    texts = [*PAPERS, *(ROOT / "fraisier").rglob("*.py"), *(ROOT / "docs").glob("*.md")]
    wrong = [str(each) for each in texts if re.search(r"pipx? install ['\"]?fraisier", each.read_text())]
    assert wrong == [], "see fraisier/domain/extras.py"


def parse(arguments: str) -> None:
    """Parse a command line as click would, without running anything."""
    context = main.make_context("fraisier", shlex.split(arguments))
    command: click.Command = main
    while isinstance(command, click.Group) and (rest := [*context._protected_args, *context.args]):
        name, found, rest = command.resolve_command(context, rest)
        assert found is not None
        command, context = found, found.make_context(name, rest, parent=context)


@pytest.mark.parametrize(("paper", "arguments", "complete"), sorted(set(shown_commands())))
def test_a_command_that_is_shown_exists_with_these_options(
    paper: str, arguments: str, complete: bool
) -> None:
    try:
        parse(arguments)
    except click.exceptions.Exit:
        return  # --help, --version
    except click.MissingParameter:
        assert not complete


def test_a_command_that_does_not_exist_would_be_noticed() -> None:
    for wrong in ("deploi api production", "deploy api production --comit x", "config valid"):
        with pytest.raises(click.UsageError):
            parse(wrong)


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: paper.name)
def test_every_link_to_a_file_leads_somewhere(paper: Path) -> None:
    targets = _LINK.findall(paper.read_text(encoding="utf-8"))
    missing = [target for target in targets if not (paper.parent / target).exists()]
    assert missing == []


def test_the_pictures_are_as_drawn() -> None:
    for name, text in pictures().items():
        assert (ROOT / "docs" / "images" / name).read_text(encoding="utf-8") == text, "run `make docs`"


def test_every_make_target_that_is_shown_exists() -> None:
    targets = set(
        re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )
    shown = {
        name for block in blocks("sh") for name in re.findall(r"^make ([a-z0-9-]+)", block.text, re.MULTILINE)
    }
    steps = re.findall(r"\bmake ([a-z0-9-]+)", WORKFLOW.read_text(encoding="utf-8"))
    assert shown, "the papers show how to make something"
    assert (shown | set(steps)) - targets == set()


def test_every_part_that_is_measured_is_described() -> None:
    text = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    (listed,) = re.findall(r"# one part: (.*)", text)
    assert set(listed.split()) == set(PARTS)
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == set(PARTS)


# ------------------------------------------------------------------------------------ the worked example


class StubHost:
    """Answers `sv status`."""

    name = "here"

    def __init__(self, said: str) -> None:
        self._said = said

    def inspect(self, argv: tuple[str, ...], *, timeout: float = 10.0) -> Finished:
        return Finished(code=0, stdout=self._said.encode(), stderr=b"")


def test_the_target_that_contributing_shows_works() -> None:
    (example,) = blocks("python")
    names: dict[str, Any] = {}
    exec(example.text, names)  # our own paper
    runit, spec = names["Runit"](), TargetSpec(kind="runit", unit="orders")
    ours = environment(target=spec)
    assert runit.acts(ours, "/r").restart[0].describe() == "sv -w 30 restart orders"
    up = runit.state(spec, StubHost("run: orders: (pid 812) 4s; run: log: (pid 811) 4s"))
    assert (up.known, up.running, up.invocation) == (True, True, "812")
    assert not runit.state(spec, StubHost("down: orders: 1s, normally up")).running
    missing = runit.problems(ours, StubHost("fail: orders: unable to change to service directory"))
    assert missing[0].message.startswith("cannot find")
    assert runit.problems(ours, StubHost("run: orders: (pid 812) 4s")) == []


# ------------------------------------------------------------------------------------ the workflow


def test_the_workflow_tests_every_python_that_the_package_names() -> None:
    named = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    workflow = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    assert workflow["jobs"]["tests"]["strategy"]["matrix"]["python"] == named


class Receiver(BaseHTTPRequestHandler):
    """Keeps what it is sent."""

    got: ClassVar[list[tuple[str, dict[str, tuple[bytes, ...]], bytes]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): (value.encode(),) for name, value in self.headers.items()}
        self.got.append((self.path, headers, body))
        self.send_response(202)
        self.end_headers()

    def log_message(self, *said: object) -> None:
        """Nothing on stderr."""


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("openssl")), reason="needs curl and openssl")
def test_the_staging_job_sends_a_push_that_github_would_sign(tmp_path: Path) -> None:
    script = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]["staging"]["steps"][0]["run"]
    event = tmp_path / "event.json"
    shutil.copy(ROOT / "tests/fixtures/github_webhook_payload.json", event)
    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        server.timeout = 10
        variables = {
            "PATH": os.environ["PATH"],
            "STAGING_URL": f"http://127.0.0.1:{server.server_port}",
            "STAGING_SECRET": "it is staging",
            "GITHUB_EVENT_PATH": str(event),
            "GITHUB_RUN_ID": "1",
            "GITHUB_RUN_ATTEMPT": "1",
        }
        subprocess.run(["bash", "-euo", "pipefail", "-c", script], env=variables, check=True, timeout=20)
    ((path, headers, body),) = Receiver.got
    assert path == "/webhook"
    GitHub().verify(headers, body, [b"it is staging"], now=0)
    assert GitHub().parse(headers, body).changes
