"""The demo's forge, as far as Fraisier notices it: tells of a push as Gitea does, signed.

git runs it in the bare repository after a push, with a line `<before> <after> <ref>` per ref.
https://docs.gitea.com/usage/webhooks
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import sys
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any

PATIENCE = 10.0  # seconds; Gitea itself gives up after 5


def payload(repository: str, before: str, after: str, ref: str) -> dict[str, Any]:
    """What Gitea tells of a push."""
    owner, _, name = repository.partition("/")
    person = {"login": "you", "username": "you", "full_name": "", "email": "you@example.com"}
    return {
        "ref": ref,
        "before": before,
        "after": after,
        "compare_url": "",
        "commits": [],
        "total_commits": 0,
        "head_commit": None,
        "repository": {"id": 1, "owner": {"login": owner}, "name": name, "full_name": repository},
        "pusher": person,
        "sender": person,
    }


def send(url: str, secret: str, document: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Sign and send one delivery; returns the status and the answer."""
    body = json.dumps(document, indent=2).encode()
    headers = {
        "Content-Type": "application/json",
        "X-Gitea-Event": "push",
        "X-Gitea-Delivery": str(uuid.uuid4()),
        "X-Gitea-Signature": hmac.new(secret.encode(), body, hashlib.sha256).hexdigest(),
    }
    request = urllib.request.Request(url, data=body, headers=headers)  # noqa: S310 - our own http:// URL
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(request, timeout=PATIENCE) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        return refused.code, json.load(refused)


def main() -> None:
    """Tell Fraisier of every ref that was pushed; git shows what we print to whoever pushes."""
    hook = json.loads((Path(os.environ["GIT_DIR"]) / "webhook.json").read_text(encoding="utf-8"))
    for line in sys.stdin:
        before, after, ref = line.split()
        status, answer = send(hook["url"], hook["secret"], payload(hook["repository"], before, after, ref))
        for deployment in answer.get("deployments", []):
            where = f"{deployment['fraise']}/{deployment['environment']}"
            print(f"webhook: {status} {answer['status']}, deployment {deployment['id'][:8]} of {where}")
        if not answer.get("deployments"):
            print(f"webhook: {status} {json.dumps(answer)}")


if __name__ == "__main__":
    main()
