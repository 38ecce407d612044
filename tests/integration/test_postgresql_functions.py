"""The verbs in SQL: their answers, their rules, and that the rules are those of the domain."""

from __future__ import annotations

import json
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fraisier.application.find_holds import FindHolds
from fraisier.application.ports import Ending, Serving, Store
from fraisier.application.request_deployment import RequestDeployment, full_ref
from fraisier.config.codec import document
from fraisier.database.postgresql import PostgresqlStore, open_postgresql
from fraisier.database.sqlite import open_sqlite
from fraisier.domain.deployment import (
    AUTOMATIC,
    MAY_FOLLOW,
    REPLACEABLE,
    Status,
    Trigger,
    Wish,
    decide,
    decided_at,
    known_tip,
)
from fraisier.domain.errors import Cause, Conflict, NotFound, TokenOutdated, UsageError
from fraisier.domain.fraise import EnvironmentKey
from fraisier.domain.push import is_ref_name, is_sha
from tests import factories
from tests.integration.fraiseql_server import ERROR_CLASSES, checked
from tests.integration.postgresql_stores import database
from tests.integration.postgresql_world import World, migrate
from tests.servers.postgresql import PostgresqlServer, postgresql_server
from tools.generate_schema import DB

__all__ = ["database", "postgresql_server"]

SHA_A, SHA_B = "a" * 40, "b" * 40
PATIENCE = 20.0  # seconds that a thread may take

# The database is shared by the examples of one test: each makes an environment of its own.
shared = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture
def world(postgresql_server: PostgresqlServer) -> Iterator[World]:
    url = postgresql_server.database(postgresql_server.template("migrated", migrate))
    world = World(url)
    world.publish("orders", production={"branch": "main", "tag": ""}, releases={"branch": "", "tag": "v*"})
    yield world
    world.close()
    postgresql_server.drop(url)


def request(world: World, commit: str | None = SHA_A, **changes: Any) -> dict[str, Any]:
    """fn_request_deployment with the arguments in their order."""
    wanted = {"fraise": "orders", "environment": "production", "ref": None, "commit": commit, "force": None}
    wanted |= {"by": "alice"} | changes
    assert list(wanted) == ["fraise", "environment", "ref", "commit", "force", "by"]
    return checked(world.call("fn_request_deployment", *wanted.values()))


def cancel(world: World, deployment: Any, by: str | None = "bob") -> dict[str, Any]:
    return checked(world.call("fn_cancel_deployment", deployment, by))


def complete(
    world: World, deployment: Any, token: int, status: str = "success", *rest: Any
) -> dict[str, Any]:
    return checked(world.call("fn_complete_deployment", deployment, token, 1, status, *rest))


def claimed(world: World) -> tuple[uuid.UUID, int]:
    claim = world.claim("orders", "production")
    assert claim is not None
    return claim


def outcome(row: dict[str, Any]) -> tuple[Any, ...]:
    return (
        row["succeeded"],
        row["state_changed"],
        row["error_class"],
        row["status_detail"],
        row["http_status"],
    )


