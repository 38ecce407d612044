"""What a wrong `fraises.yaml` is told: the place, what is wrong, what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from fraisier.config.load import load_configuration
from fraisier.domain.errors import InvalidConfig
from tests.unit.good_config import GOOD, in_environment, in_fraise


def problems(folder: Path, text: str | bytes, **environ: str) -> list[str]:
    """'line:column message' of every problem."""
    file = folder / "fraises.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    try:
        load_configuration(str(file), environ=environ, known_forges=(), known_targets=(), known_migrations=())
    except InvalidConfig as error:
        return [f"{each.line}:{each.column} {each.message}" for each in error.problems]
    return []


def only(folder: Path, text: str | bytes, **environ: str) -> str:
    found = problems(folder, text, **environ)
    assert len(found) == 1, found
    return found[0]


def test_the_good_text_is_good(tmp_path: Path) -> None:
    assert problems(tmp_path, GOOD) == []


AT = "fraises.api.environments.production"

# A line in the environment (line 9, column 9) -> where, and words that the message has
ENVIRONMENT_CASES = [
    # keys
    ("brnch: main", "9:9", f"{AT}.brnch: is no key that Fraisier knows here; did you mean 'branch'?"),
    ("systemd-service: x", "9:9", "did you mean 'systemd_service'?"),
    ("zzz: 1", "9:9", "is no key that Fraisier knows here; allowed are branch, tag, hosts"),
    ("strategy: blue", "9:9", f"{AT}.strategy: is not performed by this version of Fraisier (switching"),
    ("branch: dev", "9:9", "key 'branch' is there already, in line 7; keep one"),
    ("user:", "9:14", f"{AT}.user: has no value; give one or leave the key out"),
    ("labels: [web1, web 2]", "9:24", "'web 2' is no label; expected letters, digits"),
    ("labels: [-x]", "9:18", "'-x' is no label"),
    # YAML's traps
    (
        "user: no",
        "9:15",
        f'{AT}.user: no is yes/no (boolean) for YAML; expected text; put it in quotes: "no"',
    ),
    ("user: 0123456", "9:15", '0123456 is a number for YAML; expected text; put it in quotes: "0123456"'),
    ("user: 12:30:00", "9:15", '12:30:00 is a number for YAML; expected text; put it in quotes: "12:30:00"'),
    ("user: 2026-01-02", "9:15", "2026-01-02 is a date for YAML; expected text; put it in quotes"),
    ("user: 1.0", "9:15", "1.0 is a number for YAML"),
    ("user: [a]", "9:15", "is a list; expected text"),
    (
        "user: !!python/object:os.system x",
        "9:15",
        "tag !!python/object:os.system is not supported; remove it",
    ),
    ("env: {on: 1}", "9:15", 'key on is no text for YAML but bool; put it in quotes: "on"'),
    # texts
    ("user: 'a b'", "9:15", "'a b' is no name of a user; expected e.g. www-data"),
    ("user: ''", "9:15", "is empty; expected name, or leave the key out"),
    ('user: "a\\nb"', "9:15", "has a line break or another control character"),
    ("systemd_service: -x", "9:26", "'-x' is no systemd service; expected e.g. orders.service"),
    ("systemd_service: a.mount", "9:26", "is no systemd service"),
    ("supervisord_program: 'a b'", "9:30", "is no supervisord program; expected its name, or group:name"),
    ("env_file: relative", "9:19", "'relative' is no absolute path; expected one that begins with '/'"),
    ("env_file: /a/../b", "9:19", "has '.' or '..' in it"),
    ("root: /abs", "9:15", "is no path in the repository; expected one that does not begin with '/'"),
    ("root: a/../b", "9:15", "has '.', '..' or an empty part in it"),
    ("paths: [/abs/**]", "9:17", "begins with '/' or has '..' in it"),
    ("shared: [../secret]", "9:18", "has '.', '..' or an empty part in it"),
    ("shared: [uploads/, uploads/img]", "9:28", "uploads/img is, or is inside, another shared path"),
    # numbers, durations, sizes, switches, choices
    ("keep_releases: 1", "9:24", "1 is out of range; expected a whole number from 2 to 1000"),
    ("keep_releases: '5'", "9:24", "'5' is text; expected whole number from 2 to 1000"),
    (
        "keep_releases: 010",
        "9:24",
        "is no plain number; expected a whole number from 2 to 1000, without leading",
    ),
    ("keep_releases: 5.5", "9:24", "5.5 is a number for YAML; expected whole number"),
    (
        "retry_for: 15 minutes",
        "9:20",
        "'15 minutes' is no duration; expected one such as 30, 15m, 1h30m or 30d",
    ),
    ("retry_for: 1:30", "9:20", "'1:30' is no duration"),
    ("allowed: mon-fri 8-17", "9:18", "'mon-fri 8-17' is no window; expected e.g. \"mon-fri 08:00-17:00\""),
    ("allowed: [mon, foo 08:00-09:00]", "9:24", "'foo' is no day; expected mon, tue, wed"),
    ("allowed: mon Europe/Atlantis", "9:18", "'Europe/Atlantis' is no time zone that this machine knows"),
    ("allowed: 8", "9:18", "8 is a number for YAML; expected text"),
    ("retry_for: -5", "9:20", "'-5' is no duration"),
    ("retry_for: yes", "9:20", "yes is yes/no (boolean) for YAML; expected a duration"),
    ("restart_timeout: 0", "9:26", "0 is out of range; expected 0.1 to 86400 seconds"),
    ("min_free_disk: lots", "9:24", "'lots' is no size; expected one such as 500MB, 1GiB or 1048576"),
    ("submodules: maybe", "9:21", "'maybe' is text; expected true or false"),
    ("on_force_push: refus", "9:24", "'refus' is not known; expected deploy, refuse; did you mean 'refuse'?"),
    ("systemd_manager: me", "9:26", "'me' is not known; expected system, user"),
    # what runs it
    ("unit_file: deploy/a.service", "9:9", "unit_file: has no meaning without systemd_service"),
    ("systemd_manager: user", "9:9", "systemd_manager: has no meaning without systemd_service"),
    ("compose_project: orders", "9:9", "has no meaning without compose_file"),
    (
        "compose_file: /etc/compose.yaml",
        "9:23",
        "is no path in the repository; expected one that does not begin",
    ),
    ("compose_file: [a.yaml, ../b.yaml]", "9:32", "has '.', '..' or an empty part in it"),
    ("compose_file: 'a:b'", "9:23", "has ':' in it, which separates compose files"),
    ("docker_compose: compose.yaml", "9:9", "it is called `compose_file: compose.yaml` here"),
    ("docker: {image: x}", "9:9", "Docker Compose runs one too: `compose_file: compose.yaml`"),
    ("target: {type: compose, unit: Orders}", "9:39", "'Orders' is no project; expected small letters"),
    ("target: {type: compose, unit: a, file: x}", "9:42", "allowed are type, unit, files, docker_host"),
    ("target: {type: compose, unit: a, files: 'a:../b'}", "9:49", "has '.', '..' or an empty part"),
    ("supervisord_config: /etc/s.conf", "9:9", "has no meaning without supervisord_program"),
    (
        "target: {type: systmd, unit: a}",
        "9:24",
        "'systmd' is no target; expected compose, supervisord, systemd; did you mean",
    ),
    (
        "target: {type: systemd}",
        "9:9",
        f"{AT}.target: unit is missing: what the brand calls the thing that runs",
    ),
    ("target: {type: systemd, unit: a.mount}", "9:39", "'a.mount' is no systemd service"),
    # build
    ("build: make", "9:16", "'make' is text; expected a list of: shell line"),
    ("build: [{timeout: 5}]", "9:17", "build[0]: run is missing"),
    (
        "build: [{run: make, timout: 5}]",
        "9:29",
        "build[0].timout: is no key that Fraisier knows here; did you mean",
    ),
    ("build: [[make]]", "9:17", "build[0]: is a list; expected text"),
    ('build: ["a\\0b"]', "9:17", "has a NUL character"),
    # variables
    ("env: {FRAISIER_X: 1}", "9:15", "begins with FRAISIER_, which Fraisier sets by itself"),
    ("env: {a-b: 1}", "9:15", "'a-b' is no name of a variable"),
    ("env: {A: [1]}", "9:18", f"{AT}.env.A: is a list; expected text, number or yes/no"),
    ("env: {A: }", "9:18", "has no value"),
    (
        "env: {A: '${UNSET_X}'}",
        "9:18",
        "${UNSET_X} is not set; set UNSET_X where Fraisier is started, or give",
    ),
    ("user: '${UNSET_X}'", "9:15", "${UNSET_X} is not set"),
    ("user: '${A B}'", "9:15", "${A B} is no reference to a variable; write ${NAME} or ${NAME:-default}"),
    ("user: '${A'", "9:15", "${ is no reference to a variable"),
    (
        "user: '${DEPLOY_TOKEN}'",
        "9:15",
        "${DEPLOY_TOKEN} sounds like a secret, and this value is shown and stored",
    ),
    # health
    ("health_check: {}", "9:9", "has nothing to look at; expected exactly one of url, tcp, command"),
    ("health_check: {url: 'http://a/', tcp: 'a:1'}", "9:9", "has url and tcp; expected exactly one of"),
    (
        "health_check: {url: a.example.com}",
        "9:29",
        "is no URL; expected one that begins with http:// or https://",
    ),
    ("health_check: {url: 'http://u:hunter2@a/'}", "9:29", "has credentials in it"),
    ("health_check: {url: 'http://a:99999/'}", "9:29", "has the port 99999; expected 1 to 65535"),
    ("health_check: {tcp: localhost}", "9:29", "'localhost' is no address; expected host:port"),
    ("health_check: {tcp: 'a:1', expect_status: 200}", "9:36", "belongs to url, but tcp is checked"),
    ("health_check: {url: 'http://a/', expect_status: 99}", "9:57", "99 is out of range"),
    ("health_check: {url: 'http://a/', expect_status: []}", "9:57", "is an empty list"),
    ("health_check: {url: 'http://a/', headers: {'a b': c}}", "9:52", "'a b' is no name of an HTTP header"),
    ("health_check: {url: 'http://a/', passes: 0}", "9:50", "0 is out of range"),
    ("health_check: {tcp: 'a:1', request_timeout: 60}", "9:53", "is longer than timeout (30 s)"),
    ("health_check: {tcp: 'a:1', bake: 5m}", "9:36", "is not performed by this version of Fraisier"),
    # migrations
    (
        "database: {framework: flyway}",
        "9:31",
        "flyway is not performed by this version of Fraisier; it performs: alembic, command, confiture, django",
    ),
    (
        "database: {framework: comand, up: x}",
        "9:31",
        "'comand' is not known; expected alembic, command, confiture, django; did you mean 'command'?",
    ),
    (
        "database: {up: x, backup_before_deploy: true}",
        "9:49",
        "cannot tell where the database is: add url, name, or backup_command",
    ),
    (
        "database: {up: x, url: 'mysql://u@h/d', on_irreversible: backup}",
        "9:66",
        "cannot back up mysql databases by itself; add backup_command",
    ),
    ("database: {up: x, url: hunter2}", "9:32", "is no database; expected e.g. postgresql://"),
    ("database: {up: x, keep_backups: 5}", "9:27", "has no meaning without backup_before_deploy: true"),
    ("database: {up: x, reversible: true}", "9:39", "needs down"),
    (
        "database: {framework: alembic, up: x}",
        "9:40",
        "belongs to framework: command, but framework is alembic",
    ),
    ("database: {framework: django, folder: x}", "9:39", "belongs to framework: confiture"),
    ("database: {framework: django, colour: x}", "9:39", "colour: is no key that Fraisier knows here"),
    ("database: {down: x}", "9:20", "has no meaning without up"),
    # hosts
    ("hosts: [web1, web2, WEB1]", "9:29", "WEB1 is named already, as web1; each host is named once"),
    ("hosts: [localhost, 127.0.0.1]", "9:28", "127.0.0.1 is named already, as localhost"),
    ("rollout: {batch: 2}", "9:9", "is about several hosts, and there is one"),
    ("canary: 1", "9:9", "it belongs into `rollout`"),
    ("hosts: [a, b]\n        rollout: {batch: 0}", "10:26", "'0' is neither; expected a whole number from 1"),
    ('hosts: [a, b]\n        rollout: {batch: "101%"}', "10:26", "is neither"),
    (
        "hosts: [a, b]\n        rollout: {max_failures: 2}",
        "10:33",
        "allows all 2 hosts to fail; expected at most 1",
    ),
    ("hosts: [a, b]\n        rollout: {canary: 3}", "10:27", "is more than there are hosts (2)"),
    ("build_on: here", "9:9", "has no meaning on this machine"),
    ("build_on: there", "9:19", "expected each, first, here"),
]


@pytest.mark.parametrize(
    ("line", "where", "words"), ENVIRONMENT_CASES, ids=[case[0] for case in ENVIRONMENT_CASES]
)
def test_a_wrong_line_in_an_environment_is_told_where_and_why(
    tmp_path: Path, line: str, where: str, words: str
) -> None:
    found = only(tmp_path, in_environment(line))
    assert found.startswith(where + " ")
    assert words in found


REPLACED_CASES = [
    # what is replaced in GOOD, by what, where, words
    (
        "branch: main",
        "branch: no",
        "7:17",
        f"{AT}.branch: no is yes/no (boolean) for YAML; expected text; put it",
    ),
    (
        "branch: main",
        "branch: refs/heads/main",
        "7:17",
        "is a full ref; expected the branch's name alone, e.g. main",
    ),
    ("branch: main", "branch: feature/*", "7:17", "is a pattern; expected the name of one branch"),
    ("branch: main", "branch: --upload-pack=x", "7:17", "is no name that git accepts for a branch"),
    ("branch: main", "branch: a..b", "7:17", "is no name that git accepts for a branch"),
    ("branch: main", "tag: 'v 1'", "7:14", "is no pattern for names that git accepts for tags"),
    ("branch: main", "tag: refs/tags/v*", "7:14", "is a full ref"),
    (
        "branch: main",
        "user: me",
        "6:7",
        f"{AT}: follows nothing; expected branch: NAME, tag: PATTERN, or an entry",
    ),
    (
        "branch: main",
        "branch: main\n        tag: v*",
        "8:9",
        "stands beside branch; an environment follows one",
    ),
    ("app_path: /var/www/orders", "user: me", "6:7", f"{AT}: app_path is missing"),
    ("/var/www/orders", "var/www", "8:19", "'var/www' is no absolute path"),
    ("/var/www/orders", "/", "8:19", "/ belongs to the system; expected one of its own"),
    ("/var/www/orders", "/etc/orders", "8:19", "/etc/orders belongs to the system"),
    ("/var/www/orders", "//usr/", "8:19", "/usr belongs to the system"),
    ("/var/www/orders", "/var/www/../../etc", "8:19", "has '.' or '..' in it"),
    (
        "/var/www/orders",
        "/var/lib/fraisier",
        "1:1",
        "keeps Fraisier's own files in /var/lib/fraisier, inside",
    ),
    (
        "repository: acme/orders",
        "description: x",
        "3:3",
        "fraises.api: repository is missing: its path on the forge",
    ),
    ("acme/orders", "https://github.com/acme/orders", "4:17", "is a URL; expected the path on the forge"),
    ("acme/orders", "acme/orders.git", "4:17", "ends with .git"),
    ("acme/orders", "acme/$(id)", "4:17", "is no path of a repository"),
    (
        "acme/orders",
        "acme/orders\n    git_provider: gthub",
        "5:19",
        "'gthub' is no forge below git; expected one of",
    ),
    (
        "acme/orders",
        "acme/orders\n    type: apo",
        "5:11",
        "'apo' is not known; expected api, etl, scheduled, backup; did you mean 'api'?",
    ),
    ("  api:", "  'a b':", "3:3", "'a b' is no name; expected letters, digits"),
    ("  api:", "  1:", "3:3", 'key 1 is no text for YAML but int; put it in quotes: "1"'),
    ("      production:", "      ../x:", "6:7", "'../x' is no name"),
    (
        "s3cr3t-of-the-forge",
        "''",
        "1:32",
        "git.github.webhook_secret: is empty as written; an empty secret would",
    ),
    ("s3cr3t-of-the-forge", "'  '", "1:32", "is empty as written"),
    ("s3cr3t-of-the-forge", "'${EMPTY}'", "1:32", "is empty after its variables are replaced"),
    ("s3cr3t-of-the-forge", "'${UNSET}'", "1:32", "${UNSET} is not set"),
    ("s3cr3t-of-the-forge", "[]", "1:32", "is an empty list; give a value or leave the key out"),
    ("s3cr3t-of-the-forge", "12345", "1:32", "this is a number for YAML; expected text; put it in quotes"),
    ("s3cr3t-of-the-forge", '"a\\n"', "1:32", "a secret is one line"),
    ("webhook_secret:", "secret_token:", "1:16", "is what GitLab calls it; expected webhook_secret"),
    (
        "github: {",
        "ours: {",
        "1:7",
        "git.ours: ours needs a type, which its name does not tell; expected bitbucket",
    ),
    ("github: {", "ours: {type: gitlub, ", "1:20", "git.ours.type: 'gitlub' is no forge; expected bitbucket"),
    ("github: {", "github: {server: true, ", "1:16", "is for bitbucket only; leave it out"),
    ("git: {", "git: {provider: gitlub, ", "1:17", "git.provider: 'gitlub' is no forge below git"),
    (
        "git: {github",
        "git: {gitea",
        "3:3",
        "fraises.api: needs clone_url: git.gitea has no base_url that would tell",
    ),
    (
        "git: {github",
        "git: {github: {}, gitlab",
        "3:3",
        "needs clone_url: no forge is named (git_provider here",
    ),
]


@pytest.mark.parametrize(
    ("old", "new", "where", "words"), REPLACED_CASES, ids=[f"{c[0]}->{c[1]}" for c in REPLACED_CASES]
)
def test_a_wrong_value_is_told_where_and_why(
    tmp_path: Path, old: str, new: str, where: str, words: str
) -> None:
    assert old in GOOD
    found = only(tmp_path, GOOD.replace(old, new, 1), EMPTY="")
    assert found.startswith(where + " "), found
    assert words in found


TOP_CASES = [
    (
        "database: {url: 'postgresql+asyncpg://u:hunter2@h/d'}",
        "9:17",
        "is no URL of PostgreSQL; expected postgresql",
    ),
    ("database: {url: 'postgresql://u:hunter2@h:port/d'}", "9:17", "cannot be read as a URL (write @ / ?"),
    (
        "database: {url: 'postgresql://u:hunter2@h/d#x'}",
        "9:17",
        "has a #, which ends a URL (write it as %23)",
    ),
    ("database: {url: 'postgresql://u:pass@hunter2@h/d'}", "9:17", "cannot be read as a URL (write @ / ?"),
    (
        "database: {url: 'postgresql://u@h/d?sslpassword=hunter2'}",
        "9:17",
        "has sslpassword among its parameters",
    ),
    (
        "database: {url: 'postgresql://u@h/d?password=hunter2'}",
        "9:17",
        "has the password among its parameters",
    ),
    (
        "database: {url: 'postgresql://u:hunter2@h'}",
        "9:17",
        "names no database; expected postgresql://user:password",
    ),
    (
        "database: {url: 'sqlite://relative.db'}",
        "9:17",
        "is no database; expected sqlite:// and an absolute path",
    ),
    ("database: {url: ':memory:'}", "9:17", "is no database"),
    ("databse: {}", "9:1", "databse: is no key that Fraisier knows here; did you mean 'database'?"),
    ("notifications: []", "9:1", "is not performed by this version of Fraisier (telling people)"),
    (
        "branch_mapping: {dev: {fraise: apo, environment: production}}",
        "9:32",
        "there is no fraise 'apo'; there is: api",
    ),
    (
        "branch_mapping: {dev: {fraise: api, environment: prod}}",
        "9:50",
        "there is no environment 'prod'; there is",
    ),
    (
        "branch_mapping: {no: {fraise: api, environment: production}}",
        "9:18",
        "key no is no text for YAML but bool",
    ),
    (
        "branch_mapping: {'a b': {fraise: api, environment: production}}",
        "9:18",
        "is no name that git accepts",
    ),
    ("branch_mapping: {dev: api}", "9:23", "'api' is text; expected a mapping with fraise, environment"),
    ("branch_mapping: {dev: {fraise: api}}", "9:18", "branch_mapping.dev: environment is missing"),
    ("server: {port: 70000}", "9:16", "70000 is out of range; expected a whole number from 0 to 65535"),
    ("server: {host: 'a b'}", "9:16", "'a b' is no host; expected a name or an address"),
    ("server: {trusted_proxies: [10.0.0.0/99]}", "9:28", "'10.0.0.0/99' is no address"),
    ("server: {max_body: 100MB}", "9:20", "max_in_flight must not be smaller than max_body"),
    ("server: {failed_auth_limit: 20}", "9:29", "20 is a number for YAML; expected text"),
    ("server: {failed_auth_limit: often}", "9:29", "'often' is no limit; expected e.g. 20/minute"),
    ("worker: {concurrency: 0}", "9:23", "0 is out of range"),
    ("worker: {lease: 10ms}", "9:17", "10ms is out of range; expected 1 to 3600 seconds"),
    ("logging: {level: loud}", "9:18", "'loud' is not known; expected debug, info, warning, error"),
    ("retention: 1", "9:12", "1 is out of range"),
    (
        "state_folder: /var/www/orders/state",
        "9:15",
        "keeps Fraisier's own files in /var/www/orders/state, inside",
    ),
    ("worker: {labels: [a b]}", "9:19", "'a b' is no label; expected letters, digits"),
    ("server: 8080", "9:9", "8080 is a number for YAML; expected a mapping with host, port"),
]


@pytest.mark.parametrize(("line", "where", "words"), TOP_CASES, ids=[case[0] for case in TOP_CASES])
def test_a_wrong_line_at_the_top_is_told_where_and_why(
    tmp_path: Path, line: str, where: str, words: str
) -> None:
    found = only(tmp_path, f"{GOOD}{line}\n")
    assert found.startswith(where + " "), found
    assert words in found
    assert "hunter2" not in found


ON_TWO_MACHINES = """\
git: {{github: {{webhook_secret: s3cr3t-of-the-forge}}}}
fraises:
  api:
    repository: acme/orders
    environments:
      one: {{branch: main, app_path: /srv/a, systemd_service: a, labels: {one}}}
      two: {{branch: main, app_path: /srv/a/b, systemd_service: a, labels: {two}}}
