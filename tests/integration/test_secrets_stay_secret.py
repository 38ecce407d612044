"""Whatever a build, git or a service prints: no secret that Fraisier knows is found anywhere afterwards."""

from __future__ import annotations

import base64
import http.server
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.integration.outside import Serve, all_ended, deployments, serving
from tests.integration.site import Site, free_port
from tests.unit.signing import SECRET

PEM = "\n".join(
    ("-----BEGIN PRIVATE KEY-----", *(f"MIIEvQIBADANBgkqhkiG9w0BAQEFAAS{n:03d}" for n in range(12)))
)
SECRETS = {
    "literal": "l1teral-S3cret/with+signs",
    "variable": "v4riable secret & 100%",
    "url_password": "pa55w0rd-of-the-url",
    "prefix": "l1teral-S3cret",  # the beginning of another one
    "quoted": 'qu"oted\\s3cret',
    "bearer": "b34rer-token-of-health",
    "file": "f1le-secret-value",
    "proxy": "pr0xy-s3sam30p3n",  # no half of it may be a word: other tests' processes are looked at, too
    "clone_token": "ghp_cl0neT0ken1234567890",
    "webhook": SECRET.decode(),
}
PRINTING = r"""
import base64, json, os, sys, time, urllib.parse
def say(text):
    sys.stdout.write(text + "\n"); sys.stdout.flush()
names = [n for n in os.environ if n.startswith("MY_")]
for name in names:
    value = os.environ[name]
    say(f"{name} raw {value}")
    say("base64 " + base64.b64encode(value.encode()).decode())
    say("inside " + base64.b64encode(f"x:{value}".encode()).decode())
    say("urlsafe " + base64.urlsafe_b64encode(value.encode()).decode())
    sys.stdout.write(base64.encodebytes(f"user={value}".encode()).decode())
    say("quoted " + urllib.parse.quote(value) + " " + urllib.parse.quote(value, safe=""))
    say("plus " + urllib.parse.quote_plus(value))
    say("json " + json.dumps({"value": value}))
    middle = len(value) // 2
    sys.stdout.write("split " + value[:middle]); sys.stdout.flush(); time.sleep(0.15); say(value[middle:])
    say(f"coloured {value[:middle]}\x1b[31m{value[middle:]}\x1b[0m")
    say("\n".join("line " + line for line in value.splitlines()))
say(open(sys.argv[1]).read())
say(open(sys.argv[2]).read())
say("everything was printed")
"""


class Echo(http.server.BaseHTTPRequestHandler):
    """A service that tells its callers what they sent."""

    def do_GET(self) -> None:
        self.send_response(500, self.headers.get("Authorization", "")[:60])
        self.send_header("X-Version", self.headers.get("Authorization", ""))
        self.end_headers()
        self.wfile.write(str(self.headers).encode())

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def echo() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield int(server.server_address[1])
    server.shutdown()
    thread.join()
    server.server_close()


