"""Two verifiers ask a Cal.com that counts strictly: a sweep is under way, and humans come in between.

    python -m tests.faults.asking --seconds 150
    python -m tests.faults.asking --seconds 600 --records 1000 --every 5

Stands up Apache Kafka and PostgreSQL of its own; prints a line of figures, exits 1 with what did not hold.
"""

import argparse
import asyncio
import sys
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, Final

from msgspec import Struct

from services.verifier.gate.budget import Limits
from tests.faults.practice import COMPANY, SETTINGS, Practice, practice
from tests.faults.scene import Scene, alone
from tests.sim.world import quiet
from tests.support.calcom import KEY
from tests.support.wait import moment, until

#: Of a manual retry, from the command to the decided record, while a sweep runs.
HUMAN_P95_SECONDS: Final = 2.0
HUMAN_SECONDS: Final = 20.0
VERIFIERS: Final = 2

_OPEN: Final = """
SELECT record_id, version, appointment_id FROM records
WHERE company_id = $1 AND calcom_sync_status <> 'synced' ORDER BY appointment_id"""
_SYNCED: Final = "SELECT calcom_sync_status = 'synced' FROM records WHERE company_id = $1 AND record_id = $2"
_OUTCOME: Final = "SELECT reason FROM command_outcomes WHERE company_id = $1 AND command_id = $2"


class Figures(Struct, kw_only=True):
    """What it came to. `human_seconds`: of each manual retry, sorted."""

    seconds: float
    requests: int
    most_in_a_minute: int
    most_in_span: int
    together: int
    refused: int
    decided: int
    left: int
    human_seconds: list[float]

    def human(self, share: float) -> float:
        """Give a quantile of the manual retries, in seconds."""
        return self.human_seconds[min(len(self.human_seconds) - 1, int(len(self.human_seconds) * share))]

    def __str__(self) -> str:
        """Give a line to read."""
        return (
            f"{self.requests} requests in {self.seconds:.0f} s, at most {self.most_in_a_minute} in any minute, "
            f"{self.refused} answered 429, {self.together} asked for twice at once; {self.decided} records decided, "
            f"{self.left} questions of the sweep still waiting; {len(self.human_seconds)} manual retries: "
            f"p50 {self.human(0.5):.2f} s, p95 {self.human(0.95):.2f} s"
        )


