"""All the stories that are played."""

from __future__ import annotations

from tests.chaos.run_stories import RUN_STORIES
from tests.chaos.stories import STORIES, Story

ALL = (*STORIES, *RUN_STORIES)


def story(name: str) -> Story:
    """The one of this name."""
    return next(each for each in ALL if each.name == name)