class TestRequesting:
    def test_a_wish_becomes_a_pending_deployment_and_the_answer_is_the_row_of_the_view(
        self, world: World
    ) -> None:
        row = request(world, ref="refs/heads/main")
        assert outcome(row) == (True, True, None, "requested", 202)
        assert (row["entity_type"], row["cascade"], row["error_detail"]) == ("Deployment", None, None)
        assert row["metadata"] == {"superseded": []}
        (stored,) = world.rows("SELECT * FROM v_deployment_history")
        assert row["entity"] == stored["data"]
        assert (stored["id"], stored["commit"], stored["ref"]) == (row["entity_id"], SHA_A, "refs/heads/main")
        assert (stored["status"], stored["trigger"], stored["requested_by"]) == ("pending", "api", "alice")

    @pytest.mark.parametrize(
        ("environment", "ref", "full"),
        [
            ("production", None, "refs/heads/main"),
            ("production", "feature/login", "refs/heads/feature/login"),
            ("production", "refs/tags/v1", "refs/tags/v1"),
            ("releases", "v1.2", "refs/tags/v1.2"),
        ],
    )
    def test_without_a_commit_the_first_fetch_pins_it(
        self, world: World, environment: str, ref: str | None, full: str
    ) -> None:
        row = request(world, None, environment=environment, ref=ref)
        assert (row["entity"]["commit"], row["entity"]["ref"]) == ("", full)
        world.do('UPDATE tb_deployments SET "commit" = %s', SHA_A)
        with pytest.raises(psycopg.errors.IntegrityConstraintViolation, match="it is pinned"):
            world.do('UPDATE tb_deployments SET "commit" = %s', SHA_B)

    @pytest.mark.parametrize(
        ("changes", "error", "field"),
        [
            ({"fraise": None}, "validation", "fraiseId"),
            ({"environment": ""}, "validation", "environment"),
            ({"fraise": "nobody"}, "not_found", "environment"),
            ({"environment": "nowhere"}, "not_found", "environment"),
            ({"commit": "abc123"}, "validation", "commit"),
            ({"commit": "0" * 40}, "validation", "commit"),
            ({"commit": "A" * 40}, "validation", "commit"),
            ({"ref": "--upload-pack=x y"}, "validation", "ref"),
            ({"ref": "refs/heads/../.."}, "validation", "ref"),
            ({"environment": "releases", "commit": None}, "validation", "ref"),
        ],
    )
    def test_what_cannot_be_meant_is_refused_and_changes_nothing(
        self, world: World, changes: dict[str, Any], error: str, field: str
    ) -> None:
        row = request(world, **changes)
        assert (row["error_class"], row["error_detail"]["field"]) == (error, field)
        assert row["http_status"] == {"validation": 400, "not_found": 404}[error]
        assert row["error_detail"]["hint"]
        assert (row["entity_id"], row["entity"], row["updated_fields"]) == (None, None, [])
        assert world.rows("SELECT 1 AS x FROM tb_deployments UNION ALL SELECT 1 FROM tb_audit_log") == []

    def test_an_environment_that_is_no_longer_published_is_not_found(self, world: World) -> None:
        world.do("UPDATE tb_environments SET published = false")
        assert outcome(request(world)) == (False, False, "not_found", "unknown_environment", 404)

    def test_the_newest_of_those_that_wait_stays(self, world: World) -> None:
        first = request(world, SHA_A)
        second = request(world, SHA_A)  # asked for by a person: the same commit once more
        assert second["metadata"] == {"superseded": [str(first["entity_id"])]}
        gone = world.deployment(first["entity_id"])
        assert (gone["status"], gone["cause"]) == ("superseded", "superseded")
        assert gone["error_message"] == f"superseded by the newer deployment {second['entity_id']}"
        assert gone["completed_at"] is not None
        assert world.deployment(second["entity_id"])["status"] == "pending"

    def test_one_that_runs_is_never_superseded(self, world: World) -> None:
        request(world, SHA_A)
        running, _ = claimed(world)
        request(world, SHA_B)
        assert world.deployment(running)["status"] == "running"

    def test_a_commit_is_a_decision_that_keeps_the_last_tip_that_is_known(self, world: World) -> None:
        seen = "SELECT seen_tip FROM tb_environments WHERE fraise = 'orders' AND name = 'production'"
        request(world)
        assert world.value(seen) == "?", "none was known"
        world.do("UPDATE tb_environments SET seen_tip = %s", SHA_B)
        for _ in range(2):
            request(world)
            now = world.value("SELECT extract(epoch FROM clock_timestamp())::float")
            assert known_tip(world.value(seen)) == SHA_B
            assert 0 <= now - decided_at(world.value(seen)) < PATIENCE

    def test_a_quarantined_commit_needs_force(self, world: World) -> None:
        entry = json.dumps({SHA_A: {"at": "", "deployment": "", "cause": "build"}})
        world.do("UPDATE tb_environments SET quarantine = %s WHERE name = 'production'", entry)
        assert outcome(request(world)) == (False, False, "conflict", "quarantined", 409)
        assert request(world, SHA_B)["succeeded"]
        assert request(world, force=True)["entity"]["force"] is True
        assert world.value("SELECT quarantine FROM tb_environments WHERE name = 'production'") == {}

    def test_who_asked_is_audited_beside_the_role_that_was_connected(self, world: World) -> None:
        row = request(world)
        audit = world.row("SELECT actor, action, subject, detail FROM tb_audit_log")
        assert (audit["actor"], audit["action"]) == ("alice", "request")
        assert audit["subject"] == str(row["entity_id"])
        assert audit["detail"]["role"] == "postgres"

    def test_a_name_is_bounded(self, world: World) -> None:
        assert request(world, by=" alice" * 100_000)["entity"]["requested_by"] == ("alice " * 43)[:255]

    def test_where_there_is_no_repository_nothing_is_deployed(self, world: World) -> None:
        """As `full_ref` of fraisier/application/request_deployment.py says; a worker would have nothing to fetch."""
        here = factories.environment(branch="", source=factories.source(repository="", clone_url=""))
        world.publish("dumps", production=document(here))
        for ref, commit in ((None, None), ("main", None), (None, SHA_A)):
            row = request(world, commit, fraise="dumps", ref=ref)
            assert outcome(row)[2:] == ("validation", "nothing_to_deploy", 400)
            with pytest.raises(UsageError) as refused:
                full_ref(here, ref or "", needed=not commit)
            said = str(refused.value).replace("orders/production", "dumps/production")
            assert said.startswith(row["message"])
            assert row["error_detail"]["hint"] == refused.value.hint.replace("orders", "dumps")

    def test_without_a_name_it_is_the_role_that_asks(self, world: World) -> None:
        assert request(world, by=" ")["entity"]["requested_by"] == "postgres"

    def test_workers_hear_of_it_when_it_is_committed(self, world: World) -> None:
        with psycopg.connect(world.url, autocommit=True) as listener:
            listener.execute("LISTEN fraisier")
            with world.connection.transaction():
                request(world)
                assert list(listener.notifies(timeout=0, stop_after=1)) == []
            (heard,) = listener.notifies(timeout=PATIENCE, stop_after=1)
        assert heard.channel == "fraisier"

    def test_wishes_that_come_together_leave_one_pending(self, world: World) -> None:
        """The lock on the environment makes each see the one before; without it two would stay."""
        start = threading.Barrier(6)

        def ask() -> None:
            with psycopg.connect(world.url, autocommit=True) as connection:
                start.wait(PATIENCE)
                for _ in range(10):
                    connection.execute("SELECT * FROM fn_request_deployment('orders', 'production')")

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        counted = world.rows("SELECT status, count(*) AS n FROM tb_deployments GROUP BY status ORDER BY 1")
        assert {each["status"]: each["n"] for each in counted} == {"pending": 1, "superseded": 59}
        (newest,) = world.rows("SELECT id FROM tb_deployments ORDER BY pk DESC LIMIT 1")
        assert world.deployment(newest["id"])["status"] == "pending"
        assert counters(world) == {"pending": 1, "superseded": 59}


