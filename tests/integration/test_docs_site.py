"""The documentation is a site that builds without a warning and without a network, and notices what is wrong."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_LOADED = re.compile(r"<(?:script|img|link|iframe|source)\b[^>]*?(?:src|href)=\"?(https?:)?//")
# A network namespace with nothing in it, where one may be made: then whatever is fetched fails.
_ALONE = ("unshare", "--net") if os.geteuid() == 0 and shutil.which("unshare") else ()


def build(project: Path, site: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    argv = (*_ALONE, sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site))
    return subprocess.run(argv, cwd=project, env=env, capture_output=True, text=True, check=False)


def test_the_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    built = build(ROOT, tmp_path / "site")
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert {"index.html", "cli.html", "configuration.html", "CHANGELOG.html"} <= {page.name for page in pages}
    loading = [page.name for page in pages if _LOADED.search(page.read_text(encoding="utf-8"))]
    assert loading == []


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of what the site is made of."""
    for name in ("docs", "tools", "db"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("mkdocs.yml", "CONTRIBUTING.md", "CHANGELOG.md", "fraises.example.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("[there](nowhere.md)", "nowhere.md"),
        ("[there](cli.md#no-such-command)", "no-such-command"),
        ("[here](#no-such-heading)", "no-such-heading"),
        ("![picture](images/nothing.svg)", "nothing.svg"),
        ("[outside](../no-such-paper.md)", "no-such-paper.md"),
    ],
)
def test_a_link_that_leads_nowhere_fails_the_build(copy: Path, wrong: str, said: str) -> None:
    with (copy / "docs" / "operating.md").open("a", encoding="utf-8") as page:
        page.write(f"\n{wrong}\n")
    built = build(copy, copy / "site")
    assert built.returncode != 0
    assert said in built.stderr


def test_a_page_that_the_navigation_lacks_fails_the_build(copy: Path) -> None:
    (copy / "docs" / "forgotten.md").write_text("# Forgotten\n", encoding="utf-8")
    built = build(copy, copy / "site")
    assert built.returncode != 0
    assert "forgotten.md" in built.stderr
