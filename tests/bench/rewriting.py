"""A loop that only writes: the rows that the reconciler left, once more, by its own statements. JSON in, JSON out.

All is read back and laid out before; measured is nothing but the transactions.
"""

import os
import sys
from time import perf_counter
from typing import Any, Final, TypeAlias

import asyncpg
import msgspec
import uvloop
from msgspec import Struct

from services.reconciler import rows, store
from tests.bench.machine import cpu_of

Connection: TypeAlias = "asyncpg.Connection[Any]"
Row = tuple[Any, ...]

_NAMES: Final = ", ".join(name for name, _ in rows.COLUMNS)
#: In the order in which they were written; a record that became part of another goes by the other's name.
_EVENTS: Final = """
SELECT e.company_id, received_at, topic, kafka_partition, kafka_offset, coalesce(merged_into, record_id) AS record_id,
  event_id, kind, occurred_at, disposition
FROM events e LEFT JOIN record_aliases USING (company_id, record_id) ORDER BY e.tableoid, e.ctid"""
_TRANSITIONS: Final = "SELECT * FROM transitions ORDER BY tableoid, ctid"
_TRUNCATE: Final = "TRUNCATE records, record_keys, events, transitions"


class Order(Struct):
    """What is asked for. `size`: events of a transaction; `once`: a record is written with its first event only."""

    dsn: str
    postgres_pid: int
    size: int
    once: bool


class Batch(Struct):
    """What one transaction writes; columns, but for what COPY takes as rows."""

    offsets: list[list[Any]]
    records: list[list[Any]]
    keys: list[list[Any]]
    events: list[Row]
    transitions: list[Row]


class Left(Struct):
    """What the reconciler left, the events in the order of their writing."""

    events: list[Row]
    transitions: list[Row]
    records: dict[tuple[Any, Any], Row]
    keys: dict[tuple[Any, Any], list[Row]]
    epochs: dict[int, int]


async def rewrite(order: Order) -> dict[str, Any]:
    """Write it all again; gives events a second, the processor time of an event, and what was written."""
    connection = await asyncpg.connect(order.dsn)
    try:
        left = await _read(connection)
        batches = _laid_out(left, order.size, once=order.once)
        await connection.execute(_TRUNCATE)
        await connection.execute("CHECKPOINT")
        pids = {"loop": os.getpid(), "PostgreSQL": order.postgres_pid}
        before, began_at = cpu_of(pids), perf_counter()
        for batch in batches:
            await _write(connection, batch)
        seconds, after = perf_counter() - began_at, cpu_of(pids)
    finally:
        await connection.close()
    count = len(left.events)
    return {
        "rate": count / seconds,
        "cpu_us": {name: (after[name] - before[name]) / count * 1e6 for name in pids},
        "batches": [{"records": len(batch.records[0])} for batch in batches],
    }


async def _read(connection: Connection) -> Left:
    keys: dict[tuple[Any, Any], list[Row]] = {}
    for row in await connection.fetch("SELECT company_id, key, cluster_id FROM record_keys"):
        keys.setdefault((row["company_id"], row["cluster_id"]), []).append(tuple(row))
    records = await connection.fetch(f"SELECT {_NAMES} FROM records")
    epochs = await connection.fetch("SELECT kafka_partition, epoch FROM partitions")
    return Left(
        events=[tuple(row) for row in await connection.fetch(_EVENTS)],
        transitions=[tuple(row) for row in await connection.fetch(_TRANSITIONS)],
        records={(row["company_id"], row["record_id"]): tuple(row) for row in records},
        keys=keys,
        epochs={row["kafka_partition"]: row["epoch"] for row in epochs},
    )


def _laid_out(left: Left, size: int, *, once: bool) -> list[Batch]:
    """Give the transactions: each writes the records of its events, as the reconciler does, or each record once."""
    seen: set[tuple[Any, Any]] = set()
    share = len(left.transitions) / len(left.events)
    batches = []
    for first in range(0, len(left.events), size):
        events = left.events[first : first + size]
        named = dict.fromkeys((event[0], event[5]) for event in events)
        new = [ref for ref in named if ref not in seen]
        seen |= set(new)
        written = [left.records[ref] for ref in (new if once else named)]
        keys = [key for ref in new for key in left.keys.pop((ref[0], left.records[ref][2]), ())]
        transitions = left.transitions[round(first * share) : round((first + len(events)) * share)]
        batches.append(
            Batch(_offsets(events, left.epochs), _columns(written, 20), _columns(keys, 3), events, transitions)
        )
    return batches


def _offsets(events: list[Row], epochs: dict[int, int]) -> list[list[Any]]:
    """Give the arguments of the statement that moves the offsets."""
    found: dict[int, dict[str, int]] = {}
    for event in events:
        found.setdefault(event[3], {})[event[2]] = event[4] + 1
    numbers = sorted(found)
    return [numbers, [epochs[n] for n in numbers], [msgspec.json.encode(found[n]).decode() for n in numbers]]


def _columns(table: list[Row], width: int) -> list[list[Any]]:
    return [[row[column] for row in table] for column in range(width)]


async def _write(connection: Connection, batch: Batch) -> None:
    async with connection.transaction():
        await connection.fetch(store._ADVANCE, *batch.offsets)
        if batch.records[0]:
            await connection.execute(store._RECORDS, *batch.records)
        if batch.keys[0]:
            await connection.execute(store._KEYS, *batch.keys)
        await connection.copy_records_to_table("events", records=batch.events)
        await connection.copy_records_to_table("transitions", records=batch.transitions)


if __name__ == "__main__":
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(rewrite(asked))))
