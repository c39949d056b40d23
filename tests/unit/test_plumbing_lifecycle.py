"""Every stop has a deadline; loops outlive what passes and nothing else."""

import asyncio

import pytest
from aiokafka.errors import KafkaConnectionError

from services.plumbing.lifecycle import bounded, describe, keep, pause, together


async def test_what_ends_in_time_gives_its_result() -> None:
    async def work() -> int:
        return 7

    assert await bounded(work(), 1) == 7


async def test_what_raises_in_time_raises() -> None:
    async def work() -> None:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        await bounded(work(), 1)


async def test_what_does_not_heed_a_cancellation_is_left_to_itself() -> None:
    released = asyncio.Event()

    async def stubborn() -> str:
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue
        return "late"

    assert await bounded(stubborn(), 0.01) is None
    released.set()


async def test_a_loop_that_lost_its_broker_is_tried_again() -> None:
    stop = asyncio.Event()
    errors: list[Exception | None] = [KafkaConnectionError("gone"), None]

    async def loop() -> None:
        error = errors.pop(0)
        if error:
            raise error
        stop.set()

    await asyncio.wait_for(keep("test", loop, stop), 5)
    assert errors == []


async def test_an_error_of_ours_goes_up() -> None:
    async def loop() -> None:
        raise AssertionError("we are wrong")

    with pytest.raises(AssertionError, match="we are wrong"):
        await keep("test", loop, asyncio.Event())


async def test_a_stop_ends_the_wait_for_the_next_try() -> None:
    stop = asyncio.Event()
    waiting = asyncio.ensure_future(pause(3600, stop))
    stop.set()
    await asyncio.wait_for(waiting, 1)


async def test_when_one_loop_fails_the_others_are_cancelled_and_its_error_goes_up() -> None:
    ended: list[str] = []

    async def patient() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("patient")

    async def broken() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await together(patient(), broken())
    assert ended == ["patient"]


def test_an_error_is_described_in_one_bounded_line() -> None:
    assert describe(OSError("one\ntwo")) == "OSError: one"
    assert describe(TimeoutError()) == "TimeoutError: "
    assert len(describe(OSError("x" * 10_000))) == 300
