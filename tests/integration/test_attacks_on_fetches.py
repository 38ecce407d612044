"""Attacks on the way from the forge: a server that goes silent in a transfer, a ref that moves or vanishes."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fraisier import wiring
from fraisier.application.ports import Job
from fraisier.application.tools import Retries
from fraisier.domain.deployment import Trigger
from fraisier.domain.errors import Cause, StepFailed
from fraisier.git.mirror import Patience
from fraisier.worker import Worker
from tests.gitrepos import git
from tests.gitservers import git_over_http
from tests.integration.outside import Serve, rows
from tests.integration.site import Site, until
from tests.mirrors import Listening, mirrors, source_of

STALL_AFTER = 40_000  # bytes of the forge's answers; the refs are told by then, the pack is not


class Stalling:
    """A TCP proxy before a git server; while `silent` is set it goes quiet in the middle of an answer."""

    def __init__(self, server: int) -> None:
        self._server = server
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.silent = threading.Event()
        self.stalled = threading.Event()
        self._open: list[socket.socket] = [self._listening]
        self._passed = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self._server))
                self._open += [client, server]
                threading.Thread(target=self._pass_on, args=(client, server, False), daemon=True).start()
                threading.Thread(target=self._pass_on, args=(server, client, True), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with suppress(OSError):
            while data := source.recv(8192):
                self._passed += len(data) if answers else 0
                if answers and self.silent.is_set() and self._passed > STALL_AFTER:
                    self.stalled.set()
                    return  # the connection stays open, and nothing more comes
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Hang up."""
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@contextmanager
def a_site(folder: Path, extra: str = "", clone_url: str = "") -> Iterator[Site]:
    site = Site(folder, extra=extra, head="worker: {lease: 2s}")
    if clone_url:
        text = site.config.read_text().replace(f"clone_url: {site.repository.url}", f"clone_url: {clone_url}")
        site.config.write_text(text)
        site.fraisier.configuration = wiring.load(str(site.config))
        site.fraisier.publish()
    try:
        yield site
    finally:
        site.fraisier.store.close()


@pytest.fixture
def stalling(tmp_path: Path) -> Iterator[tuple[Site, Stalling]]:
    """A site whose forge goes silent in the middle of the first transfer."""
    (tmp_path / "git").mkdir()
    with git_over_http(tmp_path / "git", password="") as forge:
        proxy = Stalling(forge.port)
        proxy.silent.set()
        try:
            with a_site(tmp_path, clone_url=f"http://127.0.0.1:{proxy.port}/orders.git") as site:
                site.push({"VERSION": "one", "large": os.urandom(400_000).hex()})
                yield site, proxy
        finally:
            proxy.close()


def impatient(site: Site, transfer: float) -> None:
    """Have the site wait no longer than `transfer` seconds, and try again soon."""
    patience = Patience(transfer=transfer, pauses=(0.05,))
    retries = Retries(first=0.2)
    repository = mirrors(site.folder, patience=patience)
    site.fraisier.tools = replace(site.fraisier.tools, repository=repository, retries=retries)


def gits_of(site: Site) -> list[str]:
    """Command lines of git processes that know the site's forge."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(site.folder / "state") in words and words.startswith("git"):
                found.append(words)
    return found


def test_a_forge_that_goes_silent_in_a_transfer_is_the_networks_fault_and_is_tried_again(stalling):
    site, proxy = stalling
    impatient(site, transfer=1.0)
    deployment = site.request().deployment.id
    with site.working():
        until("the stall", proxy.stalled.is_set)
        first = "SELECT outcome, error FROM tb_deployment_attempts WHERE outcome = 'retry'"
        (attempt, *_) = until("a retry", lambda: rows(site, first))
        assert "within 1 s" in attempt["error"]
        assert site.fraisier.store.deployment(deployment)["cause"] in ("network", None)
        proxy.silent.clear()
        row = site.ended(deployment)
    assert row["status"] == "success", row
    assert site.version == "one"


def test_a_forge_that_stays_silent_ends_with_the_network_as_cause(stalling):
    site, proxy = stalling
    impatient(site, transfer=0.5)
    text = site.config.read_text().replace("min_free_disk: 1MB", "min_free_disk: 1MB\n        retry_for: 1s")
    site.config.write_text(text)
    site.fraisier.configuration = wiring.load(str(site.config))
    site.fraisier.publish()
    with site.working():
        row = site.deploy()
    assert (row["status"], row["cause"]) == ("failed", "network"), row
    assert row["error_message"]
    assert row["hint"]
    assert proxy.stalled.is_set()
    assert not rows(site, "SELECT 1 FROM tb_environments WHERE quarantine <> '{}'")


def test_a_cancel_ends_a_stalled_transfer_at_once(stalling):
    site, proxy = stalling
    deployment = site.request().deployment.id
    with site.working():
        until("the stall", proxy.stalled.is_set)
        assert gits_of(site)
        done = Serve(site).cli("cancel", deployment)
        assert done.returncode == 0, done.stderr
        row = site.ended(deployment, 15)  # git itself would lose its patience after 30 s
    assert (row["status"], row["cause"]) == ("cancelled", "cancelled"), row
    assert not gits_of(site)


def test_waiting_for_somebody_elses_transfer_has_an_end(tmp_path, stalling):
    """Whoever holds the mirror's lock may be stopped (SIGSTOP), and never let go of it."""
    _, proxy = stalling
    url = f"http://127.0.0.1:{proxy.port}/orders.git"
    patient, impatient_one = mirrors(tmp_path), mirrors(tmp_path, patience=Patience(transfer=0.5))
    first = Listening()
    holder = threading.Thread(target=_fetch_until_stopped, args=(patient, url, first.job))
    holder.start()
    try:
        until("the stall", proxy.stalled.is_set)
        with pytest.raises(StepFailed) as caught:
            impatient_one.fetch(source_of(url), ref="refs/heads/main", commit="", job=Listening().job)
        assert caught.value.cause is Cause.host
        assert "held" in caught.value.message
        assert "fuser" in caught.value.hint
    finally:
        first.stop.set()
        holder.join(10)


