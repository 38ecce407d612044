"""Reads schema/py/, where the GraphQL schema is authored, and gives what fraiseql makes of it."""

from __future__ import annotations

import inspect
import sys
from importlib import import_module, util
from pathlib import Path
from typing import Any

from fraisier.domain.errors import UsageError
from fraisier.domain.extras import how_to_install

_PACKAGE = "fraisier_schema"  # the name that schema/py/ is imported under


def schema_folder() -> Path:
    """`schema/py` beside the package in a checkout, `fraisier/_schema/py` where it is installed."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "_schema" / "py"
    return installed if installed.is_dir() else package.parent / "schema" / "py"


def authored_schema() -> dict[str, Any]:
    """The whole schema, as `fraiseql-cli compile` takes it.

    fraiseql keeps one registry for the process: it is emptied first, so that nothing else gets in.

    Raises:
        UsageError: the package fraiseql is not installed.
    """
    try:
        import fraiseql
    except ImportError as error:
        message = "cannot export the GraphQL schema: the package fraiseql is not installed"
        raise UsageError(message, how_to_install("graphql-schema")) from error
    fraiseql.SchemaRegistry.clear()
    for name in [each for each in sys.modules if each.partition(".")[0] == _PACKAGE]:
        del sys.modules[name]
    folder = schema_folder()
    spec = util.spec_from_file_location(
        _PACKAGE, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        message = f"cannot read the GraphQL schema in {folder}"
        raise UsageError(message, "Install Fraisier again")
    package = util.module_from_spec(spec)
    sys.modules[_PACKAGE] = package
    spec.loader.exec_module(package)
    import_module(f"{_PACKAGE}.resolvers")
    return _dedented(fraiseql.get_schema_dict())


def _dedented(schema: dict[str, Any]) -> dict[str, Any]:
    """Descriptions come from docstrings as they stand in the code; readers of the API need no indentation."""
    for elements in schema.values():
        for each in elements if isinstance(elements, list) else ():
            if each.get("description"):
                each["description"] = inspect.cleandoc(each["description"])
    return schema
