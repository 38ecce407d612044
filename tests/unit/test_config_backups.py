"""What `fraises.yaml` says of backups, and what it may not say."""

from __future__ import annotations

from pathlib import Path

import pytest

from fraisier.config.codec import Codec
from fraisier.config.load import load_configuration
from fraisier.domain.backup import BackupSpec, Destination, Encryption, Retention, Source
from fraisier.domain.errors import InvalidConfig
from fraisier.domain.fraise import Environment, EnvironmentKey
from fraisier.domain.job import JobKind
from fraisier.domain.secret import Secret

KEY = EnvironmentKey("dumps", "production")
RECIPIENT = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
HEAD = """\
fraises:
  dumps:
    type: backup
    environments:
      production:
        app_path: /var/lib/dumps
"""
SOURCES = "sources: {orders: postgresql:///orders}"
DESTINATIONS = "destinations: {disk: /srv/kept}"


def text_of(*lines: str) -> str:
    """HEAD with these lines in its environment: from line 7 on, where keys begin in column 9."""
    return HEAD + "".join(f"        {line}\n" for line in lines)


def read(folder: Path, *lines: str, text: str = "", **environ: str) -> Environment:
    file = folder / "fraises.yaml"
    file.write_text(text or text_of(*lines))
    return load_configuration(str(file), environ=environ).environments[KEY]


def backup(folder: Path, *lines: str, **environ: str) -> BackupSpec:
    found = read(folder, *lines, **environ).backup
    assert found is not None
    return found


def test_the_least_is_something_and_a_place_for_it(tmp_path: Path) -> None:
    found = read(tmp_path, SOURCES, DESTINATIONS)
    assert found.backup == BackupSpec(
        sources=(Source(name="orders", kind="postgresql", url="postgresql:///orders"),),
        destinations=(Destination(name="disk", kind="folder", place="/srv/kept"),),
        retention=Retention(last=7),
    )
    assert {name: job.kind for name, job in found.jobs.items()} == {
        "main": JobKind.backup,
        "verify": JobKind.verify,
        "restore": JobKind.restore,
        "prune": JobKind.prune,
    }
    assert all(job.schedule is None for job in found.jobs.values())
    assert set(found.jobs["restore"].parameters) == {"backup", "source", "to", "destination", "force"}


def test_a_short_form_tells_its_brand(tmp_path: Path) -> None:
    found = backup(
        tmp_path,
        "sources: {a: 'mariadb://localhost/shop', b: 'sqlite:///srv/app.db', c: /srv/uploads/}",
        "destinations: {a: /srv/kept, b: 's3://acme-backups/x', c: 'backup@vault:/srv/kept'}",
    )
    assert [(source.kind, source.path) for source in found.sources] == [
        ("mysql", ""),
        ("sqlite", ""),
        ("folder", "/srv/uploads"),
    ]
    assert [place.kind for place in found.destinations] == ["folder", "s3", "rsync"]


def test_the_long_forms_have_all_there_is(tmp_path: Path) -> None:
    found = backup(
        tmp_path,
        "sources:",
        "  orders: {url: '${URL}', query: SELECT 1, expect: 1, rows: false}",
        "  files: {type: folder, path: /srv/files, exclude: [cache/, '*.tmp']}",
        "  registry: {command: dump-it $FRAISIER_BACKUP, restore: 'load-it $FRAISIER_BACKUP $FRAISIER_RESTORE_TO'}",
        "destinations:",
        "  cloud: {place: 's3://acme-backups/x', access_key: '${ID}', secret_key: '${KEY}', region: eu-1}",
        "  vault: {type: restic, place: 'rest:https://vault/x', password: '${KEY}'}",
        "retention: {keep_daily: 7, keep_monthly: 12}",
        f"encryption: {{recipients: [{RECIPIENT}], identity: /etc/keys/age.txt}}",
        "verified_within: 3d",
        "staging: /srv/staging/",
        URL="postgresql://orders:s3cret@db/orders",
        ID="AKIA",
        KEY="k3y",
    )
    orders, files, registry = found.sources
    assert orders == Source(
        name="orders",
        kind="postgresql",
        url=Secret("postgresql://orders:s3cret@db/orders", "${URL}"),
        query="SELECT 1",
        expect="1",
        rows=False,
    )
    assert files.exclude == ("cache/", "*.tmp")
    assert (registry.kind, registry.restore) == (
        "command",
        "load-it $FRAISIER_BACKUP $FRAISIER_RESTORE_TO",
    )
    cloud, vault = found.destinations
    assert cloud.options == {
        "access_key": Secret("AKIA", "${ID}"),
        "secret_key": Secret("k3y", "${KEY}"),
        "region": "eu-1",
    }
    assert vault.kind == "restic"
    assert found.retention == Retention(last=0, daily=7, monthly=12)
    assert found.encryption == Encryption(recipients=(RECIPIENT,), identity="/etc/keys/age.txt")
    assert (found.verified_within, found.staging) == (3 * 86400.0, "/srv/staging")


def test_older_files_name_a_script_and_days(tmp_path: Path) -> None:
    text = text_of("branch: main", "script_path: bin/backup.sh", "retention_days: 30", "verified_within: 0")
    text = text.replace("    type: backup\n", "    type: backup\n    repository: acme/dumps\n")
    text = "git: {github: {webhook_secret: s3cr3t-of-the-forge}}\n" + text
    found = read(tmp_path, text=text).backup
    assert found is not None
    assert found.sources == (Source(name="script", kind="command", command="sh bin/backup.sh"),)
    assert found.destinations[0].place == "/var/lib/dumps/backups/kept"
    assert found.retention == Retention(last=1, daily=30)


