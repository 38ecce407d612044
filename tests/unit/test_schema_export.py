"""`fraisier schema export`: what fraiseql's compiler gets fits our words and the operations we show."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import graphql
import pytest
from click.testing import CliRunner

from fraisier.cli.main import main
from fraisier.cli.schema_authoring import authored_schema, schema_folder
from fraisier.domain.deployment import Status, Trigger
from fraisier.domain.errors import UsageError
from fraisier.domain.fraise import FraiseType
from fraisier.domain.rollout import HostState

Document = dict[str, Any]


@pytest.fixture(scope="module")
def schema() -> Document:
    return authored_schema()


def sdl(schema: Document) -> str:
    """The schema as fraiseql-server shows it to clients, less its own additions to lists but limit and offset."""
    parts = ["scalar DateTime", "scalar UUID"]
    for enum in schema["enums"]:
        parts.append(f"enum {enum['name']} {{ {' '.join(each['name'] for each in enum['values'])} }}")
    for each in schema["types"]:
        fields = "\n".join(f"  {typed(field)}" for field in each["fields"])
        parts.append(f"type {each['name']} {{\n{fields}\n}}")
    for root, kind in (("Query", "queries"), ("Mutation", "mutations"), ("Subscription", "subscriptions")):
        fields = "\n".join(f"  {operation(each)}" for each in schema[kind])
        parts.append(f"type {root} {{\n{fields}\n}}")
    return "\n".join(parts)


def typed(field: Document) -> str:
    return f"{field['name']}: {field['type']}{'' if field['nullable'] else '!'}"


def operation(each: Document) -> str:
    arguments = [typed(argument) for argument in each["arguments"]]
    if each.get("auto_params"):
        arguments += ["limit: Int", "offset: Int"]
    given = f"({', '.join(arguments)})" if arguments else ""
    result = f"[{each['return_type']}!]!" if each.get("returns_list") else each["return_type"]
    return f"{each['name']}{given}: {result}"


def test_the_schema_is_one_that_graphql_takes(schema: Document) -> None:
    assert graphql.validate_schema(graphql.build_schema(sdl(schema))) == []


def test_the_operations_that_we_show_fit_the_schema(schema: Document) -> None:
    shown = (schema_folder() / "queries.gql").read_text(encoding="utf-8")
    document = graphql.parse(shown)
    errors = graphql.validate(graphql.build_schema(sdl(schema)), document)
    assert [str(error) for error in errors] == []
    asked = {
        field.name.value
        for definition in document.definitions
        if isinstance(definition, graphql.OperationDefinitionNode)
        for field in definition.selection_set.selections
        if isinstance(field, graphql.FieldNode)
    }
    named = {"fraise", "fraiseStatus", "deploymentHistory", "deploymentStats", "deploy", "cancelDeployment"}
    assert asked == named | {"deploymentStatusChanged", "webhookReceived"}


def test_the_operations_in_the_papers_fit_the_schema(schema: Document) -> None:
    page = (schema_folder().parents[1] / "docs" / "schema.md").read_text(encoding="utf-8")
    shown = re.findall(r"^```graphql\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(shown) == 3
    built = graphql.build_schema(sdl(schema))
    assert [str(error) for each in shown for error in graphql.validate(built, graphql.parse(each))] == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("FraiseType", FraiseType),
        ("DeploymentStatus", Status),
        ("DeploymentTrigger", Trigger),
        ("HostState", HostState),
    ],
)
def test_enums_have_the_words_of_the_domain(
    schema: Document, name: str, words: type[FraiseType | Status | Trigger | HostState]
) -> None:
    (enum,) = [each for each in schema["enums"] if each["name"] == name]
    # A `value` beside the name, which fraiseql adds where the two differ, is refused by its 2.15 compiler.
    assert enum["values"] == [{"name": word.value} for word in words]


def test_whoever_asks_is_taken_from_the_token_never_from_an_argument(schema: Document) -> None:
    injected = {"requested_by": {"source": "jwt", "claim": "sub"}}
    assert [each["inject_params"] for each in schema["mutations"]] == [injected, injected]
    assert "requestedBy" not in str([each["arguments"] for each in schema["mutations"]])


def test_filters_of_subscriptions_name_arguments_and_fields_that_exist(schema: Document) -> None:
    fields = {each["name"]: {field["name"] for field in each["fields"]} for each in schema["types"]}
    for each in schema["subscriptions"]:
        arguments = {argument["name"] for argument in each["arguments"]}
        conditions = each["filter"]["conditions"]
        assert {condition["argument"] for condition in conditions} == arguments
        for (
            condition
        ) in conditions:  # the event has snake_case keys; one that is missing would let all through
            assert condition["argument"] in fields[each["return_type"]]
            assert condition["path"] == condition["argument"].replace("I", "_i")


def test_export_writes_the_same_as_it_prints(tmp_path: Path) -> None:
    file = tmp_path / "schema.json"
    written = CliRunner().invoke(main, ["schema", "export", "--output", str(file)])
    assert (written.exit_code, "10 types" in written.stdout) == (0, True), written.output
    printed = CliRunner().invoke(main, ["schema", "export", "--output", "-"])
    assert file.read_text(encoding="utf-8") == printed.stdout
    assert json.loads(printed.stdout) == authored_schema()


def test_two_exports_in_one_process_are_equal() -> None:
    assert authored_schema() == authored_schema()


def test_export_without_fraiseql_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fraiseql", None)
    with pytest.raises(UsageError, match="fraiseql is not installed") as caught:
        authored_schema()
    assert "'.[graphql-schema]'" in caught.value.hint


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["schema", "export", "--output", str(tmp_path / "no" / "schema.json")])
    assert (done.exit_code, "cannot write" in done.stderr) == (2, True), done.output
