"""What somebody has to mend outside of Reconcal: `incidents`, one row a company and kind, while it lasts.

Whoever sees trouble says so each time; the table knows whether it is new, whichever process has seen it before, and
still knows it after a restart. A company of '' stands for what is every company's. Errors of the database go up.
"""

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias

import asyncpg
from msgspec import Struct

from services.plumbing.postgres import Connection, Pool, columns

Conn: TypeAlias = "Connection | Pool | asyncpg.Connection[Any]"

#: What is every company's, such as a mail server that is away.
EVERYBODYS: Final = ""
#: Who sees the same thing over and over writes it so often at most.
AGAIN: Final = timedelta(minutes=1)

#: Notes trouble; `opened`: it is new.
_SEEN: Final = """
INSERT INTO incidents AS i (company_id, kind, detail, opened_at, last_seen_at) VALUES ($1, $2, $3, $4, $4)
ON CONFLICT (company_id, kind) DO UPDATE
SET detail = excluded.detail, last_seen_at = excluded.last_seen_at, seen = i.seen + 1
RETURNING seen = 1 AS opened"""

#: Notes what is known by hearsay, where the company has nothing of its own; `opened`: it is new.
_HEARD: Final = """
INSERT INTO incidents AS i (company_id, kind, detail, opened_at, last_seen_at)
SELECT $1, $2, $3, $4, $4
WHERE NOT EXISTS (SELECT FROM incidents WHERE company_id = $1 AND kind <> $2 AND kind = ANY($5::text[]))
ON CONFLICT (company_id, kind) DO UPDATE SET last_seen_at = excluded.last_seen_at, seen = i.seen + 1
RETURNING seen = 1 AS opened"""

#: Notes trouble of many, each seen so many times.
_SEEN_MANY: Final = """
INSERT INTO incidents AS i (company_id, kind, detail, opened_at, last_seen_at, seen)
SELECT company_id, kind, detail, $5, $5, seen
FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) AS n (company_id, kind, detail, seen)
ORDER BY company_id, kind
ON CONFLICT (company_id, kind) DO UPDATE
SET detail = excluded.detail, last_seen_at = excluded.last_seen_at, seen = i.seen + excluded.seen"""

#: Ends what is over; what settles slowly only where it was not seen lately.
_OVER: Final = """
DELETE FROM incidents
WHERE company_id = $1 AND kind = ANY($2::text[]) AND (kind <> ALL($3::text[]) OR last_seen_at < $4)
RETURNING kind"""

#: Ends what is of companies that it is no more about.
_KEEP: Final = "DELETE FROM incidents WHERE kind = ANY($1::text[]) AND company_id <> ALL($2::text[])"

_DETAIL: Final = "SELECT detail FROM incidents WHERE company_id = $1 AND kind = $2"

_HAVING: Final = "SELECT company_id FROM incidents WHERE kind = $1"

_COUNT: Final = "SELECT kind, count(*) FROM incidents WHERE kind = ANY($1::text[]) GROUP BY kind"

_LIST: Final = """
SELECT company_id, kind, detail, opened_at, last_seen_at, seen FROM incidents ORDER BY company_id, kind"""


class Incident(Struct, frozen=True):
    """One row. `detail`: sentences without secrets that say what to do. `seen`: how often."""

    company_id: str
    kind: str
    detail: str
    opened_at: datetime
    last_seen_at: datetime
    seen: int


async def seen(conn: Conn, company_id: str, kind: str, detail: str, now: datetime) -> bool:
    """Note trouble; tells whether it is new."""
    return bool(await conn.fetchval(_SEEN, company_id, kind, detail, now))


async def heard(conn: Conn, company_id: str, kind: str, detail: str, now: datetime, *, unless: Collection[str]) -> bool:
    """Note trouble that is known by hearsay, but not where one of `unless` is known; tells whether it is new."""
    return bool(await conn.fetchval(_HEARD, company_id, kind, detail, now, list(unless)))


async def seen_many(conn: Conn, found: Iterable[tuple[str, str, str, int]], now: datetime) -> None:
    """Note trouble of many: company, kind, detail, and how often; one a company and kind."""
    rows = list(found)
    if rows:
        await conn.execute(_SEEN_MANY, *columns(rows), now)


async def over(
    conn: Conn,
    company_id: str,
    kinds: Collection[str],
    *,
    settling: Collection[str] = (),
    unseen_since: datetime | None = None,
) -> list[str]:
    """End trouble of these kinds, but those of `settling` only where they were not seen since; gives what has ended."""
    rows = await conn.fetch(_OVER, company_id, list(kinds), list(settling), unseen_since)
    return [row["kind"] for row in rows]


async def keep(conn: Conn, kinds: Collection[str], company_ids: Collection[str]) -> None:
    """End trouble of these kinds of all other companies."""
    await conn.execute(_KEEP, list(kinds), list(company_ids))


async def detail(conn: Conn, company_id: str, kind: str) -> str | None:
    """Give what is told of trouble; None: there is none."""
    found: str | None = await conn.fetchval(_DETAIL, company_id, kind)
    return found


async def having(conn: Conn, kind: str) -> set[str]:
    """Give the companies that have trouble of this kind."""
    return {row["company_id"] for row in await conn.fetch(_HAVING, kind)}


async def count(conn: Conn, kinds: Collection[str]) -> dict[str, int]:
    """Count the companies that have trouble, by kind: of each of `kinds`."""
    found = dict(await conn.fetch(_COUNT, list(kinds)))
    return {kind: found.get(kind, 0) for kind in kinds}


async def every(conn: Conn) -> list[Incident]:
    """Give all that lasts."""
    return [Incident(*row) for row in await conn.fetch(_LIST)]