class TestCancelling:
    def test_a_pending_one_is_cancelled_at_once(self, world: World) -> None:
        deployment = request(world)["entity_id"]
        row = cancel(world, deployment)
        assert outcome(row) == (True, True, None, "cancelled", 200)
        assert (row["entity"]["status"], row["entity"]["cause"]) == ("cancelled", "cancelled")
        assert row["entity"]["error_message"] == "cancelled by bob"
        assert "fraisier deploy orders production" in row["entity"]["hint"]
        assert set(row["updated_fields"]) >= {"status", "cancelRequestedBy", "completedAt"}
        actions = world.rows(
            "SELECT actor, action, detail ->> 'status' AS status FROM tb_audit_log ORDER BY pk"
        )
        assert actions[-1] == {"actor": "bob", "action": "cancel", "status": "pending"}

    def test_the_worker_of_a_running_one_is_asked_once(self, world: World) -> None:
        request(world)
        running, _ = claimed(world)
        row = cancel(world, running)
        assert outcome(row) == (True, True, None, "cancel_requested", 200)
        assert (row["entity"]["status"], row["entity"]["cancel_requested_by"]) == ("running", "bob")
        again = cancel(world, running, "carol")
        assert outcome(again) == (True, False, None, "already_requested", 200)
        assert again["entity"]["cancel_requested_by"] == "bob"

    def test_one_that_has_ended_stays_as_it_is(self, world: World) -> None:
        deployment = request(world)["entity_id"]
        cancel(world, deployment)
        assert outcome(cancel(world, deployment)) == (False, False, "conflict", "ended", 409)

    def test_an_unknown_one_is_not_found(self, world: World) -> None:
        assert outcome(cancel(world, uuid.uuid4())) == (False, False, "not_found", "unknown_deployment", 404)
        assert outcome(cancel(world, None)) == (False, False, "validation", "missing_argument", 400)


