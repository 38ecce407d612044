"""What must hold between the keys that say how traffic comes to a new release."""

from __future__ import annotations

from fraisier.config import texts
from fraisier.config.hosts import is_only_here
from fraisier.config.reading import Reader, did_you_mean
from fraisier.config.sections import Parsed
from fraisier.domain.fraise import ProxySpec
from fraisier.domain.release import Layout

PROXIES = ("haproxy", "caddy")


def plain_unit(name: str) -> str:
    """orders, orders@ or orders@.service -> orders.service: an instance's name is made from it."""
    return texts.complete_unit(name).replace("@.service", ".service")


def listen_of(environment: Parsed) -> tuple[str, ...]:
    """Where releases listen: paths, and complete addresses."""
    return tuple(map(texts.complete_address, environment["listen"]))


def proxy_of(environment: Parsed) -> ProxySpec | None:
    """The proxy that is told of each switch."""
    parsed = environment["proxy"]
    if parsed is None:
        return None
    options = {name: value for name, value in parsed.values.items() if name != "type"}
    return ProxySpec(kind=parsed["type"] or "", options=options)


def check(reader: Reader, environment: Parsed) -> None:
    """Report what does not go together."""
    how = environment["cutover"]
    kind = _kind_of(environment)
    if how != "restart" and kind in (None, "supervisord"):
        needed = "systemd_service" if kind is None else "systemd_service instead of supervisord"
        reader.refuse(environment.at("cutover"), f"{how} is not possible here; it needs {needed}")
    if how == "socket" and kind == "compose":
        message = "socket is not possible here: systemd gives no socket to a container; use blue_green"
        reader.refuse(environment.at("cutover"), message)
    _check_run(reader, environment, kind)
    _check_listen(reader, environment, how)
    _check_proxy(reader, environment, how)
    if environment["bake"] and kind is None and environment["health_check"] is None:
        reader.refuse(
            environment.at("bake"), "has nothing to watch; add health_check, or a unit", at_key=True
        )
    if how == "blue_green" and not _ports(environment) and environment["app_path"]:
        link = Layout(texts.normal(environment["app_path"])).link
        if len(link) > texts.LONGEST_SOCKET:
            message = f"is too long for blue_green: proxies dial {link}, and can dial {texts.LONGEST_SOCKET}"
            reader.refuse(environment.at("app_path"), f"{message} characters")


def _kind_of(environment: Parsed) -> str | None:
    """What runs the release; None where nothing does."""
    if environment["systemd_service"]:
        return "systemd"
    if environment["supervisord_program"]:
        return "supervisord"
    if environment["compose_file"]:
        return "compose"
    target = environment["target"]
    return target["type"] if target else None


def _ports(environment: Parsed) -> list[str]:
    return [place for place in environment["listen"] if not place.startswith("/")]


def _check_run(reader: Reader, environment: Parsed, kind: str | None) -> None:
    line = environment["run"]
    if line is None:
        return
    if kind != "systemd":
        reader.refuse(environment.at("run"), "has no meaning without systemd_service, which names the unit")
    if environment.given("unit_file"):
        message = "stands beside run, from which the unit is written; keep one of them"
        reader.refuse(environment.at("unit_file"), message, at_key=True)
    if "\n" in line.strip():
        message = "has several lines; expected one command, which may be a script of the release"
        reader.refuse(environment.at("run"), message)


def _check_listen(reader: Reader, environment: Parsed, how: str) -> None:
    places, node = environment["listen"], environment.at("listen")
    if not places:
        if how == "socket" and environment["run"] is not None:
            message = "socket needs listen: where the socket is that systemd opens"
            reader.refuse(environment.at("cutover"), message)
        if how == "blue_green" and environment["systemd_manager"] == "user" and not is_only_here(environment):
            # systemd's default is /run/user/ and the user's number, which is another one on every host.
            message = "blue_green of a user's units on another host needs listen: where they do that, e.g."
            reader.refuse(environment.at("cutover"), f"{message} <app_path>/shared/%i.sock")
        return
    ports = _ports(environment)
    if how == "restart" and environment["run"] is None:
        reader.refuse(
            node,
            "is told to a service that Fraisier writes the unit of: add run, or leave it out",
            at_key=True,
        )
    if how != "blue_green":
        return
    if ports and len(ports) < len(places):
        reader.refuse(node, "has sockets and ports; a release listens on one or the other")
    elif ports and len(set(ports)) < 2:
        reader.refuse(node, "has one port; two releases run at a time, so name two: [8001, 8002]")
    elif not ports and len(places) > 1:
        reader.refuse(node, "has several sockets; a release listens on one")
    elif not ports and "%i" not in places[0]:
        reader.refuse(node, "is the same for each release; write %i where the release's name belongs")


def _check_proxy(reader: Reader, environment: Parsed, how: str) -> None:
    proxy, ports = environment["proxy"], _ports(environment)
    if proxy is None:
        if how == "blue_green" and len(set(ports)) > 1 and len(ports) == len(environment["listen"]):
            message = (
                "are ports, so a proxy has to be told which of them serves; add proxy: {type: haproxy, …}"
            )
            reader.refuse(environment.at("listen"), f"{message}, or let the service listen on a socket")
        return
    if not ports:
        message = "is told of ports, but releases listen on sockets here: the proxy dials current.sock, and"
        reader.refuse(environment.at("proxy"), f"{message} needs not be told; leave this out", at_key=True)
    kind = proxy["type"]
    if kind and kind not in PROXIES and kind not in reader.brands("fraisier.proxies"):
        known = sorted({*PROXIES, *reader.brands("fraisier.proxies")})
        message = f"{kind!r} is no proxy; expected {', '.join(known)}{did_you_mean(kind, known)}"
        reader.refuse(proxy.at("type"), message)
