"""The servers that parts of `make bench` compare, each in a process of its own.

The floor is the same server and stack: an endpoint of Starlette that reads the body and answers 202,
nothing else; `bare` is the same without Starlette. `receiver` is Fraisier's without its worker.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.bench_pushes import ROOT, SECRET

KINDS = ("receiver", "floor", "bare")
CONFIG = """\
git:
  provider: github
  github: {{webhook_secret: "{secret}"}}
database: {{url: "{database}"}}
sweep_interval: 0
state_folder: {folder}/state
fraises:
  orders:
    type: api
    repository: acme/orders
    clone_url: file://{folder}/orders.git
    environments:
      production: {{branch: main, app_path: {folder}/app}}
"""


def write_config(folder: Path, database: str = "") -> None:
    """The configuration that `server` starts with; without `database` its store is SQLite in the folder."""
    database = database or f"sqlite://{folder}/fraisier.db"
    text = CONFIG.format(secret=SECRET.decode(), folder=folder, database=database)
    (folder / "fraises.yaml").write_text(text)


@dataclass
class Server:
    """A server in its own process. `peak` is read from the kernel."""

    process: subprocess.Popen[str]
    port: int

    @property
    def memory(self) -> float:
        """Resident memory in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024


@contextmanager
def server(kind: str, folder: Path) -> Iterator[Server]:
    """Start `python -m tools.bench_servers --serve KIND`, or the real `fraisier serve`."""
    if kind == "fraisier":
        command = ["fraisier", "--config", str(folder / "fraises.yaml"), "serve", "--port", "0"]
    else:
        command = ["tools.bench_servers", "--serve", kind, "--folder", str(folder)]
    process = subprocess.Popen([sys.executable, "-m", *command], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    line = ""
    while "http://" not in line:
        line = process.stderr.readline()
        if not line:
            message = f"the {kind} server did not start"
            raise SystemExit(message)
    try:
        yield Server(process, int(line.strip().rpartition(":")[2]))
    finally:
        process.terminate()
        process.wait(20)
        process.stderr.close()


def serve_here(kind: str, folder: Path) -> None:
    """Run one of the servers that are compared, in this process."""
    from fraisier import wiring
    from fraisier.cli.serving import SWITCH_INTERVAL, recorder
    from fraisier.web.server import bounds_of, build_server, listen

    configuration = wiring.load(str(folder / "fraises.yaml"))
    sockets = listen("127.0.0.1", 0)
    sys.setswitchinterval(SWITCH_INTERVAL)
    app: Any = bare if kind == "bare" else floor()
    if kind == "receiver":
        from fraisier.application.receive_push import ReceivePush
        from fraisier.web.app import App, Parts

        store = wiring.open_store(configuration)
        wiring.assemble(configuration, store=store).publish()
        forges = wiring.forges()
        receive = ReceivePush(
            configuration,
            forges=forges,
            find_forge=wiring.find_forge(),
            record=recorder(store),
            clock=wiring.SystemClock(),
        )
        app = App(Parts(receive_push=receive, forges=forges, store=store))
    port = sockets[0].getsockname()[1]

    def started() -> None:
        print(f"http://127.0.0.1:{port}", file=sys.stderr, flush=True)

    import uvloop

    uvloop.run(build_server(app, bounds_of(configuration.settings), started).serve(sockets))


def floor() -> Any:
    """Starlette with one endpoint that reads the body and answers 202, nothing else."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def endpoint(request: Request) -> JSONResponse:
        await request.body()
        return JSONResponse({}, 202)

    return Starlette(routes=[Route("/webhook", endpoint, methods=["POST"]), Route("/health", endpoint)])


async def bare(_: Any, receive: Any, send: Any) -> None:
    """The same without Starlette."""
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 202, "headers": headers})
    await send({"type": "http.response.body", "body": b"{}"})


def main() -> None:
    """Serve until the end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--serve", choices=KINDS, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    arguments = parser.parse_args()
    serve_here(arguments.serve, arguments.folder)


if __name__ == "__main__":
    main()
