"""What must hold between values: one way to say a thing, no two environments in each other's way."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from fraisier.config import backups, cutover, hosts, job_checks, jobs, rollout, sources, texts
from fraisier.config.compose import check_compose
from fraisier.config.databases import check_database
from fraisier.config.document import Node
from fraisier.config.reading import Reader, did_you_mean
from fraisier.config.sections import Parsed
from fraisier.domain.labels import may_meet
from fraisier.domain.secret import Secret

TARGETS = ("systemd", "supervisord", "compose")
Named = tuple[str, str, Parsed]  # fraise, environment


def check(root: Parsed, reader: Reader, labels: Collection[str]) -> None:
    """Report whatever the keys, each for itself, could not show. `labels` are this machine's."""
    forges = sources.forges_of(root)
    sources.check_forges(reader, forges, root)
    default = sources.default_forge(root, forges)
    mapped = mapped_branches(root)
    for fraise in root["fraises"].values():
        sources.check_source(reader, fraise, forges, default)
    for fraise_name, name, environment in environments_of(root):
        fraise = root["fraises"][fraise_name]
        if fraise["repository"] or fraise["type"] != "backup":
            _check_ref(reader, environment, mapped.get((fraise_name, name), ()))
        if "type" in fraise.values or not fraise.given("type"):
            job_checks.check(reader, fraise["type"], environment)
            backups.check(reader, fraise["type"], fraise["repository"], environment)
        if fraise["type"] == "api":
            _check_target(reader, environment)
            cutover.check(reader, environment)
            _check_health(reader, environment)
        hosts.check(reader, environment)
        rollout.check(reader, environment)
        check_database(reader, environment)
        _check_shared(reader, environment)
    used = {host for _, _, environment in environments_of(root) for host in environment["hosts"] or ()}
    hosts.check_options(reader, root, used)
    _check_mapping(reader, root)
    _check_units(reader, root, labels)
    _check_folders(reader, root, labels)
    _check_server(reader, root)


def environments_of(root: Parsed) -> Iterator[Named]:
    """Every environment that could be read."""
    for fraise_name, fraise in root["fraises"].items():
        for name, environment in (fraise["environments"] or {}).items():
            yield fraise_name, name, environment


def mapped_branches(root: Parsed) -> dict[tuple[str, str], tuple[str, ...]]:
    """branch_mapping the other way round: (fraise, environment) -> branches."""
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for branch, targets in root["branch_mapping"].items():
        for target in targets:
            key = (target["fraise"] or "", target["environment"] or "")
            found[key] = (*found.get(key, ()), branch)
    return found


def _check_ref(reader: Reader, environment: Parsed, mapped: tuple[str, ...]) -> None:
    if environment.given("branch") and environment.given("tag"):
        reader.refuse(
            environment.at("tag"), "stands beside branch; an environment follows one of them", at_key=True
        )
    elif environment.given("tag") and mapped:
        message = f"stands beside branch_mapping, which sends branch {mapped[0]!r} here; keep one of them"
        reader.refuse(environment.at("tag"), message, at_key=True)
    elif not (environment.given("branch") or environment.given("tag") or mapped):
        message = "follows nothing; expected branch: NAME, tag: PATTERN, or an entry in branch_mapping"
        reader.refuse(environment.node, message, at_key=True)


_UNIT_KEYS = ("systemd_service", "supervisord_program", "compose_file", "target")


def _check_target(reader: Reader, environment: Parsed) -> None:
    given = [key for key in _UNIT_KEYS if environment.given(key)]
    for extra in given[1:]:
        message = f"stands beside {given[0]}; one thing runs a release, keep one"
        reader.refuse(environment.at(extra), message, at_key=True)
    needs = {
        "unit_file": "systemd_service",
        "systemd_manager": "systemd_service",
        "supervisord_config": "supervisord_program",
        "compose_project": "compose_file",
    }
    for key, needed in needs.items():
        # That Docker Compose takes no unit_file is said by its own check.
        wanted = ("systemd_service", "target", "compose_file") if key == "unit_file" else (needed,)
        if environment.values.get(key) and not any(each in given for each in wanted):
            message = f"has no meaning without {needed}; add it or leave this out"
            if key == "unit_file" and given:
                message = "needs target: {type: supervisord, unit: …, conf_d: …}, which says where it goes"
            reader.refuse(environment.at(key), message, at_key=True)
    target = environment["target"]
    kind = target["type"] if target else None
    units = {"systemd": texts.unit, "supervisord": texts.program, "compose": texts.compose_project}
    if kind in units and target["unit"] and (wrong := units[kind](target["unit"])):
        reader.refuse(target.at("unit"), wrong)
    if kind and kind not in TARGETS and kind not in reader.brands("fraisier.targets"):
        known = sorted({*TARGETS, *reader.brands("fraisier.targets")})
        message = f"{kind!r} is no target; expected {', '.join(known)}{did_you_mean(kind, known)}"
        reader.refuse(target.at("type"), message)
    if kind == "compose" or environment.given("compose_file"):
        check_compose(reader, environment)


