"""Makes a release ready to run: its files judged, its images pulled or built, and what they are kept."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fraisier.application.ports import Said, Workplace
from fraisier.domain.acts import Command
from fraisier.domain.errors import Cause, StepFailed
from fraisier.targets import compose_images, docker_says
from fraisier.targets.compose_beside import beside, placeholders
from fraisier.targets.compose_commands import Commands
from fraisier.targets.compose_file import Reading, Where, read
from fraisier.targets.compose_record import Record, begin, override_path
from fraisier.targets.compose_run import keep, kept

_MARK = "-- resolved --"
# compose warns on stderr, and what is on stdout holds secrets: the two have to be told apart.
_APART = 'exec 3>&1; out=$("$@" 2>&3 3>&-) || exit $?; printf "\\n%s\\n%s\\n" "$0" "$out"'
_READING = 120.0  # seconds for compose to read its files; includes may come from a repository
_LONGEST = 3600.0  # seconds for pulling, and for building
_SYNC = 300.0


class Build:
    """The works of the step `build`, for one release."""

    def __init__(self, commands: Commands, place: Workplace, release: str) -> None:
        self._commands = commands
        self._place = place
        self._release = release
        self._folder = place.layout.release(release)
        self._beside = beside(place.environment, release)

    # -- read
    def read(self) -> None:
        """Judge the compose files, and note what the release will be made of.

        Raises:
            StepFailed: build, if they cannot be used; preflight, if the release has none.
        """
        environment = self._place.environment
        record = Record(**begin(environment, self._release, self._place.commit, self._place.ref))
        self._require_files(record)
        where = Where(
            layout=self._place.layout,
            release=self._release,
            project=record.project,
            shared=environment.shared,
            beside=self._beside,
        )
        reading = read(self._resolved(record), where)
        self._require_inside(reading)
        self._refuse(record, reading)
        if reading.clashes:
            message = f"cannot run the release beside the old one: {'; '.join(reading.clashes)}"
            hint = "Let what keeps data be an environment of its own, with `cutover: restart`; see compose.md"
            raise StepFailed(Cause.build, message, hint)
        for image in reading.images:
            how = "is built" if image.built else f"runs {image.source}"
            self._place.say(f"service {image.service} {how}")
        for remark in reading.remarks:
            self._place.say(remark)
        # Before anything is built: whoever throws half a release away knows its tags from here.
        keep(
            self._place,
            replace(record, images=tuple(reading.images), mounts=reading.mounts, port=reading.port),
        )

    def _require_files(self, record: Record) -> None:
        for name in record.files:
            if self._place.host.kind(posixpath.join(self._folder, name)) == "missing":
                message = f"cannot use the compose file {name}: the release does not have it"
                hint = "Correct `compose_file:` in fraises.yaml, or commit the file"
                raise StepFailed(Cause.preflight, message, hint)

    def _resolved(self, record: Record) -> dict[str, Any]:
        argv = ("/bin/sh", "-c", _APART, _MARK, *self._commands.config(self._files(record)))
        said = self._run(record, argv, _READING, shown=False)
        warnings, _, document = said.output.partition(f"\n{_MARK}\n".encode())
        if told := docker_says.without_values(warnings):
            self._place.say(told)
        if said.code != 0:
            raise docker_says.cannot_read(warnings)
        try:
            found: dict[str, Any] = json.loads(document)
        except ValueError as error:
            message = "cannot read what `docker compose config` prints: it is no JSON"
            raise StepFailed(Cause.host, message, "See `docker compose version` on the host") from error
        return found

    def _require_inside(self, reading: Reading) -> None:
        """Builds read the release and nothing else of the host: a link in the commit may lead anywhere."""
        if not reading.local:
            return
        asked = self._place.host.inspect(("realpath", "-m", "--", self._folder, *reading.local))
        top, *found = asked.stdout.decode("utf-8", "surrogateescape").splitlines() or [""]
        if asked.code != 0 or len(found) != len(reading.local):
            raise StepFailed(Cause.host, "cannot tell where the build's folders lead to: realpath failed")
        for named, real in zip(reading.local, found, strict=True):
            if real != top and not real.startswith(top + "/"):
                reading.refusals.append(f"a build reads {named}, which is outside of the release")

    def _refuse(self, record: Record, reading: Reading) -> None:
        if not reading.refusals:
            return
        shared = self._place.layout.shared
        message = f"cannot use {', '.join(record.files)}: {'; '.join(reading.refusals)}"
        hint = (
            "A release is removed some day, and what runs would go on with its files. Copy them into"
            f" the image, or keep what must last in {shared} and name it in `shared:` of fraises.yaml"
        )
        raise StepFailed(Cause.build, message, hint)

    # -- pull
    def pull(self) -> None:
        """Bring the images that are not built here, and note which they are.

        Raises:
            StepFailed: build, if there is no such image; network, if the registry does not answer.
        """
        record = kept(self._place, self._release)
        images = [image for image in record.images if not image.built]
        if not images:
            self._place.say("every service is built: nothing to pull")
            return
        before = compose_images.all_ids(self._commands, self._place.host)
        services = [image.service for image in images]
        argv = self._commands.pull(self._files(record), services)
        said = self._run(record, argv, _LONGEST)
        if said.code != 0:
            raise docker_says.cannot_pull(said.output)
        found = compose_images.identify(self._commands, self._place, images)
        fetched = {name: replace(image, fetched=image.id not in before) for name, image in found.items()}
        for image in fetched.values():
            self._place.say(f"{image.service}: {image.source} is {image.digest or image.id}")
        keep(self._place, record.with_images(fetched))

    # -- build
    def build(self) -> None:
        """Build the others under tags of this release, give the pulled ones theirs, and note the ids.

        Raises:
            StepFailed: build.
        """
        record = kept(self._place, self._release)
        built = [image for image in record.images if image.built]
        if built:
            argv = self._commands.build((*self._files(record), self._override()))
            said = self._run(record, argv, _LONGEST)
            if said.code != 0:
                raise docker_says.cannot_build(said.output)
            tags = [replace(image, source=image.tag) for image in built]
            ids = compose_images.identify(self._commands, self._place, tags)
            record = record.with_images(
                {image.service: replace(image, id=ids[image.service].id) for image in built}
            )
        keep(self._place, record)
        compose_images.tag(self._commands, self._place, record)
        # The daemon does not sync what it unpacks, and a whole release survives a power loss.
        self._place.run(Command(argv=("sync",), cwd="/", timeout=_SYNC), shown=False)

    # -- all
    def _files(self, record: Record) -> tuple[str, ...]:
        return tuple(posixpath.join(self._folder, name) for name in record.files)

    def _override(self) -> str:
        return override_path(self._place.layout, self._release)

    def _run(self, record: Record, argv: Sequence[str], timeout: float, *, shown: bool = True) -> Said:
        environment = self._place.environment
        command = Command(
            argv=tuple(argv),
            cwd=self._folder,
            env={
                **record.environment(environment.env),
                **placeholders(self._beside),
                **self._commands.env,
            },
            env_file=record.env_file,
            timeout=timeout,
        )
        if shown:
            self._place.say(f"$ {command.describe().partition('    # in ')[0]}")
        return self._place.run(command, shown=shown)
