"""A new user follows the documentation, line by line, on a server of their own."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import yaml

from tests.docs_blocks import PAPERS, ROOT, Block, blocks_of, whole
from tests.e2e.scenes import SCENES
from tests.e2e.town import CONFIG, SECRETS, Town, fits, merged
from tests.servers import Server

pytestmark = [pytest.mark.servers, pytest.mark.timeout(900)]
START = "getting-started.md"
UNIT, RULE = "/etc/systemd/system/fraisier.service", "/etc/polkit-1/rules.d/50-fraisier.rules"


def paper(name: str) -> list[Block]:
    """A page's blocks."""
    (found,) = [each for each in PAPERS if each.name == name]
    return blocks_of(found)


def walk(town: Town, page: list[Block], after: dict[str, Callable[[str], None]]) -> None:
    """Perform a page's blocks in order; `after` one that contains a text comes what the page's prose asks for."""
    printed = ""
    for block in page:
        if block.language == "sh" and "not-run" not in block.words:
            SCENES.get(block.words.get("scene", ""), lambda _: None)(town)
            printed = town.perform(block)
        if block.info == "text output":
            assert fits(block.text, printed), (
                f"{block.paper}:{block.line} shows\n{block.text}\nbut:\n{printed}"
            )
        for text, act in after.items():
            if text in block.text:
                act(printed)


