"""A loop outlives what goes wrong in it, and a stop is heard whenever it comes."""

import threading

from fraisier.domain.errors import StoreUnavailable
from fraisier.loop import Loop


class Looks:
    """What a loop calls; `said` is what it told. Each look does what the next of `acts` does."""

    def __init__(self, *acts):
        self.acts, self.said = list(acts), []
        self.done = threading.Event()

    def look(self) -> float:
        if not self.acts:
            self.done.set()
            return 600.0
        return self.acts.pop(0)()

    def tell(self, event, fields):
        self.said.append(event)


def failing(error):
    def act() -> float:
        raise error

    return act


def ended(loop: Loop) -> bool:
    loop.stop()
    loop.join()
    return not loop.alive


def test_a_look_that_fails_is_told_and_the_next_one_comes(monkeypatch):
    monkeypatch.setattr("fraisier.loop.AGAIN", 0.0)
    looks = Looks(failing(StoreUnavailable("cannot")), failing(ValueError("a defect")), lambda: 0.0)
    loop = Loop("looks", looks.look, looks.tell)
    loop.start()
    assert looks.done.wait(60)
    assert ended(loop)
    assert looks.said == ["store_unavailable", "worker_error"]


def test_who_is_woken_looks_at_once():
    came = threading.Event()
    looks = Looks()
    loop = Loop("looks", looks.look, looks.tell)
    loop.start()
    assert looks.done.wait(60)
    looks.acts.append(lambda: came.set() or 600.0)
    loop.wake()
    assert came.wait(60)
    assert ended(loop)


def test_a_stop_during_a_look_is_not_slept_over():
    """The look clears the wake-up that the stop had set: only the stop itself tells then."""
    looks = Looks(lambda: loop.stop() or loop._wake.clear() or 600.0)
    loop = Loop("looks", looks.look, looks.tell)
    loop.start()
    loop._thread.join(60)
    assert not loop.alive


def test_who_is_stopped_before_the_first_look_looks_at_nothing():
    looks = Looks()
    loop = Loop("looks", looks.look, looks.tell, after=600.0)
    loop.start()
    assert ended(loop)
    assert not looks.done.is_set()
