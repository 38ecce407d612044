"""Files of backups, encrypted by age and read again."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from fraisier.application.hear import hear
from fraisier.backups.age import Age
from fraisier.domain.backup import Encryption
from fraisier.domain.errors import StepFailed
from tests.desks import USER, RealDesk, desk, folder, open_path
from tests.integration.source_contract import damage

__all__ = ["desk", "folder", "open_path"]
pytestmark = pytest.mark.skipif(not shutil.which("age"), reason="needs age (see tests/servers/packages)")
LIMIT = 60.0


@pytest.fixture
def encryption(open_path: Path) -> Encryption:
    """For two recipients; one's key is at hand."""
    recipients = []
    for name in ("one", "two"):
        subprocess.run(("age-keygen", "-o", open_path / name), check=True, capture_output=True)
        said = subprocess.run(
            ("age-keygen", "-y", open_path / name), check=True, capture_output=True, text=True
        )
        recipients.append(said.stdout.strip())
        if USER:
            shutil.chown(open_path / name, USER)
    return Encryption(recipients=tuple(recipients), identity=str(open_path / "two"))


@pytest.fixture
def plain(folder: Path) -> Path:
    file = folder / "db.dump"
    file.write_bytes(bytes(range(256)) * 4096)
    if USER:
        shutil.chown(file, USER)
    return file


def test_what_was_encrypted_is_read_again(desk: RealDesk, encryption: Encryption, plain: Path) -> None:
    data, to = plain.read_bytes(), plain.with_name("db.dump.age")
    told = desk.tell(Age().encrypt(encryption, str(plain), str(to), timeout=LIMIT))
    cipher = to.read_bytes()
    assert (told["bytes"], told["sha256"]) == (len(cipher), hashlib.sha256(cipher).hexdigest())
    assert cipher.startswith(b"age-encryption.org/v1")
    assert not plain.exists(), "the plain file is gone"
    told = desk.tell(Age().decrypt(encryption, str(to), str(plain), timeout=LIMIT))
    assert plain.read_bytes() == data
    assert told["sha256"] == hashlib.sha256(data).hexdigest()
    assert not to.exists()


@pytest.mark.parametrize("fault", ["empty", "truncated", "flipped"])
def test_what_was_damaged_is_not_read(desk, encryption, plain, fault):
    to = plain.with_name("db.dump.age")
    desk.tell(Age().encrypt(encryption, str(plain), str(to), timeout=LIMIT))
    damage(to, fault)
    with pytest.raises(StepFailed):
        desk.tell(Age().decrypt(encryption, str(to), str(plain), timeout=LIMIT))
    assert [path.name for path in plain.parent.iterdir()] == ["db.dump.age"], "nothing half is left"


def test_another_key_reads_nothing(desk, encryption, plain, open_path):
    to = plain.with_name("db.dump.age")
    only = replace(encryption, recipients=encryption.recipients[:1])
    desk.tell(Age().encrypt(only, str(plain), str(to), timeout=LIMIT))
    with pytest.raises(StepFailed, match="no identity matched"):
        desk.tell(Age().decrypt(only, str(to), str(plain), timeout=LIMIT))


def test_a_recipient_that_is_none_leaves_the_plain_file_alone(desk, encryption, plain):
    wrong = replace(encryption, recipients=("age1nonsense",))
    with pytest.raises(StepFailed, match="age1nonsense"):
        desk.tell(Age().encrypt(wrong, str(plain), str(plain) + ".age", timeout=LIMIT))
    assert [path.name for path in plain.parent.iterdir()] == ["db.dump"]


def test_without_the_program_it_is_refused_clearly(desk, encryption, plain, open_path):
    programs = open_path / "programs"
    programs.mkdir()
    for program in Path("/bin").iterdir():
        if not program.name.startswith("age"):
            (programs / program.name).symlink_to(program)
    desk.environment = replace(desk.environment, env={"PATH": str(programs)})
    with pytest.raises(StepFailed, match="there is no program age: install it"):
        hear(desk, Age().encrypt(encryption, str(plain), str(plain) + ".age", timeout=LIMIT), doing="encrypt")
    assert "there is no program age" in Age().problems(encryption, desk)[0].message


def test_problems_are_told_before(desk, encryption):
    assert list(Age().problems(encryption, desk)) == []
    unreadable = replace(encryption, identity="/nowhere/key")
    (problem,) = Age().problems(unreadable, desk)
    assert "may not read /nowhere/key" in problem.message