"""


@pytest.mark.parametrize(
    ("one", "two", "here", "is_good"),
    [
        ("web1", "web2", "web1", True),
        ("[web1, eu]", "[web2, eu]", "[web1, eu]", True),
        ("web1", "[web1, eu]", "web1", False),  # whoever takes the second may take the first
        ("web1", "web2", "[web1, web2]", False),  # this worker would take both
    ],
)
def test_what_lives_on_different_machines_may_have_the_same_folder_and_unit(
    tmp_path: Path, one: str, two: str, here: str, is_good: bool
) -> None:
    text = ON_TWO_MACHINES.format(one=one, two=two)
    found = problems(tmp_path, f"{text}worker: {{labels: {here}}}\n")
    assert len(found) == (0 if is_good else 2), found
    assert all("unless their labels say that they live on different machines" in each for each in found)


ON_HOSTS = ON_TWO_MACHINES.replace("labels", "hosts").replace("/srv/a/b", "/srv/a")


@pytest.mark.parametrize(
    ("one", "two", "is_good"),
    [
        ("web1", "web2", True),
        ("[web1, web2]", "[web3, localhost]", True),
        ("[web1, web2]", "[web3, WEB2]", False),
        ("localhost", "[web1, 127.0.0.1]", False),
    ],
)
def test_environments_on_other_hosts_may_have_the_same_folder_and_unit(
    tmp_path: Path, one: str, two: str, is_good: bool
) -> None:
    found = problems(tmp_path, ON_HOSTS.format(one=one, two=two))
    assert len(found) == (0 if is_good else 2), found
    assert all("or they have other hosts" in each for each in found)


CLONE_CASES = [
    ("clone_url: ext::sh -c id", "is no URL that is safe to give to git"),
    ("clone_url: --upload-pack=id", "is no URL that is safe to give to git"),
    ('clone_url: "https://a/b\\nc"', "has a line break"),
    ("clone_url: https://me:hunter2@a.example.com/x.git", "has credentials in it, which end up in logs"),
    ("clone_url: https://hunter2@a.example.com/x.git", "has credentials in it"),
    ("clone_url: ftp://a.example.com/x.git", "begins with ftp://, which is not used; expected https://"),
    (
        "clone_url: relative/path",
        "is no URL; expected https://, ssh://, git@host:path, file:// or an absolute path",
    ),
    ("clone_url: ssh://git@-oProxyCommand=x/y", "is no URL"),
    ("clone_url: -oProxyCommand=x:y", "is no URL that is safe"),
    ("clone_url: /srv/../etc", "has '.' or '..' in it"),
    ("clone_key: keys/a", "is no absolute path"),
    ("clone_token: ''", "is empty as written"),
    ("proxy: proxy.example.com", "is no proxy; expected e.g. http://proxy.example.com:3128"),
    ("proxy: http://u:hunter2@p:1", "has credentials in it"),
]


@pytest.mark.parametrize(("line", "words"), CLONE_CASES, ids=[case[0] for case in CLONE_CASES])
def test_a_source_that_is_unsafe_is_refused_without_repeating_it(
    tmp_path: Path, line: str, words: str
) -> None:
    key = line.partition(":")[0]
    found = only(tmp_path, in_fraise(line))
    assert found.startswith(f"4:{7 + len(key)} fraises.api.{key}: ")
    assert words in found
    assert "hunter2" not in found


@pytest.mark.parametrize(
    ("lines", "where", "words"),
    [
        (
            ("clone_url: http://a.example.com/x", "clone_token: t0ken"),
            "4:16",
            "would send the token over http://",
        ),
        (("clone_url: git@a:x", "clone_token: t0ken"), "5:18", "is for https://, but clone_url is none"),
        (("clone_url: https://a/x", "clone_key: /k"), "5:16", "is for SSH, but clone_url is none"),
    ],
)
def test_credentials_must_fit_the_url(tmp_path: Path, lines: tuple[str, str], where: str, words: str) -> None:
    found = only(tmp_path, in_fraise(*lines))
    assert found.startswith(where + " "), found
    assert words in found


def test_a_token_may_go_to_this_machine_in_the_clear(tmp_path: Path) -> None:
    text = in_fraise("clone_url: http://127.0.0.1:3000/x", "clone_token: t0ken")
    assert problems(tmp_path, text) == []


FILE_CASES: list[tuple[str, str | bytes, str, str]] = [
    ("empty", "", "1:1", "is empty; `fraisier init` writes one"),
    ("comment only", "# nothing\n", "1:1", "is empty"),
    ("scalar", "hello", "1:1", "'hello' is text; expected a mapping with git, database, fraises"),
    ("list", "- a\n", "1:1", "is a list; expected a mapping"),
    ("no fraises", "retention: 30d\n", "1:1", "fraises is missing: what is deployed, by name"),
    ("tab", "fraises:\n\tapi: 1\n", "2:1", "is indented with a tab; YAML wants spaces"),
    ("tab after spaces", "fraises:\n  \tapi: 1\n", "2:3", "is indented with a tab; YAML wants spaces"),
    ("unclosed", "fraises: {api: [}\n", "1:17", "is no YAML: did not find expected node content"),
    ("colon", "fraises: a: b\n", "1:11", "is no YAML: mapping values are not allowed in this context"),
    ("reserved", "fraises: @api\n", "1:10", "put text that begins with @"),
    ("not UTF-8", b"fraises:\n  a: \xff\n", "2:6", "is no UTF-8: byte 0xff; save the file as UTF-8"),
    ("UTF-16", "fraises: {}".encode("utf-16"), "1:1", "is no UTF-8: byte 0xff"),
    ("NUL", b"fraises:\n  a\x00: 1\n", "2:4", "has the control character U+0000"),
    ("two documents", "fraises: {}\n---\nfraises: {}\n", "2:1", "begins a second document"),
    ("list as key", "? [a]\n: b\n", "1:3", "uses a mapping or list as a key; a key is text"),
    ("alias of nothing", "a: *b\n", "1:4", "*b names no anchor that is complete before it"),
    ("alias of itself", "a: &b [*b]\n", "1:8", "*b names no anchor that is complete before it"),
    ("deep", "a: " + "[" * 100_000, "1:36", "is nested deeper than 32 levels"),
    (
        "deep blocks",
        "".join(" " * n + "a:\n" for n in range(200)),
        "33:33",
        "is nested deeper than 32 levels",
    ),
    ("large", "#" * (1 << 20) + "\n", "1:1", "is larger than 1 MiB"),
]


@pytest.mark.parametrize(
    ("text", "where", "words"), [c[1:] for c in FILE_CASES], ids=[c[0] for c in FILE_CASES]
)
def test_a_file_that_is_no_configuration_is_told_why(
    tmp_path: Path, text: str | bytes, where: str, words: str
) -> None:
    found = only(tmp_path, text)
    assert found.startswith(where + " "), found
    assert words in found


def test_a_billion_laughs_end_early(tmp_path: Path) -> None:
    laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    laughs += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    found = only(tmp_path, laughs)
    assert "has more than 50000 values, aliases expanded" in found


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    for path, words in ((tmp_path / "no.yaml", "does not exist; `fraisier init`"), (tmp_path, "is a folder")):
        with pytest.raises(InvalidConfig, match=words):
            load_configuration(str(path), environ={})


def test_a_misspelt_key_among_names_of_the_users_choice_is_not_taken_for_such_a_name(tmp_path: Path) -> None:
    found = problems(tmp_path, "git: {provder: github, github: {webhook_secret: s}}\n")
    assert "1:7 git.provder: is no key that Fraisier knows here; did you mean 'provider'?" in found


def test_all_problems_come_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = """\
git: {github: {webhook_secret: "${NOPE}"}}
fraises:
  api:
    repository: acme/orders
    environments:
      production:
        branch: main
        branch: main
        app_path: www
        keep_releases: 1
        user: no
      staging:
        branch: main
        app_path: /srv/a
        systemd_service: a
  web:
    repositry: x
    environments: {production: {branch: main, app_path: /srv/a/b, systemd_service: a.service}}