class TestCompleting:
    def test_success_says_what_runs_and_ends_the_lease(self, world: World) -> None:
        request(world)
        running, token = claimed(world)
        row = complete(world, running, token, "success", None, None, None, "1-aaaa", SHA_A, True)
        assert outcome(row) == (True, True, None, "completed", 200)
        assert row["entity"]["duration_seconds"] >= 0
        place = world.row("SELECT * FROM tb_environments WHERE name = 'production'")
        assert (place["current_release"], place["current_commit"]) == ("1-aaaa", SHA_A)
        assert (place["current_deployment"], place["healthy"]) == (running, True)
        assert (place["lease_worker"], place["lease_until"]) == ("", None)
        assert place["last_deployed_at"] is not None
        attempt = world.row("SELECT outcome, ended_at FROM tb_deployment_attempts")
        assert (attempt["outcome"], attempt["ended_at"] is not None) == ("success", True)
        assert counters(world) == {"success": 1}

    def test_told_again_it_changes_nothing(self, world: World) -> None:
        request(world)
        running, token = claimed(world)
        complete(world, running, token)
        assert outcome(complete(world, running, token)) == (True, False, None, "already_completed", 200)
        assert counters(world) == {"success": 1}

    def test_a_failure_that_quarantines_bars_the_commit(self, world: World) -> None:
        request(world)
        running, token = claimed(world)
        row = complete(world, running, token, "failed", "build", "exit 1", "mend it", None, None, None, True)
        assert (row["entity"]["cause"], row["entity"]["hint"]) == ("build", "mend it")
        entry = world.value("SELECT quarantine -> %s FROM tb_environments WHERE name = 'production'", SHA_A)
        assert (entry["cause"], entry["deployment"]) == ("build", str(running))
        assert outcome(request(world))[2:4] == ("conflict", "quarantined")

    def test_a_refused_force_push_bars_pushes_not_people(self, world: World) -> None:
        request(world)
        running, token = claimed(world)
        complete(world, running, token, "failed", "force_push_refused")
        entry = world.value("SELECT quarantine -> %s FROM tb_environments WHERE name = 'production'", SHA_A)
        assert entry["cause"] == "force_push_refused"
        assert request(world)["succeeded"]

    def test_success_lifts_the_quarantine_of_its_commit_alone(self, world: World) -> None:
        request(world)
        running, token = claimed(world)
        barred = json.dumps({sha: {"at": "", "deployment": "", "cause": "build"} for sha in (SHA_A, SHA_B)})
        world.do("UPDATE tb_environments SET quarantine = %s WHERE name = 'production'", barred)
        complete(world, running, token)
        left = world.value("SELECT quarantine FROM tb_environments WHERE name = 'production'")
        assert list(left) == [SHA_B]

    def test_a_worker_that_was_replaced_changes_nothing(self, world: World) -> None:
        request(world)
        running, token = claimed(world)
        world.do("UPDATE tb_environments SET token = token + 1, lease_worker = 'w2'")
        assert outcome(complete(world, running, token))[2:4] == ("conflict", "token_outdated")
        assert world.deployment(running)["status"] == "running"
        assert world.value("SELECT lease_worker FROM tb_environments WHERE name = 'production'") == "w2"

    @pytest.mark.parametrize(
        ("status", "cause", "detail"),
        [("running", None, "bad_status"), ("done", None, "bad_status"), ("failed", None, "missing_argument")],
    )
    def test_a_bad_ending_is_refused(self, world: World, status: str, cause: Any, detail: str) -> None:
        request(world)
        running, token = claimed(world)
        row = complete(world, running, token, status, cause)
        assert outcome(row) == (False, False, "validation", detail, 400)

    @pytest.mark.parametrize(
        ("cause", "release", "commit", "detail"),
        [
            ("exploded", None, None, "bad_cause"),
            ("build", "../../etc", SHA_A, "bad_release"),
            ("build", "1-aaaaaaa\n", SHA_A, "bad_release"),
            ("build", "1-aaaaaaa", "--upload-pack=x", "bad_commit"),
        ],
    )
    def test_what_no_worker_could_read_again_is_refused(
        self, world: World, cause: str, release: str | None, commit: str | None, detail: str
    ) -> None:
        request(world)
        running, token = claimed(world)
        row = complete(world, running, token, "failed", cause, "exit 1", "mend it", release, commit, False)
        assert outcome(row) == (False, False, "validation", detail, 400)
        assert world.deployment(running)["status"] == "running"

    def test_every_cause_of_the_domain_is_taken_and_no_other(self, world: World) -> None:
        (source,) = world.rows("SELECT prosrc FROM pg_proc WHERE proname = 'fn_is_cause'")
        assert set(source["prosrc"].split("'")[1::2]) == {cause.value for cause in Cause}
        assert all(world.value("SELECT fn_is_cause(%s)", cause.value) for cause in Cause)
        assert not world.value("SELECT fn_is_cause('')")

    def test_hosts_that_were_brought_along_are_no_deployment(self, world: World) -> None:
        request(world)
        first, token = claimed(world)
        complete(world, first, token, "success", None, None, None, "1-aaaaaaa", SHA_A, True)
        deployed_at = world.value("SELECT last_deployed_at FROM tb_environments WHERE name = 'production'")
        world.do("UPDATE tb_environments SET quarantine = %s", json.dumps({SHA_A: {"cause": "build"}}))
        world.do(
            'INSERT INTO tb_deployments (id, fraise, environment, ref, "commit", status, trigger, requested_by,'
            " requested_at) VALUES (gen_random_uuid(), 'orders', 'production', '', %s, 'pending', 'heal', '', now())",
            SHA_A,
        )
        healing, token = claimed(world)
        complete(world, healing, token, "success", None, None, None, "1-aaaaaaa", SHA_A, True)
        place = world.row("SELECT * FROM tb_environments WHERE name = 'production'")
        assert (place["current_deployment"], place["last_deployed_at"]) == (first, deployed_at)
        assert list(place["quarantine"]) == [SHA_A]

    def test_one_that_waits_cannot_be_completed(self, world: World) -> None:
        deployment = request(world)["entity_id"]
        row = complete(world, deployment, 0)
        assert outcome(row) == (False, False, "conflict", "forbidden_transition", 409)


class TestRights:
    def test_a_role_that_was_granted_the_functions_needs_no_table(self, world: World) -> None:
        world.do("DROP ROLE IF EXISTS graphql")
        world.do("CREATE ROLE graphql LOGIN")
        try:
            with as_role(world, "graphql") as connection:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute("SELECT * FROM fn_request_deployment('orders', 'production')")
                world.do("GRANT EXECUTE ON FUNCTION fn_request_deployment TO graphql")
                row = connection.execute(
                    "SELECT * FROM fn_request_deployment('orders', 'production')"
                ).fetchone()
                assert row is not None
                assert row[0] is True
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute("SELECT * FROM tb_deployments")
            assert world.value("SELECT detail ->> 'role' FROM tb_audit_log") == "graphql"
        finally:
            world.do("DROP OWNED BY graphql")
            world.do("DROP ROLE graphql")

    def test_temporary_tables_of_the_caller_are_not_taken_for_ours(self, world: World) -> None:
        world.do("CREATE TEMP TABLE tb_environments (LIKE tb_environments)")
        assert request(world)["succeeded"]

    def test_whatever_is_called_from_outside_has_its_search_path_fixed(self, world: World) -> None:
        rows = world.rows("SELECT proname, proconfig FROM pg_proc WHERE prosecdef AND proname LIKE 'fn\\_%%'")
        assert {row["proname"] for row in rows} >= {
            "fn_request_deployment",
            "fn_cancel_deployment",
            "fn_complete_deployment",
        }
        assert {tuple(row["proconfig"] or ()) for row in rows} == {
            ("search_path=pg_catalog, public, pg_temp", "standard_conforming_strings=on")
        }


