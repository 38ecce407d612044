"""The package of the ports hands out every name of its files, and loads no file that is not needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from fraisier.application import ports

FILES = sorted(path for path in Path(ports.__path__[0]).glob("*.py") if path.name != "__init__.py")


def public_names(file: Path) -> set[str]:
    found = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return {name for name in found if not name.startswith("_")}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_whatever_a_file_defines_the_package_has(file: Path) -> None:
    names = public_names(file)
    assert names
    assert names <= set(ports.__all__)


def test_the_package_has_whatever_it_says() -> None:
    assert [name for name in ports.__all__ if not hasattr(ports, name)] == []


def test_checkers_are_told_the_same_names() -> None:
    tree = ast.parse((Path(ports.__path__[0]) / "__init__.py").read_text())
    imports = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
    told = {alias.asname for node in imports for alias in node.names if alias.asname}
    assert told == set(ports.__all__)


def test_the_store_does_not_load_what_only_deployments_need() -> None:
    code = (
        "import sys, fraisier.database.sqlite; p = 'fraisier.application.ports.'\n"
        "print(*sorted(name.removeprefix(p) for name in sys.modules if name.startswith(p)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()).isdisjoint({"host", "processes", "repository", "target", "health"})
