"""A commit as one tar stream: the superproject and its submodules, below the deployed folder."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

from fraisier.application.ports import Job
from fraisier.git.mirror import Mirror

CHUNK = 1 << 18
_END = b"\0" * 1024  # two empty blocks end a tar stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One repository's share: what lies below `root` of `commit`, put below `prefix` ('' or 'x/')."""

    mirror: Mirror
    commit: str
    root: str = ""
    prefix: str = ""
    settings: tuple[str, ...] = ()


def tar_stream(parts: Sequence[Part], job: Job) -> Generator[bytes, None, None]:
    """All parts as one stream.

    Raises:
        Damaged: while it is read: a mirror is broken.
        StepFailed: repository, cancelled.
    """
    only = parts[0]
    if len(parts) == 1 and not only.root:
        yield from _archived(only, job)
        return
    for part in parts:
        yield from _moved(part, _archived(part, job))
    yield _END


def _archived(part: Part, job: Job) -> Iterator[bytes]:
    below = (f":(literal){part.root}",) if part.root else ()
    args = ("archive", "--format=tar", part.commit, "--", *below)
    with part.mirror.archive(args, job, settings=part.settings) as chunks:
        yield from chunks


def _moved(part: Part, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The members of a tar stream, without its end, under the names they have in the release.

    Attributes of the whole repository count for a folder of it, so the archive is made of the commit and
    moved here, instead of being made of the folder's tree.
    """
    top = f"{part.root}/" if part.root else ""
    with tarfile.open(fileobj=_Reader(chunks), mode="r|", errors="surrogateescape") as archive:
        for member in archive:
            if not f"{member.name}/".startswith(top) or member.name == part.root:
                continue
            member.name = part.prefix + member.name.removeprefix(top)
            member.pax_headers = {}
            yield member.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
            if content := archive.extractfile(member) if member.isreg() else None:
                while chunk := content.read(CHUNK):
                    yield chunk
                yield b"\0" * (-member.size % tarfile.BLOCKSIZE)
    for _ in chunks:  # up to the end, where a failed git shows
        pass


class _Reader(io.RawIOBase):
    """An iterator of bytes as the file that tarfile wants."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        super().__init__()
        self._chunks = chunks
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; fewer only at the end."""
        parts, missing = [self._rest], size - len(self._rest)
        while missing > 0 and (chunk := next(self._chunks, b"")):
            parts.append(chunk)
            missing -= len(chunk)
        data = b"".join(parts)
        self._rest = data[size:]
        return data[:size]
