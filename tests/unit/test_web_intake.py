"""Letters are read a batch at a time; each sender is told of its own."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from fraisier.application.ports import Delivery, Received
from fraisier.application.receive_push import Letter, ReceivePush
from fraisier.domain.errors import BadSignature, StoreUnavailable
from fraisier.web.intake import Intake


class Receiver:
    """Takes a letter's body for its delivery; notes what is read and recorded, in order."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def read(self, letter: Letter) -> str:
        self.log.append(f"read {letter.body.decode()}")
        if letter.body == b"forged":
            raise BadSignature("cannot verify")
        return letter.body.decode()

    async def record(self, delivery: str) -> Received:
        self.log.append(f"record {delivery}")
        if delivery == "unlucky":
            raise StoreUnavailable("cannot write")
        return Received(event_id=delivery, status="accepted")


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


def take(receiver: Receiver, *bodies: bytes) -> list[Any]:
    """What becomes of letters that come in one turn of the loop."""

    async def all_of_them() -> list[Any]:
        found = Intake(cast("ReceivePush", receiver))
        letters = [Letter(headers={}, body=body) for body in bodies]
        return await asyncio.gather(*(found.take(each) for each in letters), return_exceptions=True)

    return asyncio.run(all_of_them())


def test_letters_that_come_together_are_read_before_any_is_recorded(receiver):
    done = take(receiver, b"a", b"b")
    assert [(each.delivery, each.received.event_id) for each in done] == [("a", "a"), ("b", "b")]
    assert receiver.log == ["read a", "read b", "record a", "record b"]


def test_what_is_wrong_with_one_letter_is_told_to_its_sender_alone(receiver):
    first, forged, unlucky, last = take(receiver, b"a", b"forged", b"unlucky", b"z")
    assert (first.delivery, last.delivery) == ("a", "z")
    assert isinstance(forged, BadSignature)
    assert isinstance(unlucky, StoreUnavailable)
    assert "record forged" not in receiver.log


def test_a_batch_that_takes_long_lets_others_run_in_between(receiver):

    async def beside() -> list[str]:
        taking = Intake(cast("ReceivePush", receiver), longest_turn=0)
        futures = [taking.take(Letter(headers={}, body=b"%d" % number)) for number in range(3)]
        while not all(future.done() for future in futures):
            receiver.log.append("others")
            await asyncio.sleep(0)
        return receiver.log

    log = asyncio.run(asyncio.wait_for(beside(), 5))
    between = log[log.index("read 0") : log.index("read 2")]
    assert "others" in between


def test_a_recording_that_is_cancelled_leaves_no_sender_waiting(receiver):
    async def stopped(delivery: str) -> Received:
        raise asyncio.CancelledError

    receiver.record = stopped

    async def waits() -> None:
        with pytest.raises(asyncio.CancelledError):
            await Intake(cast("ReceivePush", receiver)).take(Letter(headers={}, body=b"a"))

    asyncio.run(asyncio.wait_for(waits(), 5))


def test_a_sender_that_no_longer_waits_is_recorded_all_the_same(receiver):
    async def impatient() -> None:
        taking = Intake(cast("ReceivePush", receiver))
        gone, stays = (taking.take(Letter(headers={}, body=body)) for body in (b"gone", b"stays"))
        gone.cancel()
        assert (await stays).delivery == cast("Delivery", "stays")

    asyncio.run(impatient())
    assert receiver.log == ["read gone", "read stays", "record gone", "record stays"]


def test_one_that_no_longer_waits_and_is_refused_keeps_nobody_else_waiting(receiver):
    async def impatient() -> None:
        taking = Intake(cast("ReceivePush", receiver))
        gone, stays = (taking.take(Letter(headers={}, body=body)) for body in (b"forged", b"stays"))
        gone.cancel()
        assert (await asyncio.wait_for(stays, 5)).delivery == cast("Delivery", "stays")

    asyncio.run(impatient())