def printed_parts(printed: str) -> dict[str, str]:
    """What `fraisier init --service` prints, by the heads of its parts."""
    parts = re.split(r"^# ---- \d\. (.*?) ----\n", printed, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


class Start:
    """What getting-started.md asks for between its blocks."""

    def __init__(self, town: Town) -> None:
        self.town = town

    def describe(self, _: str) -> None:
        """The file that `fraisier init` wrote ends up as the page shows it."""
        (shown,) = [block for block in paper(START) if block.info == "yaml"]
        self.town.server.write("/home/anna/orders/fraises.yaml", shown.text)

    def install(self, printed: str) -> None:
        """Run the commands, and put the files where their heads say."""
        parts = printed_parts(printed)
        self.town.shell(f"set -e\n{parts['User, folders and secrets: run this once']}")
        for path in (UNIT, RULE):
            self.town.server.write(path, parts[path])
        # the forge is told the secret
        self.town.server.run("install -o git -m 600 /etc/fraisier/secrets.env /home/git/secrets.env")

    def authorise(self, _: str) -> None:
        """The public key becomes a deploy key."""
        self.town.authorise("/var/lib/fraisier/deploy_key.pub")

    def proxy(self, _: str) -> None:
        """The lines for nginx become part of one."""
        (location,) = [block for block in paper(START) if block.language == "nginx"]
        site = f"server {{ listen 80;\n{location.text}}}\n"
        self.town.server.write("/etc/nginx/sites-enabled/default", site)
        self.town.server.run("nginx -t && systemctl restart nginx")

    def trust(self, _: str) -> None:
        """The proxy's line goes into the configuration."""
        (part,) = [block for block in paper(START) if block.info == "yaml config-part"]
        text = self.town.server.run("cat /etc/fraisier/fraises.yaml").stdout
        self.town.server.write("/etc/fraisier/fraises.yaml", text + part.text)
        self.town.shell("sudo -u fraisier fraisier config validate && sudo systemctl reload fraisier")
        self.town.shell("cd ~/orders && sed -i 's/1.0/1.1/' pyproject.toml && git commit -qam second")


@pytest.fixture(scope="module")
def town(server: Server) -> Town:
    """The server, after getting-started.md was followed."""
    made = Town(server)
    made.set_up()
    start = Start(made)
    walk(
        made,
        paper(START),
        {
            "fraisier init\n": start.describe,
            "init --service": start.install,
            "ssh-keygen -q": start.authorise,
            "location = /webhook": start.proxy,
            "trusted_proxies": start.trust,
        },
    )
    return made


def test_a_new_user_gets_from_nothing_to_a_push_that_deploys(town: Town) -> None:
    history = town.fraisier("history")
    assert re.search(r"success .*webhook", history), history
    assert re.search(r"success .*rollback", history), history
    assert "1.0" in town.shell("curl -fsS http://127.0.0.1:8000/health")


MORE = """
sweep_interval: 0
fraises:
  orders:
    environments:
      production: {health_check: {timeout: 5}}
      staging: {branch: develop, app_path: /var/www/orders-staging, user: orders}
"""


@pytest.fixture(scope="module")
def base(town: Town) -> str:
    """The configuration that getting-started.md ends with, and a staging environment."""
    town.server.run("install -d -o fraisier -g fraisier /var/www/orders-staging")
    return merged(town.server.run(f"cat {CONFIG}").stdout, MORE)


@pytest.fixture(scope="module")
def two_environments(town: Town, base: str) -> Town:
    """The server with both, and something to go back from."""
    town.configure(base)
    town.fraisier("deploy orders staging")
    town.fraisier("deploy orders production")
    return town


@pytest.mark.parametrize(
    "name",
    ["README.md", "operating.md", "deployment-api.md", "troubleshooting.md", "schema.md", "fraiseql.md"],
)
def test_what_a_page_shows_works(two_environments: Town, name: str) -> None:
    walk(two_environments, paper(name), {})


@pytest.mark.parametrize("forge", ["github", "gitlab", "gitea", "bitbucket"])
def test_deliveries_are_tested_as_a_page_shows(two_environments: Town, base: str, forge: str) -> None:
    town, page = two_environments, paper(f"setup-{forge}.md")
    town.server.run(f"cp /etc/ssl/certs/ca-certificates.crt {CONFIG.rpartition('/')[0]}/our-ca.pem")
    parts = [block.text for block in page if block.info == "yaml config-part"]

    def configure(part: str) -> Callable[[str], None]:
        return lambda _: town.configure(base, part)

    walk(town, page, {part: configure(part) for part in parts})


WHAT_IS_BACKED_UP = """
install -d -o orders /var/lib/orders /var/lib/orders/uploads
runuser -u orders -- sh -c 'echo cat >/var/lib/orders/uploads/cat.txt'
runuser -u orders -- python3 -c 'import sqlite3
with sqlite3.connect("/var/lib/orders/notes.db") as notes:
    notes.execute("CREATE TABLE IF NOT EXISTS notes (text)")
    notes.execute("INSERT INTO notes VALUES (1)")'
"""
QUICK = {"nightly": "fraises: {nightly: {environments: {production: {retry_delay: 1s}}}}"}


def configured(base: str, block: Block) -> str:
    """`base`, and a page's fraise, which is fetched like the orders."""
    name, page = block.words["fraise"], yaml.safe_load(whole(block))
    orders = yaml.safe_load(base)["fraises"]["orders"]
    access = {key: orders[key] for key in ("clone_url", "clone_key", "known_hosts")}
    if "repository" not in page["fraises"][name]:
        access = {}
    more = {"fraises": {name: access | page["fraises"][name]}}
    return merged(base, yaml.safe_dump(more), QUICK.get(name, "{}"))


@pytest.mark.parametrize("name", ["deployment-etl.md", "deployment-scheduled.md", "deployment-backup.md"])
def test_other_types_do_as_their_pages_show(two_environments: Town, base: str, name: str) -> None:
    town, page = two_environments, paper(name)
    part = next(block for block in page if "fraise" in block.words)

    def configure(_: str) -> None:
        town.server.run(WHAT_IS_BACKED_UP)
        town.configure(configured(base, part))

    def install(printed: str) -> None:
        """The program that writes units, and the rule, which now has other units."""
        service = printed_parts(printed)
        town.shell(f"set -e\n{service['What writes the timers of jobs: run this once']}")
        town.server.write(RULE, service[RULE])

    walk(town, page, {part.text: configure, "init --service": install})


def test_the_database_moves_to_postgresql(two_environments: Town, base: str) -> None:
    town, page = two_environments, paper("database.md")
    town.configure(base)
    (part,) = [block for block in page if block.info == "yaml config-part"]

    def write(_: str) -> None:
        """PostgreSQL as the page asks for it, and its address in fraises.yaml."""
        run = town.server.run
        run("systemctl unmask postgresql; pg_ctlcluster 15 main start || pg_createcluster 15 main --start")
        run(f"echo DB_PASSWORD=a-password >>{SECRETS}; echo '127.0.0.1 db.example.com' >>/etc/hosts")
        run("""runuser -u postgres -- psql -qc "CREATE ROLE fraisier LOGIN PASSWORD 'a-password'" """)
        created = "createdb --owner fraisier --encoding UTF8 --template template0 fraisier"
        assert created in (ROOT / "docs" / "database.md").read_text().replace("\n", " ")
        run(f"runuser -u postgres -- {created}")
        town.shell("cd ~/fraisier && sudo /opt/fraisier/bin/pip install '.[postgres]'")
        town.server.write(CONFIG, merged(base, part.text))

    before = town.fraisier("history")
    walk(town, page, {"database: {url:": write})
    assert town.fraisier("history") == before
    town.wait_until_ready()
