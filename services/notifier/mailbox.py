"""The mails table: all that writes it. A mail waits, and then is sent, withdrawn, refused or expired; once."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec
from msgspec import Struct

from schemas.flags import Flag
from services.notifier.story import Company, Contact
from services.plumbing.postgres import Connection, Pool

FlagRef = tuple[str, UUID]  # company, flag

#: After this long a mail that could not be delivered is given up.
KEEP: Final = timedelta(hours=24)

#: Queues mails; one that is there already stays as it is.
_QUEUE: Final = """
INSERT INTO mails (company_id, message_id, contact_id, flag_id, recipient, state, about, resolution, flag, starts_at,
  not_before, created_at)
SELECT company_id, message_id, contact_id, flag_id, recipient, 'waiting', about, resolution, flag, starts_at,
  not_before, created_at
FROM unnest($1::text[], $2::text[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::bool[], $8::json[],
  $9::timestamptz[], $10::timestamptz[], $11::timestamptz[])
  AS m (company_id, message_id, contact_id, flag_id, recipient, about, resolution, flag, starts_at, not_before,
    created_at)
ON CONFLICT (company_id, message_id) DO NOTHING"""

#: Takes back the mails about flags that resolved themselves before anybody tried to send them.
_WITHDRAW: Final = """
UPDATE mails m SET state = 'withdrawn' FROM unnest($1::text[], $2::uuid[]) AS f (company_id, flag_id)
WHERE m.company_id = f.company_id AND m.flag_id = f.flag_id
  AND m.state = 'waiting' AND m.attempts = 0 AND NOT m.resolution
RETURNING m.message_id"""

#: The mails about these flags that were sent, or may be on their way at this moment.
_TOLD: Final = """
SELECT m.company_id, m.flag_id, m.contact_id, m.recipient
FROM mails m JOIN unnest($1::text[], $2::uuid[]) AS f (company_id, flag_id) USING (company_id, flag_id)
WHERE NOT m.resolution AND m.state IN ('sent', 'waiting')"""

#: Ends mails that are due but must not go out any more, each for a reason of its own: the person is gone, the address
#: was refused meanwhile, the flag resolved itself between two attempts, what it answers was never sent, too old. What
#: waits for a silent webhook does not grow old.
_SETTLE: Final = """
WITH ended AS (
  SELECT w.company_id, w.message_id,
    CASE WHEN c.contact_id IS NULL OR c.role = 'viewer' THEN 'withdrawn'
      WHEN c.suppressed_at IS NOT NULL THEN 'refused'
      WHEN w.resolution AND NOT EXISTS (SELECT FROM mails o WHERE o.company_id = w.company_id AND o.flag_id = w.flag_id
        AND o.contact_id = w.contact_id AND NOT o.resolution AND o.state IN ('sent', 'waiting')) THEN 'withdrawn'
      WHEN NOT w.resolution AND EXISTS (SELECT FROM mails r WHERE r.company_id = w.company_id AND r.flag_id = w.flag_id
        AND r.contact_id = w.contact_id AND r.resolution) THEN 'withdrawn'
      WHEN greatest(w.created_at, w.released_at) < $2 AND (w.attempts > 0 OR w.last_error IS NOT NULL)
        AND NOT (w.about = 'orphan' AND EXISTS (SELECT FROM silent_webhooks s WHERE s.company_id = w.company_id))
        THEN 'expired' END AS state,
    CASE WHEN c.contact_id IS NULL OR c.role = 'viewer' THEN 'no admin or manager any more'
      WHEN c.suppressed_at IS NOT NULL THEN 'the address is suppressed' END AS reason
  FROM mails w LEFT JOIN contacts c USING (company_id, contact_id)
  WHERE w.state = 'waiting' AND w.not_before <= $1
), ours AS (
  SELECT m.company_id, m.message_id, e.state, e.reason
  FROM mails m JOIN ended e USING (company_id, message_id)
  WHERE e.state IS NOT NULL AND m.state = 'waiting' AND m.not_before <= $1
  FOR UPDATE OF m SKIP LOCKED
)
UPDATE mails m SET state = o.state, last_error = coalesce(o.reason, m.last_error) FROM ours o
WHERE m.company_id = o.company_id AND m.message_id = o.message_id
RETURNING m.state"""

#: Takes due mails for a while: nobody else sees them until the lease is over. The soonest appointment that has not
#: begun comes first, and before all what is about a company. A resolution waits until the mail that it answers is out,
#: and a single orphan's while the company's webhook is silent.
_LEASE: Final = """
WITH due AS (
  SELECT w.company_id, w.message_id FROM mails w
  WHERE w.state = 'waiting' AND w.not_before <= $1 AND (NOT w.resolution OR EXISTS (
    SELECT FROM mails o WHERE o.company_id = w.company_id AND o.flag_id = w.flag_id AND o.contact_id = w.contact_id
      AND NOT o.resolution AND o.state = 'sent'))
    AND NOT (w.about = 'orphan' AND EXISTS (SELECT FROM silent_webhooks s WHERE s.company_id = w.company_id))
  ORDER BY w.about <> 'company', w.starts_at < $1, w.starts_at, w.created_at
  LIMIT $3 FOR UPDATE SKIP LOCKED
), leased AS (
  UPDATE mails m SET not_before = $2, attempts = m.attempts + 1 FROM due
  WHERE m.company_id = due.company_id AND m.message_id = due.message_id RETURNING m.*
)
SELECT l.company_id, l.message_id, l.contact_id, l.recipient, l.flag, l.attempts, p.name, p.time_zone,
  c.name AS contact_name, c.language, o.message_id AS replies_to
FROM leased l JOIN companies p USING (company_id) JOIN contacts c USING (company_id, contact_id)
LEFT JOIN mails o ON l.resolution AND NOT o.resolution AND o.company_id = l.company_id AND o.flag_id = l.flag_id
  AND o.contact_id = l.contact_id
ORDER BY l.about <> 'company', l.starts_at < $1, l.starts_at, l.created_at"""

#: The server took it. A mail that was withdrawn while on its way was sent all the same.
_SENT: Final = """
UPDATE mails SET state = 'sent', sent_at = $3, last_error = NULL WHERE company_id = $1 AND message_id = $2"""

#: Another attempt later.
_LATER: Final = """
UPDATE mails SET not_before = $3, last_error = $4
WHERE company_id = $1 AND message_id = $2 AND state = 'waiting'"""

#: Given back untried: the attempt does not count.
_RELEASE: Final = """
UPDATE mails m SET not_before = $3, attempts = m.attempts - 1, last_error = coalesce($4, m.last_error)
FROM unnest($1::text[], $2::text[]) AS w (company_id, message_id)
WHERE m.company_id = w.company_id AND m.message_id = w.message_id AND m.state = 'waiting' AND m.attempts > 0"""

#: The server will never take it: the address is not written to again until somebody mends it.
_REFUSED: Final = """
WITH refused AS (
  UPDATE mails SET state = 'refused', last_error = $4 WHERE company_id = $1 AND message_id = $2
  RETURNING company_id, contact_id, recipient
)
UPDATE contacts c SET suppressed_at = $3, suppressed_reason = $4 FROM refused r
WHERE c.company_id = r.company_id AND c.contact_id = r.contact_id AND c.email = r.recipient
  AND c.suppressed_at IS NULL"""

#: When there is something to do; what waits for a silent webhook is nothing to do.
_NEXT: Final = """
SELECT min(not_before) FROM mails w WHERE state = 'waiting'
  AND NOT (w.about = 'orphan' AND EXISTS (SELECT FROM silent_webhooks s WHERE s.company_id = w.company_id))"""

_SILENT: Final = """
SELECT count(DISTINCT company_id) FROM silent_webhooks JOIN companies c USING (company_id) WHERE c.removed_at IS NULL"""


class About(StrEnum):
    """What a mail is about, as far as it makes a difference to when it goes out; `mails.about`."""

    COMPANY = "company"  # goes first
    ORPHAN = "orphan"  # waits while the company's webhook is silent
    RECORD = "record"


class Queued(Struct, frozen=True, kw_only=True):
    """A mail to be queued; `flag_id` names the flag whose thread it belongs to."""

    company_id: str
    message_id: str
    contact_id: UUID
    flag_id: UUID
    recipient: str
    about: About
    resolution: bool
    flag: str  # as JSON
    starts_at: datetime | None
    not_before: datetime
    created_at: datetime


class Told(Struct, frozen=True):
    """Who was mailed about a flag."""

    company_id: str
    flag_id: UUID
    contact_id: UUID
    recipient: str


class Leased(Struct, frozen=True, kw_only=True):
    """A mail that is ours to send until the lease is over; `attempts` counts this one."""

    company: Company
    contact: Contact
    message_id: str
    flag: Flag
    attempts: int
    replies_to: str | None


async def queue(connection: Connection, mails: Sequence[Queued]) -> None:
    """Add mails, within the caller's transaction."""
    if mails:
        await connection.execute(_QUEUE, *zip(*map(msgspec.structs.astuple, mails), strict=True))


async def withdraw(connection: Connection, flags: Sequence[FlagRef]) -> tuple[int, list[Told]]:
    """Take back untried mails about flags, within the caller's transaction: how many, and who was told already."""
    companies, ids = [c for c, _ in flags], [i for _, i in flags]
    gone = await connection.fetch(_WITHDRAW, companies, ids)
    return len(gone), [Told(*row.values()) for row in await connection.fetch(_TOLD, companies, ids)]


class Mailbox:
    """The waiting mails. Errors of the database go up as they are."""

    def __init__(self, pool: Pool) -> None:
        """The pool stays its owner's."""
        self._pool = pool

    async def settle(self, at: datetime) -> list[str]:
        """End due mails that must not go out any more; gives the states that they ended in."""
        return [row["state"] for row in await self._pool.fetch(_SETTLE, at, at - KEEP)]

    async def lease(self, at: datetime, until: datetime, *, limit: int) -> list[Leased]:
        """Take due mails, most urgent first; a crash before they are sent lets them go at `until`."""
        rows = await self._pool.fetch(_LEASE, at, until, limit)
        return [
            Leased(
                company=Company(company_id=row["company_id"], name=row["name"], time_zone=row["time_zone"]),
                contact=Contact(
                    contact_id=row["contact_id"],
                    name=row["contact_name"],
                    email=row["recipient"],
                    language=row["language"],
                ),
                message_id=row["message_id"],
                flag=msgspec.json.decode(row["flag"], type=Flag),
                attempts=row["attempts"],
                replies_to=row["replies_to"],
            )
            for row in rows
        ]

    async def sent(self, mail: Leased, at: datetime) -> None:
        """Note that the server has it."""
        await self._pool.execute(_SENT, mail.company.company_id, mail.message_id, at)

    async def later(self, mail: Leased, not_before: datetime, reason: str) -> None:
        """Try again then."""
        await self._pool.execute(_LATER, mail.company.company_id, mail.message_id, not_before, reason)

    async def release(self, mails: Iterable[Leased], at: datetime, reason: str | None = None) -> None:
        """Give back mails that were not tried; `reason` says why, where something was wrong."""
        pairs = [(mail.company.company_id, mail.message_id) for mail in mails]
        await self._pool.execute(_RELEASE, [c for c, _ in pairs], [m for _, m in pairs], at, reason)

    async def refused(self, mail: Leased, at: datetime, reason: str) -> None:
        """Note that the address is not taken, and write to it no more."""
        await self._pool.execute(_REFUSED, mail.company.company_id, mail.message_id, at, reason)

    async def silent_companies(self) -> int:
        """Count the companies whose mails about single orphans wait."""
        found: int = await self._pool.fetchval(_SILENT)
        return found

    async def next_due(self) -> datetime | None:
        """Give the moment at which the next mail is due."""
        found: datetime | None = await self._pool.fetchval(_NEXT)
        return found
