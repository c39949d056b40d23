"""Fill one table with open records, as fast as PostgreSQL takes them. JSON in, JSON out.

Without its indexes, which are made when all is there; frozen, so that nothing is left for autovacuum to do.
"""

import sys
from collections.abc import AsyncIterator
from itertools import islice
from time import perf_counter
from typing import Any, Final, TypeAlias

import asyncpg
import msgspec
import uvloop
from msgspec import Struct

from services.reconciler import rows
from tests.bench.open_templates import FIRST, texts

Connection: TypeAlias = "asyncpg.Connection[Any]"

_ROWS_AT_ONCE: Final = 2_000
_SETTINGS: Final = {"maintenance_work_mem": "1GB", "timezone": "UTC"}
_COLUMNS: Final = {
    "records": [name for name, _ in rows.COLUMNS],
    "record_keys": ["company_id", "key", "cluster_id"],
    "flags": ["company_id", "flag_id", "record_id", "kind", "generation", "raised_at", "body"],
}
#: How to take away what hangs on a table and how to put it there again: constraints first, then the other indexes.
_FURNITURE: Final = """
SELECT format('ALTER TABLE %I DROP CONSTRAINT %I', $1::text, conname) AS gone,
  format('ALTER TABLE %I ADD CONSTRAINT %I %s', $1::text, conname, pg_get_constraintdef(oid)) AS again
FROM pg_constraint WHERE conrelid = $1::text::regclass AND contype IN ('p', 'u')
UNION ALL
SELECT format('DROP INDEX %I', relname), pg_get_indexdef(indexrelid)
FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
WHERE indrelid = $1::text::regclass AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)"""


class Order(Struct):
    """What is asked for: a table, and how many cases it is to hold."""

    dsn: str
    table: str
    cases: int


async def fill(order: Order) -> dict[str, Any]:
    """Fill it; gives the seconds that copying, indexing and cleaning took."""
    connection = await asyncpg.connect(order.dsn, server_settings=_SETTINGS)
    try:
        furniture = await connection.fetch(_FURNITURE, order.table)
        began_at = perf_counter()
        async with connection.transaction():
            for piece in furniture:
                await connection.execute(piece["gone"])
            await connection.execute(f"TRUNCATE {order.table}")  # with it, in one transaction, rows can come frozen
            await connection.copy_to_table(
                order.table, source=_source(order), columns=_COLUMNS[order.table], freeze=True
            )
        copied_at = perf_counter()
        for piece in furniture:
            await connection.execute(piece["again"])
        indexed_at = perf_counter()
        await connection.execute(f"VACUUM (ANALYZE) {order.table}")
        ended_at = perf_counter()
    finally:
        await connection.close()
    return {"copy": copied_at - began_at, "index": indexed_at - copied_at, "vacuum": ended_at - indexed_at}


async def _source(order: Order) -> AsyncIterator[bytes]:
    found = texts(order.table, range(FIRST, FIRST + order.cases))
    while chunk := "".join(islice(found, _ROWS_AT_ONCE)):
        yield chunk.encode()


if __name__ == "__main__":
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(fill(asked))))