def _check_health(reader: Reader, environment: Parsed) -> None:
    health = environment["health_check"]
    if health is None:
        return
    given = [key for key in ("url", "tcp", "command") if health.given(key)]
    if len(given) != 1:
        problem = "has " + (" and ".join(given) if given else "nothing to look at")
        reader.refuse(health.node, f"{problem}; expected exactly one of url, tcp, command", at_key=True)
    elif given[0] != "url":
        for key in ("expect_status", "expect_body", "expect_headers", "headers"):
            if health.given(key):
                reader.refuse(
                    health.at(key), f"belongs to url, but {given[0]} is checked; leave it out", at_key=True
                )
    if health["request_timeout"] > health["timeout"] and health.given("request_timeout"):
        message = f"is longer than timeout ({health['timeout']:g} s), which bounds all probes together"
        reader.refuse(health.at("request_timeout"), message)


def _check_shared(reader: Reader, environment: Parsed) -> None:
    node, taken = environment.at("shared"), list[str]()
    for index, name in enumerate(environment["shared"]):
        path = "/" + name.rstrip("/")
        if any(texts.inside(path, other) or texts.inside(other, path) for other in taken):
            at = node.items[index] if index < len(node.items) else node
            reader.refuse(at, f"{name} is, or is inside, another shared path; keep the outer one")
        taken.append(path)


def _check_mapping(reader: Reader, root: Parsed) -> None:
    for targets in root["branch_mapping"].values():
        for target in targets:
            fraise, environment = target["fraise"], target["environment"]
            if not fraise or not environment:
                continue
            known = root["fraises"]
            if fraise not in known:
                if fraise not in root.at("fraises").entries:
                    _unknown(reader, target.at("fraise"), fraise, list(known))
            elif environment not in known[fraise].at("environments").entries:
                _unknown(
                    reader, target.at("environment"), environment, list(known[fraise]["environments"] or {})
                )


def _unknown(reader: Reader, node: Node, name: str, known: list[str]) -> None:
    kind = node.name
    names = ", ".join(known) or "none"
    reader.refuse(node, f"there is no {kind} {name!r}; there is: {names}{did_you_mean(name, known)}")


def unit_of(fraise: str, name: str, environment: Parsed) -> tuple[str, str, str] | None:
    """What runs a release: (brand, whose or which manager, unit)."""
    if environment["compose_file"]:
        return "compose", "", environment["compose_project"] or texts.default_project(fraise, name)
    if environment["systemd_service"] and not environment["systemd_timer"]:
        return "systemd", environment["systemd_manager"], cutover.plain_unit(environment["systemd_service"])
    if timer := jobs.timer_of(environment):
        return "systemd", environment["systemd_manager"], timer
    if environment["supervisord_program"]:
        return "supervisord", environment["supervisord_config"] or "", environment["supervisord_program"]
    target = environment["target"]
    if not target or not target["type"] or not target["unit"]:
        return None
    if target["type"] == "systemd":
        return "systemd", target.values.get("manager", "system"), cutover.plain_unit(target["unit"])
    manager = "docker_host" if target["type"] == "compose" else "config"
    return target["type"], target.values.get(manager, ""), target["unit"]


