"""Fixtures for tests of the git mirror; those that need another repository define their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from fraisier.application.ports import Job
from fraisier.domain.fraise import Source
from fraisier.git.repository import Mirrors
from tests.gitrepos import GitRepository
from tests.mirrors import Listening, mirrors, source_of


@pytest.fixture
def repo(tmp_path: Path) -> GitRepository:
    """An empty repository to push to."""
    return GitRepository.create(tmp_path / "git")


@pytest.fixture
def repository(tmp_path: Path) -> Mirrors:
    """Mirrors with nothing on disk."""
    return mirrors(tmp_path)


@pytest.fixture
def source(repo: GitRepository) -> Source:
    """Where `repo` is fetched from."""
    return source_of(repo.url)


@pytest.fixture
def job() -> Job:
    """A job that nobody stops or listens to."""
    return Listening().job
