"""Docker Compose on a real dockerd: from a signed push to containers, and back to exactly what ran before."""

from __future__ import annotations

import os

import pytest

from tests.e2e.dock import (
    BESIDE,
    BESIDE_APP,
    BESIDE_DOCKERFILE,
    COMPOSE,
    FROM_FILE,
    PROJECT,
    REGISTRY,
    TOKEN,
    Dock,
    missing,
)
from tests.e2e.shop import APP, FRAISIER, until

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def dock(server):
    if lacking := missing():
        if os.environ.get("FRAISIER_SERVERS") == "required":
            pytest.fail(f"needs {', '.join(lacking)}")
        pytest.skip(f"SKIPPED WITHOUT DOCKER: needs {', '.join(lacking)}")
    made = Dock(server)
    made.set_up()
    made.docker("tag base:1 somebody/elses:1")
    made.dangling = made.server.run("tar -C /srv/rootfs -c etc | docker import -").stdout.strip()
    return made


def test_a_first_release_that_is_sick_leaves_no_container(dock):
    row = dock.ended(dock.push("sick"))
    assert (row["status"], row["cause"]) == ("failed", "unhealthy"), row
    assert dock.docker(f"ps -aq --filter label=com.docker.compose.project={PROJECT}") == ""
    assert "response:404" in dock.log(row["id"])


def test_a_push_becomes_running_containers(dock):
    row = dock.ended(dock.push("v1"))
    assert row["status"] == "success", row
    assert dock.answer == "v1"
    assert dock.tool() == "one"
    image = dock.docker(f"inspect -f '{{{{.Config.Image}}}}' {PROJECT}-web-1")
    assert image == f"{PROJECT}-web:{dock.release()}"
    assert dock.server.run(f"cat {APP}/current/built-by").stdout.strip() == "shop"
    dock.docker(f"tag {image} somebody/keeps-this:1")


def test_env_and_env_file_reach_the_containers_and_nothing_else(dock):
    seen = dock.docker(f"exec {PROJECT}-web-1 env").splitlines()
    assert {"GREETING=hello", f"TOKEN={TOKEN}", f"FROM_FILE={FROM_FILE}"} <= set(seen)
    secret = f"'{TOKEN}|{FROM_FILE}'"
    assert dock.server.run(f"grep -rlE {secret} {APP} /var/lib/fraisier", check=False).stdout == ""
    assert dock.server.run(f"journalctl -u fraisier | grep -cE {secret}", check=False).stdout.strip() == "0"


def test_a_shared_folder_is_mounted_from_where_it_really_is(dock):
    mounts = dock.docker(f"inspect -f '{{{{range .Mounts}}}}{{{{.Source}}}} {{{{end}}}}' {PROJECT}-web-1")
    assert mounts.split() == [f"{APP}/shared/uploads"]


def test_the_next_push_restarts_only_what_has_changed(dock):
    tool, web = dock.started("tool"), dock.started("web")
    row = dock.ended(dock.push("v2"))
    assert row["status"] == "success", row
    assert dock.answer == "v2"
    assert dock.started("tool") == tool
    assert dock.started("web") != web


def test_a_bad_release_is_rolled_back_to_the_recorded_images_although_their_tags_have_moved(dock):
    release = dock.release()
    dock.publish("two")
    dock.docker(f"tag base:1 {PROJECT}-web:{release}")  # even our own tag
    row = dock.ended(dock.push("sick"))
    assert (row["status"], row["cause"]) == ("rolled_back", "unhealthy"), row
    assert (dock.answer, dock.tool(), dock.release()) == ("v2", "one", release)
    assert "sick" not in dock.server.run(f"cat {APP}/current/VERSION").stdout


def test_a_person_goes_back_to_an_image_that_has_gone_from_the_host(dock):
    row = dock.ended(dock.push("v3"))
    assert row["status"] == "success", row
    assert (dock.answer, dock.tool()) == ("v3", "two")
    old = next(record for name, record in dock.records().items() if name.startswith("3-"))
    tool = next(image for image in old["images"] if image["service"] == "tool")
    dock.docker(f"image rm {tool['tag']} {tool['digest']}")
    dock.server.run(f"{FRAISIER} rollback shop production", timeout=90)
    assert (dock.answer, dock.tool()) == ("v2", "one")


def test_a_mount_of_the_releases_own_files_is_refused_before_anything_runs(dock):
    web = dock.started("web")
    row = dock.push_files("mounting", compose_yaml=COMPOSE.replace("./uploads:", "./data:"))
    assert (row["status"], row["cause"]) == ("failed", "build"), row
    assert "service web mounts ./data from the release" in row["error_message"]
    assert f"{APP}/shared" in row["hint"]
    assert dock.started("web") == web


def test_an_image_that_does_not_exist_leaves_the_old_containers_alone(dock):
    web = dock.started("web")
    row = dock.push_files("missing", compose_yaml=COMPOSE.replace("tool:latest", "tool:no-such-tag"))
    assert (row["status"], row["cause"]) == ("failed", "build"), row
    assert "cannot pull the images" in row["error_message"]
    assert "Push the image first" in row["hint"]
    assert dock.started("web") == web


