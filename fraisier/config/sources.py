"""Where a fraise's commits come from: its own keys, its forge's, and what the forges document."""

from __future__ import annotations

from typing import Any

from fraisier.config import texts
from fraisier.config.reading import Reader, did_you_mean
from fraisier.config.sections import Parsed
from fraisier.domain.fraise import Source

FORGES = ("github", "gitlab", "gitea", "bitbucket", "bitbucket_server")
_PUBLIC = {
    "github": "https://github.com",
    "gitlab": "https://gitlab.com",
    "bitbucket": "https://bitbucket.org",
}
_SERVER_SSH_PORT = 7999
# The user names that go with a token, from the vendors' pages on cloning with tokens; GitHub, Gitea and
# Forgejo take any.
_TOKEN_USERS = {
    "github": "x-access-token",
    "gitlab": "oauth2",
    "bitbucket": "x-token-auth",
    "bitbucket_server": "x-token-auth",
}


class ForgeKeys:
    """One forge: `git.<name>`, or a brand that is only named."""

    def __init__(self, name: str, parsed: Parsed | None) -> None:
        self.name, self.parsed = name, parsed
        self.kind = _kind(name, parsed)
        self.base_url = ((parsed["base_url"] if parsed else None) or _PUBLIC.get(self.kind, "")).rstrip("/")

    def __getitem__(self, key: str) -> Any:
        return self.parsed[key] if self.parsed else None


def _kind(name: str, parsed: Parsed | None) -> str:
    kind = (parsed["type"] if parsed else None) or name
    is_server = kind == "bitbucket" and parsed is not None and parsed["server"]
    return "bitbucket_server" if is_server else kind


def forges_of(root: Parsed) -> dict[str, ForgeKeys]:
    """The configured forges, and brands that are named without being configured."""
    git = root["git"]
    configured = (
        {name: value for name, value in git.values.items() if isinstance(value, Parsed)} if git else {}
    )
    named = [git["provider"]] if git and git["provider"] else []
    named += [fraise["git_provider"] for fraise in root["fraises"].values() if fraise["git_provider"]]
    brands: dict[str, Parsed | None] = {name: None for name in named if name in FORGES}
    return {name: ForgeKeys(name, parsed) for name, parsed in (brands | configured).items()}


def default_forge(root: Parsed, forges: dict[str, ForgeKeys]) -> str:
    """The forge of fraises that name none; '' where that is open."""
    git = root["git"]
    if git and git["provider"]:
        return str(git["provider"])
    configured = [name for name, forge in forges.items() if forge.parsed]
    return configured[0] if len(configured) == 1 else ""


def source_of(fraise: Parsed, forge: ForgeKeys | None) -> Source:
    """The complete source; `clone_url` is '' where nothing tells it.

    A forge's credentials are defaults: those that do not fit the fraise's URL are left aside.
    """
    key = fraise["clone_key"] or (forge and not fraise["clone_token"] and forge["clone_key"]) or ""
    url = (
        fraise["clone_url"]
        or (forge and _default_url(forge, fraise["repository"] or "", ssh=bool(key)))
        or ""
    )
    ssh = texts.is_ssh(url)
    token = fraise["clone_token"] or (forge["clone_token"] if forge else None)

    def setting(name: str) -> str:
        return fraise[name] or (forge[name] if forge else None) or ""

    kind = forge.kind if forge else ""
    return Source(
        forge=forge.name if forge else "",
        repository=fraise["repository"] or "",
        clone_url=url,
        key=key if ssh else "",
        known_hosts=setting("known_hosts") if ssh else "",
        token=token if url.startswith(("https://", "http://")) else None,
        token_user=setting("clone_token_user") or _TOKEN_USERS.get(kind, "git"),
        ca_file=setting("ca_file"),
        proxy=setting("proxy"),
    )