def as_role(world: World, role: str) -> psycopg.Connection[Any]:
    return psycopg.connect(world.url.replace("postgres@", f"{role}@"), autocommit=True)


def counters(world: World) -> dict[str, int]:
    """Deployments by status as they were counted, those of none left out."""
    rows = world.rows("SELECT name, sum(value)::int AS n FROM tb_counters WHERE name LIKE 'deployments.%%'"
                      " GROUP BY name")  # fmt: skip
    return {row["name"].removeprefix("deployments."): row["n"] for row in rows if row["n"]}


# ------------------------------------------------------------------------- the same rules as the domain


class Known:
    """An earlier deployment, for `decide`."""

    def __init__(self, id: str, status: str, trigger: str, commit: str) -> None:  # noqa: A002
        self.id, self.status, self.trigger, self.commit = id, status, trigger, commit


commits = st.sampled_from(["", SHA_A, SHA_B])
earlier = st.tuples(st.sampled_from(list(Status)), st.sampled_from(list(Trigger)), commits)
causes = st.sampled_from([Cause.build, Cause.unhealthy, Cause.force_push_refused])


@settings(shared, max_examples=250)
@example(  # what was superseded was never decided on: its commit may come again
    history=[(Status.success, Trigger.webhook, SHA_B), (Status.superseded, Trigger.webhook, SHA_A)],
    barred={},
    trigger=Trigger.webhook,
    commit=SHA_A,
    force=False,
)
@example(  # a way back to what was good once is never barred
    history=[], barred={SHA_A: Cause.build}, trigger=Trigger.rollback, commit=SHA_A, force=False
)
@example(  # a refused force push bars pushes, not people
    history=[], barred={SHA_A: Cause.force_push_refused}, trigger=Trigger.sweep, commit=SHA_A, force=False
)
@given(
    history=st.lists(earlier, max_size=6),
    barred=st.dictionaries(st.sampled_from([SHA_A, SHA_B]), causes, max_size=2),
    # Hosts are healed by a worker's wish, which no SQL asks for.
    trigger=st.sampled_from([each for each in Trigger if each is not Trigger.heal]),
    commit=commits,
    force=st.booleans(),
)
def test_sql_decides_on_a_wish_as_the_domain_does(
    world: World,
    history: list[tuple[Status, Trigger, str]],
    barred: dict[str, Cause],
    trigger: Trigger,
    commit: str,
    force: bool,
) -> None:
    known = [Known(str(uuid.uuid4()), *each) for each in history]
    fraise = f"f-{uuid.uuid4()}"
    world.publish(fraise, here={"branch": "main"})
    with world.connection.cursor() as cursor:
        cursor.executemany(
            'INSERT INTO tb_deployments (id, fraise, environment, ref, "commit", status, trigger, requested_by,'
            " requested_at) VALUES (%s, %s, 'here', '', %s, %s, %s, '', now())",
            [(each.id, fraise, each.commit, each.status, each.trigger) for each in known],
        )
    quarantine = {each: {"cause": cause.value} for each, cause in barred.items()}
    row = world.row(
        "SELECT * FROM fn_decide(%s, 'here', %s, %s, %s, %s, false)",
        *(fraise, trigger.value, commit, force, psycopg.types.json.Jsonb(quarantine)),
    )

    wish = Wish(
        environment=EnvironmentKey(fraise, "here"), ref="", trigger=trigger, commit=commit, force=force
    )
    entry = barred.get(commit)
    kept = [each for each in known if each.status != "superseded"]
    decision = decide(
        wish,
        kept[-1] if kept else None,
        [each for each in known if each.status == "pending"],
        quarantined=entry not in {None, Cause.force_push_refused},
        refused=entry is Cause.force_push_refused,
    )
    found = (row["requested"], row["reason"], tuple(str(each) for each in row["superseded"]))
    assert found == (decision.requested, decision.reason, decision.superseded)


def test_sql_has_the_words_of_the_domain(world: World) -> None:
    for status in Status:
        for following in Status:
            allowed = world.value("SELECT fn_may_follow(%s, %s)", status.value, following.value)
            assert allowed is (following in MAY_FOLLOW[status]), (status, following)
    text = world.value("SELECT prosrc FROM pg_proc WHERE proname = 'fn_decide'")
    assert {Trigger(word) for word in ("webhook", "sweep", "api")} == REPLACEABLE
    assert "'webhook', 'sweep', 'api'" in text
    assert {Trigger(word) for word in ("webhook", "sweep")} == AUTOMATIC


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
pieces = st.sampled_from([".", "..", "/", "//", ".lock", "@", "@{", "~", "^", ":", "?", "*", "[", "\\", " ",
                          "\x7f", "\n", "a", "main", "é", "--upload-pack=x", "$(id)"])  # fmt: skip
refs = st.one_of(names, st.lists(pieces, max_size=6).map("".join), st.sampled_from(["é" * 512, "é" * 513]))
shas = st.one_of(
    st.text("0af", min_size=38, max_size=66),
    st.sampled_from(["0" * 40, "0" * 64, SHA_A, SHA_A + "\n", "a" * 64, "A" * 40, "g" * 40, ""]),
)


