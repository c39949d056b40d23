"""The table notifications: the console's inbox, one row a flag and admin or manager, and one where it has ended."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec
from msgspec import Struct

from schemas.flags import Flag
from services.notifier import inbox
from services.notifier.people import Household, Person
from services.plumbing.postgres import Connection, columns

_PUT: Final = """
INSERT INTO notifications (company_id, notification_id, contact_id, flag_id, record_id, type, data, created_at)
SELECT * FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::text[], $7::json[],
  $8::timestamptz[])
ON CONFLICT DO NOTHING"""

#: Which of these notifications were written.
_PUT_ALREADY: Final = """
SELECT n.company_id, n.notification_id FROM notifications n
JOIN unnest($1::text[], $2::uuid[]) AS w (company_id, notification_id) USING (company_id, notification_id)"""

_ENTRIES: Final = """
SELECT notification_id, type, flag_id, record_id, created_at, read_at, data FROM notifications
WHERE company_id = $1 AND contact_id = $2 AND (read_at IS NULL OR NOT $3)
ORDER BY created_at DESC, notification_id LIMIT $4"""
_READ: Final = """
UPDATE notifications SET read_at = $3
WHERE company_id = $1 AND notification_id = ANY($2::uuid[]) AND read_at IS NULL"""

_Told = tuple[Flag, Household, Person]


class Entry(Struct, frozen=True, kw_only=True):
    """One row as it is shown. `data`: an `inbox.Notification`."""

    notification_id: UUID
    type: str
    flag_id: UUID
    record_id: UUID
    created_at: datetime
    read_at: datetime | None
    data: dict[str, Any]


async def put(
    connection: Connection,
    homes: Mapping[str, Household],
    raised: Iterable[Flag],
    resolved: Iterable[Flag],
    at: datetime,
    *,
    console_url: str,
) -> None:
    """Put flags into the inboxes of those who are told, and ends into those that have the flag. Twice is once.

    `homes`: the companies that there are; `resolved`: `sync.resolved` flags. In the caller's transaction.
    """
    told = [(flag, home, person) for flag, home in _at_home(raised, homes) for person in home.told]
    await _put(connection, told, inbox.FAILURE, at, console_url)
    await _put(connection, await _having(connection, homes, resolved), inbox.RESOLVED, at, console_url)


async def entries(
    connection: "Connection | asyncpg.Connection[Any]", company_id: str, contact_id: UUID, *, unread: bool, limit: int
) -> list[Entry]:
    """Give what a person's inbox has, newest first; `unread`: nothing else."""
    rows = await connection.fetch(_ENTRIES, company_id, contact_id, unread, limit)
    return [Entry(**{**row, "data": msgspec.json.decode(row["data"])}) for row in rows]


async def mark_read(
    connection: "Connection | asyncpg.Connection[Any]", company_id: str, read: Sequence[Entry], at: datetime
) -> None:
    """Note that these were read; those that were read before stay as they are."""
    await connection.execute(_READ, company_id, [entry.notification_id for entry in read], at)


def _at_home(flags: Iterable[Flag], homes: Mapping[str, Household]) -> list[tuple[Flag, Household]]:
    return [(flag, homes[flag.company_id]) for flag in flags if flag.company_id in homes]


async def _having(connection: Connection, homes: Mapping[str, Household], resolved: Iterable[Flag]) -> list[_Told]:
    """Give the people whose inbox has the flag that is resolved, whatever they are now."""
    wanted = {
        (flag.company_id, inbox.notification_id(flag.resolves, person.contact_id)): (flag, home, person)
        for flag, home in _at_home(resolved, homes)
        if flag.resolves is not None
        for person in home.people
    }
    if not wanted:
        return []
    rows = await connection.fetch(_PUT_ALREADY, [company for company, _ in wanted], [name for _, name in wanted])
    return [wanted[row["company_id"], row["notification_id"]] for row in rows]


async def _put(connection: Connection, told: Iterable[_Told], kind: str, at: datetime, console_url: str) -> None:
    rows = [_row(flag, home, person, kind, at, console_url) for flag, home, person in told]
    if rows:
        await connection.execute(_PUT, *columns(rows))


def _row(flag: Flag, home: Household, person: Person, kind: str, at: datetime, console_url: str) -> tuple[object, ...]:
    shown = inbox.notification(flag, home.company, language=person.language, console_url=console_url)
    name = inbox.notification_id(flag.id, person.contact_id)
    data = msgspec.json.encode(shown).decode()
    return flag.company_id, name, person.contact_id, flag.id, flag.record_id, kind, data, at
