"""Time that passes faster than the wall's: what waits half a minute between two questions is tested in a second."""

import asyncio
from datetime import UTC, datetime
from typing import Final

RATE: Final = 25.0


class FastClock:
    """The machine's clock, `rate` times as fast from now on; see `clock.Clock`."""

    def __init__(self, rate: float = RATE) -> None:
        """Begin at the present moment."""
        self._rate = rate
        self._began = datetime.now(UTC)

    def now(self) -> datetime:
        """Give its present moment."""
        return self._began + (datetime.now(UTC) - self._began) * self._rate

    async def sleep(self, seconds: float) -> None:
        """Wait, by its own seconds."""
        await asyncio.sleep(seconds / self._rate)
