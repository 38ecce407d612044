"""Docker Compose on two other servers at a time, over SSH, by a user whose only right is docker's group."""

from __future__ import annotations

import os

import pytest

from tests.e2e.dock import BESIDE, BESIDE_APP, BESIDE_DOCKERFILE, missing
from tests.e2e.dock_fleet import APP, FRAISIER, PROJECT, DockFleet, until

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def fleet(server_factory):
    if lacking := missing():
        if os.environ.get("FRAISIER_SERVERS") == "required":
            pytest.fail(f"needs {', '.join(lacking)}")
        pytest.skip(f"SKIPPED WITHOUT DOCKER: needs {', '.join(lacking)}")
    made = DockFleet(server_factory("harbour"), docks=[server_factory("dock1"), server_factory("dock2")])
    made.set_up()
    yield made
    for server in (*made.docks, made.server):
        server.down()


def pushed(fleet, version, **files):
    commit = fleet.commit(version, **{name.replace("_", "."): text for name, text in files.items()})
    return fleet.ended(str(fleet.webhook(commit)["deployments"][0]["id"]), 120)


def test_a_user_without_dockers_group_is_refused_before_anything_is_built(fleet):
    for dock in fleet.docks:
        fleet.server.run(f"{FRAISIER} bootstrap {dock.name}")
        dock.run("gpasswd -d deploy docker")
    fleet.start()
    row = pushed(fleet, "v0")
    assert (row["status"], row["cause"]) == ("failed", "preflight"), row
    assert "usermod -aG docker" in row["hint"]
    for dock in fleet.docks:
        told = fleet.server.run(f"{FRAISIER} bootstrap {dock.name}").stdout
        assert "end it: loginctl terminate-user deploy" in told
        dock.run("loginctl terminate-user deploy")


def test_bootstrap_gives_the_group_and_no_right_of_root(fleet):
    said = fleet.server.run(f"{FRAISIER} bootstrap dock1 --print").stdout
    assert "needs the group docker, whose members may do anything on the host" in said
    for dock in fleet.docks:
        fleet.server.run(f"{FRAISIER} bootstrap {dock.name}")
        assert "docker" in dock.run("id -Gn deploy").stdout.split()
        assert "ALL=(root)" not in dock.run("cat /etc/sudoers.d/fraisier-deploy").stdout
    fleet.start()


def test_a_push_becomes_containers_on_every_server(fleet):
    row = pushed(fleet, "v1")
    assert row["status"] == "success", (row, fleet.server.run(f"{FRAISIER} logs {row['id']}").stdout[-3000:])
    assert fleet.answers == ["v1", "v1"]
    assert fleet.projects() == [[PROJECT], [PROJECT]]
    seen = fleet.docks[1].run(f"docker exec {PROJECT}-web-1 env").stdout.splitlines()
    assert "GREETING=hello" in seen
    assert fleet.docks[1].run(f"stat -c %U {APP}/.fraisier").stdout.strip() == "deploy"
    assert f"{PROJECT} runs (1 containers run)" in fleet.server.run(f"{FRAISIER} doctor").stdout
    assert fleet.server.run(f"{FRAISIER} logs --unit shop production", check=False).returncode in {0, 2}


def test_a_sick_release_goes_back_to_its_images_on_every_server(fleet):
    assert pushed(fleet, "v2")["status"] == "success"
    row = pushed(fleet, "sick")
    assert (row["status"], row["cause"]) == ("rolled_back", "unhealthy"), row
    assert fleet.answers == ["v2", "v2"]
    fleet.server.run(f"{FRAISIER} rollback shop production", timeout=120)
    assert fleet.answers == ["v1", "v1"]


def test_a_server_whose_docker_is_gone_is_named_and_the_other_one_goes_back(fleet):
    gone = fleet.docks[1]
    gone.run("systemctl stop docker.socket docker")
    try:
        row = pushed(fleet, "v3")
    finally:
        gone.run("systemctl start docker")
    assert row["status"] == "failed", row
    assert gone.name in row["error_message"], row
    until("both", lambda: fleet.answers == ["v1", "v1"])
    assert pushed(fleet, "v4")["status"] == "success"
    assert fleet.answers == ["v4", "v4"]


def test_what_was_killed_by_hand_is_found_and_healed_there(fleet):
    verify = f"{FRAISIER} status --verify shop production --json"
    assert fleet.server.run(verify, timeout=60).returncode == 0
    fleet.docks[0].run(f"docker rm -f {PROJECT}-web-1")
    found = fleet.server.run(verify, check=False, timeout=60)
    assert found.returncode == 1
    assert "dock1" in found.stdout
    commit = fleet.commits["v4"]
    fleet.server.run(f"{FRAISIER} deploy shop production --commit {commit} --force", timeout=120)
    assert fleet.answers == ["v4", "v4"]


def test_releases_run_beside_one_another_on_every_server(fleet):
    fleet.configure("cutover: blue_green", "http://shop/health")
    fleet.wait_until_ready()
    row = pushed(fleet, "b1", compose_yaml=BESIDE, Dockerfile=BESIDE_DOCKERFILE, app_py=BESIDE_APP)
    assert row["status"] == "success", (row, fleet.server.run(f"{FRAISIER} logs {row['id']}").stdout[-3000:])
    assert fleet.linked == ["b1", "b1"]
    assert pushed(fleet, "b2")["status"] == "success"
    row = pushed(fleet, "sick-b3")
    assert (row["status"], row["cause"]) == ("failed", "unhealthy"), row
    row = pushed(fleet, "shut-b4")
    assert row["status"] == "failed", row
    assert "may not write to it" in row["error_message"], row
    assert fleet.linked == ["b2", "b2"]
    assert [len(each) for each in fleet.projects()] == [1, 1]
    fleet.server.run(f"{FRAISIER} rollback shop production", timeout=120)
    assert fleet.linked == ["b1", "b1"]
