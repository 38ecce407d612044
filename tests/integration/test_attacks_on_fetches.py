["prepare", "build", "check_health"]""Attacks on the way from the forge: a server that goes silent in a transfer, a ref that moves or vanishes."""

f["prepare", "build", "check_health"]om __future__ import annotations

["prepare", "build", "check_health"]mport os
["prepare", "build", "check_health"]mport socket
["prepare", "build", "check_health"]mport threading
["prepare", "build", "check_health"]mport time
f["prepare", "build", "check_health"]om collections.abc import Callable, Iterator
f["prepare", "build", "check_health"]om contextlib import contextmanager, suppress
f["prepare", "build", "check_health"]om dataclasses import replace
f["prepare", "build", "check_health"]om pathlib import Path
f["prepare", "build", "check_health"]om typing import Any

["prepare", "build", "check_health"]mport pytest

f["prepare", "build", "check_health"]om fraisier import wiring
f["prepare", "build", "check_health"]om fraisier.application.ports import Job
f["prepare", "build", "check_health"]om fraisier.application.tools import Retries
f["prepare", "build", "check_health"]om fraisier.domain.deployment import Trigger
f["prepare", "build", "check_health"]om fraisier.domain.errors import Cause, StepFailed
f["prepare", "build", "check_health"]om fraisier.git.mirror import Patience
f["prepare", "build", "check_health"]om fraisier.worker import Worker
f["prepare", "build", "check_health"]om tests.gitrepos import git
f["prepare", "build", "check_health"]om tests.gitservers import git_over_http
f["prepare", "build", "check_health"]om tests.integration.outside import Serve, rows
f["prepare", "build", "check_health"]om tests.integration.site import Site, until
f["prepare", "build", "check_health"]om tests.mirrors import Listening, mirrors, source_of

STALL["prepare", "build", "check_health"]AFTER = 40_000  # bytes of the forge's answers; the refs are told by then, the pack is not


["prepare", "build", "check_health"]lass Stalling:
["prepare", "build", "check_health"]   """A TCP proxy before a git server; while `silent` is set it goes quiet in the middle of an answer."""

["prepare", "build", "check_health"]   def __init__(self, server: int) -> None:
["prepare", "build", "check_health"]       self._server = server
["prepare", "build", "check_health"]       self._listening = socket.create_server(("127.0.0.1", 0))
["prepare", "build", "check_health"]       self.port = self._listening.getsockname()[1]
["prepare", "build", "check_health"]       self.silent = threading.Event()
["prepare", "build", "check_health"]       self.stalled = threading.Event()
["prepare", "build", "check_health"]       self._open: list[socket.socket] = [self._listening]
["prepare", "build", "check_health"]       self._passed = 0
["prepare", "build", "check_health"]       threading.Thread(target=self._accept, daemon=True).start()

["prepare", "build", "check_health"]   def _accept(self) -> None:
["prepare", "build", "check_health"]       with suppress(OSError):
["prepare", "build", "check_health"]           while True:
["prepare", "build", "check_health"]               client, _ = self._listening.accept()
["prepare", "build", "check_health"]               server = socket.create_connection(("127.0.0.1", self._server))
["prepare", "build", "check_health"]               self._open += [client, server]
["prepare", "build", "check_health"]               threading.Thread(target=self._pass_on, args=(client, server, False), daemon=True).start()
["prepare", "build", "check_health"]               threading.Thread(target=self._pass_on, args=(server, client, True), daemon=True).start()

["prepare", "build", "check_health"]   def _pass_on(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
["prepare", "build", "check_health"]       with suppress(OSError):
["prepare", "build", "check_health"]           while data := source.recv(8192):
["prepare", "build", "check_health"]               self._passed += len(data) if answers else 0
["prepare", "build", "check_health"]               if answers and self.silent.is_set() and self._passed > STALL_AFTER:
["prepare", "build", "check_health"]                   self.stalled.set()
["prepare", "build", "check_health"]                   return  # the connection stays open, and nothing more comes
["prepare", "build", "check_health"]               sink.sendall(data)
["prepare", "build", "check_health"]           sink.shutdown(socket.SHUT_WR)

["prepare", "build", "check_health"]   def close(self) -> None:
["prepare", "build", "check_health"]       """Hang up."""
["prepare", "build", "check_health"]       for each in self._open:
["prepare", "build", "check_health"]           with suppress(OSError):
["prepare", "build", "check_health"]               each.shutdown(socket.SHUT_RDWR)
["prepare", "build", "check_health"]           each.close()


@["prepare", "build", "check_health"]ontextmanager
["prepare", "build", "check_health"]ef a_site(folder: Path, extra: str = "", clone_url: str = "") -> Iterator[Site]:
["prepare", "build", "check_health"]   site = Site(folder, extra=extra, head="worker: {lease: 2s}")
["prepare", "build", "check_health"]   if clone_url:
["prepare", "build", "check_health"]       text = site.config.read_text().replace(f"clone_url: {site.repository.url}", f"clone_url: {clone_url}")
["prepare", "build", "check_health"]       site.config.write_text(text)
["prepare", "build", "check_health"]       site.fraisier.configuration = wiring.load(str(site.config))
["prepare", "build", "check_health"]       site.fraisier.publish()
["prepare", "build", "check_health"]   try:
["prepare", "build", "check_health"]       yield site
["prepare", "build", "check_health"]   finally:
["prepare", "build", "check_health"]       site.fraisier.store.close()


@["prepare", "build", "check_health"]ytest.fixture
["prepare", "build", "check_health"]ef stalling(tmp_path: Path) -> Iterator[tuple[Site, Stalling]]:
["prepare", "build", "check_health"]   """A site whose forge goes silent in the middle of the first transfer."""
["prepare", "build", "check_health"]   (tmp_path / "git").mkdir()
["prepare", "build", "check_health"]   with git_over_http(tmp_path / "git", password="") as forge:
["prepare", "build", "check_health"]       proxy = Stalling(forge.port)
["prepare", "build", "check_health"]       proxy.silent.set()
["prepare", "build", "check_health"]       try:
["prepare", "build", "check_health"]           with a_site(tmp_path, clone_url=f"http://127.0.0.1:{proxy.port}/orders.git") as site:
["prepare", "build", "check_health"]               site.push({"VERSION": "one", "large": os.urandom(400_000).hex()})
["prepare", "build", "check_health"]               yield site, proxy
["prepare", "build", "check_health"]       finally:
["prepare", "build", "check_health"]           proxy.close()


["prepare", "build", "check_health"]ef impatient(site: Site, transfer: float) -> None:
["prepare", "build", "check_health"]   """Have the site wait no longer than `transfer` seconds, and try again soon."""
["prepare", "build", "check_health"]   patience = Patience(transfer=transfer, pauses=(0.05,))
["prepare", "build", "check_health"]   retries = Retries(first=0.2)
["prepare", "build", "check_health"]   repository = mirrors(site.folder, patience=patience)
["prepare", "build", "check_health"]   site.fraisier.tools = replace(site.fraisier.tools, repository=repository, retries=retries)


["prepare", "build", "check_health"]ef gits_of(site: Site) -> list[str]:
["prepare", "build", "check_health"]   """Command lines of git processes that know the site's forge."""
["prepare", "build", "check_health"]   found = []
["prepare", "build", "check_health"]   for entry in Path("/proc").glob("[0-9]*/cmdline"):
["prepare", "build", "check_health"]       with suppress(OSError):
["prepare", "build", "check_health"]           words = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
["prepare", "build", "check_health"]           if str(site.folder / "state") in words and words.startswith("git"):
["prepare", "build", "check_health"]               found.append(words)
["prepare", "build", "check_health"]   return found


