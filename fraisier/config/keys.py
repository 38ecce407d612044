"""Every key of `fraises.yaml`, its kind, its default and a sentence: the one table behind reading, the
reference and the JSON Schema.
"""

from __future__ import annotations

from fraisier.config import later, texts
from fraisier.config.environment_keys import ENVIRONMENT
from fraisier.config.kinds import (
    Choice,
    Duration,
    Flag,
    SecretText,
    ShellLine,
    Size,
    Text,
    Whole,
)
from fraisier.config.reading import Variables
from fraisier.config.sections import Key, Many, Section, Table

_name = Text("name", texts.name)
_path = Text("absolute path", texts.absolute, Variables.path)
_relative = Text("path in the repository", texts.relative)
_line = ShellLine()
_secrets = Many(SecretText(), or_one=True)

_CREDENTIALS = {
    "clone_key": Key(_path, "path of a private SSH key for cloning; the URL is then an SSH one"),
    "clone_token": Key(SecretText(), "token for cloning over HTTPS"),
    "clone_token_user": Key(
        Text("name"),
        "user that goes with clone_token",
        shown="what the forge documents, e.g. `x-access-token`",
    ),
    "known_hosts": Key(
        _path, "file with the forge's SSH host keys", shown="those of the user that Fraisier runs as"
    ),
    "ca_file": Key(_path, "certificates that the forge's own is checked against", shown="the system's"),
    "proxy": Key(
        Text("URL", texts.proxy_url), "proxy for fetching", shown="`https_proxy` of the environment"
    ),
}

FORGE = Section(
    {
        "type": Key(
            Text("name", texts.name),
            "brand: github, gitlab, gitea (Forgejo and Gogs too), bitbucket, bitbucket_server, or a plugin's",
            shown="the name of the section",
        ),
        "webhook_secret": Key(
            _secrets, "one secret, or several while they are rotated; without it every webhook is refused"
        ),
        "secret_token": Key(_secrets, "the same, as GitLab calls it"),
        "base_url": Key(
            Text("URL", texts.web_url), "where the forge is", shown="the public service, where there is one"
        ),
        "server": Key(Flag(), "older files: `bitbucket: {server: true}` is Bitbucket Server", default=False),
        **_CREDENTIALS,
    },
    later=later.KEYS["forge"],
)

GIT = Section(
    {
        "provider": Key(
            _name, "the forge of fraises that name none", shown="the only forge that is configured"
        )
    },
    other=FORGE,
)

DATABASE = Section(
    {
        "url": Key(
            Text("URL", texts.database_url, Variables.private),
            "where the state is kept: sqlite:// and an absolute path on a local disk, or postgresql://",
            default="sqlite:///var/lib/fraisier/fraisier.db",
        )
    },
    later=later.KEYS["database"],
)

FRAISE = Section(
    {
        "type": Key(Choice("api", "etl", "scheduled", "backup"), "what kind of service it is", default="api"),
        "description": Key(Text(), "for people"),
        "repository": Key(
            Text("path", texts.repository),
            "its path on the forge, e.g. acme/orders; only a backup needs none",
        ),
        "git_provider": Key(_name, "its forge: a name below git", shown="`git.provider`"),
        "clone_url": Key(
            Text("URL", texts.clone_url),
            "where commits are fetched from",
            shown="the forge's for `repository`",
        ),
        "webhook_secret": Key(
            _secrets, "secrets that sign this repository's webhooks, besides the forge's", default=()
        ),
        **_CREDENTIALS,
        "environments": Key(
            Table(ENVIRONMENT, texts.name, needed=True),
            "where it runs, by name: production, staging, …",
            required=True,
        ),
    },
    later=later.KEYS["fraise"],
)

MAPPED = Section(
    {
        "fraise": Key(_name, "a name below fraises", required=True),
        "environment": Key(_name, "one of its environments", required=True),
    }
)

SERVER = Section(
    {
        "host": Key(
            Text("host", texts.host), "address that `fraisier serve` listens on", default="127.0.0.1"
        ),
        "port": Key(Whole(0, 65535), "port; 0 takes a free one", default=8080),
        "trusted_proxies": Key(
            Many(Text("address", texts.proxy_network), or_one=True),
            "whose X-Forwarded-For is believed",
            default=(),
        ),
        "max_body": Key(Size(1024, 1 << 30), "largest webhook", default=25 << 20, shown="25MiB"),
        "max_in_flight": Key(
            Size(1024, 1 << 34), "all webhooks being read, together", default=64 << 20, shown="64MiB"
        ),
        "body_timeout": Key(Duration(0.1, 3600), "how long a sender may be silent", default=10.0),
        "failed_auth_limit": Key(
            Text("limit", texts.limit), "failed authentications per client address", default="20/minute"
        ),
    },
    later=later.KEYS["server"],
)

WORKER = Section(
    {
        "labels": Key(
            Many(Text("label", texts.label), or_one=True),
            "what this machine's worker has; it deploys environments that name some of these and no others."
            " `--label` stands instead; read at the start",
            default=(),
            shown="none",
        ),
        "concurrency": Key(Whole(1, 256), "deployments at once", default=8),
        "run_concurrency": Key(Whole(1, 256), "runs of jobs at once, beside deployments", default=8),
        "lease": Key(Duration(1, 3600), "how soon another worker takes over from a dead one", default=10.0),
        "shutdown_grace": Key(
            Duration(0, 86400), "how long a running step may go on when stopping", default=30.0
        ),
    }
)

LOGGING = Section(
    {
        "level": Key(Choice("debug", "info", "warning", "error"), "the least that is logged", default="info"),
        "format": Key(
            Choice("auto", "json", "console"), "auto: console on a terminal, else json", default="auto"
        ),
    }
)

HOST = Section(
    {
        "address": Key(
            Text("host", texts.host), "its name or address in the network", shown="what ssh makes of the name"
        ),
        "port": Key(Whole(1, 65535), "where its sshd listens", shown="what ssh says: 22"),
        "user": Key(Text("name", texts.user), "whom Fraisier logs in as", shown="what ssh says"),
        "identity_file": Key(_path, "path of the private key for it, and no other", shown="what ssh finds"),
        "known_hosts": Key(_path, "file with its host key", shown="what ssh uses: ~/.ssh/known_hosts"),
    }
)

ROOT = Section(
    {
        "git": Key(GIT, "forges, by name"),
        "database": Key(DATABASE, "where Fraisier keeps its state"),
        "fraises": Key(Table(FRAISE, texts.name), "what is deployed, by name", default={}, required=True),
        "hosts": Key(
            Table(HOST, texts.host),
            "how hosts are reached, by name, where ~/.ssh/config does not say it",
            default={},
        ),
        "branch_mapping": Key(
            Table(Many(MAPPED, or_one=True), texts.branch),
            "the older way to route: branch -> {fraise, environment}, or a list; stands instead of `branch`",
            default={},
        ),
        "server": Key(SERVER, "`fraisier serve`"),
        "worker": Key(WORKER, "what performs deployments"),
        "retention": Key(
            Duration(60), "how long payloads and output are kept", default=30 * 86400.0, shown="30d"
        ),
        "sweep_interval": Key(
            Duration(0, 86400),
            "how often repositories are asked for pushes that no webhook told; 0: never",
            default=120.0,
        ),
        "state_folder": Key(
            Text("absolute path", texts.app_path),
            "Fraisier's own folder: mirrors, sockets",
            shown="the folder of the database",
        ),
        "logging": Key(LOGGING, "what is logged, and how"),
    },
    later=later.KEYS["root"],
)
