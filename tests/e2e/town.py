"""The documentation's server: what its pages tell is done here, word by word, as its readers would.

It has a person who may sudo (anna), a forge that she pushes to (the user git; its hook sends what GitHub sends), and
nothing of Fraisier until the pages install it.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tests.docs_blocks import ROOT, Block
from tests.e2e import wheels
from tests.servers import Server

CONFIG, SECRETS = "/etc/fraisier/fraises.yaml", "/etc/fraisier/secrets.env"
_LEFT_OUT = (".git", ".venv", ".tools", ".demo", "site", "bench-results", "*_cache", "__pycache__", "tests")
_SERVICE = """
import http.server, json
from importlib.metadata import version
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if "sick" not in version("orders") else 503)
        self.end_headers()
        self.wfile.write(json.dumps({"status": "ok", "version": version("orders")}).encode())
http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
"""
_PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "orders"
version = "1.0"
"""
_PIPELINE = """
import os, sys
if "--dry-run" in sys.argv:
    sys.exit("cannot read the orders" if os.path.exists("/srv/etl-is-sick") else 0)
day = os.environ["FRAISIER_PARAM_DAY"]
print("orders of", day)
if os.path.exists("/srv/orders-are-away"):
    sys.exit("cannot reach the orders")
os.makedirs("out", exist_ok=True)
with open(f"out/{day}.csv", "w") as out:
    print("id,total", file=out)
"""
_SCRIPTS = {
    "etl/collect.sh": "echo collected",
    "etl/report.sh": "echo reported",
    "etl/publish.sh": "echo published",
}
# The push that GitHub would tell of, through the web server that the pages put in front.
_HOOK = r"""#!/bin/bash
read -r before after ref
body=$(printf '{"ref":"%s","before":"%s","after":"%s","created":false,"deleted":false,"forced":false,
  "repository":{"full_name":"acme/orders"},"sender":{"login":"anna"},"head_commit":{"id":"%s"},"commits":[]}' \
  "$ref" "$before" "$after" "$after")
. "$HOME/secrets.env" 2>/dev/null || exit 0
signature=$(printf %s "$body" | openssl dgst -sha256 -hmac "$FRAISIER_WEBHOOK_SECRET" -r | cut -d ' ' -f 1)
curl -fsS -X POST http://127.0.0.1/webhook -H 'Content-Type: application/json' -H 'X-GitHub-Event: push' \
  -H "X-GitHub-Delivery: $(cat /proc/sys/kernel/random/uuid)" -H "X-Hub-Signature-256: sha256=$signature" \
  --data-binary "$body"
"""
_TERMINAL = """
set -euo pipefail
cd {folder}
if [ -e ~/.variables ]; then . ~/.variables; fi
trap 'status=$?; {{ declare -p {names} >>~/.variables; }} 2>/dev/null || true; exit $status' EXIT
{text}
"""