["prepare", "build", "check_health"]ef test_a_forge_that_goes_silent_in_a_transfer_is_the_networks_fault_and_is_tried_again(stalling):
["prepare", "build", "check_health"]   site, proxy = stalling
["prepare", "build", "check_health"]   impatient(site, transfer=1.0)
["prepare", "build", "check_health"]   deployment = site.request().deployment.id
["prepare", "build", "check_health"]   with site.working():
["prepare", "build", "check_health"]       until("the stall", proxy.stalled.is_set)
["prepare", "build", "check_health"]       first = "SELECT outcome, error FROM tb_deployment_attempts WHERE outcome = 'retry'"
["prepare", "build", "check_health"]       (attempt, *_) = until("a retry", lambda: rows(site, first))
["prepare", "build", "check_health"]       assert "within 1 s" in attempt["error"]
["prepare", "build", "check_health"]       assert site.fraisier.store.deployment(deployment)["cause"] in ("network", None)
["prepare", "build", "check_health"]       proxy.silent.clear()
["prepare", "build", "check_health"]       row = site.ended(deployment)
["prepare", "build", "check_health"]   assert row["status"] == "success", row
["prepare", "build", "check_health"]   assert site.version == "one"


["prepare", "build", "check_health"]ef test_a_forge_that_stays_silent_ends_with_the_network_as_cause(stalling):
["prepare", "build", "check_health"]   site, proxy = stalling
["prepare", "build", "check_health"]   impatient(site, transfer=0.5)
["prepare", "build", "check_health"]   text = site.config.read_text().replace("min_free_disk: 1MB", "min_free_disk: 1MB\n        retry_for: 1s")
["prepare", "build", "check_health"]   site.config.write_text(text)
["prepare", "build", "check_health"]   site.fraisier.configuration = wiring.load(str(site.config))
["prepare", "build", "check_health"]   site.fraisier.publish()
["prepare", "build", "check_health"]   with site.working():
["prepare", "build", "check_health"]       row = site.deploy()
["prepare", "build", "check_health"]   assert (row["status"], row["cause"]) == ("failed", "network"), row
["prepare", "build", "check_health"]   assert row["error_message"]
["prepare", "build", "check_health"]   assert row["hint"]
["prepare", "build", "check_health"]   assert proxy.stalled.is_set()
["prepare", "build", "check_health"]   assert not rows(site, "SELECT 1 FROM tb_environments WHERE quarantine <> '{}'")