def _check_units(reader: Reader, root: Parsed, labels: Collection[str]) -> None:
    taken: dict[tuple[str, str, str], list[Named]] = defaultdict(list)
    for named in environments_of(root):
        environment = named[2]
        unit = unit_of(*named)
        if unit is None:
            continue
        if other := _met(taken[unit], environment, labels):
            key = next(key for key in (*_UNIT_KEYS, "systemd_timer", "jobs") if environment.given(key))
            message = f"{unit[2]} runs {_key(other)} already; two environments cannot share a unit"
            reader.refuse(environment.at(key), message + _UNLESS)
        taken[unit].append(named)


_UNLESS = ", unless their labels say that they live on different machines, or they have other hosts"


def _met(others: Iterable[Named], environment: Parsed, labels: Collection[str]) -> Named | None:
    """The first of the others that may be on the same machine."""
    wanted = environment["labels"]
    near = (each for each in others if hosts.share_a_host(each[2], environment))
    return next((each for each in near if may_meet(each[2]["labels"], wanted, labels)), None)


def _key(named: Named) -> str:
    return f"{named[0]}/{named[1]}"


def _check_folders(reader: Reader, root: Parsed, labels: Collection[str]) -> None:
    owners: dict[str, list[Named]] = defaultdict(list)
    within: dict[str, list[Named]] = defaultdict(list)  # folder -> those with an app_path below it
    for named in environments_of(root):
        environment = named[2]
        if not environment["app_path"]:
            continue
        path = texts.normal(environment["app_path"])
        above = list(_and_above(path))
        near = [owner for each in above if each in owners for owner in owners[each]]
        if other := _met((*near, *within.get(path, ())), environment, labels):
            theirs = texts.normal(other[2]["app_path"])
            how = f"{path} {'is' if path == theirs else 'overlaps'} the app_path of {_key(other)} ({theirs})"
            message = f"{how}; each needs a folder of its own{_UNLESS}"
            reader.refuse(environment.at("app_path"), message)
        owners[path].append(named)
        for each in above:
            within[each].append(named)
    _check_state(reader, root, owners)


def _check_state(reader: Reader, root: Parsed, owners: Mapping[str, Sequence[Named]]) -> None:
    state = state_folder(root)
    inside = next((owners[each][0] for each in _and_above(state) if each in owners), None)
    if inside is not None:
        key = next((key for key in ("state_folder", "database") if root.given(key)), "database")
        message = f"keeps Fraisier's own files in {state}, inside the app_path of {_key(inside)}; move one"
        reader.refuse(root.at(key), message)


def _and_above(path: str) -> Iterator[str]:
    """/a/b -> /a/b, /a."""
    while path not in ("", "/"):
        yield path
        path = path.rpartition("/")[0]


# As libpq reads it: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS
_POSTGRESQL = re.compile(
    r"postgres(?:ql)?://(?:(?P<user>[^:@/?]*)(?::(?P<password>[^@/?]*))?(?P<at>@))?(?P<rest>.*)"
)


def database_url(root: Parsed) -> str:
    """Complete: sqlite:// with exactly three slashes, or postgresql:// without the password."""
    given = root["database"]["url"] if root["database"] else None
    url = given or "sqlite:///var/lib/fraisier/fraisier.db"
    if found := _POSTGRESQL.match(url):
        return f"postgresql://{found['user'] or ''}{found['at'] or ''}{found['rest']}"
    return "sqlite://" + texts.normal(url.removeprefix("sqlite://"))


def database_password(root: Parsed) -> Secret | None:
    """The password of a postgresql:// URL, as it is and not as it is written."""
    given = root["database"]["url"] if root["database"] else None
    found = _POSTGRESQL.match(given or "")
    if found is None or not found["password"]:
        return None
    from urllib.parse import unquote  # only who has such a database needs it

    return Secret(unquote(found["password"]), "config:database.url")


def state_folder(root: Parsed) -> str:
    """Where Fraisier's own files are."""
    if root["state_folder"]:
        return texts.normal(root["state_folder"])
    if not database_url(root).startswith("sqlite:"):
        return "/var/lib/fraisier"
    return os.path.dirname(database_url(root).removeprefix("sqlite://"))  # noqa: PTH120


def _check_server(reader: Reader, root: Parsed) -> None:
    server = root["server"]
    if server is not None and server["max_in_flight"] < server["max_body"]:
        key = "max_in_flight" if server.given("max_in_flight") else "max_body"
        reader.refuse(
            server.at(key),
            "max_in_flight must not be smaller than max_body, or no large webhook is ever read",
        )
