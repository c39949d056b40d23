"""Waiting for what must come, never longer than said."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

T = TypeVar("T")

LOOK_SECONDS: Final = 0.05


async def until(condition: Callable[[], Awaitable[T | None]], seconds: float) -> T:
    """Give what `condition` gives as soon as that is true; raises AssertionError with its last word after `seconds`.

    The condition may take its time but is asked once at least, and once more at the very end.
    """
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + seconds
    while True:
        late = loop.time() >= ends_at
        found = await condition()
        if found:
            return found
        if late:
            raise AssertionError(f"not within {seconds} s: {condition!r} gave {found!r}")
        await asyncio.sleep(min(LOOK_SECONDS, max(0.0, ends_at - loop.time())))


async def moment(at: float) -> None:
    """Wait for a moment of the loop's clock."""
    loop = asyncio.get_running_loop()

    async def come() -> bool:
        return loop.time() >= at

    await until(come, max(0.0, at - loop.time()) + 1)
