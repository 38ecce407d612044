"""What a kind of value needs to read a node: variables, and a place for every problem."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from enum import Enum

from fraisier.config.document import Node
from fraisier.domain.errors import ConfigProblem

_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)\}|\$\{")
_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?\Z", re.DOTALL)
_SECRETIVE = re.compile(
    r"secret|token|passw|passphrase|pwd|credential|private|auth(?!or(?!iz))|cookie|dsn|salt|signing"
    r"|api_?key|access_?key|_key\Z|\Akey\Z",
    re.IGNORECASE,
)


class Variables(Enum):
    """What `${VAR}` means in a value."""

    shown = "replaced; the value is shown and stored, so no variable that sounds like a secret is allowed"
    private = "replaced; the value is never shown"
    path = "replaced; the value names a file"
    shell = "left for the shell"


class Refused(Exception):
    """A node that cannot be used. `at_key` points to the key that names it instead of the value."""

    def __init__(self, node: Node, message: str, *, at_key: bool = False) -> None:
        super().__init__(message)
        self.node, self.message, self.at_key = node, message, at_key


class Unresolvable(Exception):
    """A `${…}` that has no value, or that is written wrongly. The message says which."""


class Reader:
    """Collects problems, resolves variables. One per file.

    `brands` tells the names that plugins add to a group of entry points.
    """

    def __init__(
        self, file: str, environ: Mapping[str, str], *, brands: Callable[[str], Collection[str]]
    ) -> None:
        self.file, self.environ, self.brands = file, environ, brands
        self.problems: list[ConfigProblem] = []

    def report(self, line: int, column: int, message: str) -> None:
        """Keep a problem that has a place but no node."""
        self.problems.append(ConfigProblem(self.file, line, column, message))

    def refuse(self, node: Node, message: str, *, at_key: bool = False) -> None:
        """Keep a problem of a node."""
        line, column = (node.key_line, node.key_column) if at_key else (node.line, node.column)
        self.report(line, column, f"{node.path}: {message}" if node.path else message)

    def keep(self, refused: Refused) -> None:
        """Keep the problem that ended the reading of one value."""
        self.refuse(refused.node, refused.message, at_key=refused.at_key)

    def text(self, node: Node, variables: Variables = Variables.shown, *, secret: bool = False) -> str:
        """The text of a scalar, with its variables replaced.

        Raises:
            Refused: it is no text for YAML, or a variable has no value.
        """
        if node.kind != "scalar" or node.tag != "str":
            raise Refused(
                node, f"{mistaken(node, secret=secret)}; expected text" + _quoting(node, secret=secret)
            )
        return self.resolved(node, variables)

    def resolved(self, node: Node, variables: Variables = Variables.shown) -> str:
        """The text of a scalar of any type, with its variables replaced.

        Raises:
            Refused: a variable has no value, or is not allowed here.
        """
        if variables is Variables.shell or "${" not in node.text:
            return node.text
        try:
            if variables is Variables.shown:
                _refuse_secretive(node)
            return resolve(node.text, self.environ)
        except Unresolvable as error:
            raise Refused(node, str(error)) from None


def _refuse_secretive(node: Node) -> None:
    for name in names(node.text):
        if sounds_secret(name):
            message = f"${{{name}}} sounds like a secret, and this value is shown and stored"
            raise Refused(node, f"{message}; secrets belong into webhook_secret, clone_token, env or headers")


def sounds_secret(name: str) -> bool:
    """Whether the name of a variable or header says that its value must not be seen."""
    return bool(_SECRETIVE.search(name.replace("-", "_")))


def names(text: str) -> list[str]:
    """The variables that `text` refers to."""
    found = (match[1] for match in _REFERENCE.finditer(text) if match[1] is not None)
    return [match[1] for match in map(_NAME.match, found) if match]


def resolve(text: str, environ: Mapping[str, str]) -> str:
    """`text` with `${VAR}` and `${VAR:-default}` replaced; `$${` stands for `${`.

    Raises:
        Unresolvable: a variable is not set and has no default, or the reference is written wrongly.
    """
    return _REFERENCE.sub(lambda match: _value(match, environ), text)


def _value(match: re.Match[str], environ: Mapping[str, str]) -> str:
    if match[0] == "$${":
        return "${"
    named = _NAME.match(match[1]) if match[1] is not None else None
    if named is None:
        allowed = "write ${NAME} or ${NAME:-default}, and $${ for the two characters themselves"
        raise Unresolvable(f"{match[0][:40]} is no reference to a variable; {allowed}")
    name, default = named.groups()
    value = environ.get(name, "")
    if value or (name in environ and default is None):
        return value
    if default is None:
        raise Unresolvable(
            f"${{{name}}} is not set; set {name} where Fraisier is started, or give ${{{name}:-default}}"
        )
    return default


def mistaken(node: Node, *, secret: bool = False) -> str:
    """What YAML takes a node for, as half a sentence. A secret's text is not repeated."""
    if node.kind != "scalar":
        return f"is a {node.kind}"
    shown = "this" if secret else node.text[:60]
    words = {
        "null": "has no value; give one or leave the key out",
        "bool": f"{shown} is yes/no (boolean) for YAML",
        "int": f"{shown} is a number for YAML",
        "float": f"{shown} is a number for YAML",
        "timestamp": f"{shown} is a date for YAML",
        "str": f"{shown!r} is text" if not secret else "is text",
    }
    return words.get(node.tag, f"is {node.tag} for YAML")


def _quoting(node: Node, *, secret: bool) -> str:
    if node.kind != "scalar" or node.tag in ("str", "null"):
        return ""
    return "; put it in quotes" + ("" if secret else f': "{node.text[:60]}"')


def did_you_mean(word: str, known: Collection[str]) -> str:
    """'; did you mean …' with the nearest known word, or ''."""
    from difflib import get_close_matches  # only when something is wrong

    folded = {each.replace("-", "_").lower(): each for each in known}
    near = get_close_matches(word.replace("-", "_").lower(), folded, n=1, cutoff=0.6)
    return f"; did you mean {folded[near[0]]!r}?" if near else ""