@shared
@example(name="a.lock/b", sha="")
@example(name="@", sha="")
@given(name=refs, sha=shas)
def test_sql_takes_the_refs_and_commits_that_the_domain_takes(world: World, name: str, sha: str) -> None:
    row = world.row("SELECT fn_is_ref_name(%s) AS ref, fn_is_sha(%s) AS sha", name, sha)
    assert row == {"ref": is_ref_name(name), "sha": is_sha(sha)}


# One way of acting on both: Python's verbs on SQLite, and the functions of SQL.

requests = st.tuples(
    st.just("request"),
    st.sampled_from(["production", "production", "production", "releases", "nowhere"]),
    st.sampled_from(["", "", "feature/x", "refs/tags/v1", "bad..ref"]),
    commits,
    st.booleans(),
)
cancels = st.tuples(st.just("cancel"), st.integers(0, 3))
claims = st.tuples(st.just("claim"))
ends = st.tuples(
    st.just("end"),
    st.sampled_from(
        [
            Ending(status=Status.success, serving=Serving(release="2-b", commit=SHA_B, healthy=True)),
            Ending(status=Status.success),
            Ending(status=Status.failed, cause=Cause.build, error="exit 1", hint="mend it", quarantine=True),
            Ending(status=Status.failed, cause=Cause.force_push_refused, error="no"),
            Ending(
                status=Status.rolled_back,
                cause=Cause.unhealthy,
                error="502",
                serving=Serving(release="2-b", commit=SHA_B, healthy=True),
                quarantine=True,
            ),
            Ending(
                status=Status.failed,
                cause=Cause.restart,
                serving=Serving(release="", commit="", healthy=False),
            ),
            Ending(status=Status.cancelled, cause=Cause.cancelled, error="cancelled by bob"),
        ]
    ),
)
Act = tuple[Any, ...]


class InPython:
    """Verbs of the house on SQLite."""

    def __init__(self, store: Store, fraise: str) -> None:
        self.store, self.fraise = store, fraise
        tagged = factories.environment(fraise=fraise, name="releases", branch="", tag="v*")
        here = {each.key: each for each in (factories.environment(fraise=fraise), tagged)}
        documents = {key: {"branch": each.branch, "tag": each.tag} for key, each in here.items()}
        store.publish([factories.fraise(*here.values())], digest=fraise, documents=documents)
        self.request_deployment = RequestDeployment(here, store, FindHolds(here, store, time.time()))
        self.ids: list[str] = []
        self.running: tuple[Any, int] | None = None

    def request(self, environment: str, ref: str, commit: str, force: bool) -> str:
        key = EnvironmentKey(self.fraise, environment)
        requested = self.request_deployment(
            key, ref=ref, commit=commit, by="alice", trigger=Trigger.api, force=force
        )
        if requested.deployment is None:
            return f"conflict {requested.reason}"
        self.ids.append(requested.deployment.id)
        return f"requested {[self.ids.index(each) for each in requested.superseded]}"

    def cancel(self, number: int) -> str:
        if number >= len(self.ids):
            raise NotFound("cannot")
        return f"now {self.store.cancel(self.ids[number], by='bob').status}"

    def claim(self) -> str:
        if self.running is not None:
            return "busy"
        claim = self.store.claim("w1", lease=10.0, environments=[EnvironmentKey(self.fraise, "production")])
        if claim is None:
            return "nothing"
        self.running = claim, self.store.begin_attempt(claim, resolved="{}")
        return f"running {self.ids.index(claim.deployment.id)}"

    def end(self, ending: Ending) -> str:
        if self.running is None:
            return "nothing"
        (claim, attempt), self.running = self.running, None
        return f"ended {self.store.finish(claim, attempt, ending).status}"

    def history(self) -> list[dict[str, Any]]:
        return [dict(row) for row in self.store.history(self.fraise, limit=100)]

    def places(self) -> list[dict[str, Any]]:
        return [dict(row) for row in self.store.fraise_status(self.fraise)]

    def stats(self) -> list[dict[str, Any]]:
        return [dict(row) for row in self.store.stats(self.fraise)]


