"""What every kind of source promises. A subclass gives `world`: a real one, with something in it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest

from fraisier.application.hear import hear
from fraisier.application.ports import SourceBrand
from fraisier.domain.backup import Source
from fraisier.domain.errors import StepFailed
from tests.desks import RUN, RealDesk

LIMIT = 120.0
SECRET = "s3cr3t-Pa55'word\"x"


class World(Protocol):
    """Something that can be backed up, and told apart from what it was before."""

    brand: SourceBrand
    source: Source
    broken: Source  # one that cannot be dumped, e.g. for a wrong password or path

    def content(self) -> object:
        """All that is in it."""
        ...

    def change(self) -> None:
        """Something is added, something removed, something altered."""
        ...

    def strip(self) -> dict[str, int]:
        """All that is counted goes. What stays and a restore would remove, by kind."""
        ...


class SourceContract:
    """The tests; pytest collects them through subclasses named Test…."""

    counts = True  # whether the kind counts anything
    keeps_all_or_nothing = True  # whether a restore that fails has changed nothing
    question = ""  # a query, and its answer
    answer = ""

    @pytest.fixture
    def file(self, desk: RealDesk, folder: Path, world: World) -> str:
        """Where a dump goes."""
        return str(folder / f"dump{world.brand.suffix}")

    @pytest.fixture
    def dump(self, desk: RealDesk, world: World, file: str) -> str:
        """A good one."""
        desk.tell(world.brand.dump_source(world.source, file, timeout=LIMIT))
        return file

    def test_a_dump_is_whole_and_told_of(self, desk: RealDesk, world: World, file: str) -> None:
        told = desk.tell(world.brand.dump_source(world.source, file, timeout=LIMIT))
        data = Path(file).read_bytes()
        assert (told["bytes"], told["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
        assert data
        assert Path(file).stat().st_mode & 0o077 == 0, "nobody else may read it"
        assert not list(Path(file).parent.glob("*.part*")), "nothing is left beside it"
        for more in told.get("more", []):
            beside = Path(file + more["suffix"]).read_bytes()
            assert (more["bytes"], more["sha256"]) == (len(beside), hashlib.sha256(beside).hexdigest())
            assert Path(file + more["suffix"]).stat().st_mode & 0o077 == 0

    def test_what_was_changed_since_is_as_it_was_after_a_restore(
        self, desk: RealDesk, world: World, dump: str
    ) -> None:
        before = world.content()
        world.change()
        assert world.content() != before
        hear(desk, world.brand.restore(world.source, dump, "", timeout=LIMIT), doing="restore")
        assert world.content() == before

    def test_a_scratch_place_has_what_was_dumped_and_leaves_nothing(
        self, desk: RealDesk, world: World, file: str, folder: Path
    ) -> None:
        brand, source = world.brand, world.source
        told = desk.tell(brand.dump_source(source, file, timeout=LIMIT))
        if (there := brand.count(source, "", timeout=LIMIT)) is not None:
            assert desk.tell(there)["tables"] == told["tables"], "what is in use is counted, too"
            asked = brand.ask(replace(source, query=self.question), "", timeout=LIMIT)
            assert hear(desk, asked, doing="ask").strip() == self.answer
        world.change()
        changed = world.content()
        abandoned = brand.scratch(source, str(folder), "0" * 8)
        hear(desk, brand.make_scratch(source, abandoned, timeout=LIMIT), doing="make")
        to = brand.scratch(source, str(folder), RUN)
        assert to != abandoned
        hear(desk, brand.make_scratch(source, to, timeout=LIMIT), doing="make")
        hear(desk, brand.restore(source, file, to, timeout=LIMIT), doing="restore")
        counting = brand.count(source, to, timeout=LIMIT)
        assert (counting is not None) == self.counts
        if counting is not None:
            assert told["tables"], "something was counted"
            assert desk.tell(counting)["tables"] == told["tables"]
        asked = brand.ask(replace(source, query=self.question), to, timeout=LIMIT)
        assert hear(desk, asked, doing="ask").strip() == self.answer
        for _ in range(2):  # one that is not there is fine
            hear(desk, brand.drop_scratch(source, to, timeout=LIMIT), doing="drop")
        assert world.content() == changed, "what is in use was not touched"
        with pytest.raises(StepFailed):
            hear(desk, brand.ask(replace(source, query=self.question), to, timeout=LIMIT), doing="ask")

    def test_what_is_not_counted_and_would_be_removed_is_told(
        self, desk: RealDesk, world: World, dump: str, folder: Path
    ) -> None:
        brand, source = world.brand, world.source
        to = brand.scratch(source, str(folder), RUN)
        hear(desk, brand.make_scratch(source, to, timeout=LIMIT), doing="make")
        asked, there = brand.beside(source, to, timeout=LIMIT), brand.beside(source, "", timeout=LIMIT)
        if asked is None or there is None:
            assert not self.counts, "what can be counted can be told"
            return
        assert not any(desk.tell(asked)["beside"].values()), "an empty place has nothing"
        hear(desk, brand.drop_scratch(source, to, timeout=LIMIT), doing="drop")
        before = world.content()
        stays = world.strip()
        found = desk.tell(there)["beside"]
        assert found == stays, found
        counting = brand.count(source, "", timeout=LIMIT)
        assert counting is not None
        assert not any(desk.tell(counting)["tables"].values())
        hear(desk, brand.restore(source, dump, "", timeout=LIMIT), doing="restore")
        assert world.content() == before

    def test_a_place_that_somebody_chose_leaves_what_is_tried_beside_it(
        self, desk: RealDesk, world: World, dump: str, folder: Path
    ) -> None:
        brand, source = world.brand, replace(world.source, query=self.question)
        tried = brand.scratch(source, str(folder), RUN)
        chosen = tried.replace(RUN[:8], "20261124") if tried[0] == "/" else "fraisier_verify_by_hand"
        for to in (tried, chosen):
            hear(desk, brand.make_scratch(source, to, timeout=LIMIT), doing="make")
            hear(desk, brand.restore(source, dump, to, timeout=LIMIT), doing="restore")
        for to in (tried, chosen):
            assert hear(desk, brand.ask(source, to, timeout=LIMIT), doing="ask").strip() == self.answer
            hear(desk, brand.drop_scratch(source, to, timeout=LIMIT), doing="drop")

    def test_a_question_that_is_wrong_fails_and_says_why(
        self, desk: RealDesk, world: World, dump: str, folder: Path
    ) -> None:
        brand = world.brand
        to = brand.scratch(world.source, str(folder), RUN)
        hear(desk, brand.make_scratch(world.source, to, timeout=LIMIT), doing="make")
        hear(desk, brand.restore(world.source, dump, to, timeout=LIMIT), doing="restore")
        asked = brand.ask(replace(world.source, query="nonsense"), to, timeout=LIMIT)
        with pytest.raises(StepFailed, match=r"cannot ask: .*nonsense"):
            hear(desk, asked, doing="ask")
        hear(desk, brand.drop_scratch(world.source, to, timeout=LIMIT), doing="drop")

    @pytest.mark.parametrize("fault", ["empty", "truncated", "flipped"])
    def test_a_damaged_dump_is_not_brought_back(
        self, desk: RealDesk, world: World, dump: str, fault: str
    ) -> None:
        damage(Path(dump), fault)
        before = world.content()
        with pytest.raises(StepFailed, match="cannot restore"):
            hear(desk, world.brand.restore(world.source, dump, "", timeout=LIMIT), doing="restore")
        assert world.content() == before, "nothing was changed"

    def test_what_cannot_be_dumped_fails_and_leaves_nothing(
        self, desk: RealDesk, world: World, file: str
    ) -> None:
        with pytest.raises(StepFailed):
            desk.tell(world.brand.dump_source(world.broken, file, timeout=LIMIT))
        assert not [path for path in Path(file).parent.iterdir() if path.name.startswith("dump")]

    def test_problems_are_told_before(self, desk: RealDesk, world: World) -> None:
        found = list(world.brand.problems(world.source, desk))
        assert found == [], found
        (problem, *_) = world.brand.problems(world.broken, desk)
        assert problem.message.startswith(f"cannot back up {world.broken.name}")
        assert SECRET not in problem.message + problem.hint

    def test_no_secret_is_an_argument_or_printed(self, desk: RealDesk, world: World, file: str) -> None:
        seen = arguments_while(lambda: desk.tell(world.brand.dump_source(world.source, file, timeout=LIMIT)))
        assert any("pg_dump" in words or "sh" in words for words in seen)
        assert not [words for words in seen if SECRET in words]
        assert SECRET not in "\n".join(desk.said)


def damage(file: Path, fault: str) -> None:
    """What disks and networks do to files."""
    data = bytearray(file.read_bytes())
    if fault == "empty":
        data.clear()
    elif fault == "truncated":
        del data[len(data) * 2 // 3 :]
    else:
        middle = len(data) // 2
        data[middle : middle + 64] = bytes(byte ^ 0xFF for byte in data[middle : middle + 64])
    file.write_bytes(data)


def arguments_while(work: object) -> set[str]:
    """The words of every process that there was meanwhile, as far as a fast look catches them."""
    done, seen = threading.Event(), set()

    def watch() -> None:
        while not done.is_set():
            for entry in Path("/proc").glob("[0-9]*"):
                if int(entry.name) != os.getpid():
                    with suppress(OSError):
                        words = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                        seen.add(words.decode("utf-8", "replace"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()  # type: ignore[operator]
    finally:
        done.set()
        watcher.join()
    return seen


def run(*argv: str, **options: object) -> str:
    """A program's stdout."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)
