"""The figures of `make bench` with their limits and floors, and how they are shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value. `limit` is what was asked for; `beside` is the floor, or what explains it."""

    name: str
    value: float
    unit: str
    limit: float | None = None
    at_least: bool = False
    beside: str = ""

    @property
    def verdict(self) -> str:
        """Whether the limit was kept this time."""
        if self.limit is None:
            return ""
        kept = self.value >= self.limit if self.at_least else self.value <= self.limit
        return "kept" if kept else "MISSED"

    @property
    def asked(self) -> str:
        """The limit as text."""
        if self.limit is None:
            return ""
        return f"{'≥' if self.at_least else '≤'} {self.limit:g} {self.unit}".rstrip()

    @property
    def shown(self) -> str:
        """The value as text."""
        return f"{self.value:g} {self.unit}".rstrip()


def figures_of(parts: Mapping[str, Any]) -> list[Figure]:
    """Every figure of the parts that were measured."""
    tables = {
        "startup": _startup,
        "deploy": _deploy,
        "runs": _runs,
        "serving": _serving,
        "receive": _receive,
        "reading": _reading,
        "postgresql": _postgresql,
        "workers": _workers,
        "crowd": _crowd,
        "cutover": _cutover,
        "fleet": _fleet,
        "schedule": _schedule,
        "hosts": _hosts,
        "backup": _backup,
    }
    return [figure for name, read in tables.items() if name in parts for figure in read(parts[name])]


def _schedule(found: Mapping[str, Any]) -> Iterator[Figure]:
    runs = f"{found['runs_a_minute']:g} runs a minute stored, worst minute {found['plan_worst_ms']:g} ms"
    yield Figure(
        f"{found['jobs']} scheduled jobs planned, CPU a minute", found["plan_ms"], "ms", 50, beside=runs
    )
    alone = "each due every minute, without a store"
    yield Figure("only deciding, all of them due each minute", found["decide_ms"], "ms", beside=alone)
    yield Figure("one look at what became of them", found["watch_ms"], "ms")


def _backup(found: Mapping[str, Any]) -> Iterator[Figure]:
    for name, each in found.items():
        if isinstance(each, Mapping):
            beside = f"{each['ours_s']:g} s; by hand {each['by_hand_s']:g} s; the pipe alone, unverified,"
            beside += f" {each['pipe_alone_s']:g} s"
            over = each["over_by_hand_percent"]
            yield Figure(f"backup of {name}, over the same by hand", over, "%", 5, beside=beside)
            yield Figure(f"backup of {name}", each["megabytes_a_second"], "MB/s")


def _startup(found: Mapping[str, Any]) -> Iterator[Figure]:
    floor = f"python -c pass {found['python_ms']:g} ms"
    for name, limit in (("help", 6), ("list", 12)):
        words = "--help" if name == "help" else name
        beside = f"{found[f'{name}_ms']:g} ms; {floor}"
        yield Figure(
            f"fraisier {words}, times bare Python", found[f"{name}_ratio"], "x", limit, beside=beside
        )


def _deploy(found: Mapping[str, Any]) -> Iterator[Figure]:
    where = "" if found["systemd"] else "; NO SYSTEMD HERE, nothing was restarted"
    ratio = found["fraisier_ms"] / found["script_ms"]
    beside = f"{found['fraisier_ms']:g} ms; the script {found['script_ms']:g} ms; {ratio:.2f} times it{where}"
    yield Figure("no-op deployment, over the script", found["over_ms"], "ms", 150, beside=beside)
    command = found["deploy_command_ms"]
    yield Figure("the same with `fraisier deploy`, from its start", command, "ms", beside="start-up included")
    first = found["to_first_step_ms"]
    yield Figure("from a webhook to the first step, p50", first, "ms", beside="same process")


def _runs(found: Mapping[str, Any]) -> Iterator[Figure]:
    beside = f"{found['run_ms']:g} ms; bare {found['bare_ms']:g} ms; p95 {found['over_p95_ms']:g} ms over it"
    beside += f"; {found['processes']} processes on the machine"
    yield Figure(
        "a run, asked for to ended, over its bare command",
        found["over_ms"],
        "ms",
        30,
        beside=beside,
    )


def _serving(found: Mapping[str, Any]) -> Iterator[Figure]:
    busy, idle = found["busy"], found["idle"]
    ours, floor = busy["fraisier"], busy["floor"]
    beside = (
        f"floor beside the same builds {floor['p99_ms']:g} ms, idle {idle['fraisier']['p99_ms']:g} ms; "
        f"{found['build_output_kb_per_s']} KB/s of output, {found['webhooks_accepted']} webhooks"
    )
    name = f"/health p99 over {found['seconds']:g} s, five deployments"
    yield Figure(name, ours["p99_ms"], "ms", 20, beside=beside)
    start = found["to_first_step"]
    beside = f"worst of {start['n']}: {start['worst_ms']:g} ms"
    yield Figure(
        "from another process's request to the first step, p50", start["p50_ms"], "ms", beside=beside
    )


