"""The fenced blocks of the project's papers, and what the words behind a fence say about them.

sh                     is run on the documentation's server (tests/e2e/test_docs.py), as a person who may sudo;
                       every line has to succeed
sh as=USER             as that user
sh in=FOLDER           in that folder of theirs, instead of their home
sh exit=N              the last command ends with this status
sh id=TEXT             TEXT stands for the id of the newest deployment
sh waiting=TEXT        TEXT stands for the id of a deployment that waits
sh not-run             is not run: another machine, a terminal, minutes. Parsed by `sh -n`, its `fraisier …` lines
                       by the real command line, like those of all others
text output            what the block before it printed, among other lines; `…` stands for anything
yaml                   a whole fraises.yaml
yaml environment       one environment
yaml fraise            one fraise
yaml config-part       some keys of the top
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
PAPERS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
# Of lists, too: indented fences are blocks as well.
BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a paper; `info` is what stands behind the fence, e.g. `yaml environment`."""

    paper: str
    line: int
    info: str
    text: str

    def __str__(self) -> str:
        return f"{self.paper}:{self.text.strip().splitlines()[0][:40]}"

    @property
    def language(self) -> str:
        """The first word behind the fence."""
        return self.info.split(" ")[0]

    @property
    def words(self) -> dict[str, str]:
        """The other words; `name=value`, or a name alone."""
        return {name: value for name, _, value in (word.partition("=") for word in self.info.split(" ")[1:])}


def blocks_of(paper: Path) -> list[Block]:
    """All of a paper's blocks, in its order."""
    text = paper.read_text(encoding="utf-8")
    found = []
    for match in BLOCK.finditer(text):
        inner = re.sub(f"^{match['indent']}", "", match["text"], flags=re.MULTILINE)
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(paper.name, line, match["info"].strip(), inner))
    return found


def blocks(language: str) -> list[Block]:
    """The blocks of all papers in that language."""
    return [block for paper in PAPERS for block in blocks_of(paper) if block.language == language]


def whole(block: Block) -> str:
    """The configuration that a part, marked as one, would be a part of."""
    told = block.words
    if not told:
        return block.text
    part: dict[str, Any] = yaml.safe_load(block.text)
    environment: dict[str, Any] = {"branch": "main", "app_path": "/var/www/orders"}
    fraise: dict[str, Any] = {"repository": "acme/orders", "environments": {"production": environment}}
    top: dict[str, Any] = {"git": {"provider": "github", "github": {}}, "fraises": {"orders": fraise}}
    if "environment" in told:
        fraise["environments"] = {"production": part}
    elif name := told.get("fraise"):
        top["fraises"] = {name: part}
    else:
        assert "config-part" in told, "mark a part as `config-part`, `fraise=NAME` or `environment`"
        top |= part
    return yaml.safe_dump(top)