class InSql:
    """The functions, and a worker in plain SQL."""

    def __init__(self, world: World, fraise: str) -> None:
        self.world, self.fraise = world, fraise
        documents = {"production": {"branch": "main", "tag": ""}, "releases": {"branch": "", "tag": "v*"}}
        world.publish(fraise, **documents)
        self.ids: list[str] = []
        self.running: tuple[uuid.UUID, int] | None = None

    def request(self, environment: str, ref: str, commit: str, force: bool) -> str:
        row = self._called("fn_request_deployment", self.fraise, environment, ref, commit, force, "alice")
        if row["error_class"] == "conflict":
            return f"conflict {row['status_detail']}"
        self.ids.append(str(row["entity_id"]))
        return f"requested {[self.ids.index(each) for each in row['metadata']['superseded']]}"

    def cancel(self, number: int) -> str:
        id_ = self.ids[number] if number < len(self.ids) else str(uuid.uuid4())
        row = self._called("fn_cancel_deployment", id_, "bob")
        if row["error_class"] == "conflict":
            raise Conflict("cannot")
        return f"now {row['entity']['status']}"

    def claim(self) -> str:
        if self.running is not None:
            return "busy"
        self.running = self.world.claim(self.fraise, "production")
        return "nothing" if self.running is None else f"running {self.ids.index(str(self.running[0]))}"

    def end(self, ending: Ending) -> str:
        if self.running is None:
            return "nothing"
        (deployment, token), self.running = self.running, None
        serving = ending.serving
        served = (serving.release, serving.commit, serving.healthy) if serving else (None, None, None)
        said = (ending.status.value, ending.cause and ending.cause.value, ending.error, ending.hint)
        row = self._called("fn_complete_deployment", deployment, token, 1, *said, *served, ending.quarantine)
        return f"ended {row['entity']['status']}"

    def _called(self, function: str, *values: Any) -> dict[str, Any]:
        row = checked(self.world.call(function, *values))
        if row["error_class"] == "not_found":
            raise NotFound(row["message"])
        if row["error_class"] == "validation":
            raise UsageError(row["message"])
        return row

    def history(self) -> list[dict[str, Any]]:
        return self.world.rows("SELECT * FROM v_deployment_history WHERE fraise_id = %s", self.fraise)

    def places(self) -> list[dict[str, Any]]:
        return self.world.rows("SELECT * FROM v_fraise_status WHERE fraise_id = %s", self.fraise)

    def stats(self) -> list[dict[str, Any]]:
        return self.world.rows("SELECT * FROM v_deployment_stats WHERE fraise_id = %s", self.fraise)


def said(act: Callable[..., str], *values: Any) -> str:
    try:
        return act(*values)
    except (NotFound, Conflict, UsageError) as error:
        return type(error).__name__


def numbered(rows: list[dict[str, Any]], ids: list[str], keys: tuple[str, ...]) -> list[dict[str, Any]]:
    """Those keys of rows, with numbers for ids; of times only whether there is one."""

    def plain(value: Any) -> Any:
        text = str(value) if value is not None else None
        for number, each in enumerate(ids):
            text = text.replace(each, f"#{number}") if text else text
        return (text or None) if isinstance(value, str | uuid.UUID) else value  # SQLite has '' for no id

    return [{key: plain(row[key]) for key in keys} | {"ended": bool(row.get("completed_at"))} for row in rows]


HISTORY = ("id", "environment", "ref", "commit", "status", "trigger", "requested_by", "error_message", "cause",
           "hint", "cancel_requested_by", "attempts")  # fmt: skip
PLACE = ("environment", "status", "current_release", "current_commit", "current_deployment_id", "healthy",
         "pending", "deployment_id", "quarantined_commits")  # fmt: skip
STATS = (
    "environment",
    "total",
    "succeeded",
    "failed",
    "rolled_back",
    "cancelled",
    "superseded",
    "success_rate",
)


@contextmanager
def a_sqlite_store() -> Iterator[Store]:
    with tempfile.TemporaryDirectory() as folder:
        store = open_sqlite(f"sqlite://{folder}/fraisier.db", state_folder=Path(folder))
        yield store
        store.close()


@settings(shared, max_examples=80)
@given(acts=st.lists(st.one_of(requests, requests, cancels, claims, claims, ends), min_size=2, max_size=14))
def test_the_functions_do_what_the_verbs_do(world: World, acts: list[Act]) -> None:
    fraise = f"f-{uuid.uuid4().hex}"
    with a_sqlite_store() as store:
        python, sql = InPython(store, fraise), InSql(world, fraise)
        for name, *values in acts:
            assert said(getattr(sql, name), *values) == said(getattr(python, name), *values), (name, values)
        assert numbered(sql.history(), sql.ids, HISTORY) == numbered(python.history(), python.ids, HISTORY)
        assert numbered(sql.places(), sql.ids, PLACE) == numbered(python.places(), python.ids, PLACE)
        assert counted(sql.stats()) == counted(python.stats())


def counted(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: row[key] for key in STATS} for row in rows]


def test_the_error_classes_of_the_functions_are_those_of_the_server(world: World) -> None:
    source = world.value("SELECT string_agg(prosrc, '') FROM pg_proc WHERE proname LIKE 'fn\\_%%'")
    used = {part.partition("'")[0] for part in source.split("fn_refused('")[1:]}
    assert used == {"validation", "not_found", "conflict"} <= ERROR_CLASSES


def test_the_generated_files_make_the_schema_that_the_migrations_make(
    postgresql_server: PostgresqlServer, world: World
) -> None:
    url = postgresql_server.database()
    with psycopg.connect(url, autocommit=True) as connection:
        for name in ("functions.sql", "schema.sql"):
            connection.execute((DB / name).read_bytes())
    assert postgresql_server.dump(url) == postgresql_server.dump(world.url)
    postgresql_server.drop(url)


# ------------------------------------------------------------------- beside the store, on one database


@pytest.fixture
def beside(database: str) -> Iterator[tuple[PostgresqlStore, World]]:
    """A store, and SQL, on the environments of the stores' contract: orders/production and orders/staging."""
    store, world = open_postgresql(database), World(database)
    yield store, world
    world.close()
    store.close()


