"""The hosts of an environment and the order in which they get a release."""

from __future__ import annotations

from fraisier.config.document import Node
from fraisier.config.hosts import hosts_of
from fraisier.config.reading import Reader
from fraisier.config.sections import Parsed
from fraisier.domain.rollout import Rollout


def rollout_of(environment: Parsed) -> Rollout:
    """The order; hosts that are to be the first ones are at most all of them."""
    parsed = environment["rollout"]
    if parsed is None:
        return Rollout()
    batch, percent = parsed["batch"]
    return Rollout(
        batch=batch,
        percent=percent,
        max_failures=parsed["max_failures"],
        pause=parsed["pause"],
        canary=parsed["canary"],
    )


def check(reader: Reader, environment: Parsed) -> None:
    """Report what does not go together."""
    hosts, taken = hosts_of(environment), dict[str, str]()
    for index, name in enumerate(hosts):
        written = environment["hosts"][index] if environment["hosts"] else name
        if name.lower() in taken:
            same = "" if taken[name.lower()] == written else f", as {taken[name.lower()]}"
            message = f"{written} is named already{same}; each host is named once"
            reader.refuse(_item(environment.at("hosts"), index), message)
        taken.setdefault(name.lower(), written)
    parsed = environment["rollout"]
    if parsed is None:
        return
    if len(hosts) == 1:
        message = "is about several hosts, and there is one; name them in hosts, or leave this out"
        reader.refuse(environment.at("rollout"), message, at_key=True)
    elif parsed["max_failures"] >= len(hosts):
        message = f"allows all {len(hosts)} hosts to fail; expected at most {len(hosts) - 1}"
        reader.refuse(parsed.at("max_failures"), message)
    elif parsed["canary"] > len(hosts):
        reader.refuse(parsed.at("canary"), f"is more than there are hosts ({len(hosts)})")


def _item(node: Node, index: int) -> Node:
    return node.items[index] if node.kind == "list" and index < len(node.items) else node