RATIOS = {1: None, 10: 0.3, 100: 0.45}  # connections -> least share of the floor


def _receive(found: Mapping[str, Any]) -> Iterator[Figure]:
    for row in found["throughput"]:
        yield from _throughput(row)
    burst, other, memory = found["burst_of_100"], found["other_process"], found["memory"]
    beside = f"worst {burst['worst_s']:g} s"
    yield Figure("100 pushes at once on new connections", burst["median_s"], "s", 0.15, beside=beside)
    p50, worst = other["beside_p50_ms"], other["beside_worst_ms"]
    beside = f"alone {other['alone_p99_ms']:g} ms; p50 {p50:g}, worst {worst:g}"
    name = "another process's commit beside the saturated receiver, p99"
    yield Figure(name, other["beside_p99_ms"], "ms", 50, beside=beside)
    yield Figure("memory of an idle serve", memory["idle_serve_mb"], "MB", 80)
    beside = f"{memory['after_50000_mb']:g} MB, then {memory['after_100000_mb']:g} MB"
    yield Figure("growth from 50,000 to 100,000 webhooks", memory["growth_mb"], "MB", 5, beside=beside)


def _throughput(row: Mapping[str, Any]) -> Iterator[Figure]:
    connections, ours, floor = row["connections"], row["receiver"], row["floor"]
    where = f"{connections} connection{'s' if connections > 1 else ''}"
    beside = f"{ours['per_second']:g}/s; floor {floor['per_second']:g}/s; "
    beside += f"{row['bare_ratio']:g} of {row['bare']['per_second']:g}/s without Starlette"
    least = RATIOS.get(connections)
    name = f"durable acknowledgements, {where}: share of the floor"
    yield Figure(name, row["ratio"], "", least, at_least=True, beside=beside)
    beside = f"p50 {ours['p50_ms']:g}; floor p50 {floor['p50_ms']:g}, p99 {floor['p99_ms']:g} ms"
    limit = 10 if connections == 10 else None
    yield Figure(f"their p99, {where}", ours["p99_ms"], "ms", limit, beside=beside)


def _reading(found: Mapping[str, Any]) -> Iterator[Figure]:
    for word in ("history", "status"):
        each = found[word]
        empty, start = each["empty_ms"], found["list_ms"]
        beside = f"{each['full_ms']:g} ms; on an empty database {empty:g}, `list` {start:g} ms"
        name = f"{word} with {found['rows']:,} deployments, beyond its start"
        yield Figure(name, each["beyond_empty_ms"], "ms", 50, beside=beside)


def _postgresql(found: Mapping[str, Any]) -> Iterator[Figure]:
    beside = (
        f"{found['per_second']:g}/s; floor {found['floor_per_second']:g}/s; {found['commits_ratio']:g} of "
        f"{found['commits_per_second']:g}/s bare INSERT and COMMIT; p99 {found['p99_ms']:g} ms; "
        f"{found['receiver_cpu_us']:g} µs CPU of the receiver each"
    )
    name = f"acknowledgements on PostgreSQL, {found['connections']} connections: share of the floor"
    yield Figure(name, found["ratio"], "", 0.15, at_least=True, beside=beside)


LEASE = 10  # seconds, the default


def _workers(found: Mapping[str, Any]) -> Iterator[Figure]:
    for store, each in found["stores"].items():
        for way, words in (("same_process", "a webhook"), ("other_process", "another process's request")):
            start = each["to_first_step"][way]
            beside = f"worst of {start['n']}: {start['worst_ms']:g} ms"
            name = f"{store}: from {words} to the first step, p50"
            yield Figure(name, start["p50_ms"], "ms", 10, beside=beside)
        idle = each["idle"]
        beside = f"over {found['idle_s']:g} s"
        if "server" in idle:
            beside += f"; the database server {idle['server']:g} % for all"
        for command in ("worker", "serve"):
            yield Figure(f"{store}: CPU of an idle {command}", idle[command], "%", 1, beside=beside)
        takeover = each["takeover"]
        beside = f"of {len(takeover['all_s'])}; a lease is {LEASE} s"
        name = f"{store}: takeover of a killed worker's deployment, worst"
        yield Figure(name, takeover["worst_s"], "s", LEASE + 2, beside=beside)


