"""How Docker Compose's words become a release: what is refused, what is pinned, and what a failure says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from fraisier.application.ports import Finished
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import Cutover, TargetSpec
from fraisier.domain.release import Layout
from fraisier.domain.secret import Secret
from fraisier.targets import docker_says
from fraisier.targets.compose import Compose
from fraisier.targets.compose_build import Build
from fraisier.targets.compose_commands import Commands
from fraisier.targets.compose_file import Beside, Reading, Where, read
from fraisier.targets.compose_images import discard
from fraisier.targets.compose_record import Image, Record, begin, decode, tag_of
from tests.factories import environment
from tests.fakes import FakeHost

LAYOUT, RELEASE = Layout("/var/www/orders"), "3-abcdef1234"
FOLDER = LAYOUT.release(RELEASE)
SPEC = TargetSpec(kind="compose", unit="orders-production", options={"files": "compose.yaml:more.yaml"})
WHERE = Where(layout=LAYOUT, release=RELEASE, project="orders", shared=("uploads/", ".env"))
ID = "sha256:" + "1" * 64


def reading(**services: Any) -> Reading:
    return read({"services": services}, WHERE)


def bind(source: str) -> dict[str, Any]:
    return {
        "image": "x",
        "volumes": [{"type": "bind", "source": source, "target": "/data", "read_only": True}],
    }


# -- what is refused


@pytest.mark.parametrize(
    "source",
    [
        f"{FOLDER}/data",
        f"{FOLDER}",
        f"{FOLDER}/uploads-not-shared",
        f"{FOLDER}/uploads/../data",
        f"{LAYOUT.releases}/2-aaaaaaa/data",
        f"{LAYOUT.current}/data",
        f"{LAYOUT.own}/releases",
    ],
)
def test_what_is_mounted_from_a_release_or_from_fraisiers_own_folder_is_refused(source: str) -> None:
    (refusal,) = reading(web=bind(source)).refusals
    assert refusal.startswith("service web mounts ")


@pytest.mark.parametrize("source", ["/etc/hostname", f"{LAYOUT.shared}/data", "/var/www/orders-data", "/srv"])
def test_what_lies_elsewhere_may_be_mounted(source: str) -> None:
    found = reading(web=bind(source), db={"image": "y", "volumes": [{"type": "volume", "source": "data"}]})
    assert (found.refusals, found.mounts) == ([], {})


@pytest.mark.parametrize("top", [FOLDER, LAYOUT.current])
def test_a_shared_path_of_the_release_is_mounted_from_where_it_really_is(top: str) -> None:
    found = reading(web=bind(f"{top}/uploads/in"))
    assert found.refusals == []
    (volume,) = found.mounts["web"]
    assert volume == {
        "type": "bind",
        "source": f"{LAYOUT.shared}/uploads/in",
        "target": "/data",
        "read_only": True,
    }


@pytest.mark.parametrize("kind", ["configs", "secrets"])
def test_configs_and_secrets_that_are_files_of_the_release_are_mounts_too(kind: str) -> None:
    document = {
        "services": {"web": {"image": "x"}},
        kind: {"a": {"file": f"{FOLDER}/nginx.conf"}, "b": {"file": "/etc/x"}, "c": {"content": "x"}},
    }
    assert read(document, WHERE).refusals == [f"{kind} entry a is the file ./nginx.conf of the release"]


def test_a_volume_that_is_a_folder_of_the_release_is_refused() -> None:
    options = {"type": "none", "o": "bind", "device": f"{FOLDER}/data"}
    document = {"services": {}, "volumes": {"data": {"driver_opts": options}, "other": None}}
    assert read(document, WHERE).refusals == [f"volume data is {FOLDER}/data, in the release"]


def test_everything_that_a_build_reads_is_looked_at() -> None:
    build = {
        "context": f"{FOLDER}/api",
        "dockerfile": "../Dockerfile",
        "additional_contexts": {"a": "/srv/a", "b": "docker-image://x", "c": "https://example.com/x.git"},
    }
    assert reading(web={"build": build}).local == [f"{FOLDER}/api", f"{FOLDER}/api/../Dockerfile", "/srv/a"]
    assert reading(web={"build": {"context": "https://example.com/x.git"}}).local == []


# -- two releases at a time

OWN = f"orders-{RELEASE}"


def clashes(beside: Beside, volumes: Any = None, **services: Any) -> Reading:
    where = replace(WHERE, beside=beside)
    return read({"services": services, "volumes": volumes or {}}, where)


def test_a_release_that_publishes_its_port_can_run_beside_another_one() -> None:
    found = clashes(Beside(project=OWN, port="1"), web={"ports": [{"published": "1", "target": 8000}]})
    assert (found.clashes, found.port) == ([], 8000)


def test_a_release_that_mounts_its_sockets_folder_can_run_beside_another_one() -> None:
    folder = f"{LAYOUT.shared}/sockets/{RELEASE}"
    beside, mount = Beside(project=OWN, socket=f"{folder}/a.sock"), {"type": "bind", "source": folder}
    assert clashes(beside, web={"volumes": [{**mount, "target": folder}]}).clashes == []
    (clash,) = clashes(beside, web={"volumes": [{**mount, "target": "/run/app"}]}).clashes
    assert "no service mounts ${FRAISIER_SOCKET_FOLDER}:${FRAISIER_SOCKET_FOLDER}" in clash


@pytest.mark.parametrize(
    ("service", "words"),
    [
        ({"container_name": "db"}, "has a container_name"),
        ({"ports": [{"published": "5432", "target": 5432}]}, "publishes port 5432"),
        ({"volumes": [{"type": "volume", "source": "data"}]}, "has volume data"),
    ],
)
def test_what_two_releases_cannot_both_have_is_refused(service: dict[str, Any], words: str) -> None:
    web = {"ports": [{"published": "1", "target": 8000}]}
    volumes = {"data": {"name": f"{OWN}_data"}, "external": {"name": "data", "external": True}}
    (clash,) = clashes(Beside(project=OWN, port="1"), volumes, web=web, db=service).clashes
    assert words in clash
    outside = {"volumes": [{"type": "volume", "source": "external"}]}
    assert clashes(Beside(project=OWN, port="1"), volumes, web=web, db=outside).clashes == []


def test_traffic_must_have_a_way_to_a_release() -> None:
    (clash,) = clashes(Beside(project=OWN, port="1"), web={}).clashes
    assert "no service publishes ${PORT}" in clash


def test_beside_others_each_release_is_a_project_with_an_address_of_its_own() -> None:
    place = environment(target=SPEC, cutover=Cutover.blue_green)
    acts = Compose().acts(place, FOLDER)
    assert f"--project-name orders-production-{RELEASE} " in acts.start[0].describe()
    assert f"--project-name orders-production-{RELEASE} down" in acts.retire[0].describe()
    assert acts.listen == (f"{LAYOUT.shared}/sockets/%i/http.sock",)
    assert Compose().acts(replace(place, listen=("127.0.0.1:81",)), FOLDER).listen == ("127.0.0.1:81",)


# -- what is pinned


def test_a_service_without_build_uses_the_image_that_another_one_builds() -> None:
    built = {"context": FOLDER}
    found = reading(
        web={"build": built, "image": "shop:latest"},
        worker={"image": "shop:latest"},
        api={"build": built},
        cron={"image": "orders-api"},
        db={"image": "postgres:16"},
    )
    tags = {image.service: (image.tag, image.built) for image in found.images}
    assert tags == {
        "web": (f"orders-web:{RELEASE}", True),
        "worker": (f"orders-web:{RELEASE}", True),
        "api": (f"orders-api:{RELEASE}", True),
        "cron": (f"orders-api:{RELEASE}", True),
        "db": (f"orders-db:{RELEASE}", False),
    }


def test_services_that_will_not_come_back_after_a_reboot_are_named() -> None:
    waits = {"job": {"condition": "service_completed_successfully"}}
    found = reading(
        web={"image": "x", "restart": "always", "depends_on": waits},
        job={"image": "x"},
        db={"image": "x", "restart": "on-failure:3"},
    )
    assert [remark.split()[1] for remark in found.remarks] == ["db"]


@pytest.mark.parametrize(
    ("service", "name"),
    [("web", "orders-web"), ("a.b_c", "orders-a.b_c"), ("Web", "orders-web-"), ("a___b", "orders-a-b-")],
)
def test_a_tag_is_a_name_that_docker_accepts(service: str, name: str) -> None:
    found = tag_of("orders", service, RELEASE)
    assert found.startswith(name)
    assert found.endswith(f":{RELEASE}")
    assert tag_of("orders", "A___b", RELEASE) != tag_of("orders", "a___b", RELEASE)


def record(*images: Image, **changes: Any) -> Record:
    base = {"release": RELEASE, "commit": "c", "ref": "refs/heads/main", "project": "orders"}
    return Record(**{**base, "files": ("compose.yaml",), "images": images, **changes})


WEB = Image(service="web", source="orders-web", tag=f"orders-web:{RELEASE}", built=True, id=ID)
DB = Image(service="db", source="pg:16", tag=f"orders-db:{RELEASE}", built=False, id=ID, digest="pg@sha256:9")


def test_a_record_is_read_as_it_was_written() -> None:
    kept = record(WEB, DB, mounts={"web": ({"source": "/a"},)}, env={"A": "${x}"}, secrets=("T",))
    found = decode(kept.encode())
    assert found is not None
    assert found.encode() == kept.encode()
    assert found.images == kept.images
    assert decode(b"{") is None
    assert decode(b"{}") is None
    assert decode(json.dumps({**json.loads(kept.encode()), "new": 1}).encode()) is not None


def test_what_compose_is_given_names_each_image_so_that_it_cannot_change_its_meaning() -> None:
    mounts = {"db": ({"type": "bind", "source": "/srv/$x", "target": "/x"},)}
    services = json.loads(record(WEB, DB, mounts=mounts).override())["services"]
    assert services["web"] == {"image": f"orders-web:{RELEASE}", "pull_policy": "never"}
    assert services["db"]["image"] == ID
    assert services["db"]["volumes"][0]["source"] == "/srv/$$x"


def test_a_release_has_its_own_values_again_but_no_secret_is_kept() -> None:
    old = environment(
        target=SPEC, env={"MODE": "old", "TOKEN": Secret("s3cr3t-1"), "GONE": Secret("s3cr3t-2")}
    )
    kept = Record(**begin(old, RELEASE, "c" * 40, "refs/heads/main"))
    assert b"s3cr3t" not in kept.encode()
    found = kept.environment({"MODE": "new", "TOKEN": Secret("s3cr3t-3"), "MORE": "x"})
    assert found == {
        "MODE": "old",
        "TOKEN": Secret("s3cr3t-3"),
        "FRAISIER_COMMIT": "c" * 40,
        "FRAISIER_REF": "refs/heads/main",
        "FRAISIER_RELEASE": RELEASE,
    }


# -- what is said


@pytest.mark.parametrize(
    ("explain", "said", "cause", "hint"),
    [
        (docker_says.cannot_pull, 'w2 Error Get "http://r/v2/": dial tcp: connection refused', Cause.network, "registry"),
        (docker_says.cannot_pull, "manifest for r/x:1 not found: manifest unknown", Cause.build, "Push the image first"),
        (docker_says.cannot_pull, "pull access denied for x, repository does not exist", Cause.build, "pull_policy: never"),
        (docker_says.cannot_build, "failed to solve: executor failed running [false]: exit code: 1", Cause.build, "output"),
        (docker_says.cannot_build, "test: connection refused\nfailed to solve: exit code: 1", Cause.build, "output"),
        (docker_says.cannot_build, "failed to solve: failed to do request: Head x: i/o timeout", Cause.network, "registry"),
        (docker_says.cannot_build, "write /x: no space left on device", Cause.disk, "space"),
        (docker_says.cannot_start, "Bind for 0.0.0.0:80 failed: port is already allocated", Cause.restart, "ss -ltnp"),
        (docker_says.cannot_start, "container orders-web-1 is unhealthy", Cause.unhealthy, "healthcheck"),
        (docker_says.cannot_start, "application not healthy after 20s", Cause.unhealthy, "healthcheck"),
        (docker_says.cannot_start, "container orders-job-1 exited (0)", Cause.unhealthy, "service_completed_successfully"),
        (docker_says.cannot_start, "Cannot connect to the Docker daemon at unix:///x", Cause.host, "systemctl start docker"),
        (docker_says.cannot_start, "permission denied while trying to connect to the Docker daemon", Cause.preflight, "usermod"),
        (docker_says.cannot_read, "services.web additional properties 'imag' not allowed", Cause.build, "output"),
    ],
)  # fmt: skip
def test_a_failure_has_a_cause_and_a_hint(explain: Any, said: str, cause: Cause, hint: str) -> None:
    failure = explain(f" Container x Waiting\n{said}\n".encode())
    assert failure.cause is cause
    assert failure.message.startswith("cannot ")
    assert hint in failure.hint


def test_lines_of_an_env_file_that_compose_repeats_are_not_shown() -> None:
    said = b'failed to read /srv/.env: line 3: unterminated quoted value "hunter2\nmore of it\n'
    assert docker_says.without_values(said) == "failed to read /srv/.env: line 3: it is no NAME=value"
    assert "hunter2" not in docker_says.cannot_read(said).message


def container(name: str, status: str = "running", **more: Any) -> str:
    state = {"Status": status, "ExitCode": more.get("code", 0), "StartedAt": "2026-01-01T00:00:00Z"}
    if health := more.get("health"):
        state["Health"] = {"Status": health}
    label = "com.docker.compose."
    labels = {f"{label}service": name, f"{label}depends_on": more.get("after", "")}
    return json.dumps([f"{name:0<64}", f"/orders-{name}-1", more.get("restarts", 0), state, labels])


class Docker(FakeHost):
    """A daemon with these containers."""

    def __init__(self, *containers: str, code: int = 0, said: str = "") -> None:
        super().__init__()
        self.containers, self.code, self.said = containers, code, said

    def inspect(self, argv: Any, *, timeout: float = 10.0) -> Finished:
        out = "id\n" * len(self.containers) if "ps" in argv else "\n".join(self.containers)
        return Finished(code=self.code, stdout=out.encode(), stderr=self.said.encode())


@pytest.mark.parametrize(
    ("containers", "running", "settled"),
    [
        ([container("web"), container("db", health="healthy")], True, True),
        ([container("web", health="starting")], False, False),
        ([container("web", health="unhealthy")], False, False),
        ([container("web", "restarting")], False, False),
        ([container("web", "created")], False, False),
        ([container("web"), container("db", "exited", code=3)], False, True),
        ([container("web"), container("db", "exited")], False, True),
        ([container("web"), container("db", "paused")], False, True),
        ([container("web", after="job:service_completed_successfully:false"), container("job", "exited")], True, True),
        ([container("web", after="job:service_completed_successfully:false"), container("job", "exited", code=1)], False, True),
        ([], False, True),
    ],
)  # fmt: skip
def test_what_the_containers_do_is_one_state(containers: list[str], running: bool, settled: bool) -> None:
    state = Compose().state(SPEC, Docker(*containers))
    assert (state.running, state.settled, bool(state.invocation)) == (running, settled, running)


@pytest.mark.parametrize(
    ("host", "words"),
    [
        (Docker(code=127), "cannot find docker"),
        (Docker(code=1, said="permission denied while trying to connect to the Docker daemon"), "permission denied"),
        (Docker(code=1, said="Cannot connect to the Docker daemon at unix:///x. Is it running?"), "Cannot connect"),
        (Docker("docker: 'compose' is not a docker command"), "docker has no compose plugin"),
        (Docker("2.16.0"), "cannot use Docker Compose 2.16.0 on localhost: it is too old"),
    ],
)  # fmt: skip
def test_docker_that_cannot_be_used_is_told_before_a_deployment(host: Docker, words: str) -> None:
    (problem,) = Compose().problems(environment(target=SPEC), host)
    assert words in problem.message
    assert problem.hint
    assert Compose().problems(environment(target=SPEC), Docker("2.17.0")) == ()


def test_the_commands_name_the_project_and_every_file() -> None:
    acts = Compose().acts(environment(target=SPEC, restart_timeout=33.2), FOLDER)
    (up,) = acts.restart
    assert acts.listen == ()  # it is told no address, and asked at none but its check's own
    files = f"--file {FOLDER}/compose.yaml --file {FOLDER}/more.yaml"
    kept = f"--file {LAYOUT.own}/releases/{RELEASE}.compose.json"
    assert up.describe().startswith(
        f"docker compose --project-name orders-production {files} {kept} up --detach --no-build"
        " --remove-orphans --wait --wait-timeout 34"
    )
    elsewhere = TargetSpec(
        kind="compose", unit="x", options={"docker_host": "unix:///run/user/7/docker.sock"}
    )
    (down,) = Compose().acts(environment(target=elsewhere), FOLDER).stop
    assert down.describe().startswith("docker --host unix:///run/user/7/docker.sock compose")


@pytest.mark.parametrize("unit", ["-x", "a b", "A", "x;y", "", "a/b"])
def test_a_name_that_is_no_project_never_becomes_an_argument(unit: str) -> None:
    with pytest.raises(StepFailed):
        Compose().acts(environment(target=TargetSpec(kind="compose", unit=unit)), FOLDER)


# -- what goes


class Images(FakeHost):
    """A daemon with these images: name -> id."""

    def __init__(self, images: dict[str, str]) -> None:
        super().__init__()
        self.images = images

    def inspect(self, argv: Any, *, timeout: float = 10.0) -> Finished:
        found = self.images.get(argv[-1], "")
        if "realpath" in argv:
            lines = [f"/real{path}".replace("/real/link", "/etc") for path in argv[3:]]
            return Finished(code=0, stdout="\n".join(lines).encode(), stderr=b"")
        names = " ".join(name for name, id_ in self.images.items() if id_ == argv[-1] and ":" in name)
        out = f"{argv[-1]}\t{names}" if "RepoTags" in argv[-2] else found
        return Finished(code=0 if out else 1, stdout=out.encode(), stderr=b"" if out else b"No such image")

    def act(self, argv: Any, *, timeout: float) -> Finished:
        if argv[-2] == "rm":
            self.images.pop(argv[-1], None)
        return super().act(argv, timeout=timeout)


class Place:
    """A workplace on a fake host, below a temporary folder."""

    def __init__(self, host: FakeHost, app_path: str) -> None:
        self.host, self.layout = host, Layout(app_path)
        self.environment = environment(app_path=app_path, target=SPEC)
        self.commit, self.ref = "c" * 40, "refs/heads/main"
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    @contextmanager
    def guard(self) -> Iterator[None]:
        yield


@pytest.fixture
def kept(tmp_path):
    folder = tmp_path / ".fraisier" / "releases"
    folder.mkdir(parents=True)

    def keep(*images: Image, release: str = RELEASE) -> Any:
        file = folder / f"{release}.images.json"
        file.write_bytes(record(*images, release=release).encode())
        return file

    return keep


def test_tags_that_were_made_for_a_release_go_with_it_and_others_stay(tmp_path, kept) -> None:
    file = kept(WEB, DB)
    host = Images({WEB.tag: ID, DB.tag: ID, "pg:16": ID})
    discard(Commands("orders"), Place(host, str(tmp_path)), RELEASE)
    assert host.images == {"pg:16": ID}
    assert not file.exists()


def test_a_tag_that_is_another_image_by_now_is_left(tmp_path, kept) -> None:
    kept(WEB)
    host = Images({WEB.tag: "sha256:2"})
    discard(Commands("orders"), Place(host, str(tmp_path)), RELEASE)
    assert host.acts == []


def test_what_was_left_while_docker_did_not_answer_goes_the_next_time(tmp_path, kept) -> None:
    left = kept(WEB, release="1-aaaaaaa")
    host = Images({WEB.tag: ID})
    discard(Commands("orders"), Place(host, str(tmp_path)), RELEASE)
    assert host.images == {}
    assert not left.exists()


@pytest.mark.parametrize(("fetched", "gone"), [(True, 2), (False, 1)])
def test_an_image_without_a_tag_goes_only_if_we_brought_it(tmp_path, kept, fetched: bool, gone: int) -> None:
    kept(replace(DB, fetched=fetched))
    host = Images({DB.tag: ID})
    discard(Commands("orders"), Place(host, str(tmp_path)), RELEASE)
    assert [argv[-1] for argv in host.acts] == [DB.tag, DB.digest][:gone]


def test_a_build_that_follows_a_link_out_of_the_release_is_refused() -> None:
    found = Reading(local=[f"{FOLDER}/api", "/link"])
    build = Build(Commands("orders"), Place(Images({}), LAYOUT.app_path), RELEASE)
    build._require_inside(found)
    assert found.refusals == ["a build reads /link, which is outside of the release"]