def _default_url(forge: ForgeKeys, repository: str, *, ssh: bool) -> str:
    if not forge.base_url or not repository:
        return ""
    host = texts.host_of(forge.base_url)
    if forge.kind == "bitbucket_server":
        path = f"{repository}.git"
        return f"ssh://git@{host}:{_SERVER_SSH_PORT}/{path}" if ssh else f"{forge.base_url}/scm/{path}"
    return f"git@{host}:{repository}.git" if ssh else f"{forge.base_url}/{repository}.git"


def check_forges(reader: Reader, forges: dict[str, ForgeKeys], root: Parsed) -> None:
    """Each is of a known brand; `provider` names one."""
    for name, forge in forges.items():
        if forge.parsed is None:
            continue
        at = forge.parsed.at("type")
        if forge.kind not in FORGES and forge.kind not in reader.brands("fraisier.forges"):
            known = sorted({*FORGES, *reader.brands("fraisier.forges")})
            given = forge.parsed.given("type")
            what = (
                f"{forge.kind!r} is no forge"
                if given
                else f"{name} needs a type, which its name does not tell"
            )
            reader.refuse(
                at, f"{what}; expected {', '.join(known)}{did_you_mean(forge.kind, known)}", at_key=not given
            )
        if forge.parsed["secret_token"] and forge.kind in FORGES and forge.kind != "gitlab":
            reader.refuse(
                forge.parsed.at("secret_token"),
                "is what GitLab calls it; expected webhook_secret",
                at_key=True,
            )
        if forge.parsed["server"] and forge.kind != "bitbucket_server":
            reader.refuse(forge.parsed.at("server"), "is for bitbucket only; leave it out", at_key=True)
    git = root["git"]
    if git and git["provider"] and git["provider"] not in forges:
        _unknown_forge(reader, git, "provider", forges)


def check_source(reader: Reader, fraise: Parsed, forges: dict[str, ForgeKeys], default: str) -> None:
    """The forge exists, the URL is known, credentials fit the URL and do not travel in the clear."""
    if not fraise.given("repository") and fraise["type"] != "backup":
        reader.refuse(
            fraise.node, "repository is missing: its path on the forge, e.g. acme/orders", at_key=True
        )
    if fraise["git_provider"] and fraise["git_provider"] not in forges:
        _unknown_forge(reader, fraise, "git_provider", forges)
        return
    name = fraise["git_provider"] or default
    forge = forges.get(name)
    if (name and forge is None) or not fraise["repository"] or _is_bad(fraise, "clone_url"):
        return
    source = source_of(fraise, forge)
    if not source.clone_url:
        if forge and forge.kind not in (*FORGES, *reader.brands("fraisier.forges")):
            return  # the forge's type is wrong, which is told already
        reader.refuse(fraise.node, f"needs clone_url: {_no_url(forge)}", at_key=True)
    elif fraise["clone_key"] and not source.key:
        reader.refuse(
            fraise.at("clone_key"), "is for SSH, but clone_url is none; expected e.g. git@host:path"
        )
    elif fraise["clone_token"] and not source.token:
        reader.refuse(
            fraise.at("clone_token"), "is for https://, but clone_url is none; expected an https:// URL"
        )
    elif source.token and texts.is_clear(source.clone_url):
        message = "would send the token over http:// in the clear; expected an https:// URL"
        reader.refuse(fraise.at("clone_url"), message, at_key=not fraise.given("clone_url"))


def _is_bad(parsed: Parsed, key: str) -> bool:
    return parsed.given(key) and key not in parsed.values


def _no_url(forge: ForgeKeys | None) -> str:
    if forge is None:
        return "no forge is named (git_provider here, or git.provider) that would tell it"
    return f"git.{forge.name} has no base_url that would tell it"


def _unknown_forge(reader: Reader, parsed: Parsed, key: str, forges: dict[str, ForgeKeys]) -> None:
    known = sorted({*forges, *FORGES})
    name = parsed[key]
    message = f"{name!r} is no forge below git; expected one of {', '.join(known)}{did_you_mean(name, known)}"
    reader.refuse(parsed.at(key), message)