def _crowd(found: Mapping[str, Any]) -> Iterator[Figure]:
    for store, each in found["stores"].items():
        crowd, left = each["crowd"], each["recovery"]
        name = f"{store}: {crowd['requests']} requests, 20 environments, 4 workers: lost or overlapping"
        beside = f"{crowd['attempts']} attempts in {crowd['seconds']:g} s"
        yield Figure(name, crowd["lost"] + crowd["overlaps"], "", 0, beside=beside)
        beside = f"four shell scripts {crowd['floor_per_second']:g}/s"
        yield Figure(f"{store}: deployments per second of them", crowd["per_second"], "/s", beside=beside)
        name = f"{store}: {left['attempts']} interrupted attempts classified after a worker's start"
        yield Figure(name, left["seconds"], "s", 5, beside="as many environments; its start-up included")


def _fleet(found: Mapping[str, Any]) -> Iterator[Figure]:
    name = f"{found['rollouts']} rollouts over {found['hosts']} hosts, 5 % fail: mixed without being named"
    ended = ", ".join(f"{number} {status}" for status, number in sorted(found["ended"].items()))
    yield Figure(name, found["mixed_without_being_named"], "hosts", 0, beside=ended)
    beside = f"{found['hosts_that_ran_something_else']} ran something else, and were named"
    yield Figure(
        "hosts that were away and not healed when back", found["not_healed"], "hosts", 0, beside=beside
    )
    yield Figure("one of these rollouts", found["seconds_per_rollout"], "s", beside="the hosts are played")
    plan = found["plan"]
    beside = f"{plan['cpu_seconds']:g} s of CPU"
    yield Figure(f"plan over {plan['hosts']} hosts", plan["seconds"], "s", 3, beside=beside)


def _hosts(found: Mapping[str, Any]) -> Iterator[Figure]:
    name = f"{found['hosts']} real servers deployed at once, against one of them"
    beside = f"{found['all_seconds']:g} s, one alone {found['one_seconds']:g} s"
    yield Figure(name, found["times"], "times", 3, beside=beside)
    bare = found["one_pass"]
    beside = f"{bare['all_seconds']:g} s, one alone {bare['one_seconds']:g} s"
    yield Figure("the same where one pass is enough", bare["times"], "times", beside=beside)


def as_text(found: Mapping[str, Any], figures: Sequence[Figure]) -> str:
    """For the terminal."""
    name = max((len(figure.name) for figure in figures), default=0)
    lines = [f"{key:12} {value}" for key, value in found["machine"].items()]
    lines += [f"load after {part}: {each['load_after']}" for part, each in found["parts"].items()]
    lines.append("QUICK: a tenth of the requests and rows, few rounds\n" if found["quick"] else "")
    lines += [
        f"{each.name:{name}}  {each.shown:>10}  {each.asked:>10}  {each.verdict:6}  {each.beside}"
        for each in figures
    ]
    lines += ["", *found["parts"].get("store", {}).get("lines", ())]
    lines += [f"NOT MEASURED: {part}: {why}" for part, why in found["failed"].items()]
    return "\n".join(lines)


def as_markdown(found: Mapping[str, Any], figures: Sequence[Figure]) -> str:
    """For `bench-results/`."""
    about = ", ".join(f"{key} {value}" for key, value in found["machine"].items())
    lines = [
        "# Figures",
        "",
        "Made by `make bench`; `docs/benchmarks.md` explains them.",
        "",
        f"Measured on: {about}.",
    ]
    lines += ["", "| figure | measured | limit | | beside |", "|---|---:|---:|---|---|"]
    lines += [
        f"| {each.name} | {each.shown} | {each.asked} | {each.verdict} | {each.beside} |" for each in figures
    ]
    lines += [f"| {part} | not measured | | | {why} |" for part, why in found["failed"].items()]
    if store := found["parts"].get("store"):
        lines += ["", "## The store alone", "", "```", *store["lines"], "```"]
    loads = ", ".join(f"{part} {each['load_after']}" for part, each in found["parts"].items())
    return "\n".join([*lines, "", f"Load average after each part: {loads}.", ""])


def _cutover(found: Mapping[str, Any]) -> Iterator[Figure]:
    for name, each in found["fronts"].items():
        about = f"of {each['requests']} in {each['deployments']} deployments, one in five bad"
        if name == "socket":
            kinds = each["kinds"]
            refused = kinds.get("refused", 0)
            yield Figure("cutover: socket, requests refused", refused, "", 0, beside=about)
            per_restart = round(kinds.get("reset", 0) / each["deployments"], 2)
            yield Figure("cutover: socket, resets per deployment", per_restart, "", 1, beside=about)
            continue
        about += (
            f"; {each['answered_by_bad']} answered by a bad release, {each['websockets_cut']} WebSockets cut"
        )
        yield Figure(f"cutover: blue_green, {name}: requests failed", each["failed"], "", 0, beside=about)
        beside = f"{each['p99_ms']:g} ms, without deployments {each['p99_calm_ms']:g} ms"
        yield Figure("the same, p99 added", each["p99_added_ms"], "ms", 10, beside=beside)