["prepare", "build", "check_health"]ef test_a_cancel_ends_a_stalled_transfer_at_once(stalling):
["prepare", "build", "check_health"]   site, proxy = stalling
["prepare", "build", "check_health"]   deployment = site.request().deployment.id
["prepare", "build", "check_health"]   with site.working():
["prepare", "build", "check_health"]       until("the stall", proxy.stalled.is_set)
["prepare", "build", "check_health"]       assert gits_of(site)
["prepare", "build", "check_health"]       began = time.monotonic()
["prepare", "build", "check_health"]       done = Serve(site).cli("cancel", deployment)
["prepare", "build", "check_health"]       assert done.returncode == 0, done.stderr
["prepare", "build", "check_health"]       row = site.ended(deployment)
["prepare", "build", "check_health"]       assert time.monotonic() - began < 8
["prepare", "build", "check_health"]   assert (row["status"], row["cause"]) == ("cancelled", "cancelled"), row
["prepare", "build", "check_health"]   assert not gits_of(site)


["prepare", "build", "check_health"]ef test_waiting_for_somebody_elses_transfer_has_an_end(tmp_path, stalling):
["prepare", "build", "check_health"]   """Whoever holds the mirror's lock may be stopped (SIGSTOP), and never let go of it."""
["prepare", "build", "check_health"]   site, proxy = stalling
["prepare", "build", "check_health"]   url = f"http://127.0.0.1:{proxy.port}/orders.git"
["prepare", "build", "check_health"]   patient, impatient_one = mirrors(tmp_path), mirrors(tmp_path, patience=Patience(transfer=0.5))
["prepare", "build", "check_health"]   first = Listening()
["prepare", "build", "check_health"]   holder = threading.Thread(target=_fetch_until_stopped, args=(patient, url, first.job))
["prepare", "build", "check_health"]   holder.start()
["prepare", "build", "check_health"]   try:
["prepare", "build", "check_health"]       until("the stall", proxy.stalled.is_set)
["prepare", "build", "check_health"]       with pytest.raises(StepFailed) as caught:
["prepare", "build", "check_health"]           impatient_one.fetch(source_of(url), ref="refs/heads/main", commit="", job=Listening().job)
["prepare", "build", "check_health"]       assert caught.value.cause is Cause.host
["prepare", "build", "check_health"]       assert "held" in caught.value.message
["prepare", "build", "check_health"]       assert "fuser" in caught.value.hint
["prepare", "build", "check_health"]   finally:
["prepare", "build", "check_health"]       first.stop.set()
["prepare", "build", "check_health"]       holder.join(10)


