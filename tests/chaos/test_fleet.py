"""A few moments of every story over several hosts; `python -m tests.chaos.fleet` plays each one."""

from __future__ import annotations

import os

import pytest

from tests.chaos.fleet import KINDS, STORIES, Story, violations

SEED = int(os.environ.get("FRAISIER_SEED", "3"))
EVERY = 67  # moments


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_a_rollout_ends_as_if_nothing_had_happened_to_its_worker(story: Story, kind: str) -> None:
    start = 1 + SEED * 17 % EVERY
    assert not list(violations(story, kind, every=EVERY, start=start))
