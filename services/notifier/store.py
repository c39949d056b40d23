"""Takes flags in: seen, inbox, mails and the offset in one transaction."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import Struct

from schemas.flags import Flag, FlagType
from services.notifier import inbox, mailbox, silence
from services.notifier.compose import message_id
from services.notifier.mailbox import FlagRef, Queued
from services.notifier.people import Household, Person, households
from services.notifier.story import Company, starts_at
from services.plumbing.postgres import Connection, Pool

#: Decides which flags are new. In order of the key, so that two notifiers cannot wait for each other.
_SEEN: Final = """
INSERT INTO seen_flags (company_id, ce_id, type, seen_at)
SELECT company_id, ce_id, type, $4 FROM unnest($1::text[], $2::uuid[], $3::text[]) AS f (company_id, ce_id, type)
ORDER BY company_id, ce_id
ON CONFLICT DO NOTHING RETURNING company_id, ce_id"""

#: Fills the inbox.
_NOTIFY: Final = """
INSERT INTO notifications (company_id, notification_id, contact_id, flag_id, record_id, type, data, created_at)
SELECT * FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::text[], $7::json[],
  $8::timestamptz[])
ON CONFLICT DO NOTHING"""

#: Which of these notifications were written.
_NOTIFIED: Final = """
SELECT n.company_id, n.notification_id FROM notifications n
JOIN unnest($1::text[], $2::uuid[]) AS w (company_id, notification_id) USING (company_id, notification_id)"""

#: Where to go on, as far as the offsets count in this log.
_POSITIONS: Final = """
SELECT kafka_partition, next_offset FROM notifier_offsets WHERE log_id = $1 AND kafka_partition = ANY($2::int[])"""

#: Notes the next offset of each partition.
_ADVANCE: Final = """
INSERT INTO notifier_offsets (kafka_partition, log_id, next_offset)
SELECT n, $1, o FROM unnest($2::int[], $3::bigint[]) AS u (n, o) ORDER BY n
ON CONFLICT (kafka_partition) DO UPDATE SET log_id = excluded.log_id, next_offset = excluded.next_offset"""


class Taken(Struct, frozen=True, kw_only=True):
    """What a batch of flags came to, in mails. `nobody`: new flags of companies that have no admin or manager.

    `queued` includes those that wait for a silent webhook, `released` are those that waited.
    """

    new: int
    queued: int
    withdrawn: int
    released: int
    nobody: tuple[Flag, ...]


class Store:
    """Keeps what the notifier has taken in. Errors of the database go up as they are."""

    def __init__(self, pool: Pool, *, console_url: str, mail_from: str, hold_seconds: float) -> None:
        """The pool stays its owner's."""
        self._pool = pool
        self._console_url = console_url
        self._mail_from = mail_from
        self._hold = timedelta(seconds=hold_seconds)

    async def positions(self, log_id: str, numbers: Iterable[int]) -> dict[int, int]:
        """Give the next offset of the partitions for which one is known in this log."""
        return {row[0]: row[1] for row in await self._pool.fetch(_POSITIONS, log_id, list(numbers))}

    async def adopt(self, log_id: str, positions: Mapping[int, int]) -> None:
        """Note where reading begins."""
        await self._pool.execute(_ADVANCE, log_id, list(positions), list(positions.values()))

    async def take_in(self, flags: Sequence[Flag], log_id: str, positions: Mapping[int, int], at: datetime) -> Taken:
        """Write the inbox and queue the mails of the flags that are new, and move the offsets; all or nothing.

        In one batch the order of a flag and of what resolves it does not matter. A resolution that comes a batch
        before its flag is noted under the flag's id too, so that the flag, when it comes, finds itself seen.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            new = await self._new(connection, flags, at)
            raised = [flag for flag in new if flag.type is not FlagType.RESOLVED]
            resolved = {flag.resolves: flag for flag in new if flag.resolves is not None}
            homes = await households(connection, {flag.company_id for flag in new})
            queued = await self._raise(connection, raised, homes, at)
            withdrawn, answers = await self._resolve(connection, resolved, homes, at)
            await silence.begin(connection, raised, at)
            released = await silence.end(connection, [*resolved.values()], at, at + self._hold)
            if positions:
                await connection.execute(_ADVANCE, log_id, list(positions), list(positions.values()))
        nobody = tuple(flag for flag in raised if not (home := homes.get(flag.company_id)) or not home.told)
        return Taken(new=len(new), queued=queued + answers, withdrawn=withdrawn, released=released, nobody=nobody)

    async def _new(self, connection: Connection, flags: Sequence[Flag], at: datetime) -> list[Flag]:
        by_id = {(flag.company_id, flag.id): flag for flag in flags}
        resolved = {(flag.company_id, flag.resolves): flag for flag in flags if flag.resolves is not None}
        fresh = await _see(connection, by_id, at)
        await _see(connection, {ref: flag for ref, flag in resolved.items() if ref not in by_id}, at)
        return [flag for ref, flag in by_id.items() if ref in fresh]

    async def _raise(
        self, connection: Connection, flags: list[Flag], homes: Mapping[str, Household], at: datetime
    ) -> int:
        told = [(f, homes[f.company_id], p) for f in flags if f.company_id in homes for p in homes[f.company_id].told]
        await self._notify(connection, told, inbox.FAILURE, at)
        mails = [
            self._mail(flag, flag.id, person.contact_id, person.email, at + self._hold, at)
            for flag, _, person in told
            if not person.suppressed
        ]
        await mailbox.queue(connection, mails)
        return len(mails)

    async def _resolve(
        self, connection: Connection, resolved: Mapping[UUID, Flag], homes: Mapping[str, Household], at: datetime
    ) -> tuple[int, int]:
        if not resolved:
            return 0, 0
        await self._notify(connection, await self._notified(connection, resolved, homes), inbox.RESOLVED, at)
        refs: list[FlagRef] = [(flag.company_id, flag_id) for flag_id, flag in resolved.items()]
        withdrawn, told = await mailbox.withdraw(connection, refs)
        mails = [self._mail(resolved[t.flag_id], t.flag_id, t.contact_id, t.recipient, at, at) for t in told]
        await mailbox.queue(connection, mails)
        return withdrawn, len(mails)

    async def _notified(
        self, connection: Connection, resolved: Mapping[UUID, Flag], homes: Mapping[str, Household]
    ) -> list[tuple[Flag, Household, Person]]:
        """Give the people whose inbox has the flag that is resolved."""
        wanted = {
            (flag.company_id, inbox.notification_id(flag_id, person.contact_id)): (flag, home, person)
            for flag_id, flag in resolved.items()
            if (home := homes.get(flag.company_id)) is not None
            for person in home.people
        }
        rows = await connection.fetch(_NOTIFIED, [c for c, _ in wanted], [i for _, i in wanted])
        return [wanted[row["company_id"], row["notification_id"]] for row in rows]

    async def _notify(
        self, connection: Connection, told: list[tuple[Flag, Household, Person]], kind: str, at: datetime
    ) -> None:
        if told:
            await connection.execute(
                _NOTIFY, *_turn(self._notification(flag, home.company, person, kind, at) for flag, home, person in told)
            )

    def _notification(
        self, flag: Flag, company: Company, person: Person, kind: str, at: datetime
    ) -> tuple[object, ...]:
        data = _json(inbox.notification(flag, company, console_url=self._console_url))
        name = inbox.notification_id(flag.id, person.contact_id)
        return flag.company_id, name, person.contact_id, flag.id, flag.record_id, kind, data, at

    def _mail(
        self, flag: Flag, thread: UUID, contact_id: UUID, recipient: str, not_before: datetime, at: datetime
    ) -> Queued:
        return Queued(
            company_id=flag.company_id,
            message_id=message_id(flag.id, contact_id, self._mail_from),
            contact_id=contact_id,
            flag_id=thread,
            recipient=recipient,
            about=silence.about(flag),
            resolution=flag.type is FlagType.RESOLVED,
            flag=_json(flag),
            starts_at=starts_at(flag),
            not_before=not_before,
            created_at=at,
        )


async def _see(connection: Connection, flags: Mapping[FlagRef, Flag], at: datetime) -> set[FlagRef]:
    if not flags:
        return set()
    columns = _turn((company_id, name, flag.type.value) for (company_id, name), flag in flags.items())
    return {(row["company_id"], row["ce_id"]) for row in await connection.fetch(_SEEN, *columns, at)}


def _turn(table: Iterable[tuple[object, ...]]) -> list[list[Any]]:
    """Turn rows into columns, as `unnest` wants them."""
    return [list(column) for column in zip(*table, strict=True)]


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
