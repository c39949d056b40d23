"""What `reconcal status` knows: one look at PostgreSQL, one at Kafka, and what is wrong with them."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import asyncpg
import msgspec
from aiokafka.errors import KafkaError
from msgspec import Struct

from schemas import topics
from services.cli import notifying, verifying
from services.cli.failures import told
from services.cli.notifying import Notifying
from services.cli.verifying import Verifying
from services.companies import incidents
from services.companies.incidents import Incident
from services.notifier.ports import TroubleKind
from services.plumbing import kafka, migrate, postgres
from services.plumbing.lifecycle import bounded
from services.plumbing.probe import Probe
from services.plumbing.settings import Settings, SettingsError

#: A reconciler reports every two seconds.
SILENT_AFTER: Final = timedelta(seconds=20)
#: A frontier that stands still for longer holds decisions up.
FRONTIER_OLD_SECONDS: Final = 60.0

_PARTITIONS: Final = """
SELECT kafka_partition, owner, log_id, next_offsets::text AS next_offsets, frontiers::text AS frontiers, held_decisions,
  stopped_reason, greatest(reported_at, claimed_at) AS heard_at FROM partitions ORDER BY kafka_partition"""
_COUNTS: Final = {
    "records": "SELECT calcom_sync_status AS name, count(*) AS n FROM records GROUP BY 1 ORDER BY 1",
    "open_flags": "SELECT kind AS name, count(*) AS n FROM flags WHERE resolved_at IS NULL GROUP BY 1 ORDER BY 1",
    "dead_letters": "SELECT topic AS name, count(*) AS n FROM dead_letters GROUP BY 1 ORDER BY 1",
    "outbox": "SELECT topic AS name, count(*) AS n FROM outbox GROUP BY 1 ORDER BY 1",
}


class Partition(Struct, kw_only=True):
    """One partition number: who owns it, and how far it is. `lag` is None where the broker did not say.

    `heard_at`: when its owner last claimed it or reported.
    """

    partition: int
    owner: str | None
    next_offsets: dict[str, int]
    end_offsets: dict[str, int] = {}
    lag: int | None = None
    frontier_age_seconds: float | None = None
    held_decisions: int
    stopped_reason: str | None
    heard_at: datetime | None


class Picture(Struct, kw_only=True):
    """The whole installation at one moment."""

    at: datetime
    healthy: bool = False
    troubles: list[str] = []
    migrations_pending: int | None = None
    cluster_id: str | None = None
    partitions: list[Partition] = []
    records: dict[str, int] = {}
    open_flags: dict[str, int] = {}
    dead_letters: dict[str, int] = {}
    outbox: dict[str, int] = {}
    incidents: list[Incident] = []  # not the notifier's; one that is mended is forgotten a week later
    verifier: Verifying = msgspec.field(default_factory=Verifying)
    notifier: Notifying = msgspec.field(default_factory=Notifying)


async def take(settings: Settings, now: datetime) -> Picture:
    """Look at everything; what is away becomes a trouble."""
    picture, logs = Picture(at=now), dict[int, str | None]()
    try:
        logs = await _database(settings, picture)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        picture.troubles.append(f"PostgreSQL does not answer: {told(error)}")
    try:
        await _broker(settings, picture, logs)
    except SettingsError as error:
        picture.troubles.append(str(error))
    except (KafkaError, OSError, TimeoutError) as error:
        picture.troubles.append(f"Kafka does not answer: {told(error)}")
    picture.troubles += judge(picture)
    picture.healthy = not picture.troubles
    return picture


def judge(picture: Picture) -> list[str]:
    """Say what is wrong with an installation that answered."""
    troubles = []
    if picture.migrations_pending:
        troubles.append(f"{picture.migrations_pending} migrations have not run: `reconcal migrate`")
    elif picture.migrations_pending == 0 and not picture.partitions:
        troubles.append("no reconciler has ever run on this database")
    silent = [p.partition for p in picture.partitions if p.heard_at is None or p.heard_at < picture.at - SILENT_AFTER]
    if silent:
        troubles.append(f"no reconciler reports for partitions {_spans(silent)}")
    stopped = [p for p in picture.partitions if p.stopped_reason]
    troubles.extend(f"partition {p.partition} is stopped: {p.stopped_reason}" for p in stopped)
    held = [p for p in picture.partitions if p.held_decisions and (p.frontier_age_seconds or 0) > FRONTIER_OLD_SECONDS]
    if held:
        count = sum(p.held_decisions for p in held)
        troubles.append(f"{count} decisions are held: partitions {_spans([p.partition for p in held])} are behind")
    troubles += verifying.judge(picture.verifier, picture.at)
    return troubles + notifying.judge(picture.notifier, picture.at)


def _spans(numbers: list[int]) -> str:
    """Give sorted numbers in short: 0-3, 7."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


async def _database(settings: Settings, picture: Picture) -> dict[int, str | None]:
    pool = await postgres.connect(settings, name="cli", size=1)
    try:
        async with pool.acquire() as connection:
            picture.migrations_pending = await migrate.pending(connection)
            if picture.migrations_pending:
                return {}
            for name, query in _COUNTS.items():
                setattr(picture, name, {row["name"]: row["n"] for row in await connection.fetch(query)})
            picture.incidents = [one for one in await incidents.every(connection) if one.kind not in set(TroubleKind)]
            picture.verifier = await verifying.look(connection, picture.at, settings.calcom_poll_seconds)
            picture.notifier = await notifying.look(connection, picture.at)
            rows = await connection.fetch(_PARTITIONS)
            picture.partitions = [_partition(row, picture.at) for row in rows]
            return {row["kafka_partition"]: row["log_id"] for row in rows}
    finally:
        await postgres.close(pool)


def _partition(row: Mapping[str, Any], now: datetime) -> Partition:
    frontiers = msgspec.json.decode(row["frontiers"], type=dict[str, datetime])
    known = [frontiers[topic] for topic in topics.SIDES if topic in frontiers]
    return Partition(
        partition=row["kafka_partition"],
        owner=row["owner"],
        next_offsets=msgspec.json.decode(row["next_offsets"]),
        frontier_age_seconds=(now - min(known)).total_seconds() if len(known) == len(topics.SIDES) else None,
        held_decisions=row["held_decisions"],
        stopped_reason=row["stopped_reason"],
        heard_at=row["heard_at"],
    )


async def _broker(settings: Settings, picture: Picture, logs: Mapping[int, str | None]) -> None:
    found = await kafka.inspect(settings)
    picture.cluster_id = found.cluster_id
    count = kafka.partition_count(found)
    probe = await Probe.open(settings)
    try:
        ends = await probe.ends(topics.INPUTS, range(count))
    finally:
        await bounded(probe.close(), 3)
    for partition in picture.partitions:
        number = partition.partition
        # Offsets of another log say nothing of this one: all of it is still to be read.
        known = partition.next_offsets if logs.get(number) == found.cluster_id else {}
        partition.end_offsets = {name: ends[(name, number)] for name in topics.INPUTS if (name, number) in ends}
        partition.lag = sum(max(0, end - known.get(name, 0)) for name, end in partition.end_offsets.items())
