"""Words of Fraisier that this version does not perform: found in a file, they are an error that says so."""

from __future__ import annotations

FRAMEWORKS = (
    "atlas",
    "dbmate",
    "flyway",
    "goose",
    "knex",
    "laravel",
    "liquibase",
    "prisma",
    "rails",
    "sqitch",
    "sqlx",
)

# section -> key -> what it would do
KEYS: dict[str, dict[str, str]] = {
    "root": {
        "auth": "users and their rights",
        "backup": "backups of Fraisier's own state",
        "dashboard": "the dashboard",
        "graphql": "the GraphQL interface",
        "metrics": "settings of the metrics; they are served at /metrics",
        "notifications": "telling people",
        "secrets": "secret stores",
        "ssh": "SSH is told by `hosts` and by ~/.ssh/config",
        "users": "users and their rights",
    },
    "forge": {
        "api_token": "reporting back to the forge",
        "commit_status": "reporting back to the forge",
        "report_status": "reporting back to the forge",
    },
    "database": {
        "pool": "a number of connections of your own",
        "pool_size": "a number of connections of your own",
        "schema": "another schema than the one that the URL leads to",
    },
    "migration": {
        "restore": "restoring a backup",
        "strategy": "rebuilding or restoring a database",
    },
    "health": {
        "bake": "watching a release after the deployment; the key belongs to the environment",
        "expect_commit": "comparing the commit that answers",
        "grpc": "gRPC health checks",
    },
    "fraise": {
        "allowed": "it belongs into each environment",
        "depends_on": "an order between fraises",
        "notifications": "telling people",
        "schedule": "it belongs into each environment",
        "secrets": "secret stores",
    },
    "environment": {
        "approval": "approval by a person",
        "backup": "`type: backup` makes backups",
        "canary": "deploying to some hosts first; it belongs into `rollout`",
        "docker": "single containers; Docker Compose runs one too: `compose_file: compose.yaml`",
        "docker_compose": "it is called `compose_file: compose.yaml` here",
        "freeze": "times without deployments; `allowed` has those with",
        "hooks": "commands before and after a deployment",
        "nginx": "switching without downtime is said with `cutover:`",
        "post_deploy": "commands before and after a deployment",
        "pre_deploy": "commands before and after a deployment",
        "preview": "environments for branches under review",
        "promote": "promotion by itself; `fraisier promote` does it for a person",
        "secrets": "secret stores",
        "ssh": "SSH is told by `hosts` and by ~/.ssh/config",
        "strategy": "switching without downtime is said with `cutover:`",
        "timer": "`schedule` says when a job is due",
        "windows": "times without deployments; `allowed` has those with",
        "zero_downtime": "switching without downtime is said with `cutover:`",
    },
    "server": {
        "auth": "users and their rights",
        "cors": "the GraphQL interface",
        "tls": "TLS; put a proxy in front",
        "tls_cert": "TLS; put a proxy in front",
        "tls_key": "TLS; put a proxy in front",
    },
}
