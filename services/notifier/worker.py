"""Reads the flags and takes them in."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec

from schemas.envelope import Envelope
from schemas.flags import Flag
from schemas.topics import SYNC_FLAGS
from services.notifier.store import Store, Taken
from services.plumbing import kafka, lifecycle, telemetry
from services.plumbing.clock import Clock
from services.plumbing.health import Health
from services.plumbing.kafka import Cluster
from services.plumbing.probe import Probe
from services.plumbing.reader import Reader
from services.plumbing.settings import Settings

GROUP: Final = "notifier"
_BATCH: Final = 500
_POLL_SECONDS: Final = 1.0


class WrongLog(OSError):  # noqa: N818 - says what was found
    """The broker has not the log that we want to read, or not yet: look again."""


def decode(envelope: Envelope) -> Flag:
    """Read a flag. Raises ValueError if the record is none, or is not its company's."""
    flag = msgspec.json.decode(envelope.body, type=Flag)
    if flag.company_id != envelope.company_id:
        raise ValueError("the record's key is not the flag's company")
    return flag


def begin_at(
    noted: Mapping[int, int], starts: Mapping[tuple[str, int], int], ends: Mapping[tuple[str, int], int]
) -> dict[tuple[str, int], int]:
    """Choose where to read on: where we were, if the log has that place, else at its start."""
    return {
        place: at if start <= (at := noted.get(place[1], -1)) <= ends[place] else start
        for place, start in starts.items()
    }


class Worker:
    """One life of the reader: from connecting to the first error. `lifecycle.keep` gives it the next."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        clock: Clock,
        health: Health,
        news: Collection[asyncio.Event],
        stop: asyncio.Event,
    ) -> None:
        """`news` are set when there is something to tell."""
        self._settings = settings
        self._store = store
        self._clock = clock
        self._health = health
        self._news = news
        self._stop = stop

    async def run(self) -> None:
        """Read until stop. Errors of Kafka and the database go up."""
        cluster = await kafka.inspect(self._settings)
        if SYNC_FLAGS not in cluster:
            raise WrongLog(f"{SYNC_FLAGS}: no such topic; `reconcal topics` makes it")
        group = GROUP if self._settings.kafka_assignment == "group" else None
        opened: list[Probe | Reader] = []
        try:
            opened.append(probe := await Probe.open(self._settings))
            opened.append(
                reader := await Reader.open(
                    self._settings, self._clock, (SYNC_FLAGS,), group=group, partitions=cluster[SYNC_FLAGS]
                )
            )
            await self._read(reader, probe, cluster)
        finally:
            await asyncio.gather(*(client.close() for client in opened))

    async def _read(self, reader: Reader, probe: Probe, cluster: Cluster) -> None:
        known, checked_at = -1, asyncio.get_running_loop().time()
        while not self._stop.is_set():
            generation, numbers = reader.assigned
            if generation != known:
                await self._begin(reader, probe, cluster.cluster_id, numbers)
                known = generation
            found = await reader.poll(max_records=_BATCH, timeout_seconds=_POLL_SECONDS)
            if found:
                await self._take_in(found, cluster.cluster_id)
            if asyncio.get_running_loop().time() - checked_at > self._settings.stall_after_seconds:
                await self._check(cluster)
                checked_at = asyncio.get_running_loop().time()

    async def _begin(self, reader: Reader, probe: Probe, log_id: str, numbers: Collection[int]) -> None:
        """Go on where PostgreSQL says; where it does not know or the log is another one, from the oldest flag on.

        That a flag comes a second time is harmless: it was seen.
        """
        if numbers:
            starts = await probe.starts((SYNC_FLAGS,), numbers)
            ends = await probe.ends((SYNC_FLAGS,), numbers)
            noted = await self._store.positions(log_id, numbers)
            positions = begin_at(noted, starts, ends)
            await self._store.adopt(log_id, {number: at for (_, number), at in positions.items()})
            reader.begin(positions)
            anew = sorted(number for (_, number), at in positions.items() if noted.get(number) != at)
            telemetry.log().info(telemetry.NOTIFIER_POSITIONS, log_id=log_id, partitions=sorted(numbers), anew=anew)
        self._health.ready("flags")

    async def _check(self, cluster: Cluster) -> None:
        """Make sure that the broker is there, and is the one that we know: its client alone would wait in silence."""
        if (await kafka.inspect(self._settings)).cluster_id != cluster.cluster_id:
            raise WrongLog("the broker has another log than before")

    async def _take_in(self, envelopes: Sequence[Envelope], log_id: str) -> None:
        flags = [flag for envelope in envelopes if (flag := _read(envelope)) is not None]
        positions: dict[int, int] = {}
        for envelope in envelopes:
            positions[envelope.partition] = max(envelope.offset + 1, positions.get(envelope.partition, 0))
        taken = await self._store.take_in(flags, log_id, positions, self._clock.now())
        if taken.news:
            for event in self._news:
                event.set()
        _said(taken)


def _read(envelope: Envelope) -> Flag | None:
    try:
        return decode(envelope)
    except ValueError as error:  # msgspec's errors are ValueErrors
        telemetry.flags_unreadable.inc()
        telemetry.log().warning(
            telemetry.NOTIFIER_UNREADABLE,
            topic=envelope.topic,
            partition=envelope.partition,
            offset=envelope.offset,
            error=lifecycle.describe(error),
        )
        return None


def _said(taken: Taken) -> None:
    for company_id in taken.nobody:
        telemetry.flags_without_recipient.inc()
        telemetry.log().warning(telemetry.NOTIFIER_NOBODY, company_id=company_id)
    if taken.news:
        figures = {"raised": taken.raised, "resolved": taken.resolved, "queued": taken.queued}
        telemetry.log().info(telemetry.NOTIFIER_FLAG, **figures)