@dataclass
class Town:
    """The server's outside."""

    server: Server
    printed: dict[str, str] = field(default_factory=dict)  # by block

    def set_up(self) -> None:
        """A machine as its owner has it, a forge, and wheels instead of a network."""
        run, write = self.server.run, self.server.write
        run(
            "useradd --create-home --shell /bin/bash anna && chmod 700 /home/anna && useradd --create-home git"
        )
        write("/etc/sudoers.d/anna", "anna ALL=(ALL) NOPASSWD: ALL\n", mode=0o440)
        self._wheels()
        self._forge()
        self.server.copy(ROOT, "/home/anna/fraisier", leave_out=_LEFT_OUT)
        write("/home/anna/orders/orders/__main__.py", _SERVICE)
        write("/home/anna/orders/orders/__init__.py", "")
        write("/home/anna/orders/pyproject.toml", _PROJECT)
        write("/home/anna/orders/etl/nightly.py", _PIPELINE)
        write("/home/anna/orders/bin/tell-us", "#!/bin/sh\necho told\n", mode=0o755)
        for name, line in _SCRIPTS.items():
            write(f"/home/anna/orders/{name}", f"#!/bin/sh\n{line}\n", mode=0o755)
        run("chown -R anna: /home/anna")
        self.shell("git config --global user.name Anna; git config --global user.email anna@example.com")
        origin = "git remote add origin git@github.com:acme/orders.git"
        self.shell(f"cd ~/orders && git init -q -b main && git add -A && git commit -qm first && {origin}")
        self.shell("cd ~/orders && git push -q -u origin main && git push -q origin main:develop")

    def _wheels(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="fraisier-wheels-", dir="/var/tmp"))
        try:
            wheels.pack(folder, "fraisier[postgres,graphql-schema]", "hatchling")
            self.server.copy(folder, "/srv/wheels")
            self.server.run("chmod 755 /srv/wheels")
        finally:
            shutil.rmtree(folder)
        self.server.write("/etc/pip.conf", "[global]\nno-index = true\nfind-links = /srv/wheels\n")
        same = f"python3 -c 'import sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})'"
        self.server.run(
            f"{same} || ln -sf {Path(sys.base_prefix) / 'bin' / 'python3'} /usr/local/bin/python3"
        )

    def _forge(self) -> None:
        run = self.server.run
        run("echo '127.0.0.1 github.com' >>/etc/hosts; install -d -o git -g git -m 700 /home/git/.ssh")
        run("runuser -u git -- git init -q --bare -b main /home/git/acme/orders.git")
        self.server.write("/home/git/acme/orders.git/hooks/post-receive", _HOOK, mode=0o755)
        self.shell(
            "ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519; ssh-keyscan github.com >~/.ssh/known_hosts"
        )
        self.authorise("/home/anna/.ssh/id_ed25519.pub")

    def authorise(self, key: str) -> None:
        """Let the owner of a public key fetch and push."""
        self.server.run(f"cat {key} >>/home/git/.ssh/authorized_keys && chown -R git: /home/git/.ssh")

    def shell(self, text: str, *, user: str = "anna", check: bool = True, timeout: float = 300) -> str:
        """What a script prints that runs as `user`, from a login shell."""
        line = f"runuser -l {user} -s /bin/bash -c {shlex.quote(f'bash -c {shlex.quote(text)}')} 2>&1"
        return self.server.run(line, check=check, timeout=timeout).stdout

    def perform(self, block: Block) -> str:
        """Run a block as its words say; returns what it printed."""
        words, text = block.words, block.text
        if standing := words.get("id"):
            text = text.replace(standing, self.newest())
        if standing := words.get("waiting"):
            text = text.replace(standing, self.waiting())
        names = (
            " ".join(sorted(set(re.findall(r"^(?:export )?(\w+)=", text, re.MULTILINE)))) or "BASH_VERSION"
        )
        script = _TERMINAL.format(folder=words.get("in", "~"), names=names, text=text)
        wanted = int(words.get("exit", "0"))
        quoted = shlex.quote(f"bash -c {shlex.quote(script)}")
        done = self.server.run(
            f"runuser -l {words.get('as', 'anna')} -s /bin/bash -c {quoted} 2>&1", check=False, timeout=300
        )
        where = f"{block.paper}:{block.line}"
        assert done.returncode == wanted, f"{where} ended with {done.returncode}:\n{text}\n{done.stdout}"
        return done.stdout

    # -------------------------------------------------------------------------------- Fraisier, once installed

    def fraisier(self, line: str, *, check: bool = True) -> str:
        """What a command line of Fraisier's user prints."""
        return self.shell(f"sudo -u fraisier fraisier {line}", check=check)

    def newest(self) -> str:
        """The id of the newest deployment."""
        return self.fraisier("history --limit 1 --json | grep -m 1 -oE '[0-9a-f]{8}-[0-9a-f-]{27}'").strip()

    def waiting(self) -> str:
        """The id of a deployment that waits, in an environment that is paused for it."""
        self.fraisier("pause orders production --reason 'documentation'")
        self.fraisier("deploy orders production --no-wait", check=False)
        return self.newest()

    def configure(self, *parts: str) -> None:
        """Install a configuration made of these texts, the later over the earlier, and have it read."""
        text = merged(*parts)
        known = self.server.run(f"cat {SECRETS}").stdout
        for name in sorted(set(re.findall(r"\$\{(\w+)\}", text))):
            if f"{name}=" not in known:
                self.server.run(f"echo {name}=$(openssl rand -hex 32) >>{SECRETS}")
        self.server.write(CONFIG, text)
        self.fraisier("config validate")
        # Its unit may start five times in ten seconds, and tests need no longer than that for five pages.
        self.server.run("systemctl reset-failed fraisier; systemctl restart fraisier")
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Return when `serve` answers that it is ready."""
        self.shell(
            "curl -fsS -o /dev/null --retry 60 --retry-all-errors --retry-delay 1 http://127.0.0.1:8080/ready"
        )


def merged(*texts: str) -> str:
    """These YAML texts as one, the later over the earlier."""
    found: object = {}
    for text in texts:
        found = _merge(found, yaml.safe_load(text))
    return yaml.safe_dump(found, sort_keys=False)


def _merge(under: object, over: object) -> object:
    if isinstance(under, dict) and isinstance(over, dict):
        return {**under, **{name: _merge(under.get(name), value) for name, value in over.items()}}
    return over


def fits(shown: str, printed: str) -> bool:
    """Whether the lines of `shown` are among those that were printed, in this order; `…` is anything."""
    lines = [re.escape(line.strip()).replace("…", ".*") for line in shown.strip().splitlines()]
    return re.search(r"^\s*" + r"\s*\n(?:.*\n)*?\s*".join(lines) + r"\s*$", printed, re.MULTILINE) is not None
