"""Thousands of orphans come at once, and people are mailed as seldom as they want to be.

    python -m tests.faults.storm --flags 5000 --seconds 60 --interval 10

Stands up Apache Kafka and PostgreSQL of its own; prints a line of figures, exits 1 with what did not hold.
"""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import psutil
from msgspec import Struct
from msgspec.structs import replace

from schemas.flags import Flag
from tests.faults.mailing import all_told, found, held, publish
from tests.faults.scene import Scene, alone
from tests.sim.world import quiet
from tests.support.notifying import a_flag
from tests.support.post_office import PostOffice
from tests.support.processes import Service
from tests.support.wait import moment, until

COMPANY: Final = "praxis"
PEOPLE: Final = ("mia", "max")
WAIT_SECONDS: Final = 1.0
#: So many come before it, one by one: PostgreSQL keeps the plan of a statement that it was given six times.
CALM_FLAGS: Final = 10
#: One flag in so many is of an appointment that begins soon.
URGENT_IN: Final = 50
#: Beyond what the process takes after its first mail.
MORE_MB: Final = 30.0
#: Beyond two intervals, until all were told: to take them in, and to find out what is new.
PATIENCE_SECONDS: Final = 10.0
_CHUNKS: Final = 50
_WEIGH_SECONDS: Final = 0.1


class Figures(Struct, kw_only=True):
    """What a storm came to. `told_seconds`: from its end until everybody was told of all."""

    flags: int
    sent_seconds: float
    told_seconds: float
    mails: dict[str, int]
    interval_seconds: float
    before_mb: float
    most_mb: float
    after_mb: float

    def __str__(self) -> str:
        """Give a line to read."""
        return (
            f"{self.flags} flags within {self.sent_seconds:.1f} s, all told {self.told_seconds:.1f} s later; mails "
            f"{self.mails}, interval {self.interval_seconds:g} s; RSS {self.before_mb:.0f} MB before, "
            f"{self.most_mb:.0f} at most, {self.after_mb:.0f} after"
        )


async def storm(stage: Scene, office: PostOffice, *, flags: int, seconds: float, interval_seconds: float) -> Figures:
    """Raise so many flags in so many seconds, or as fast as they go; everything holds. Raises AssertionError."""
    await found(stage, COMPANY, PEOPLE, wait_seconds=WAIT_SECONDS, interval_seconds=interval_seconds)
    service = stage.start("notifier", smtp_port=office.smtp_port)
    first = await _calm(stage, flags, interval_seconds)
    coming = [_flag(number, stage.now()) for number in range(flags)]
    loop = asyncio.get_running_loop()
    async with _weighed(service) as weights:
        storm_at, began_at = stage.now(), loop.time()
        step = len(coming) // _CHUNKS
        for number in range(_CHUNKS):
            await publish(stage, coming[number * step : (number + 1) * step])
            await moment(began_at + seconds * (number + 1) / _CHUNKS)
        sent_at = loop.time()
        await all_told(stage, len(first) + flags, PATIENCE_SECONDS + 2 * interval_seconds)
        told_at = loop.time()
    await held(stage, office, [*first, *coming])
    mails = {name: _times(office, name) for name in PEOPLE}
    for name, times in mails.items():
        assert not _crowded(times, interval_seconds), f"{name}: one and one urgent in {interval_seconds} s: {times}"
    figures = Figures(
        flags=flags,
        sent_seconds=sent_at - began_at,
        told_seconds=told_at - sent_at,
        mails={name: sum(time >= storm_at for time in times) for name, times in mails.items()},
        interval_seconds=interval_seconds,
        before_mb=weights[0],
        most_mb=max(weights),
        after_mb=weights[-1],
    )
    assert figures.most_mb <= figures.before_mb + MORE_MB, str(figures)
    return figures


async def _calm(stage: Scene, number: int, interval_seconds: float) -> list[Flag]:
    """Raise a few before the storm, so that PostgreSQL has seen small tables and made its plans for them."""
    flags = [a_flag(COMPANY, number + n, in_hours=1000) for n in range(CALM_FLAGS)]
    for seen, flag in enumerate(flags, 1):
        await publish(stage, [flag])
        await _seen(stage, seen)
        if seen == 1:
            await stage.pool.execute("ANALYZE")
    await all_told(stage, len(flags), PATIENCE_SECONDS + 2 * interval_seconds)
    return flags


async def _seen(stage: Scene, count: int) -> None:
    """Wait until so many flags are there, and whoever may be told was looked at."""

    async def looked() -> bool:
        there = await stage.pool.fetchval("SELECT count(*) FROM alerts")
        due = await stage.pool.fetchval("SELECT count(*) FROM notify_turns WHERE due_at = '-infinity'")
        return bool(there == count and not due)

    await until(looked, 30)


def _flag(number: int, now: datetime) -> Flag:
    flag = a_flag(COMPANY, number, in_hours=1000)
    assert flag.appointment is not None
    if number % URGENT_IN:
        return flag
    soon = now + timedelta(minutes=100, seconds=number % 1000)
    return replace(flag, appointment=replace(flag.appointment, starts_at=soon))


def _times(office: PostOffice, name: str) -> list[datetime]:
    return [mail.received_at for mail in office.mails if mail.to == [f"{name}@example.com"]]


def _crowded(times: list[datetime], interval_seconds: float) -> bool:
    """Tell whether more than two mails, one and one urgent, came within an interval."""
    return any((third - one).total_seconds() < interval_seconds for one, third in zip(times, times[2:], strict=False))


@asynccontextmanager
async def _weighed(service: Service) -> AsyncIterator[list[float]]:
    """Give what a process weighs, in MB: at first, ten times a second, and at the end."""
    process = psutil.Process(service._child.pid)

    def weigh() -> float:
        return float(process.memory_info().rss) / 1e6

    weights = [weigh()]
    ended = asyncio.Event()

    async def keep_weighing() -> None:
        while not ended.is_set():
            weights.append(weigh())
            await moment(asyncio.get_running_loop().time() + _WEIGH_SECONDS)

    weighing = asyncio.ensure_future(keep_weighing())
    try:
        yield weights
    finally:
        ended.set()
        await weighing
    weights.append(weigh())


async def run(given: argparse.Namespace, folder: Path) -> str:
    """Stand up what is needed, storm, check; gives a line to read. Raises AssertionError."""
    async with alone(folder) as (stage, _), PostOffice() as office:
        figures = await storm(stage, office, flags=given.flags, seconds=given.seconds, interval_seconds=given.interval)
        return f"held: {figures}"


def main(arguments: list[str]) -> int:
    """Storm from the command line."""
    quiet()
    parser = argparse.ArgumentParser(prog="tests.faults.storm", description="Thousands of orphans come at once")
    parser.add_argument("--flags", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--interval", type=float, default=10)
    given = parser.parse_args(arguments)
    with TemporaryDirectory(prefix="reconcal-storm-") as folder:
        sys.stdout.write(asyncio.run(run(given, Path(folder))) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
