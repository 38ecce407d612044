"""The images of releases: which they are, the tags that keep them, and their end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from fraisier.application.ports import Finished, Host, Workplace
from fraisier.domain.acts import Command
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.release import is_release_name
from fraisier.targets import docker_says
from fraisier.targets.compose_commands import Commands
from fraisier.targets.compose_record import Image, Record, decode, override_path, record_path

_PATIENCE = 30.0  # seconds for a look, or a tag
_REMOVING = 60.0
_PULLING = 3600.0
_IDENTITY = "{{.Id}}\t{{range .RepoDigests}}{{.}} {{end}}"
_NAMES = "{{.Id}}\t{{range .RepoTags}}{{.}} {{end}}"


def all_ids(commands: Commands, host: Host) -> set[str]:
    """Every image on the host.

    Raises:
        StepFailed: host.
    """
    return set(_look(commands.all_images(), host).stdout.decode().split())


def identify(commands: Commands, place: Workplace, images: Sequence[Image]) -> dict[str, Image]:
    """By service, the images with their ids and, where they came from a registry, their digests.

    Raises:
        StepFailed: build, if one is not there.
    """
    asked = place.host.inspect(
        commands.inspect_images(_IDENTITY, [image.source for image in images]), timeout=_PATIENCE
    )
    if asked.code != 0:
        raise docker_says.cannot_pull(asked.stderr)
    lines = asked.stdout.decode().splitlines()
    return {
        image.service: _identified(image, *line.split("\t"))
        for image, line in zip(images, lines, strict=True)
    }


def _identified(image: Image, id_: str, digests: str) -> Image:
    repository = image.source.partition("@")[0]
    head, _, tail = repository.rpartition("/")
    repository = f"{head}/{tail.partition(':')[0]}".lstrip("/")
    ours = (digest for digest in digests.split() if digest.partition("@")[0] == repository)
    return replace(image, id=id_, digest=next(ours, ""))


def _id_of(commands: Commands, host: Host, name: str) -> str:
    """'' where there is no such image."""
    asked = host.inspect(commands.inspect_images("{{.Id}}", [name]), timeout=_PATIENCE)
    if asked.code != 0 and b"No such image" not in asked.stderr:
        raise docker_says.cannot_ask(asked.code, asked.stderr, host.name)
    return asked.stdout.decode().strip() if asked.code == 0 else ""


def _look(argv: Sequence[str], host: Host) -> Finished:
    done = host.inspect(argv, timeout=_PATIENCE)
    if done.code != 0:
        raise docker_says.cannot_ask(done.code, done.stderr, host.name)
    return done


# -- tags


def tag(commands: Commands, place: Workplace, record: Record) -> None:
    """Give every image the release's own tag, also where that was moved to another one meanwhile.

    Raises:
        StepFailed: host.
    """
    for image in _by_tag(record.images):
        if _id_of(commands, place.host, image.tag) != image.id:
            with place.guard():
                done = place.host.act(commands.tag_image(image.id, image.tag), timeout=_PATIENCE)
            if done.code != 0:
                raise docker_says.cannot_ask(done.code, done.stderr, place.host.name)


def _by_tag(images: Iterable[Image]) -> list[Image]:
    """One for each tag: services may share an image."""
    return list({image.tag: image for image in images}.values())


def require(commands: Commands, place: Workplace, record: Record) -> None:
    """Have exactly the recorded images on the host, under the release's tags.

    Raises:
        StepFailed: restart, if one is gone and no registry has it; network, if that does not answer.
    """
    for image in _by_tag(record.images):
        if image.id and _id_of(commands, place.host, image.id):
            continue
        if not image.digest:
            message = f"cannot start release {record.release}: the image of service {image.service} is gone"
            hint = f"It was {image.tag} ({image.id or 'never built'}). Deploy the commit again with --force"
            raise StepFailed(Cause.restart, message, hint)
        place.say(f"the image of service {image.service} is gone from the host")
        argv = commands.pull_image(image.digest)
        said = place.run(Command(argv=argv, cwd="/", env=commands.env, timeout=_PULLING))
        if said.code != 0:
            raise docker_says.cannot_pull(said.output)
    tag(commands, place, record)


# -- the end


def discard(commands: Commands, place: Workplace, release: str) -> None:
    """Remove the tags of a release that goes, and with their last tag the images; say what cannot be removed.

    Also of releases that went while docker did not answer.
    """
    for each in [release, *_left_behind(place, release)]:
        data = place.host.read(record_path(place.layout, each))
        record = decode(data) if data is not None else None
        try:
            if record is not None:
                _discard(commands, place, record)
        except StepFailed as failure:
            place.say(failure.message)
            continue  # its record stays, for the next time
        with place.guard():
            place.host.remove(override_path(place.layout, each))
            place.host.remove(record_path(place.layout, each))


def _left_behind(place: Workplace, going: str) -> list[str]:
    suffix = record_path(place.layout, going).rpartition("/")[2].removeprefix(going)
    names = place.host.list(record_path(place.layout, going).rpartition("/")[0])
    releases = (name.removesuffix(suffix) for name in names if name.endswith(suffix))
    present = set(place.host.list(place.layout.releases))
    return [name for name in releases if is_release_name(name) and name not in present and name != going]


def _discard(commands: Commands, place: Workplace, record: Record) -> None:
    for image in _by_tag(record.images):
        now = _id_of(commands, place.host, image.tag)
        if not now:
            continue
        if image.id and now != image.id:
            place.say(f"left the tag {image.tag}: it is another image now")
            continue
        _remove(commands, place, image.tag)
        if image.fetched and image.digest and not _names(commands, place.host, image.id):
            _remove(commands, place, image.digest)


def _names(commands: Commands, host: Host, id_: str) -> str:
    """The tags that an image still has; a word where it is gone itself."""
    asked = host.inspect(commands.inspect_images(_NAMES, [id_]), timeout=_PATIENCE)
    return asked.stdout.decode().partition("\t")[2].strip() if asked.code == 0 else "gone"


def _remove(commands: Commands, place: Workplace, name: str) -> None:
    with place.guard():
        done = place.host.act(commands.remove_image(name), timeout=_REMOVING)
    said = done.stderr.decode("utf-8", "replace").strip()
    place.say(f"removed image {name}" if done.code == 0 else f"left image {name}: {said}")
