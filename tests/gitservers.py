"""Servers that git fetches from, on loopback and real: HTTP(S) with a password, SSH with a host key."""

from __future__ import annotations

import base64
import json
import os
import pwd
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

from tests.ports import free_port

USER, TOKEN = "deployer", "t0ken-that-nobody-may-see"


@dataclass
class GitHttp:
    """A running server. `seen` has the method, path and Authorization header of every request."""

    port: int
    scheme: str = "http"
    seen: list[tuple[str, str, str]] = field(default_factory=list)

    def url(self, name: str) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/{name}"


@contextmanager
def git_over_http(
    folder: Path, *, password: str = TOKEN, redirect: str = "", context: ssl.SSLContext | None = None
) -> Iterator[GitHttp]:
    """Serve the bare repositories in `folder` through `git http-backend`.

    `password` '' lets everyone in; `redirect` sends everyone to another server.
    """

    class Handler(_Backend):
        pass

    Handler.folder, Handler.password, Handler.redirect, Handler.seen = folder, password, redirect, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield GitHttp(server.server_port, "https" if context else "http", Handler.seen)
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


class _Backend(BaseHTTPRequestHandler):
    folder: ClassVar[Path]
    password: ClassVar[str]
    redirect: ClassVar[str]
    seen: ClassVar[list[tuple[str, str, str]]]

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def log_message(self, *_: object) -> None:
        """Tests look at `seen`."""

    def _answer(self, body: bytes) -> None:
        given = self.headers.get("Authorization", "")
        self.seen.append((self.command, self.path, given))
        if self.redirect:
            self._refuse(302, ("Location", self.redirect + self.path))
        elif self.password and given != "Basic " + _basic(USER, self.password):
            self._refuse(401, ("WWW-Authenticate", 'Basic realm="git"'))
        elif "/info/lfs/" in self.path:
            self._large_files(body)
        else:
            self._backend(body)

    def _large_files(self, body: bytes) -> None:
        """The basic transfer of https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md, downloads only."""
        repository, _, rest = self.path.partition("/info/lfs/objects/")
        if rest != "batch":
            return self._send("application/octet-stream", (self._stored(repository, rest)).read_bytes())
        here = f"http://{self.headers['Host']}{repository}/info/lfs/objects"
        objects = [
            {**each, "actions": {"download": {"href": f"{here}/{each['oid']}"}}}
            if self._stored(repository, each["oid"]).exists()
            else {**each, "error": {"code": 404, "message": "Object does not exist on the server"}}
            for each in json.loads(body)["objects"]
        ]
        answer = json.dumps({"transfer": "basic", "objects": objects}).encode()
        return self._send("application/vnd.git-lfs+json", answer)

    def _stored(self, repository: str, oid: str) -> Path:
        return self.folder / repository.lstrip("/") / "lfs" / "objects" / oid[:2] / oid[2:4] / oid

    def _send(self, kind: str, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _refuse(self, status: int, header: tuple[str, str]) -> None:
        self.send_response(status)
        self.send_header(*header)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _backend(self, body: bytes) -> None:
        path, _, query = self.path.partition("?")
        env = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "HOME": str(self.folder),
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_USER": USER,
        }
        done = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True, timeout=60)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        self.send_response(int(fields.pop("Status", "200 OK").split()[0]))
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _basic(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def self_signed(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's TLS context for 127.0.0.1, and the certificate that a client has to trust."""
    key, certificate = folder / "tls.key", folder / "tls.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    making = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    subprocess.run([*making, "-keyout", key, "-out", certificate, *subject], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context, certificate


@dataclass(frozen=True)
class Sshd:
    """A running sshd. `key` may log in; `known_hosts` has the server's key."""

    port: int
    folder: Path

    @property
    def key(self) -> Path:
        return self.folder / "client key 100%"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known hosts"

    def url(self, path: Path) -> str:
        return f"ssh://{pwd.getpwuid(os.geteuid()).pw_name}@127.0.0.1:{self.port}{path}"


def missing_sshd() -> str:
    """Why no sshd can be started here; '' if one can."""
    if not shutil.which("ssh-keygen") or not Path("/usr/sbin/sshd").exists():
        return "openssh-server is not installed: apt install openssh-server"
    return ""


@contextmanager
def sshd(folder: Path) -> Iterator[Sshd]:
    """A private sshd for the present user, with keys of its own."""
    folder.mkdir(mode=0o700)
    server = Sshd(free_port(), folder)
    for key in (folder / "host key", server.key):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    (folder / "authorized").write_text(Path(f"{server.key}.pub").read_text())
    host_key = Path(f"{folder}/host key.pub").read_text()
    server.known_hosts.write_text(f"[127.0.0.1]:{server.port} {host_key}")
    (folder / "config").write_text(
        f'Port {server.port}\nListenAddress 127.0.0.1\nHostKey "{folder}/host key"\nPidFile none\n'
        f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nUseDNS no\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    process = subprocess.Popen(
        ["/usr/sbin/sshd", "-D", "-e", "-f", folder / "config"], stderr=subprocess.DEVNULL
    )
    try:
        _wait_for(server.port)
        yield server
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(port: int, within: float = 10.0) -> None:
    deadline = time.monotonic() + within
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return
