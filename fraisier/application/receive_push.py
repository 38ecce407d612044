"""The verb of the receiver: is a delivery authentic, whose is it, and what does it ask for?

Everything authentic is recorded, also what asks for nothing. Nothing of the body is parsed before one of
our secrets has signed it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from fraisier.application.ports import (
    Clock,
    Configuration,
    Delivery,
    Forge,
    ForgeInstance,
    Headers,
    Received,
)
from fraisier.application.routing import branches
from fraisier.domain.deployment import Trigger, Wish
from fraisier.domain.errors import BadSignature, NotFound
from fraisier.domain.fraise import Environment, EnvironmentKey
from fraisier.domain.push import Change, EventKind, Push, RefKind

# Before Python 3.12 looking up an enum's member is a call, five times as dear as a name of the module.
_BRANCH, _PUSH, _WEBHOOK = RefKind.branch, EventKind.push, Trigger.webhook

Record = Callable[[Delivery], Awaitable[Received]]
"""Stores a delivery; resolves after the commit. Raises StoreUnavailable: nothing was stored."""

FindForge = Callable[[Headers, Mapping[str, Forge]], str]
"""The brand that sent these headers. Raises UnknownForge: none did, or more than one."""


class Letter(NamedTuple):
    """A delivery as it arrived. `addressed_to` is the forge that its URL names, '' = look at the headers."""

    headers: Headers
    body: bytes
    addressed_to: str = ""
    remote: str = ""


class _Grant(NamedTuple):
    """What a matching secret allows: all fraises of a forge instance, or (`fraises`) only these."""

    instance: ForgeInstance
    fraises: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class _Follower:
    """An environment, and the branches that it gets: by `routes`, else its own (None: it follows tags)."""

    key: EnvironmentKey
    environment: Environment
    branches: frozenset[str] | None

    def follows(self, change: Change) -> bool:
        if self.branches is not None and change.kind is _BRANCH:
            return change.name in self.branches
        return self.environment.follows(change)

    def last(self, changes: Iterable[Change]) -> Change | None:
        """The last of the changes that the environment is to be brought to."""
        found = None
        for change in changes:
            if change.commit and not change.deleted and self.follows(change):
                found = change
        return found


class ReceivePush:
    """Verify, parse, route, record: `received = await record(read(letter))`.

    Two calls, because reading is work for a processor and recording is waiting for a disk. `read` is safe to
    call from several threads, also during `reconfigure`.
    """

    def __init__(
        self,
        configuration: Configuration,
        *,
        forges: Mapping[str, Forge],
        find_forge: FindForge,
        record: Record,
        clock: Clock,
    ) -> None:
        self._forges = forges
        self._find_forge = find_forge
        self.record = record
        self._clock = clock
        self._directory = _Directory.of(configuration, forges)

    @property
    def configuration(self) -> Configuration:
        """The configuration that deliveries are routed by now."""
        return self._directory.configuration

    def reconfigure(self, configuration: Configuration) -> None:
        """Route by another configuration: a delivery sees the old one or the new one, never a mixture."""
        self._directory = _Directory.of(configuration, self._forges)

    def knows(self, name: str) -> bool:
        """Whether `name` is a configured forge instance or a brand."""
        return name in self._directory.instances

    def providers(self) -> tuple[ForgeInstance, ...]:
        """The configured forge instances."""
        return self.configuration.settings.forges

    def unknown(self, name: str) -> NotFound:
        """What to raise for a name that is neither a configured forge nor a brand."""
        known = ", ".join(sorted(self._directory.instances))
        return NotFound(f"cannot find the forge {name[:100]!r}", f"This server knows {known}")

    def read(self, letter: Letter) -> Delivery:
        """An authentic delivery with the deployments that it asks for.

        Raises:
            UnknownForge: the headers are those of no forge, or of several.
            NotFound: `addressed_to` names none.
            BadSignature: none of our secrets signed it.
            MalformedDelivery, UnsupportedMediaType: it is signed, but not what the forge documents.
        """
        directory = self._directory
        now = self._clock.now()
        grants = self._grants(directory, letter, now)
        push = self._forges[grants[0].instance.kind].parse(letter.headers, letter.body)
        wishes, reason = directory.route(push, grants)
        return Delivery(
            push=push,
            payload=letter.body,
            received_at=now,
            remote=letter.remote,
            wishes=wishes,
            reason=reason,
        )

    def _grants(self, directory: _Directory, letter: Letter, now: float) -> list[_Grant]:
        grants: list[_Grant] = []
        why: tuple[str, ...] = ()
        for instance in self._addressees(directory, letter):
            try:
                grants.append(self._grant(directory, instance, letter, now))
            except BadSignature as error:
                # Its words only: an error that this frame keeps would keep this frame, and the body with it,
                # until the garbage collector comes. By then a sender of large ones has used up all memory.
                why = why or (error.message, error.hint)
        if grants:
            return grants
        raise BadSignature(*why or ("cannot verify the delivery: no secret is configured for this forge",))

    def _addressees(self, directory: _Directory, letter: Letter) -> tuple[ForgeInstance, ...]:
        if not letter.addressed_to:
            brand = self._find_forge(letter.headers, self._forges)
            return directory.brands[brand]
        found = directory.instances.get(letter.addressed_to)
        if not found:
            raise self.unknown(letter.addressed_to)
        self._refuse_mixture(letter.headers)
        return found

    def _refuse_mixture(self, headers: Headers) -> None:
        """Headers of several forges are no delivery of any, wherever they are addressed to."""
        if not any(forge.recognises(headers) for forge in self._forges.values()):
            return
        self._find_forge(headers, self._forges)

    def _grant(self, directory: _Directory, instance: ForgeInstance, letter: Letter, now: float) -> _Grant:
        """The forge's secrets speak for all of its fraises, a fraise's own only for that fraise."""
        verify = partial(self._forges[instance.kind].verify, letter.headers, letter.body, now=now)
        try:
            verify(instance.secrets)
        except BadSignature:
            owners = _owners(directory.own_secrets.get(instance.name, ()), verify)
            if not owners:
                raise
            return _Grant(instance, owners)
        return _Grant(instance)


def _owners(
    own: Sequence[tuple[bytes, frozenset[str]]], verify: Callable[[Sequence[bytes]], None]
) -> frozenset[str]:
    """The fraises whose own secret signed it. All are tried at once first: a forgery, which may be large,
    is read once and not once for each fraise."""
    owners: frozenset[str] = frozenset()
    with suppress(BadSignature):
        verify([secret for secret, _ in own])
        for secret, fraises in own:
            with suppress(BadSignature):
                verify((secret,))
                owners |= fraises
    return owners


@dataclass(frozen=True, slots=True, kw_only=True)
class _Directory:
    """What one configuration means to the receiver; replaced as a whole."""

    configuration: Configuration
    instances: Mapping[str, tuple[ForgeInstance, ...]]  # by instance name and by brand
    brands: Mapping[str, tuple[ForgeInstance, ...]]  # by brand alone
    own_secrets: Mapping[str, tuple[tuple[bytes, frozenset[str]], ...]]  # by instance: secret, its fraises
    followers: Mapping[tuple[str, str], tuple[_Follower, ...]]  # by instance and repository

    @classmethod
    def of(cls, configuration: Configuration, forges: Iterable[str]) -> _Directory:
        instances = _instances(configuration.settings.forges, forges)
        return cls(
            configuration=configuration,
            instances=instances,
            brands={
                brand: tuple(each for each in instances[brand] if each.kind == brand) for brand in forges
            },
            own_secrets=_own_secrets(configuration),
            followers=_followers(configuration),
        )

    def route(self, push: Push, grants: Iterable[_Grant]) -> tuple[tuple[Wish, ...], str]:
        """The deployments that a push asks for, one per environment, or why it asks for none."""
        if push.kind is not _PUSH:
            return (), push.reason or ("" if push.kind is EventKind.ping else "event_not_a_push")
        if not push.changes:
            return (), push.reason or "no_changes"
        wishes: list[Wish] = []
        known = forbidden = False
        for grant in grants:
            for follower in self.followers.get(_address(grant.instance.name, push.repository), ()):
                known = True
                if grant.fraises is not None and follower.key.fraise not in grant.fraises:
                    forbidden = True
                    continue
                change = follower.last(push.changes)
                if change is not None:
                    wishes.append(_wish(follower.key, change, push))
        if wishes:
            return tuple(wishes), ""
        if not known:
            return (), "repository_not_configured"
        if all(change.deleted or not change.commit for change in push.changes):
            return (), "deleted"
        return (), "secret_of_another_fraise" if forbidden else "ref_not_followed"


def _wish(environment: EnvironmentKey, change: Change, push: Push) -> Wish:
    return Wish(
        environment=environment,
        ref=change.ref,
        trigger=_WEBHOOK,
        commit=change.commit,
        tip=change.commit,
        requested_by=push.sender,
    )


def _address(instance: str, repository: str) -> tuple[str, str]:
    """Where a repository is. The forges treat names that differ only in case as one repository."""
    return instance, repository.casefold()


def _instances(
    configured: Iterable[ForgeInstance], brands: Iterable[str]
) -> dict[str, tuple[ForgeInstance, ...]]:
    """By name and by brand. A brand that is not configured has no secret, so it refuses everything."""
    found: dict[str, tuple[ForgeInstance, ...]] = {}
    for instance in configured:
        for name in {instance.name, instance.kind}:
            found[name] = (*found.get(name, ()), instance)
    for brand in brands:
        found.setdefault(brand, (ForgeInstance(name=brand, kind=brand),))
    return found


def _own_secrets(configuration: Configuration) -> dict[str, tuple[tuple[bytes, frozenset[str]], ...]]:
    owners: dict[str, dict[bytes, frozenset[str]]] = {}
    for name, secrets in configuration.settings.fraise_secrets.items():
        fraise = configuration.fraises[name]
        known = owners.setdefault(fraise.source.forge, {})
        for secret in secrets:
            known[secret] = known.get(secret, frozenset()) | {name}
    return {forge: tuple(known.items()) for forge, known in owners.items()}


def _followers(configuration: Configuration) -> dict[tuple[str, str], tuple[_Follower, ...]]:
    followed = branches(configuration)
    found: dict[tuple[str, str], tuple[_Follower, ...]] = {}
    for key, environment in configuration.environments.items():
        address = _address(environment.source.forge, environment.source.repository)
        follower = _Follower(key, environment, followed.get(key))
        found[address] = (*found.get(address, ()), follower)
    return found