def test_what_sql_asks_for_a_worker_performs(beside: tuple[PostgresqlStore, World]) -> None:
    store, world = beside
    woken = threading.Event()
    unsubscribe = store.subscribe(woken.set)
    asked = request(world, None)
    assert woken.wait(PATIENCE), "the workers are not woken"
    unsubscribe()
    claim = store.claim("w1", lease=10.0, environments=[factories.KEY])
    assert claim is not None
    assert (claim.deployment.id, claim.deployment.commit) == (str(asked["entity_id"]), "")
    attempt = store.begin_attempt(claim, resolved="{}")
    store.pin(claim, commit=SHA_A)
    cancel(world, claim.deployment.id)
    assert store.cancel_requests("w1") == {claim.deployment.id: "bob"}
    serving = Serving(release="1-a", commit=SHA_A, healthy=True)
    store.finish(claim, attempt, Ending(status=Status.success, serving=serving))
    told = world.rows("SELECT object_data ->> 'status' AS status FROM core.tb_entity_change_log ORDER BY seq")
    # What the store does reaches subscribers as well; the third is the wish to cancel.
    assert [row["status"] for row in told] == ["pending", "running", "running", "success"]
    assert counters(world) == {"success": 1}


def test_a_workers_deployment_can_be_completed_in_sql(beside: tuple[PostgresqlStore, World]) -> None:
    store, world = beside
    store.request(factories.wish(SHA_A))
    claim = store.claim("w1", lease=10.0, environments=[factories.KEY])
    assert claim is not None
    number = store.begin_attempt(claim, resolved="{}")
    row = checked(
        world.call(
            "fn_complete_deployment", claim.deployment.id, claim.token, number, "failed", "build", "exit 1"
        )
    )
    assert row["succeeded"], row
    assert store.deployment(claim.deployment.id)["status"] == "failed"
    assert store.renew("w1", [claim], lease=10.0) == frozenset()
    with pytest.raises((TokenOutdated, Conflict)):
        store.finish(claim, number, Ending(status=Status.success))


def test_in_a_paused_environment_the_newest_wish_takes_the_place_of_those_that_are_held(
    beside: tuple[PostgresqlStore, World],
) -> None:
    store, world = beside
    here = {each.key: each for each in (factories.environment(), factories.environment(name="staging"))}
    by_verb = RequestDeployment(here, store, FindHolds(here, store, time.time()))
    left: list[list[tuple[str, str]]] = []
    for key in here:
        store.pause(key, by="ada", reason="")
        for trigger, force in ((Trigger.manual, False), (Trigger.manual, True), (Trigger.rollback, False)):
            wish = factories.wish(SHA_A, environment=key, trigger=trigger, force=force, tip="")
            store.request(wish)
        if key.environment == "production":
            request(world, SHA_B)
        else:
            by_verb(key, commit=SHA_B, by="alice", trigger=Trigger.api)
        left.append([(row["trigger"], row["status"]) for row in store.history(environment=key.environment)])
    assert left[0] == left[1]
    assert [status for _, status in left[0]] == ["pending", "pending", "pending", "superseded"]


@pytest.mark.parametrize("force", [True, False])
def test_who_goes_first_takes_the_place_of_what_waits_for_its_next_try(
    beside: tuple[PostgresqlStore, World],
    force: bool,
) -> None:
    store, world = beside
    here = {each.key: each for each in (factories.environment(), factories.environment(name="staging"))}
    by_verb = RequestDeployment(here, store, FindHolds(here, store, time.time()))
    left: list[list[str]] = []
    for key in here:
        store.request(factories.wish(SHA_A, environment=key, trigger=Trigger.manual))
        claim = store.claim("w1", lease=10.0, environments=[key])
        assert claim is not None
        number = store.begin_attempt(claim, resolved="{}")
        store.retry_later(claim, number, delay=60, cause=Cause.network, error="cannot fetch")
        if key.environment == "production":
            request(world, SHA_B, force=force)
        else:
            by_verb(key, commit=SHA_B, by="alice", trigger=Trigger.api, force=force)
        left.append([row["status"] for row in store.history(environment=key.environment)])
    assert left[0] == left[1] == ["pending", "superseded" if force else "pending"]


def test_both_ask_at_once_and_one_wish_is_left(beside: tuple[PostgresqlStore, World]) -> None:
    store, world = beside
    start = threading.Barrier(4)

    def by_store() -> None:
        start.wait(PATIENCE)
        for _ in range(10):
            store.request(factories.wish(SHA_A, trigger=Trigger.api))

    def by_sql() -> None:
        with psycopg.connect(world.url, autocommit=True) as connection:
            start.wait(PATIENCE)
            for _ in range(10):
                connection.execute("SELECT * FROM fn_request_deployment('orders', 'production')")

    threads = [threading.Thread(target=act) for act in (by_store, by_sql, by_store, by_sql)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    counted = world.rows("SELECT status, count(*)::int AS n FROM tb_deployments GROUP BY status")
    assert {each["status"]: each["n"] for each in counted} == {"pending": 1, "superseded": 39}
    assert counters(world) == {"pending": 1, "superseded": 39}