def _fetch_until_stopped(repository: Any, url: str, job: Job) -> None:
    with suppress(StepFailed):
        repository.fetch(source_of(url), ref="refs/heads/main", commit="", job=job)


# ------------------------------------------------------------------------------------------- moving refs


def on_step(site: Site, step: str, act: Callable[[], object]) -> None:
    """Have `act` done when a deployment begins `step`, before anything of it."""
    heard = site.events.append
    done = threading.Event()

    def listen(event: str, fields: Any) -> None:
        heard((event, dict(fields)))
        if (event, fields.get("step")) == ("step_started", step) and not done.is_set():
            done.set()
            act()

    site.fraisier.listener = listen


def delete_main(site: Site) -> None:
    """What a person does on the forge; a push may not delete a bare repository's HEAD."""
    site.repository.push("HEAD:refs/heads/else")
    git(site.repository.bare, "update-ref", "-d", "refs/heads/main")


@pytest.mark.parametrize("step", ["prepare", "build", "check_health"])
@pytest.mark.parametrize("how", ["forced", "deleted"])
def test_a_ref_that_moves_after_the_fetch_does_not_change_what_runs(tmp_path, step, how):
    extra = 'build: ["cat VERSION > built"]\nhealth_check: {command: "true", interval: 0.05, timeout: 5}'
    with a_site(tmp_path, extra) as site:
        base = site.push({"VERSION": "base"})
        wanted = site.push({"VERSION": "wanted"})

        def move() -> None:
            if how == "forced":
                site.repository.force_push({"VERSION": "other"}, onto=base)
            else:
                delete_main(site)
            # Somebody else's fetch brings the mirror to where the forge is now.
            ref = "refs/heads/main" if how == "forced" else "refs/heads/else"
            source = next(iter(site.fraisier.configuration.environments.values())).source
            site.fraisier.tools.repository.fetch(source, ref=ref, commit="", job=Listening().job)

        on_step(site, step, move)
        with site.working():
            row = site.deploy(commit=wanted, ref="main", trigger=Trigger.webhook)
        assert (row["status"], row["commit"]) == ("success", wanted), row
        assert (site.app / "current" / "built").read_text() == "wanted"
        marker = next((site.app / ".fraisier" / "releases").glob("*.json"))
        assert wanted in marker.read_text()


@pytest.mark.parametrize("step", ["preflight", "fetch"])
@pytest.mark.parametrize("how", ["forced", "deleted"])
def test_a_commit_that_left_its_ref_before_the_fetch_ends_clearly(tmp_path, step, how):
    with a_site(tmp_path) as site:
        impatient(site, transfer=30.0)
        base = site.push({"VERSION": "base"})
        with site.working():
            assert site.deploy()["status"] == "success"
        gone = site.push({"VERSION": "gone"})

        def move() -> None:
            if how == "forced":
                site.repository.force_push({"VERSION": "other"}, onto=base)
            else:
                delete_main(site)

        on_step(site, step, move)
        with site.working():
            row = site.deploy(commit=gone, ref="main", trigger=Trigger.webhook)
        assert row["status"] == "failed", row
        assert row["cause"] in ("commit_not_on_ref", "commit_not_found"), row
        assert gone[:10] in row["error_message"]
        assert row["hint"]
        assert site.version == "base"


def test_a_ref_that_moves_between_two_tries_never_brings_another_commit(tmp_path):
    """The first try pinned the tip; the second finds another tip."""
    with a_site(tmp_path, f'build: ["test -e {tmp_path}/hold || sleep 300"]') as site:
        impatient(site, transfer=30.0)
        base = site.push({"VERSION": "base"})
        site.push({"VERSION": "wanted"})
        deployment = site.request().deployment.id
        first = Worker(site.fraisier)
        first.start()
        site.waits_in(deployment, "build")
        first.stop(0)
        (tmp_path / "hold").touch()
        site.repository.force_push({"VERSION": "other"}, onto=base)
        with site.working():
            row = site.ended(deployment)
        assert (row["status"], row["cause"]) in (
            ("failed", "commit_not_on_ref"),
            ("failed", "commit_not_found"),
        ), row
        assert site.version == ""