async def asking(
    stage: Scene, *, seconds: float, a_minute: int, records: int, every_seconds: float, span_seconds: float = 60.0
) -> Figures:
    """Sweep `records` records while a human retries one every so often; afterwards all are decided, and all holds.

    The scene has SETTINGS, and `calcom_requests_per_minute` is `a_minute`. Raises AssertionError.
    """
    async with practice(stage, requests_per_minute=a_minute) as here:
        await _flagged(here, records)
        await here.give_key()
        verifiers = await here.ready(VERIFIERS)
        rows = await stage.pool.fetch(_OPEN, COMPANY)
        await here.retry(rows, sweep=True)
        await until(lambda: _waiting(here, records // 2), 60)
        began = asyncio.get_running_loop().time()
        humans = await _humans(here, began, seconds, every_seconds)
        asked = here.calcom.requests.of(KEY)
        left = int(await stage.pool.fetchval("SELECT count(*) FROM verifications"))
        figures = Figures(
            seconds=asyncio.get_running_loop().time() - began,
            requests=len(asked),
            most_in_a_minute=here.calcom.requests.most_in(60, KEY),
            most_in_span=here.calcom.requests.most_in(span_seconds, KEY),
            together=len(here.calcom.requests.asked_together),
            refused=sum(one.status == 429 for one in asked),
            decided=sum(status == "synced" for status, _ in (await here.records()).values()),
            left=left,
            human_seconds=sorted(humans),
        )
        _held(figures, stage, a_minute, span_seconds)
        await _rest(here, verifiers)
        return figures


async def _flagged(here: Practice, records: int) -> None:
    """Have so many records flagged, as of a company that has no key yet; Cal.com has all of their bookings."""
    await here.enter(key=False)
    bookings = await here.book(range(records))
    await here.tell({number: booking.uid for number, booking in bookings.items()})

    async def all_flagged() -> bool:
        known = await here.records()
        return len(known) == records and {status for status, _ in known.values()} == {"orphaned_local"}

    await until(all_flagged, 60)


async def _waiting(here: Practice, least: int) -> bool:
    return bool(await here.stage.pool.fetchval("SELECT count(*) >= $1 FROM verifications", least))


async def _humans(here: Practice, began: float, seconds: float, every_seconds: float) -> list[float]:
    """Let a human retry one record after the other; gives the seconds that each took."""
    random, loop, took = Random(66), asyncio.get_running_loop(), list[float]()
    while (at := began + len(took) * every_seconds) < began + seconds:
        await moment(max(at, loop.time()))
        row = random.choice(await here.stage.pool.fetch(_OPEN, COMPANY))
        asked_at = loop.time()
        await _retried(here, row)
        took.append(loop.time() - asked_at)
    return took


async def _retried(here: Practice, row: Any) -> None:
    """Retry a record by hand until it is decided; one that has just changed is retried by its new version."""
    (command_id,) = await here.retry([row])

    async def over() -> bool:
        nonlocal command_id
        if await here.stage.pool.fetchval(_SYNCED, COMPANY, row["record_id"]):
            return True
        if await here.stage.pool.fetchval(_OUTCOME, COMPANY, command_id) == "newer_version":
            again = [one for one in await here.stage.pool.fetch(_OPEN, COMPANY) if one["record_id"] == row["record_id"]]
            command_id = (await here.retry(again) or [command_id])[0]
        return False

    await until(over, HUMAN_SECONDS)


def _held(figures: Figures, stage: Scene, a_minute: int, span_seconds: float) -> None:
    limits = Limits.of(a_minute, stage.settings.calcom_timeout_seconds)
    allowed = limits.burst + limits.per_second * (span_seconds + stage.settings.calcom_timeout_seconds)
    assert figures.most_in_a_minute <= a_minute, figures
    assert figures.most_in_span <= allowed, figures
    assert figures.together == 0, figures
    assert figures.refused == 0, figures
    assert figures.left > 0, f"the sweep was over too soon to say anything: {figures}"
    assert figures.human(0.95) < HUMAN_P95_SECONDS, figures


async def _rest(here: Practice, verifiers: list[Any]) -> None:
    """Let Cal.com allow more, so that the rest is decided soon."""
    for one in verifiers:
        one.tell_to_stop()
    await asyncio.gather(*(one.ended(10) for one in verifiers))
    here.calcom.api.limiter.allow(KEY, 1_000_000)
    await here.ready(calcom_requests_per_minute=60_000)
    await here.holds(seconds=180)
    assert {status for status, _ in (await here.records()).values()} == {"synced"}


async def run(given: argparse.Namespace, folder: Path) -> str:
    """Stand up what is needed, ask, check; gives a line to read. Raises AssertionError."""
    settings = SETTINGS | {"calcom_requests_per_minute": f"{given.per_minute}", "calcom_timeout_seconds": "10"}
    async with alone(folder, **settings) as (stage, _):
        figures = await asking(
            stage,
            seconds=given.seconds,
            a_minute=given.per_minute,
            records=given.records,
            every_seconds=given.every,
        )
        return f"held: {figures}"


def main(arguments: list[str]) -> int:
    """Ask from the command line."""
    quiet()  # the services are processes, but for the last of the sweep
    parser = argparse.ArgumentParser(prog="tests.faults.asking", description="Cal.com is asked, and counts")
    parser.add_argument("--seconds", type=float, default=150)
    parser.add_argument("--per-minute", type=int, default=120, help="what Cal.com allows the key, and we ask")
    parser.add_argument("--records", type=int, default=1000, help="of the sweep")
    parser.add_argument("--every", type=float, default=4, help="seconds from one manual retry to the next")
    given = parser.parse_args(arguments)
    with TemporaryDirectory(prefix="reconcal-asking-") as folder:
        sys.stdout.write(asyncio.run(run(given, Path(folder))) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