def test_a_backup_is_stored_with_an_attempt_and_read_again(tmp_path: Path) -> None:
    file = tmp_path / "fraises.yaml"
    file.write_text(
        text_of(
            "sources: {orders: '${URL}'}",
            "destinations: {cloud: {place: 's3://acme-backups/x', secret_key: '${KEY}'}}",
            f"encryption: {{recipients: {RECIPIENT}, identity: /etc/keys/age.txt}}",
            "retention: {keep_weekly: 3}",
        )
    )
    environ = {"URL": "postgresql://orders:s3cret@db/orders", "KEY": "k3y-of-the-cloud"}
    configuration = load_configuration(str(file), environ=environ)
    codec = Codec(environ, configuration)
    stored = configuration.environments[KEY]
    text = codec.dump(stored)
    assert codec.load(text) == stored
    assert "s3cret" not in text
    assert "k3y-of-the-cloud" not in text
    assert {"k3y-of-the-cloud", "s3cret"} <= set(codec.secrets(stored))


CASES = [
    ((SOURCES,), "5:7", "destinations is missing"),
    ((DESTINATIONS,), "5:7", "sources is missing"),
    (("sources: {a: {query: SELECT 1}}", DESTINATIONS), "7:22", "says nothing about what is backed up"),
    (
        ("sources: {a: {type: postgres, url: 'postgresql:///a'}}", DESTINATIONS),
        "7:29",
        "did you mean 'postgresql'?",
    ),
    (("sources: {a: 'oracle://db/a'}", DESTINATIONS), "7:22", "'oracle' is no kind of source"),
    (("sources: {a: not-a-url}", DESTINATIONS), "7:22", "is no database"),
    (("sources: {a: {path: /srv/a, rows: false}}", DESTINATIONS), "7:37", "is no key of folder"),
    (("sources: {a: {url: 'postgresql:///a', exclude: x}}", DESTINATIONS), "7:47", "is no key of postgresql"),
    (("sources: {a: {path: data}}", DESTINATIONS), "7:29", "is in the release"),
    (("sources: {a: {url: 'postgresql:///a', expect: 1}}", DESTINATIONS), "7:47", "no meaning without query"),
    (("sources: {a: {command: x, restore: y}}", DESTINATIONS), "7:44", "has to heed $FRAISIER_RESTORE_TO"),
    (("sources: {a: {command: x}}", DESTINATIONS), "7:19", "needs restore, or nobody can try it"),
    ((SOURCES, "destinations: {a: somewhere}"), "8:27", "needs a type"),
    ((SOURCES, "destinations: {a: {place: /srv/kept, port: 22}}"), "8:46", "is no key of folder"),
    ((SOURCES, "destinations: {a: {place: 'h:/srv', type: s3}}"), "8:35", "is no place for s3"),
    ((SOURCES, "destinations: {a: {place: 's3://a-b', regoin: x}}"), "8:47", "did you mean 'region'?"),
    ((SOURCES, "destinations: {a: 's3://a b'}"), "8:27", "is no place in S3"),
    ((SOURCES, "destinations: {a: 'sftp://u:p@h/x'}"), "8:27", "has a password in it"),
    ((SOURCES, "destinations: {a: '--rsh=x:/y'}"), "8:27", "begins with '-'"),
    ((SOURCES, "destinations: {a: {place: '/srv/r', type: restic}}"), "8:24", "needs password"),
    ((SOURCES, "destinations: {a: /etc/kept}"), "8:27", "belongs to the system"),
    (("sources: {a: /srv}", "destinations: {a: /srv/kept}"), "8:27", "is inside of /srv, which is backed up"),
    (("sources: {a: /var/lib/dumps/}", DESTINATIONS), "7:22", "where backups are made"),
    (
        (SOURCES, DESTINATIONS, "retention: {keep_last: 3}", "retention_days: 3"),
        "10:9",
        "stands beside retention",
    ),
    ((SOURCES, DESTINATIONS, "retention: {keep_lsat: 3}"), "9:21", "did you mean 'keep_last'?"),
    ((SOURCES, DESTINATIONS, "encryption: {recipients: age1x}"), "9:34", "is no recipient"),
    ((SOURCES, DESTINATIONS, "encryption: {recipients: AGE-SECRET-KEY-1X}"), "9:34", "is a private key"),
    ((SOURCES, DESTINATIONS, f"encryption: {{recipients: {RECIPIENT}}}"), "9:9", "needs identity"),
    ((SOURCES, DESTINATIONS, "branch: main"), "9:9", "without `repository`"),
    ((SOURCES, DESTINATIONS, "script_path: x.sh"), "9:9", "without `repository`"),
    ((SOURCES, DESTINATIONS, "backup: {}"), "9:9", "`type: backup` makes backups"),
]


@pytest.mark.parametrize(("lines", "where", "words"), CASES, ids=[case[2] for case in CASES])
def test_a_wrong_line_is_told_where_and_why(
    tmp_path: Path, lines: tuple[str, ...], where: str, words: str
) -> None:
    with pytest.raises(InvalidConfig) as error:
        read(tmp_path, *lines)
    told = [f"{each.line}:{each.column} {each.message}" for each in error.value.problems]
    assert any(each.startswith(where + " ") and words in each for each in told), told


def test_other_types_have_no_backups(tmp_path: Path) -> None:
    text = text_of("branch: main", "retention: {keep_last: 1}").replace("type: backup", "repository: acme/x")
    with pytest.raises(InvalidConfig, match="belongs to fraises of type backup"):
        read(tmp_path, text="git: {github: {webhook_secret: s3cr3t}}\n" + text)
