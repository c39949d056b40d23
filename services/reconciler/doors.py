"""How far the doors are: what was received and is not in Kafka yet, on its own partition, no decision passes."""

import asyncio
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from services.plumbing import telemetry
from services.plumbing.postgres import Pool
from services.reconciler.ports import Horizon

#: A `NOTIFY` on it makes every door report at once (`services/ingest/reports.py`).
CHANNEL: Final = "reconcal_doors"
#: A door that lives reports so often; one that has not for longer is not waited for now, it only holds.
FRESH: Final = timedelta(seconds=5)
#: A door that has been silent for so long is forgotten.
FORGOTTEN_AFTER: Final = timedelta(hours=24)
#: An answer takes a few milliseconds; whoever does not answer within ASK_SECONDS counts by what it said last.
LOOK_SECONDS: Final = 0.005
ASK_SECONDS: Final = 0.06
_MOMENT: Final = timedelta(microseconds=1)

#: What the doors said last; then since when something waits that was found on a partition that is not its own.
_DOORS: Final = """
(SELECT door_id, reported_at, oldest_unsent_at FROM doors
WHERE closed_at IS NULL AND reported_at > $1 ORDER BY door_id)
UNION ALL SELECT NULL, NULL, min(received_at) FROM outbox WHERE received_at IS NOT NULL"""

#: Forgets the doors that nobody will hear of again.
_FORGET: Final = "DELETE FROM doors WHERE reported_at < $1"


class Door(Struct, frozen=True):
    """What an ingest said last: all that it received before `reported_at` is in Kafka, but for what waits.

    `oldest_unsent_at` is when it received the first of what waits; None: nothing does.
    """

    door_id: str
    reported_at: datetime
    oldest_unsent_at: datetime | None = None


def horizon_of(
    doors: Iterable[Door], oldest_rerouted_at: datetime | None, now: datetime, silence_seconds: float
) -> Horizon:
    """Say how far all doors are. Pure. `doors` are those that were not closed."""
    limits = [] if oldest_rerouted_at is None else [oldest_rerouted_at - _MOMENT]
    silent: list[str] = []
    for door in doors:
        silence = now - door.reported_at
        if silence.total_seconds() <= silence_seconds:
            limits.append(door.reported_at)
            if door.oldest_unsent_at is not None:
                limits.append(door.oldest_unsent_at - _MOMENT)
        elif silence <= FORGOTTEN_AFTER:
            silent.append(door.door_id)
    return Horizon(min(limits, default=None), tuple(silent))


class PostgresDoors:
    """Asks the doors by way of PostgreSQL. Errors of the database go up as they are."""

    def __init__(self, pool: Pool, silence_seconds: float) -> None:
        """The pool stays its owner's. A door that is silent for longer than `silence_seconds` is waited for no more."""
        self._pool, self._silence_seconds = pool, silence_seconds

    async def horizon(self, now: datetime) -> Horizon:
        """See `ports.Doors`. Doors that live are asked and waited for, for at most ASK_SECONDS."""
        doors, rerouted_at = await self._look(now)
        before = {door.door_id: door.reported_at for door in doors if now - FRESH < door.reported_at < now}
        if before:
            await self._pool.execute(f"NOTIFY {CHANNEL}")
            doors, rerouted_at = await self._answered(before, now)
        horizon = horizon_of(doors, rerouted_at, now, self._silence_seconds)
        telemetry.doors_silent.set(len(horizon.silent))
        return horizon

    async def forget(self, now: datetime) -> None:
        """Remove the rows of doors that have not been heard of for long."""
        await self._pool.execute(_FORGET, now - FORGOTTEN_AFTER)

    async def _answered(self, before: dict[str, datetime], now: datetime) -> tuple[list[Door], datetime | None]:
        """Wait until each of these has reported again: since `now`, or by a clock of its own since we asked."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + ASK_SECONDS
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            doors, rerouted_at = await self._look(now)
            waiting = any(before.get(door.door_id) == door.reported_at for door in doors)
            if not waiting or loop.time() >= ends_at:
                return doors, rerouted_at

    async def _look(self, now: datetime) -> tuple[list[Door], datetime | None]:
        *doors, rerouted = await self._pool.fetch(_DOORS, now - FORGOTTEN_AFTER)
        return [Door(*row) for row in doors], rerouted["oldest_unsent_at"]
