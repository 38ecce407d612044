"""Signed deliveries of every forge, as the forge itself would send them, for any test that needs one.

delivery = sign("github", fixture("github"), SECRET)
client.post("/webhook", content=delivery.body, headers=delivery.headers)
GitHub().parse(delivery.raw_headers, delivery.body)
"""

from __future__ import annotations

import base64
import hmac
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

from fraisier.application.ports import Forge, Headers
from fraisier.git.bitbucket import Bitbucket
from fraisier.git.bitbucket_server import BitbucketServer
from fraisier.git.gitea import Gitea
from fraisier.git.github import GitHub
from fraisier.git.gitlab import GitLab

FIXTURES = Path(__file__).parent.parent / "fixtures"
SECRET = b"It's a Secret to Everybody"
SIGNING_TOKEN = b"whsec_" + base64.b64encode(bytes(range(32)))
JSON, FORM = "application/json", "application/x-www-form-urlencoded"
NOW = 1_790_000_000.0  # the time at which signed timestamps were made, Unix seconds
_ESCAPED = [quote_plus(bytes((byte,))).encode() for byte in range(256)]  # as in a form, for each byte
KINDS = ("github", "gitlab", "gitea", "bitbucket", "bitbucket_server")

# What each forge calls a push.
PUSH_EVENTS = {
    "github": "push",
    "gitlab": "Push Hook",
    "gitea": "push",
    "forgejo": "push",
    "gogs": "push",
    "bitbucket": "repo:push",
    "bitbucket_server": "repo:refs_changed",
}


def forges() -> dict[str, Forge]:
    """The forges that Fraisier brings, by their kind."""
    return {forge.kind: forge for forge in (GitHub(), GitLab(), Gitea(), Bitbucket(), BitbucketServer())}


@dataclass(frozen=True)
class SignedDelivery:
    """What goes over the wire: `headers` as sent, `body` as signed."""

    headers: Mapping[str, str]
    body: bytes

    @property
    def raw_headers(self) -> Headers:
        """As the receiver hands them to a forge."""
        return {name.lower(): (value.encode(),) for name, value in self.headers.items()}

    def with_headers(self, **changes: str | None) -> SignedDelivery:
        """Other values for some headers (underscores stand for dashes); None takes one away."""
        named = {name.replace("_", "-").lower(): value for name, value in changes.items()}
        kept = {name: value for name, value in self.headers.items() if name.lower() not in named}
        return replace(
            self, headers=kept | {name: value for name, value in named.items() if value is not None}
        )


def fixture(name: str) -> dict[str, Any]:
    """The payload in `tests/fixtures/<name>_webhook_payload.json`, e.g. `github` or `gitlab_tag`."""
    payload: dict[str, Any] = json.loads((FIXTURES / f"{name}_webhook_payload.json").read_text())
    return payload


def sign(
    forge: str,
    payload: Any,
    secret: bytes = SECRET,
    *,
    event: str = "",
    delivery_id: str = "",
    form: bool = False,
) -> SignedDelivery:
    """A delivery of `forge`: one of KINDS, or `forgejo`, `gogs`, `ghes`, `gitlab_signed`.

    `payload` is a JSON value, or bytes that are sent as they are. Left out, `event` is a push and
    `delivery_id` a new one.
    """
    text = payload if isinstance(payload, bytes) else json.dumps(payload, separators=(",", ":")).encode()
    body = b"payload=" + b"".join(map(_ESCAPED.__getitem__, text)) if form else text
    name = event or PUSH_EVENTS.get(forge, PUSH_EVENTS.get(_KIN.get(forge, ""), ""))
    message = Message(name, delivery_id or str(uuid.uuid4()), body, text, secret)
    headers = {"Content-Type": FORM if form else JSON, "User-Agent": f"{forge}-hookshot/1"}
    return SignedDelivery(headers | _HEADERS[forge](message), body)


def github_push(
    commit: str, *, branch: str = "main", before: str = "0" * 40, delivery_id: str = ""
) -> SignedDelivery:
    """The push of a commit to acme/orders, with no more in it than Fraisier reads."""
    payload = {
        "ref": f"refs/heads/{branch}",
        "before": before,
        "after": commit,
        "created": False,
        "deleted": False,
        "forced": False,
        "repository": {"full_name": "acme/orders"},
        "sender": {"login": "ada"},
        "head_commit": {"id": commit},
        "commits": [],
    }
    return sign("github", payload, delivery_id=delivery_id)


