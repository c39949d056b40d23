"""A loop that only writes: the rows that the reconciler left, once more, by its own statements. JSON in, JSON out.

All is read back and laid out before; measured is nothing but the transactions.
"""

import os
import re
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


def _written_by(statement: str) -> list[str]:
    """Give the columns that one of the store's statements writes, in its order."""
    found = re.search(r"\(([^()]*)\)\s*SELECT", statement)
    assert found, statement
    return re.findall(r"\w+", found[1])


def _as_written(columns: list[str], table: str) -> str:
    """Give the query that reads back what was appended, in the order in which it was."""
    return f"SELECT {', '.join(columns)} FROM {table} ORDER BY tableoid, ctid"


_NAMES: Final = ", ".join(name for name, _ in rows.COLUMNS)
_EVENT: Final = _written_by(store._EVENTS)
_TRANSITION: Final = _written_by(store._TRANSITIONS)
_ALIASES: Final = "SELECT company_id, record_id, merged_into FROM record_aliases"
_TRUNCATE: Final = "TRUNCATE records, record_keys, events, transitions"


class Order(Struct):
    """What is asked for. `size`: events of a transaction; `once`: a record is written with its first event only."""

    dsn: str
    postgres_pid: int
    size: int
    once: bool


class Batch(Struct):
    """What one transaction writes, in columns: the arguments of the store's statements."""

    offsets: list[list[Any]]
    records: list[list[Any]]
    keys: list[list[Any]]
    events: list[list[Any]]
    transitions: list[list[Any]]


class Event(Struct, frozen=True):
    """One row of `events`, and what of it lays out the transactions."""

    row: Row
    record: tuple[Any, Any]
    topic: str
    partition: int
    offset: int


class Left(Struct):
    """What the reconciler left, the events in the order of their writing."""

    events: list[Event]
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
    aliases = {(company, old): new for company, old, new in await connection.fetch(_ALIASES)}
    transitions = await connection.fetch(_as_written(_TRANSITION, "transitions"))
    return Left(
        events=[_event(row, aliases) for row in await connection.fetch(_as_written(_EVENT, "events"))],
        transitions=[tuple(row) for row in transitions],
        records={(row["company_id"], row["record_id"]): tuple(row) for row in records},
        keys=keys,
        epochs={row["kafka_partition"]: row["epoch"] for row in epochs},
    )


def _event(row: asyncpg.Record, aliases: dict[tuple[Any, Any], Any]) -> Event:
    """Give an event; of a record that became part of another by the other's name."""
    record = (row["company_id"], row["record_id"])
    while record in aliases:
        record = (record[0], aliases[record])
    written = tuple(record[1] if name == "record_id" else row[name] for name in _EVENT)
    return Event(written, record, row["topic"], row["kafka_partition"], row["kafka_offset"])


def _laid_out(left: Left, size: int, *, once: bool) -> list[Batch]:
    """Give the transactions: each writes the records of its events, as the reconciler does, or each record once."""
    seen: set[tuple[Any, Any]] = set()
    share = len(left.transitions) / len(left.events)
    batches = []
    for first in range(0, len(left.events), size):
        events = left.events[first : first + size]
        named = dict.fromkeys(event.record for event in events)
        new = [ref for ref in named if ref not in seen]
        seen |= set(new)
        written = [left.records[ref] for ref in (new if once else named)]
        keys = [key for ref in new for key in left.keys.pop((ref[0], left.records[ref][2]), ())]
        transitions = left.transitions[round(first * share) : round((first + len(events)) * share)]
        batches.append(
            Batch(
                _offsets(events, left.epochs),
                _columns(written, len(rows.COLUMNS)),
                _columns(keys, 3),
                _columns([event.row for event in events], len(_EVENT)),
                _columns(transitions, len(_TRANSITION)),
            )
        )
    return batches


def _offsets(events: list[Event], epochs: dict[int, int]) -> list[list[Any]]:
    """Give the arguments of the statement that moves the offsets."""
    found: dict[int, dict[str, int]] = {}
    for event in events:
        found.setdefault(event.partition, {})[event.topic] = event.offset + 1
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
        await connection.execute(store._EVENTS, *batch.events)
        await connection.execute(store._TRANSITIONS, *batch.transitions)


if __name__ == "__main__":
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(rewrite(asked))))
