"""A small `fraises.yaml` without a fault, from which tests make others."""

from __future__ import annotations

GOOD = """\
git: {github: {webhook_secret: s3cr3t-of-the-forge}}
fraises:
  api:
    repository: acme/orders
    environments:
      production:
        branch: main
        app_path: /var/www/orders
"""


def in_environment(*lines: str) -> str:
    """GOOD with more lines in its environment: from line 9 on, where keys begin in column 9."""
    return GOOD + "".join(f"        {line}\n" for line in lines)


def in_fraise(*lines: str, text: str = GOOD) -> str:
    """`text` with more lines in its fraise: from line 4 on, where keys begin in column 5."""
    return text.replace("    repository", "".join(f"    {line}\n" for line in lines) + "    repository")
