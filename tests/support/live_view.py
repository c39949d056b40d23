"""What there is to see on a real broker and database, for `invariants.check`."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeAlias
from uuid import UUID

import msgspec
from msgspec.structs import replace

from schemas import topics
from schemas.envelope import Envelope
from schemas.flags import Flag, FlagType
from services.companies.model import Purpose
from services.companies.register import Register
from services.plumbing import kafka
from services.plumbing.clock import WallClock
from services.plumbing.lanes import partition_of
from services.plumbing.postgres import Connection, Pool
from services.plumbing.probe import Probe
from services.plumbing.reader import Reader
from services.plumbing.settings import Settings
from services.reconciler import rows
from services.reconciler.core.policy import Policy
from services.reconciler.core.record import Record, flag_id
from services.reconciler.policies import policy_of
from services.reconciler.ports import Position
from tests.support.invariants import View
from tests.support.wait import until

Row: TypeAlias = Any  # asyncpg's, whose type is no Mapping
Place = tuple[str, int, int]

READ_SECONDS: Final = 60.0

_TABLES: Final = {
    "events": "SELECT topic, kafka_partition, kafka_offset, received_at FROM events",
    "dead_letters": "SELECT topic, kafka_partition, kafka_offset FROM dead_letters",
    "records": "SELECT company_id, facts, decision FROM records",
    "flags": """