branch_mapping: {dev: {fraise: apo, environment: x}}
"""
    found = problems(tmp_path, text)
    assert [each.split(" ")[0] for each in found] == [
        "1:32",
        "8:9",
        "9:19",
        "10:24",
        "11:15",
        "16:3",
        "17:5",
        "18:57",
        "18:84",
        "19:32",
    ]
    assert "overlaps the app_path of api/staging (/srv/a)" in found[7]
    assert "a.service runs api/staging already; two environments cannot share a unit" in found[8]


def test_two_environments_cannot_share_a_folder(tmp_path: Path) -> None:
    text = f"{GOOD}      staging: {{branch: dev, app_path: /var/www//orders/}}\n"
    found = only(tmp_path, text)
    assert found.startswith(
        "9:40 fraises.api.environments.staging.app_path: /var/www/orders is the app_path of"
    )


def test_a_folder_above_another_environments_is_refused(tmp_path: Path) -> None:
    text = GOOD.replace("/var/www/orders", "/srv/a/b/c") + "      staging: {branch: dev, app_path: /srv/a}\n"
    assert "/srv/a overlaps the app_path of api/production (/srv/a/b/c)" in only(tmp_path, text)


def test_folders_whose_names_begin_alike_do_not_overlap(tmp_path: Path) -> None:
    assert (
        problems(tmp_path, f"{GOOD}      staging: {{branch: dev, app_path: /var/www/orders-staging}}\n") == []
    )


def test_one_unit_in_two_spellings_is_one_unit(tmp_path: Path) -> None:
    text = in_environment("systemd_service: a") + (
        "      staging: {branch: dev, app_path: /srv/b, target: {type: systemd, unit: a.service}}\n"
    )
    assert "a.service runs api/production already" in only(tmp_path, text)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("compose_project: Orders", "is no project; expected small letters"),
        ("unit_file: a.service", "has no meaning with Docker Compose"),
        ("systemd_service: a", "stands beside systemd_service"),
        ("env: {DOCKER_HOST: 'tcp://x'}", "write it as target: {type: compose, unit: PROJECT"),
        ("env: {COMPOSE_FILE: b.yaml}", "is not read from env; write it as compose_file"),
        ("cutover: socket", "systemd gives no socket to a container; use blue_green"),
    ],
)
def test_what_docker_compose_would_not_do_as_it_is_written(tmp_path: Path, line: str, words: str) -> None:
    assert words in only(tmp_path, in_environment("compose_file: compose.yaml", line))


def test_a_release_in_containers_has_a_socket_that_can_be_dialled(tmp_path: Path) -> None:
    text = in_environment("compose_file: compose.yaml", "cutover: blue_green")
    assert problems(tmp_path, text) == []
    deep = text.replace("/var/www/orders", "/var/www/" + "x" * 60)
    assert "releases listen on /var/www/xxx" in only(tmp_path, deep)
    assert problems(tmp_path, deep + "        listen: /run/orders/%i/http.sock\n") == []


def test_two_environments_cannot_share_a_project(tmp_path: Path) -> None:
    other = ("      staging:", "        branch: dev", "        app_path: /var/www/staging")
    text = in_environment("compose_file: compose.yaml") + "\n".join(
        (*other, "        compose_file: compose.yaml", "        compose_project: api-production\n")
    )
    assert "api-production runs api/production already" in only(tmp_path, text)


def test_a_unit_file_for_supervisord_needs_to_know_where_it_goes(tmp_path: Path) -> None:
    found = only(tmp_path, in_environment("supervisord_program: a", "unit_file: a.conf"))
    assert found.startswith(f"10:9 {AT}.unit_file: needs target: {{type: supervisord")


def test_two_things_cannot_run_one_release(tmp_path: Path) -> None:
    found = only(tmp_path, in_environment("systemd_service: a", "supervisord_program: b"))
    assert found.startswith(f"10:9 {AT}.supervisord_program: stands beside systemd_service")


def test_a_tag_cannot_stand_beside_a_mapped_branch(tmp_path: Path) -> None:
    text = (
        GOOD.replace("branch: main", "tag: v*")
        + "branch_mapping: {dev: {fraise: api, environment: production}}\n"
    )
    assert only(tmp_path, text).startswith(
        f"7:9 {AT}.tag: stands beside branch_mapping, which sends branch 'dev'"
    )


def test_a_problem_in_merged_keys_is_told_where_they_were_written(tmp_path: Path) -> None:
    text = in_environment("systemd_service: orders").replace("production:", "production: &p")
    text += "      staging: {<<: *p, app_path: /srv/b}\n"
    assert only(tmp_path, text).startswith(
        "9:26 fraises.api.environments.staging.systemd_service: orders.service runs"
    )


def test_a_merge_of_no_mapping_is_refused(tmp_path: Path) -> None:
    assert "<<: merges mappings only" in only(tmp_path, in_environment("<<: 1"))


def test_a_secret_is_in_no_message(tmp_path: Path) -> None:
    text = in_fraise("clone_token: [hunter2]").replace("branch: main", "branch: '${BRANCH}'")
    text = text.replace("s3cr3t-of-the-forge", "[s3cr3t-of-the-forge, '']")
    found = "\n".join(problems(tmp_path, text, BRANCH="hunter2 x"))
    assert "git.github.webhook_secret[1]: is empty" in found
    assert "fraises.api.clone_token: is a list; expected text" in found
    assert "hunter2" not in found
    assert "s3cr3t" not in found


def test_a_key_that_is_no_text_is_reported_once(tmp_path: Path) -> None:
    found = only(tmp_path, in_environment("1: 2"))
    assert found == '9:9 key 1 is no text for YAML but int; put it in quotes: "1"'


def test_problems_of_one_place_come_in_one_order(tmp_path: Path) -> None:
    text = GOOD + "      staging: {}\n"
    found = [each for each in problems(tmp_path, text) if "staging" in each]
    assert len(found) == 2
    assert found == sorted(found)


def test_both_databases_are_named_where_neither_is_meant(tmp_path: Path) -> None:
    assert "or postgresql://" in only(tmp_path, GOOD + "database: {url: mysql://x}\n")