@dataclass(frozen=True)
class Message:
    """What the headers are made of. `inner` is the JSON, also where `body` is a form."""

    event: str
    delivery_id: str
    body: bytes
    inner: bytes
    secret: bytes

    def digest(self, text: bytes, algorithm: str = "sha256") -> str:
        """The HMAC of `text` in hexadecimal."""
        return hmac.digest(self.secret, text, algorithm).hex()


def _github(message: Message) -> dict[str, str]:
    return {
        "X-GitHub-Event": message.event,
        "X-GitHub-Delivery": message.delivery_id,
        "X-GitHub-Hook-ID": "292430182",
        "X-GitHub-Hook-Installation-Target-ID": "79929171",
        "X-GitHub-Hook-Installation-Target-Type": "repository",
        "X-Hub-Signature": "sha1=" + message.digest(message.body, "sha1"),
        "X-Hub-Signature-256": "sha256=" + message.digest(message.body),
    }


def _ghes(message: Message) -> dict[str, str]:
    return _github(message) | {
        "X-GitHub-Enterprise-Host": "github.example.com",
        "X-GitHub-Enterprise-Version": "3.17.0",
    }


def _gitlab(message: Message) -> dict[str, str]:
    return {
        "X-Gitlab-Event": message.event,
        "X-Gitlab-Token": message.secret.decode(),
        "X-Gitlab-Instance": "https://gitlab.example.com",
        "X-Gitlab-Webhook-UUID": "02affd2d-2cba-4033-917d-ec22d5dc4b38",
        "X-Gitlab-Event-UUID": str(uuid.uuid5(uuid.NAMESPACE_OID, message.delivery_id)),
        "Idempotency-Key": message.delivery_id,
    }


def _gitlab_signed(message: Message) -> dict[str, str]:
    key = base64.b64decode(message.secret.removeprefix(b"whsec_"))
    stamp = str(int(NOW))
    signed = b"%b.%b.%b" % (message.delivery_id.encode(), stamp.encode(), message.body)
    headers = _gitlab(message) | {
        "webhook-id": message.delivery_id,
        "webhook-timestamp": stamp,
        "webhook-signature": "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode(),
    }
    del headers["X-Gitlab-Token"]
    return headers


def _gogs(message: Message) -> dict[str, str]:
    return {
        "X-Gogs-Event": message.event,
        "X-Gogs-Delivery": message.delivery_id,
        "X-Gogs-Signature": message.digest(message.inner),
    }


def _gitea(message: Message) -> dict[str, str]:
    return _gogs(message) | {
        "X-Gitea-Event": message.event,
        "X-Gitea-Event-Type": message.event,
        "X-Gitea-Delivery": message.delivery_id,
        "X-Gitea-Signature": message.digest(message.inner),
        "X-GitHub-Event": message.event,
        "X-GitHub-Event-Type": message.event,
        "X-GitHub-Delivery": message.delivery_id,
        "X-Hub-Signature": "sha1=" + message.digest(message.inner, "sha1"),
        "X-Hub-Signature-256": "sha256=" + message.digest(message.inner),
    }


def _forgejo(message: Message) -> dict[str, str]:
    return _gitea(message) | {
        "X-Forgejo-Event": message.event,
        "X-Forgejo-Event-Type": message.event,
        "X-Forgejo-Delivery": message.delivery_id,
        "X-Forgejo-Signature": message.digest(message.inner),
    }


def _bitbucket(message: Message) -> dict[str, str]:
    return {
        "X-Event-Key": message.event,
        "X-Hook-UUID": "{7d0b2a4e-7b5c-4a7e-8d63-9a7f5c2f6e10}",
        "X-Request-UUID": message.delivery_id,
        "X-Attempt-Number": "1",
        "X-Hub-Signature": "sha256=" + message.digest(message.body),
    }


def _bitbucket_server(message: Message) -> dict[str, str]:
    return {
        "X-Event-Key": message.event,
        "X-Request-Id": message.delivery_id,
        "X-Hub-Signature": "sha256=" + message.digest(message.body),
    }


_KIN = {"ghes": "github", "gitlab_signed": "gitlab"}
_HEADERS: Mapping[str, Callable[[Message], dict[str, str]]] = {
    "github": _github,
    "ghes": _ghes,
    "gitlab": _gitlab,
    "gitlab_signed": _gitlab_signed,
    "gitea": _gitea,
    "forgejo": _forgejo,
    "gogs": _gogs,
    "bitbucket": _bitbucket,
    "bitbucket_server": _bitbucket_server,
}
