"""docs/configuration.md, made from the table of keys. `python -m fraisier.config.reference` prints it."""

from __future__ import annotations

from collections.abc import Iterator

from fraisier.config import backup_keys, environment_keys, job_keys, keys, later
from fraisier.config.sections import Section

_HEAD = """\
# Configuration

<!-- Made by `python -m fraisier.config.reference`; a test keeps it in step with config/keys.py. -->

Fraisier reads one YAML file: what `--config` names, else `$FRAISIER_CONFIG`, `./fraises.yaml`,
`/etc/fraisier/fraises.yaml`. `fraisier config validate` reports everything that is wrong with it at
once, each with file, line and column; `fraisier config schema` prints a JSON Schema for editors.
`fraises.example.yaml` is an annotated example.

- **Variables.** `${VAR}` is replaced by the environment of the Fraisier process, `${VAR:-default}`
  with a default where it is unset or empty; `$${` stands for the two characters themselves. A
  variable without a value is an error. In shell lines `${…}` is left for the shell, which sees the
  environment's `env` and `env_file`. A variable whose name sounds like a secret (`…_TOKEN`,
  `…_PASSWORD`, …) is refused where the value would be shown and stored.
- **Secrets** are `webhook_secret`, `secret_token`, `clone_token`, and those values of `env` and
  `headers` that use a variable, have a name that sounds like a secret, or are a URL with a
  password. They are masked in everything that is written. The journal and the published
  configuration hold references instead: `${VAR}`, or `config:` and the place in the file. They are
  resolved anew when they are used, so a rotated secret needs a reload and nothing else; it does not
  change the configuration's digest.
- **Durations** are seconds (`30`, `0.5`) or words (`500ms`, `15m`, `1h30m`, `30d`). **Sizes** are
  bytes (`1048576`) or words: `500MB` counts in thousands, `500MiB` in 1024s.
- **YAML's traps** are errors, not surprises: a key that stands twice, `no` as a branch's name (a
  boolean), `0123456` as text (a number), `12:30:00` (a number), dates. Put such text in quotes.
  Anchors, aliases and `<<` work.
- A key with no value (`env:` alone) is an error; leave the key out.
"""

_SECTIONS: tuple[tuple[str, str, Section, str], ...] = (
    ("Top level", "root", keys.ROOT, ""),
    ("`git`", "", keys.GIT, "Besides `provider`, one section per forge, by any name: see the next table."),
    ("`git.<name>`", "forge", keys.FORGE, "A forge's credentials are defaults for its fraises."),
    ("`database`", "database", keys.DATABASE, ""),
    ("`fraises.<name>`", "fraise", keys.FRAISE, "Names: letters, digits, `_`, `-`, `.`; up to 63."),
    ("`fraises.<name>.environments.<name>`", "environment", environment_keys.ENVIRONMENT, ""),
    ("`build` (long form)", "", environment_keys.BUILD, ""),
    (
        "`hosts.<name>`",
        "",
        keys.HOST,
        "Names as in an environment's `hosts`. Most need none of this: `~/.ssh/config` holds. See ssh.md.",
    ),
    ("`rollout`", "", environment_keys.ROLLOUT, "For environments with several `hosts`: see rollout.md."),
    ("`target`", "", environment_keys.TARGET, "All other keys are the brand's own settings, as text."),
    (
        "`proxy`",
        "",
        environment_keys.PROXY,
        "All other keys are the brand's own settings: see zero-downtime.md.",
    ),
    (
        "`database` of an environment",
        "migration",
        environment_keys.MIGRATION,
        "`name` alone migrates nothing.",
    ),
    ("`health_check`", "health", environment_keys.HEALTH, ""),
    (
        "`jobs.<name>`",
        "",
        job_keys.JOB,
        "For fraises of type scheduled, or etl. Without `jobs`, these keys stand in the environment.",
    ),
    ("`smoke` (long form)", "", job_keys.SMOKE, ""),
    ("`verify`", "", job_keys.VERIFY, "For fraises of type backup."),
    (
        "`sources.<name>`",
        "",
        backup_keys.SOURCE,
        "For fraises of type backup: a URL or an absolute path, or these. All others are the brand's own.",
    ),
    (
        "`destinations.<name>`",
        "",
        backup_keys.DESTINATION,
        "For fraises of type backup: a place, or these keys. All others are the brand's own settings.",
    ),
    (
        "`retention`",
        "",
        backup_keys.RETENTION,
        "What any of the rules keeps is kept; with none, everything is.",
    ),
    ("`encryption`", "", backup_keys.ENCRYPTION, ""),
    (
        "`notifications`",
        "",
        job_keys.NOTIFICATIONS,
        "As older files have them: scripts. Channels to people come later.",
    ),
    ("`notifications` (long form)", "", job_keys.SCRIPT, ""),
    (
        "`branch_mapping.<branch>`",
        "",
        keys.MAPPED,
        "One, or a list. Where branches are mapped to an environment, they stand instead of its `branch`.",
    ),
    ("`server`", "server", keys.SERVER, ""),
    ("`worker`", "worker", keys.WORKER, ""),
    ("`logging`", "", keys.LOGGING, ""),
)


def render_markdown() -> str:
    """Every key with its kind, its default and its meaning."""
    return "\n".join([_HEAD, *(line for section in _SECTIONS for line in _section(*section))])


def _section(title: str, later_name: str, section: Section, note: str) -> Iterator[str]:
    yield f"## {title}\n"
    if note:
        yield f"{note}\n"
    yield "| key | value | default | meaning |"
    yield "|---|---|---|---|"
    for name, key in section.keys.items():
        default = "**required**" if key.required else key.shown or "—"
        plain = not key.required and key.shown and key.default not in (None, ())
        cells = (f"`{name}`", key.kind.words, f"`{default}`" if plain else default, key.doc)
        yield f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
    words = later.KEYS.get(later_name, {})
    if words:
        yield f"\nNot performed by this version: {', '.join(f'`{word}`' for word in words)}."
    yield ""


if __name__ == "__main__":
    import sys

    sys.stdout.write(render_markdown())