def test_a_port_that_is_taken_brings_the_old_containers_back(dock):
    dock.docker("run -d --name squatter -p 127.0.0.1:8099:80 base:1")
    more = f"  extra: {{image: '{REGISTRY}/tool:latest', ports: ['127.0.0.1:8099:80']}}\n"
    row = dock.push_files("squatting", compose_yaml=COMPOSE + more)
    assert (row["status"], row["cause"]) == ("rolled_back", "restart"), row
    assert "port" in row["error_message"]
    assert "docker ps" in row["hint"]
    assert dock.answer == "v2"
    assert "extra" not in dock.docker("ps -a")


def test_killed_while_the_containers_start_the_release_is_brought_to_its_end(dock):
    hold = f"{APP}/shared/uploads/hold"
    dock.server.run(f"touch {hold}")
    commit = dock.commit("v7", **{"compose.yaml": COMPOSE})
    deployment = dock.webhook(commit)["deployments"][0]["id"]
    until("the new container", lambda: dock.answer == "v7")
    dock.kill_fraisier()
    dock.server.run(f"rm {hold}")
    dock.wait_until_ready()
    row = dock.ended(deployment)
    assert (row["status"], row["attempts"]) == ("success", 2), row
    assert dock.answer == "v7"
    assert len(dock.docker(f"ps -aq --filter label=com.docker.compose.project={PROJECT}").split()) == 2


def test_pruning_has_removed_what_was_made_for_old_releases_and_nothing_else(dock):
    tags = dock.docker("image ls --format '{{.Repository}}:{{.Tag}}'").split()
    ours = {tag.partition(":")[2] for tag in tags if tag.startswith(PROJECT)}
    assert ours == set(dock.server.run(f"ls {APP}/releases").stdout.split()) == set(dock.records())
    assert len(ours) == 2
    assert {"base:1", "somebody/elses:1", "somebody/keeps-this:1"} <= set(tags)
    assert dock.dangling in dock.docker("image ls -q --no-trunc").split()
    assert "squatter" in dock.docker("ps")


def test_plan_logs_status_and_doctor_speak_of_containers(dock):
    plan = dock.server.run(f"{FRAISIER} plan shop production").stdout
    assert f"docker compose --project-name {PROJECT} --file {APP}/releases/NEXT/compose.yaml" in plan
    assert "--wait --wait-timeout 15" in plan
    assert "web-1" in dock.server.run(f"{FRAISIER} logs --unit shop production").stdout
    assert f"{PROJECT} runs (2 containers run)" in dock.server.run(f"{FRAISIER} doctor").stdout


def test_without_dockerd_nothing_begins_and_the_error_says_so(dock):
    dock.server.run("systemctl stop docker.socket docker")
    try:
        row = dock.ended(dock.push("v8"))
    finally:
        dock.server.run("systemctl start docker")
    assert (row["status"], row["cause"]) == ("failed", "preflight"), row
    assert "systemctl start docker" in row["hint"]
    until("the containers", lambda: dock.answer == "v7")


def test_beside_one_another_releases_keep_no_volume_and_no_port(dock):
    dock.cut_over_beside()
    files = (
        BESIDE.replace("/lib64:ro]", "/lib64:ro, data:/data]\n    ports: ['8097:80']")
        + "volumes: {data: {}}\n"
    )
    row = dock.push_files("clashing", compose_yaml=files)
    assert (row["status"], row["cause"]) == ("failed", "build"), row
    assert "publishes port 8097" in row["error_message"]
    assert "volume data" in row["error_message"]
    assert dock.answer == "v7"


def test_a_release_runs_beside_the_old_one_and_nobody_is_refused(dock):
    row = dock.push_files("b1", compose_yaml=BESIDE, Dockerfile=BESIDE_DOCKERFILE, app_py=BESIDE_APP)
    assert row["status"] == "success", row
    assert dock.linked() == "b1"
    assert dock.projects() == [f"{PROJECT}-{dock.release()}"]  # the one of before has been ended
    dock.hold("slow")
    asking = dock.asking()
    deployment = dock.push("b2")
    until("a connection to wait for", lambda: "1 connections: waiting for their end" in dock.log(deployment))
    assert dock.linked() == "b2"
    dock.let_go("slow")
    row = dock.ended(deployment)
    assert row["status"] == "success", row
    assert dock.linked() == "b2"
    assert dock.projects() == [f"{PROJECT}-{dock.release()}"]
    bad = dock.ended(dock.push("sick-b3"))
    assert (bad["status"], bad["cause"]) == ("failed", "unhealthy"), bad
    assert dock.linked() == "b2"
    assert dock.projects() == [f"{PROJECT}-{dock.release()}"]
    assert asking() == {"/ b1", "/ b2", "/slow b1"}


def test_killed_while_it_starts_beside_the_old_one_a_release_is_brought_to_its_end(dock):
    dock.hold("build")
    deployment = dock.push("b4")
    dock.waits_in(deployment, "build")
    dock.let_go("build")
    until("two releases", lambda: len(dock.projects()) == 2)
    dock.kill_fraisier()
    dock.wait_until_ready()
    row = dock.ended(deployment)
    assert row["status"] == "success", row
    assert dock.linked() == "b4"
    assert dock.projects() == [f"{PROJECT}-{dock.release()}"]
    dock.server.run(f"{FRAISIER} rollback shop production", timeout=90)
    assert dock.linked() == "b2"