def spellings() -> dict[str, bytes]:
    """What must not be found anywhere."""
    found = {}
    for name, value in SECRETS.items():
        found[name] = value.encode()
        found[f"{name} in base64"] = base64.b64encode(value.encode()).rstrip(b"=")[:-1]
        found[f"{name} in base64 of more"] = base64.b64encode(f"x:{value}".encode()).rstrip(b"=")[4:-2]
        found[f"{name} quoted"] = quote(value, safe="").encode()
        found[f"{name} in JSON"] = json.dumps(value)[1:-1].encode()
        found[f"half of {name}"] = value[len(value) // 2 :].encode()
    for number, line in enumerate(PEM.splitlines()[1:]):
        found[f"line {number} of the key"] = line.encode()
    wrapped = base64.encodebytes(f"user={PEM}".encode()).splitlines()
    found.update({f"line {number} of the key in base64": line for number, line in enumerate(wrapped[1:-1])})
    return found


def search(place: str, data: bytes) -> list[str]:
    return [f"{name} in {place}" for name, needle in spellings().items() if needle in data]


def searched(paths: list[Path]) -> list[str]:
    return [hit for path in paths if path.is_file() for hit in search(str(path), path.read_bytes())]


def made(folder: Path, echo: int, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("MY_VARIABLE_TOKEN", SECRETS["variable"])
    monkeypatch.setenv("HEALTH_TOKEN", SECRETS["bearer"])
    monkeypatch.setenv("CLONE_TOKEN", SECRETS["clone_token"])
    monkeypatch.setenv("https_proxy", f"http://us:{SECRETS['proxy']}@127.0.0.1:{free_port()}")
    secrets = folder / "shop.env"
    secrets.write_text(f'MY_KEY="{PEM}"\nMY_FILE_PASSWORD={SECRETS["file"]}\n')
    secrets.chmod(0o600)
    literal = json.dumps(SECRETS["quoted"])
    extra = f"""
build: ["python3 show.py {folder}/fraises.yaml {secrets}; echo $https_proxy; {{ env; cat /proc/self/environ; }}"]
env_file: {secrets}
env:
  MY_LITERAL_TOKEN: "{SECRETS["literal"]}"
  MY_PREFIX_TOKEN: "{SECRETS["prefix"]}"
  MY_QUOTED_TOKEN: {literal}
  MY_VARIABLE_TOKEN: "${{MY_VARIABLE_TOKEN}}"
  MY_DATABASE_URL: "postgres://shop:{SECRETS["url_password"]}@db/shop"
health_check:
  url: http://127.0.0.1:{echo}/?echo
  headers: {{Authorization: "Bearer ${{HEALTH_TOKEN}}"}}
  expect_status: 500
  expect_headers: {{X-Version: "2"}}
  timeout: 1
  interval: 0.1
retry_for: 1s
"""
    return Site(folder, extra=extra.strip(), head="logging: {level: debug}")


def test_no_secret_is_found_anywhere_afterwards(tmp_path, echo, monkeypatch):
    site = made(tmp_path, echo, monkeypatch)
    try:
        commit = site.push({"VERSION": "one", "show.py": PRINTING})
        with serving(site) as serve:
            serve.start()
            status, answer = serve.webhook(commit)
            assert status == 202
            found = while_it_runs(site)
            (row,) = all_ended(site)
            assert row["cause"] == "unhealthy", row
            assert "everything was printed" in serve.cli("logs", row["id"]).stdout
            found += search("the answer", json.dumps(answer).encode())
            found += said(serve, row["id"])
        state = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
        assert any(path.name.endswith(".db") for path in state)
        found += searched([*state, serve.log, *(site.app / ".fraisier").rglob("*")])
        assert not found, "\n".join(found)
    finally:
        site.fraisier.store.close()


def while_it_runs(site: Site) -> list[str]:
    """Nobody sees a secret in the process table while a deployment is performed."""
    found: set[str] = set()
    until_then = time.monotonic() + 30
    while time.monotonic() < until_then and deployments(site)[0]["status"] in ("pending", "running"):
        shown = subprocess.run(("ps", "axww", "-o", "args"), capture_output=True, check=True).stdout
        found.update(search("ps", shown))
        time.sleep(0.05)
    return sorted(found)


def said(serve: Serve, deployment: str) -> list[str]:
    """What every command that shows something says."""
    found = []
    for words in (
        ["config", "show"],
        ["config", "show", "--json"],
        ["config", "validate"],
        ["plan", "shop", "production"],
        ["show", deployment],
        ["show", deployment, "--json"],
        ["logs", deployment],
        ["logs", deployment, "--json"],
        ["history", "--json"],
        ["status", "--json"],
        ["webhooks", "--json"],
        ["list", "--json"],
        ["doctor"],
    ):
        done = serve.cli(*words)
        found += search(f"fraisier {' '.join(words)}", (done.stdout + done.stderr).encode())
    return found


def test_what_git_says_of_a_proxy_or_a_token_is_masked(tmp_path, echo, monkeypatch):
    site = made(tmp_path, echo, monkeypatch)
    try:
        text = site.config.read_text().replace(
            f"clone_url: {site.repository.url}",
            'clone_url: https://forge.invalid/acme/orders.git\n    clone_token: "${CLONE_TOKEN}"',
        )
        site.config.write_text(text)
        with serving(site) as serve:
            serve.start()
            status, _ = serve.webhook("a" * 40)
            assert status == 202
            found = while_it_runs(site)
            (row,) = all_ended(site)
            assert row["status"] == "failed", row
            assert row["cause"] in ("network", "repository"), row
            found += said(serve, row["id"])
        state = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
        found += searched([*state, serve.log])
        assert not found, "\n".join(found)
    finally:
        site.fraisier.store.close()


def test_folders_with_secrets_and_state_are_closed_to_others(tmp_path, echo, monkeypatch):
    before = os.umask(0)  # the widest that an administrator could have left
    try:
        site = made(tmp_path, echo, monkeypatch)
        site.push({"VERSION": "one", "show.py": PRINTING})
        try:
            with serving(site) as serve:
                serve.start()
                site.ended(site.request().deployment.id)
        finally:
            site.fraisier.store.close()
    finally:
        os.umask(before)
    state = tmp_path / "state"
    assert state.stat().st_mode & 0o777 == 0o700
    open_to_others = [path for path in state.glob("*") if path.is_file() and path.stat().st_mode & 0o077]
    assert not open_to_others
    assert (site.app / ".fraisier").stat().st_mode & 0o777 == 0o700
    writable = [path for path in site.app.rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o022]
    assert not writable, "a build's files are nobody else's to change"