SELECT company_id, flag_id, record_id, kind, generation, resolved_at, resolved_by, body FROM flags""",
}
_OFFSETS: Final = "SELECT kafka_partition, next_offsets FROM partitions"
_UNDONE: Final = """
SELECT (SELECT count(*) FROM outbox) AS untold, (SELECT count(*) FROM records WHERE deadline_at < $1) AS overdue"""


async def live_view(
    settings: Settings, pool: Pool, *, mails: Sequence[tuple[str, UUID]] = (), rest_seconds: float = 30.0
) -> View:
    """Give everything there is, as of one moment at which all is at rest. `check` it after every test.

    At rest: every envelope of the three inputs is applied, no deadline has passed undecided, the outbox is empty.
    Waits for that for `rest_seconds`, so heal what was cut first; raises AssertionError that says what is undone.
    `mails` are (Message-ID, flag id) of every mail that a server accepted; leave it out where no notifier runs.

    The input log must be whole (a broker that lost it shows nothing), and a record that a human resolved must have come
    to agree: the log folded anew knows of no human.
    """
    probe = await Probe.open(settings)
    try:
        partitions = kafka.partition_count(await kafka.inspect(settings))
        seen = await _at_rest(probe, pool, partitions, rest_seconds)
    finally:
        await probe.close()
    envelopes = seen.among(await read_all(settings, topics.INPUTS))
    flags = seen.among(await read_all(settings, (topics.SYNC_FLAGS,)))
    told = [msgspec.json.decode(envelope.body, type=Flag) for envelope in flags]
    return seen.view(envelopes, told, mails, await _policies(pool), partial(partition_of, partitions=partitions))


async def read_all(settings: Settings, names: tuple[str, ...]) -> list[Envelope]:
    """Give everything that lies in these topics, from the oldest record to the present end, within 60 s.

    Sorted by append time, and by place where that is the same.
    """
    partitions = kafka.partition_count(await kafka.inspect(settings))
    probe = await Probe.open(settings)
    reader = await Reader.open(settings, WallClock(), names, group=None, partitions=partitions)
    try:
        async with asyncio.timeout(READ_SECONDS):
            ends = await probe.ends(names, range(partitions))
            reader.begin(await probe.starts(names, range(partitions)))
            return await _read_to(reader, ends)
    finally:
        await reader.close()
        await probe.close()


async def _read_to(reader: Reader, ends: Mapping[Position, int]) -> list[Envelope]:
    numbers = {number for _, number in ends}
    found: list[Envelope] = []
    while any(at < ends[place] for place, at in (await reader.positions(numbers)).items()):
        found.extend(await reader.poll(max_records=5000, timeout_seconds=0.5))
    within = [e for e in found if e.offset < ends[(e.topic, e.partition)]]
    return sorted(within, key=lambda e: (e.appended_at, e.topic, e.partition, e.offset))


class _Seen:
    """The database as of one moment."""

    def __init__(self, at: datetime, tables: dict[str, list[Row]], ends: Mapping[Position, int]) -> None:
        self.at = at
        self.tables = tables
        self.ends = ends

    def among(self, envelopes: Iterable[Envelope]) -> list[Envelope]:
        """Leave out what came since: a poll of Cal.com may tell of something at any time."""
        return [one for one in envelopes if one.offset < self.ends[(one.topic, one.partition)]]

    def view(
        self,
        envelopes: Sequence[Envelope],
        told: Sequence[Flag],
        mails: Sequence[tuple[str, UUID]],
        policies: Mapping[str, Policy],
        home_of: Callable[[str], int],
    ) -> View:
        received = {_place(row): row["received_at"] for row in self.tables["events"]}
        records = [rows.read(row["company_id"], row["facts"], row["decision"]) for row in self.tables["records"]]
        return View(
            envelopes=[_as_received(envelope, received) for envelope in envelopes],
            event_places=[_place(row) for row in self.tables["events"]],
            dead_places=[_place(row) for row in self.tables["dead_letters"]],
            records=records,
            raised={row["flag_id"]: _raised(row) for row in self.tables["flags"]},
            resolved={row["flag_id"]: _resolved(row) for row in self.tables["flags"] if row["resolved_at"]},
            told=told,
            mails=mails,
            policies=policies,
            home_of=home_of,
            until=self._until(records),
        )

    def _until(self, records: Iterable[Record]) -> datetime:
        """At rest the earliest open window tells the past from the future, whatever the clock says meanwhile."""
        return min((r.deadline_at for r in records if r.deadline_at is not None), default=self.at)


async def _at_rest(probe: Probe, pool: Pool, partitions: int, seconds: float) -> _Seen:
    undone: dict[str, Any] = {}

    async def look() -> _Seen | None:
        """Give the database if all is at rest, and nothing came or was told while we looked."""
        ends = await probe.ends(topics.ALL, range(partitions))
        async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            at = datetime.now(UTC)
            undone.clear()
            undone.update(await _undone(connection, ends, at))
            tables = {name: await connection.fetch(query) for name, query in _TABLES.items()}
        moved = await probe.ends(topics.ALL, range(partitions)) != ends
        return None if undone or moved else _Seen(at, tables, ends)

    try:
        return await until(look, seconds)
    except AssertionError:
        raise AssertionError(f"not at rest within {seconds} s: {undone or 'something comes all the time'}") from None


async def _undone(connection: Connection, ends: Mapping[Position, int], at: datetime) -> dict[str, Any]:
    """Say what keeps everything from being at rest."""
    found = await connection.fetch(_OFFSETS)
    offsets = {
        (topic, row["kafka_partition"]): offset
        for row in found
        for topic, offset in msgspec.json.decode(row["next_offsets"]).items()
    }
    behind = {
        place: (offsets.get(place, 0), end)
        for place, end in ends.items()
        if place[0] in topics.INPUTS and offsets.get(place, 0) < end
    }
    row = await connection.fetchrow(_UNDONE, at)
    assert row is not None
    return {name: what for name, what in {**row, "behind": behind}.items() if what}


def _place(row: Row) -> Place:
    return row["topic"], row["kafka_partition"], row["kafka_offset"]


def _as_received(envelope: Envelope, received: Mapping[Place, datetime]) -> Envelope:
    """Without the door's header the moment of reading may count: the event's row has the one that did."""
    at = received.get((envelope.topic, envelope.partition, envelope.offset))
    return envelope if at is None or at > envelope.received_at else replace(envelope, received_at=at)


def _raised(row: Row) -> Flag:
    return msgspec.json.decode(row["body"], type=Flag)


def _resolved(row: Row) -> Flag:
    """Make the resolution that must have been told, from the row of the flag that it ended."""
    kind = f"resolved:{row['kind']}"
    return replace(
        _raised(row),
        id=flag_id(row["record_id"], row["company_id"], kind, row["generation"]),
        type=FlagType.RESOLVED,
        decided_at=row["resolved_at"],
        resolves=row["flag_id"],
        resolved_by=row["resolved_by"],
    )


async def _policies(pool: Pool) -> dict[str, Policy]:
    register = Register()
    await register.refresh(pool)
    now = WallClock().now()
    return {
        company_id: policy_of(company, verify=register.holds(company_id, Purpose.CALCOM_API_KEY, now))
        for company_id, company in register.companies.items()
    }
