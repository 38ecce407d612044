"""The configuration changes in the middle of deployments."""

from __future__ import annotations

import json
import signal
from typing import Any

from tests.chaos.several import only
from tests.chaos.world import World
from tests.integration.outside import Serve


def reloaded(world: World) -> str:
    """SIGHUP with a valid file, or a broken one, while a deployment runs and another waits."""
    world.build(before_build=world.held_build())
    serve = world.process()
    good = world.site.config.read_text()
    done = []
    for number in range(world.length):
        running = world.push_held(serve)
        waiting = world.push(serve, "good")
        done.append(world.dice.choice(("valid", "broken", "broken+kill")))
        if done[-1] == "valid":
            _change(world, serve, good.replace("echo built", f"true {number}; echo built"))
        else:
            _break(world, serve, good)
        if done[-1] == "broken+kill":
            serve.kill()
            world.site.config.write_text(good)  # it does not start with the broken one
            serve.start()
        world.let_go()
        assert {world.ended(each)["status"] for each in (running, waiting)} == {"success"}
        world.site.config.write_text(good)
        serve.process.send_signal(signal.SIGHUP)
        world.look("serve to be ready", lambda: serve.get("/ready")[0] == 200)
    return " ".join(done)


def _change(world: World, serve: Serve, text: str) -> None:
    before = _digest(world)
    world.site.config.write_text(text)
    serve.process.send_signal(signal.SIGHUP)
    world.look("the new configuration", lambda: _digest(world) != before)


def _break(world: World, serve: Serve, text: str) -> None:
    world.site.config.write_text(world.dice.choice((text.replace("app_path", "app_pth"), text[:-200], "{")))
    serve.process.send_signal(signal.SIGHUP)
    world.look("the refusal", lambda: serve.get("/ready")[0] == 503)


def _digest(world: World) -> Any:
    return world.site.rows("SELECT digest FROM tb_installation")


def renamed(world: World) -> str:
    """The environment gets another name while one of its deployments runs and another waits, and comes back."""
    world.build(before_build=world.held_build())
    serve = world.process()
    world.ended(world.push(serve, "good"))
    done = []
    for _ in range(world.length):
        running = world.push_held(serve)
        waiting = world.push(serve, "good")
        done.append(world.dice.choice(("reload", "kill")))
        world.edit("      production:", "      elsewhere:")
        if done[-1] == "kill":
            serve.kill()
            serve.start()
        else:
            serve.process.send_signal(signal.SIGHUP)
            world.look("the change", lambda: not _published(world))
        world.let_go()
        ended = [world.ended(each) for each in (running, waiting)]
        assert ended[0]["status"] == ("success" if done[-1] == "reload" else "failed"), ended[0]
        assert ended[1]["status"] == "failed", ended[1]
        assert "production" in ended[1]["error_message"], ended[1]
        world.edit("      elsewhere:", "      production:")
        serve.process.send_signal(signal.SIGHUP)
        world.look("the change", lambda: _published(world))
        world.goes_on(serve)
    only(world, "production")  # the other one had no deployments
    return " ".join(done)


def _published(world: World) -> bool:
    found = world.site.rows("SELECT published FROM tb_environments WHERE name = 'production'")
    return bool(found and found[0]["published"])


def two_minds(world: World) -> str:
    """Two processes have read different files: the one whose file was published last works, the other says so."""
    world.build(before_build="true")
    first = world.process()
    world.ended(world.push(first, "good"))
    for number in range(world.length):
        world.edit("echo built", f"echo {number} > mind; echo built")
        second = world.process()
        world.look("the first to step back", lambda: first.get("/ready")[0] == 503)
        assert "SIGHUP" in json.dumps(first.get("/ready")[1])
        deployment = world.push(world.dice.choice((first, second)), "good")
        assert world.ended(deployment)["status"] == "success"
        assert (world.site.app / "current" / "mind").read_text().strip() == str(number)
        mine = world.site.rows("SELECT worker FROM tb_deployment_attempts WHERE deployment = ?", deployment)
        assert all(f"-{second.pid}-" in row["worker"] for row in mine), mine
        first.process.send_signal(signal.SIGHUP)
        world.look("the first to agree", lambda: first.get("/ready")[0] == 200)
        second.kill(world.dice.choice((signal.SIGTERM, signal.SIGKILL)))
        world.goes_on(first)
        world.edit(f"echo {number} > mind; echo built", "echo built")
        first.process.send_signal(signal.SIGHUP)
        world.pause(0.4, 0.3)
    return f"{world.length} times"