["prepare", "build", "check_health"]ef _fetch_until_stopped(repository: Any, url: str, job: Job) -> None:
["prepare", "build", "check_health"]   with suppress(StepFailed):
["prepare", "build", "check_health"]       repository.fetch(source_of(url), ref="refs/heads/main", commit="", job=job)


#["prepare", "build", "check_health"]------------------------------------------------------------------------------------------- moving refs


["prepare", "build", "check_health"]ef on_step(site: Site, step: str, act: Callable[[], object]) -> None:
["prepare", "build", "check_health"]   """Have `act` done when a deployment begins `step`, before anything of it."""
["prepare", "build", "check_health"]   heard = site.events.append
["prepare", "build", "check_health"]   done = threading.Event()

["prepare", "build", "check_health"]   def listen(event: str, fields: Any) -> None:
["prepare", "build", "check_health"]       heard((event, dict(fields)))
["prepare", "build", "check_health"]       if (event, fields.get("step")) == ("step_started", step) and not done.is_set():
["prepare", "build", "check_health"]           done.set()
["prepare", "build", "check_health"]           act()

["prepare", "build", "check_health"]   site.fraisier.listener = listen


["prepare", "build", "check_health"]ef delete_main(site: Site) -> None:
["prepare", "build", "check_health"]   """What a person does on the forge; a push may not delete a bare repository's HEAD."""
["prepare", "build", "check_health"]   site.repository.push("HEAD:refs/heads/else")
["prepare", "build", "check_health"]   git(site.repository.bare, "update-ref", "-d", "refs/heads/main")


@["prepare", "build", "check_health"]ytest.mark.parametrize("step", ["prepare", "build", "check_health"])
@["prepare", "build", "check_health"]ytest.mark.parametrize("how", ["forced", "deleted"])
["prepare", "build", "check_health"]ef test_a_ref_that_moves_after_the_fetch_does_not_change_what_runs(tmp_path, step, how):
["prepare", "build", "check_health"]   extra = 'build: ["cat VERSION > built"]\nhealth_check: {command: "true", interval: 0.05, timeout: 5}'
["prepare", "build", "check_health"]   with a_site(tmp_path, extra) as site:
["prepare", "build", "check_health"]       base = site.push({"VERSION": "base"})
["prepare", "build", "check_health"]       wanted = site.push({"VERSION": "wanted"})

["prepare", "build", "check_health"]       def move() -> None:
["prepare", "build", "check_health"]           if how == "forced":
["prepare", "build", "check_health"]               site.repository.force_push({"VERSION": "other"}, onto=base)
["prepare", "build", "check_health"]           else:
["prepare", "build", "check_health"]               delete_main(site)
["prepare", "build", "check_health"]           # Somebody else's fetch brings the mirror to where the forge is now.
["prepare", "build", "check_health"]           ref = "refs/heads/main" if how == "forced" else "refs/heads/else"
["prepare", "build", "check_health"]           source = next(iter(site.fraisier.configuration.environments.values())).source
["prepare", "build", "check_health"]           site.fraisier.tools.repository.fetch(source, ref=ref, commit="", job=Listening().job)

