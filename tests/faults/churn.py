"""Workers that come and go under load: 1, 2, 3, 1 ..., killed or told to leave, again and again (scenario 34).

    python -m tests.faults.churn --seconds 120 --ids 100000

Stands up Apache Kafka and PostgreSQL of its own; exits 1 with what did not hold.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Final

from msgspec import Struct

from tests.faults.scene import PARTITIONS, Scene, alone
from tests.support.load import Case, both_sides, cases, on_partition
from tests.support.processes import Service
from tests.support.wait import moment

COMPANIES: Final = [on_partition(number, PARTITIONS) for number in range(PARTITIONS)]
#: How many workers there are after each change.
SIZES: Final = (1, 2, 3, 1)
#: A change waits for somebody to be at work, but not longer: kills come while nobody is, too.
PATIENCE_SECONDS: Final = 12.0
EVERY_SECONDS: Final = 3.0


class Tally(Struct):
    """What was done to the workers, and how much was committed meanwhile."""

    killed: int = 0
    left: int = 0
    applied: int = 0


async def churn(stage: Scene, planted: Sequence[Case], seconds: float, random: Random) -> Tally:
    """Let workers come and go for so long, under load that lasts as long. One lives at the end."""
    loop = asyncio.get_running_loop()
    load = asyncio.ensure_future(_spread(stage, planted, loop.time() + seconds, random))
    tally, ends_at, workers = Tally(), loop.time() + seconds, [stage.start("reconciler")]
    for size in cycle(SIZES):
        if loop.time() >= ends_at:
            break
        await _work_a_while(stage, loop.time() + EVERY_SECONDS)
        for _ in range(max(1, len(workers) - size)):
            await _one_goes(workers, tally, random)
        workers += [stage.start("reconciler") for _ in range(size - len(workers))]
    await load
    tally.applied = await stage.applied()
    return tally


async def _work_a_while(stage: Scene, not_before: float) -> None:
    """Return in the middle of work, where there is any."""
    await moment(not_before)
    with suppress(AssertionError):
        await stage.applied_beyond(await stage.applied(), PATIENCE_SECONDS)


async def _one_goes(workers: list[Service], tally: Tally, random: Random) -> None:
    """Two of three are killed, the others say goodbye."""
    worker = workers.pop(random.randrange(len(workers)))
    if (tally.killed + tally.left) % 3 != 1:
        tally.killed += 1
        worker.kill()
    else:
        tally.left += 1
        worker.tell_to_stop()
        await worker.ended(12)


async def _spread(stage: Scene, planted: Sequence[Case], ends_at: float, random: Random) -> None:
    """Publish the cases evenly until `ends_at`."""
    loop = asyncio.get_running_loop()
    began_at = loop.time()
    for n in range(0, len(planted), 100):
        await stage.publish(both_sides(planted[n : n + 100], random))
        await moment(began_at + (ends_at - began_at) * n / len(planted))


async def run(seconds: float, ids: int, seed: int, folder: Path) -> str:
    """Stand up what is needed, churn, check; gives a line to read. Raises AssertionError."""
    random = Random(seed)
    async with alone(folder) as (stage, _):
        await stage.companies(COMPANIES)
        planted = cases(COMPANIES, ids // 2, random)
        tally = await churn(stage, planted, seconds, random)
        view = await stage.holds(planted, seconds=120 + ids / 1000)
    return (
        f"held: {len(view.envelopes)} envelopes, {len(view.records)} records, {len(view.raised)} flags; "
        f"{tally.killed} kills, {tally.left} goodbyes, {tally.applied} applied meanwhile"
    )


def main(arguments: list[str]) -> int:
    """Churn from the command line."""
    parser = argparse.ArgumentParser(prog="tests.faults.churn", description="Workers come and go under load")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--ids", type=int, default=100_000, help="messages, two an appointment")
    parser.add_argument("--seed", type=int, default=34)
    given = parser.parse_args(arguments)
    with TemporaryDirectory(prefix="reconcal-churn-") as folder:
        sys.stdout.write(asyncio.run(run(given.seconds, given.ids, given.seed, Path(folder))) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
