"""Deliveries that come out of order, again, and to two processes at once."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

from tests.chaos.world import World
from tests.integration.outside import Serve


def out_of_order(world: World) -> str:
    """Every push is delivered at least once, in any order, to either of two processes; the tip wins.

    Of what waits, the newest that was asked for stays, and that may be an older commit. The sweep, which asks
    where the branch is, has the last word.
    """
    world.build(before_build="true")
    world.edit("sweep_interval: 0", "sweep_interval: 1")
    serves = [world.process(), world.process()]
    for _ in range(world.length):
        commits = [world.site.push_version(f"{world.pushed}-{number}") for number in range(4)]
        world.pushed += 1
        told = [*commits, *world.dice.sample(commits, 2)]
        world.dice.shuffle(told)
        for commit in told:
            world.deliver(world.dice.choice(serves), commit)
            world.pause(0.15)
        world.comes_to_rest()
        wanted = world.site.version_of(commits[-1])
        world.look(f"{wanted} to run", lambda wanted=wanted: world.site.version == wanted)
        world.comes_to_rest()
    return f"{len(world.site.deployments())} deployments"


def there_and_back(world: World) -> str:
    """A, B, A: what was deployed before is deployed again, as often as it becomes the tip again."""
    world.build(before_build="true")
    serve = world.process()
    first = world.site.push_version("A")
    second = world.site.push_version("B")
    statuses = []
    for _ in range(world.length):
        for commit in (first, second, first):
            world.site.repository.push(f"{commit}:refs/heads/main")
            if deployment := world.deliver(serve, commit):
                statuses.append(world.ended(deployment)["status"])
            wanted = world.site.version_of(commit)
            assert world.site.version == wanted, f"{world.site.version} runs, the tip is {wanted}"
    # The next turn begins with what runs already, and that asks for nothing.
    assert statuses == ["success"] * (2 * world.length + 1), statuses
    return f"{len(statuses)} deployments"


def the_same_at_once(world: World) -> str:
    """One delivery is sent to two processes at the same time, many times: one event, one deployment."""
    world.build(before_build="true")
    serves = [world.process(), world.process()]
    with ThreadPoolExecutor(8) as senders:
        for number in range(world.length * 2):
            commit = world.site.push_version(str(number))
            name = str(uuid.uuid4())

            def send(serve: Serve, commit: str = commit, name: str = name) -> tuple[int, dict]:
                return serve.webhook(commit, delivery_id=name)

            answers = list(senders.map(send, world.dice.choices(serves, k=6)))
            accepted = [answer for status, answer in answers if status == 202]
            again = [answer for status, answer in answers if status == 200]
            assert (len(accepted), len(again)) == (1, 5), answers
            assert {answer["status"] for answer in again} == {"duplicate"}, answers
            assert {answer["event_id"] for answer in (*accepted, *again)} == {accepted[0]["event_id"]}
            world.promises.accepted(accepted[0])
    world.comes_to_rest()
    events = world.site.rows("SELECT id FROM tb_webhook_events")
    assert len(events) == len(world.site.deployments()) == world.length * 2
    return f"{len(events)} events"