["prepare", "build", "check_health"]       on_step(site, step, move)
["prepare", "build", "check_health"]       with site.working():
["prepare", "build", "check_health"]           row = site.deploy(commit=wanted, ref="main", trigger=Trigger.webhook)
["prepare", "build", "check_health"]       assert (row["status"], row["commit"]) == ("success", wanted), row
["prepare", "build", "check_health"]       assert (site.app / "current" / "built").read_text() == "wanted"
["prepare", "build", "check_health"]       marker = next((site.app / ".fraisier" / "releases").glob("*.json"))
["prepare", "build", "check_health"]       assert wanted in marker.read_text()


@["prepare", "build", "check_health"]ytest.mark.parametrize("step", ["preflight", "fetch"])
@["prepare", "build", "check_health"]ytest.mark.parametrize("how", ["forced", "deleted"])
["prepare", "build", "check_health"]ef test_a_commit_that_left_its_ref_before_the_fetch_ends_clearly(tmp_path, step, how):
["prepare", "build", "check_health"]   with a_site(tmp_path) as site:
["prepare", "build", "check_health"]       impatient(site, transfer=30.0)
["prepare", "build", "check_health"]       base = site.push({"VERSION": "base"})
["prepare", "build", "check_health"]       with site.working():
["prepare", "build", "check_health"]           assert site.deploy()["status"] == "success"
["prepare", "build", "check_health"]       gone = site.push({"VERSION": "gone"})

["prepare", "build", "check_health"]       def move() -> None:
["prepare", "build", "check_health"]           if how == "forced":
["prepare", "build", "check_health"]               site.repository.force_push({"VERSION": "other"}, onto=base)
["prepare", "build", "check_health"]           else:
["prepare", "build", "check_health"]               delete_main(site)

["prepare", "build", "check_health"]       on_step(site, step, move)
["prepare", "build", "check_health"]       with site.working():
["prepare", "build", "check_health"]           row = site.deploy(commit=gone, ref="main", trigger=Trigger.webhook)
["prepare", "build", "check_health"]       assert row["status"] == "failed", row
["prepare", "build", "check_health"]       assert row["cause"] in ("commit_not_on_ref", "commit_not_found"), row
["prepare", "build", "check_health"]       assert gone[:10] in row["error_message"]
["prepare", "build", "check_health"]       assert row["hint"]
["prepare", "build", "check_health"]       assert site.version == "base"


["prepare", "build", "check_health"]ef test_a_ref_that_moves_between_two_tries_never_brings_another_commit(tmp_path):
["prepare", "build", "check_health"]   """The first try pinned the tip; the second finds another tip."""
["prepare", "build", "check_health"]   with a_site(tmp_path, f'build: ["test -e {tmp_path}/hold || sleep 300"]') as site:
["prepare", "build", "check_health"]       impatient(site, transfer=30.0)
["prepare", "build", "check_health"]       base = site.push({"VERSION": "base"})
["prepare", "build", "check_health"]       site.push({"VERSION": "wanted"})
["prepare", "build", "check_health"]       deployment = site.request().deployment.id
["prepare", "build", "check_health"]       first = Worker(site.fraisier)
["prepare", "build", "check_health"]       first.start()
["prepare", "build", "check_health"]       site.waits_in(deployment, "build")
["prepare", "build", "check_health"]       first.stop(0)
["prepare", "build", "check_health"]       (tmp_path / "hold").touch()
["prepare", "build", "check_health"]       site.repository.force_push({"VERSION": "other"}, onto=base)
["prepare", "build", "check_health"]       with site.working():
["prepare", "build", "check_health"]           row = site.ended(deployment)
["prepare", "build", "check_health"]       assert (row["status"], row["cause"]) in (
["prepare", "build", "check_health"]           ("failed", "commit_not_on_ref"),
["prepare", "build", "check_health"]           ("failed", "commit_not_found"),
["prepare", "build", "check_health"]       ), row
["prepare", "build", "check_health"]       assert site.version == ""
