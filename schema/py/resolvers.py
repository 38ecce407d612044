"""The GraphQL schema: which view answers which query, which function performs which mutation.

Importing this registers everything with fraiseql, whose registry belongs to the whole process: only
`fraisier schema export` does it. Nothing here runs when a query is answered; fraiseql-server reads what was
exported. Arguments of queries are compared with keys of the view's `data` (those of type ID with its native
uuid column). Arguments of mutations are handed to the function in this order.

`requested_by` is no argument: the server takes it from the caller's token, and refuses who has none. Nobody
deploys without having signed in, and nobody in another's name.
"""

import fraiseql
from fraiseql.scalars import ID

from .models import (
    ENUMS,
    VIEWS,
    Alert,
    Backup,
    CopyState,
    Deployment,
    DeploymentStats,
    DeploymentStatus,
    Environment,
    EnvironmentHost,
    Fraise,
    FraiseStatus,
    HostState,
    Run,
    RunStatus,
    WebhookEvent,
    WebhookVerdict,
)

WHO_ASKS = {"requested_by": "jwt:sub"}

for _enum in ENUMS:
    fraiseql.enum(_enum)
for _model, _view in VIEWS.items():
    fraiseql.type(sql_source=_view)(_model)


# ------------------------------------------------------------------------------------------------ queries


@fraiseql.query(sql_source="v_fraise")
def fraise(fraise_id: str) -> Fraise | None:
    """One service, by its name."""


@fraiseql.query(sql_source="v_fraise", auto_params=True)
def fraises() -> list[Fraise]:
    """All services of the published configuration."""


@fraiseql.query(sql_source="v_environment", auto_params=True)
def environments(fraise_id: str | None = None) -> list[Environment]:
    """Where services run, and what they follow."""


@fraiseql.query(sql_source="v_environment_hosts", auto_params=True)
def environment_hosts(
    fraise_id: str | None = None, environment: str | None = None, state: HostState | None = None
) -> list[EnvironmentHost]:
    """What each host runs."""


@fraiseql.query(sql_source="v_fraise_status", auto_params=True)
def fraise_status(fraise_id: str | None = None, environment: str | None = None) -> list[FraiseStatus]:
    """What runs where."""


@fraiseql.query(sql_source="v_deployment_history")
def deployment(id: ID) -> Deployment | None:  # noqa: A002 - the argument's name in GraphQL
    """One deployment."""


@fraiseql.query(sql_source="v_deployment_history", auto_params=True)
def deployment_history(
    fraise_id: str | None = None, environment: str | None = None, status: DeploymentStatus | None = None
) -> list[Deployment]:
    """Deployments, newest first. Give a limit: the history is kept for good."""


@fraiseql.query(sql_source="v_deployment_stats", auto_params=True)
def deployment_stats(fraise_id: str | None = None, environment: str | None = None) -> list[DeploymentStats]:
    """How deployments ended, by environment, since the beginning."""


@fraiseql.query(sql_source="v_webhook_events", auto_params=True)
def webhook_events(
    repository: str | None = None, verdict: WebhookVerdict | None = None
) -> list[WebhookEvent]:
    """What forges sent, newest first."""


@fraiseql.query(sql_source="v_run_history", auto_params=True)
def run_history(
    fraise_id: str | None = None,
    environment: str | None = None,
    job: str | None = None,
    status: RunStatus | None = None,
) -> list[Run]:
    """Runs of jobs, newest first. Give a limit: the history is kept for good."""


@fraiseql.query(sql_source="v_alerts", auto_params=True)
def alerts(fraise_id: str | None = None, environment: str | None = None) -> list[Alert]:
    """Alerts, newest first; those without `clearedAt` stand."""


@fraiseql.query(sql_source="v_backups", auto_params=True)
def backups(
    fraise_id: str | None = None,
    environment: str | None = None,
    destination: str | None = None,
    state: CopyState | None = None,
) -> list[Backup]:
    """Backups, newest first in each environment; those with `prunedAt` were removed."""


# ---------------------------------------------------------------------------------------------- mutations


@fraiseql.mutation(sql_source="fn_request_deployment", operation="CREATE", inject=WHO_ASKS)
def deploy(
    fraise_id: str,
    environment: str,
    ref: str | None = None,
    commit: str | None = None,
    force: bool | None = None,  # noqa: FBT001 - GraphQL's arguments have names
) -> Deployment:
    """Ask for a deployment: of a commit, of the tip of a ref, or of what the environment follows.

    `force` deploys even a commit that failed there before. Older wishes that wait are superseded.
    """


@fraiseql.mutation(sql_source="fn_cancel_deployment", operation="UPDATE", inject=WHO_ASKS)
def cancel_deployment(id: ID) -> Deployment:  # noqa: A002 - the argument's name in GraphQL
    """Cancel a deployment that waits, or ask the worker of a running one to stop it."""


# ------------------------------------------------------------------------------------------ subscriptions


@fraiseql.subscription(
    filter={
        "conditions": [
            {"argument": "fraise_id", "path": "fraise_id"},
            {"argument": "environment", "path": "environment"},
        ]
    }
)
def deployment_status_changed(fraise_id: str | None = None, environment: str | None = None) -> Deployment:
    """Each deployment that is requested, begins or ends."""


@fraiseql.subscription(filter={"conditions": [{"argument": "repository", "path": "repository"}]})
def webhook_received(repository: str | None = None) -> WebhookEvent:
    """Each authentic delivery of a forge."""
